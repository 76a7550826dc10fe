//! A TCP proxy between a client and a broker, that can be cut, stalled and healed.
//!
//! A broker advertises its own address, so a client gets to it past any proxy once it has asked for metadata: give the
//! broker the proxy's address to advertise, or use it for what needs no metadata.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How connections fare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// Bytes pass.
    Fair,
    /// Open connections are cut, new ones refused.
    Cut,
    /// Connections stay open, bytes wait.
    Silent,
}

/// A proxy. Ends when dropped.
pub struct Proxy {
    address: SocketAddr,
    weather: watch::Sender<Weather>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free loopback port, and passes on to `target`.
    ///
    /// # Errors
    /// If no port can be had.
    pub async fn start(target: String) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        Self::on(listener, target)
    }

    fn on(listener: TcpListener, target: String) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let (weather, seen) = watch::channel(Weather::Fair);
        let target: Arc<str> = target.into();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, target.clone(), seen.clone()));
            }
        });
        Ok(Self { address, weather, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the weather, for open connections too.
    pub fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(client: TcpStream, target: Arc<str>, weather: watch::Receiver<Weather>) {
    if *weather.borrow() == Weather::Cut {
        return;
    }
    let Ok(server) = TcpStream::connect(&*target).await else { return };
    // Neither matters to a test: without them it is only slower.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    tokio::select! {
        () = copy(client_read, server_write, weather.clone()) => {}
        () = copy(server_read, client_write, weather) => {}
    }
}

async fn copy(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut weather: watch::Receiver<Weather>,
) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            changed = weather.changed() => match changed {
                Ok(()) if *weather.borrow() != Weather::Cut => continue,
                _ => return,
            },
        };
        let Ok(count @ 1..) = read else { return };
        if weather.wait_for(|w| *w != Weather::Silent).await.is_err() || *weather.borrow() == Weather::Cut {
            return;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
