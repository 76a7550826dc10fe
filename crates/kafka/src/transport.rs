//! How bytes get to a broker. A part of the connection, so that TLS can take TCP's place.

use std::{io, pin::Pin};

use futures::future::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

/// A byte stream to a broker.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connected byte stream.
pub type BoxStream = Pin<Box<dyn Stream>>;

/// Makes byte streams to brokers. A deadline is kept around `connect` by the caller.
pub trait Transport: Send + Sync + 'static {
    /// A name for logs, such as `plain`.
    fn name(&self) -> &'static str;

    /// Connects to `host:port`.
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<BoxStream>>;

    /// Whether rskafka, configured with the same [`SecurityConfig`](crate::SecurityConfig), reaches the same brokers by
    /// itself. If not, everything is produced through this transport.
    fn rskafka_reaches(&self) -> bool {
        false
    }
}

/// TCP without encryption.
#[derive(Debug, Clone, Copy, Default)]
pub struct PlainTcp;

impl Transport for PlainTcp {
    fn name(&self) -> &'static str {
        "plain"
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(async move {
            let stream = tcp(address).await?;
            Ok(Box::pin(stream) as BoxStream)
        })
    }

    fn rskafka_reaches(&self) -> bool {
        true
    }
}

/// TCP without delays for gathering small writes.
pub(crate) async fn tcp(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
