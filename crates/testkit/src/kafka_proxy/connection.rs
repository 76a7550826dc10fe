//! One client's connection, passed on frame by frame.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::answers::{Broken, Head, LENGTH, answered, harmless, refusal, rewrite};
use super::faults::Fate;
use super::{Net, Shared, lock};

/// The largest frame passed on.
const MAX_FRAME_BYTES: usize = 256 << 20;
/// A frame is read in steps of this size, so that a lying length allocates no more than what really came.
const READ_STEP_BYTES: usize = 1 << 20;

/// Requests in the order of their answers, and the answer to give in the broker's place.
type Asked = Mutex<VecDeque<(Head, Option<Bytes>)>>;

/// Why a connection is over.
enum End {
    /// One of the two sides has closed it, or a fault was wanted.
    Closed,
    Broken(Broken),
}

impl From<std::io::Error> for End {
    fn from(_: std::io::Error) -> Self {
        Self::Closed
    }
}

impl From<Broken> for End {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

/// Passes a client's requests on to a broker, and its answers back, until one of them or the proxy closes.
pub(super) async fn serve(shared: Arc<Shared>, upstream: Arc<str>, client: TcpStream) {
    let mut weather = shared.weather.subscribe();
    let born = *weather.borrow_and_update();
    if born.net == Net::Cut {
        return;
    }
    let Ok(server) = TcpStream::connect(&*upstream).await else { return };
    // Neither matters to a test: without them it is only slower.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (id, cut) = lock(&shared.book).opened();
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let asked = Asked::default();
    let end = tokio::select! {
        end = requests(&shared, id, client_read, server_write, &asked) => end,
        end = answers(&shared, id, server_read, client_write, &asked) => end,
        _ = weather.wait_for(|weather| weather.cuts != born.cuts || weather.over) => Ok(()),
        () = cut.notified() => Ok(()),
    };
    lock(&shared.book).closed(id);
    if let Err(End::Broken(why)) = end {
        tracing::warn!(%why, %upstream, "a connection through the proxy is dropped");
    }
}

/// The next frame, with its length.
async fn frame(read: &mut OwnedReadHalf) -> Result<Bytes, End> {
    let length = read.read_i32().await?;
    let size = usize::try_from(length).ok().filter(|size| *size <= MAX_FRAME_BYTES);
    let Some(size) = size else { return Err(Broken::Length(length.into()).into()) };
    let whole = size + LENGTH;
    let mut bytes = BytesMut::with_capacity(whole.min(READ_STEP_BYTES));
    bytes.extend_from_slice(&length.to_be_bytes());
    while bytes.len() < whole {
        bytes.reserve((whole - bytes.len()).min(READ_STEP_BYTES));
        let room = whole - bytes.len();
        if read.read_buf(&mut bytes::BufMut::limit(&mut bytes, room)).await? == 0 {
            return Err(End::Closed);
        }
    }
    Ok(bytes.freeze())
}

/// Waits while the network is silent; for good, if this connection is buried.
async fn speaking(shared: &Shared, id: u64) -> Result<(), End> {
    let mut weather = shared.weather.subscribe();
    weather
        .wait_for(|weather| weather.net != Net::Silent && id >= weather.buried)
        .await
        .map(|_| ())
        .map_err(|_| End::Closed)
}

async fn requests(
    shared: &Shared,
    id: u64,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    asked: &Asked,
) -> Result<(), End> {
    loop {
        let frame = frame(&mut from).await?;
        let head = Head::of(&frame).ok_or(Broken::Length(frame.len() as i64))?;
        speaking(shared, id).await?;
        let fate = lock(&shared.book).asked(head.api, head.version);
        let (frame, instead) = match fate {
            Fate::Pass => (frame, None),
            Fate::Cut => return Ok(()),
            Fate::Refuse(code) => (harmless(head)?, Some(refusal(head, &frame, code)?)),
        };
        lock(asked).push_back((head, instead));
        to.write_all(&frame).await?;
    }
}

async fn answers(
    shared: &Shared,
    id: u64,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    asked: &Asked,
) -> Result<(), End> {
    loop {
        let frame = frame(&mut from).await?;
        let answers = answered(&frame).ok_or(Broken::Length(frame.len() as i64))?;
        let (head, instead) = question(asked, answers)?;
        let frame = match instead {
            Some(instead) => instead,
            None if lock(&shared.book).loses(head.api) => return Ok(()),
            None => rewrite(shared.caps, head, frame, |host, port| shared.listener(host, port))?,
        };
        speaking(shared, id).await?;
        to.write_all(&frame).await?;
    }
}

/// What an answer is to. Those before it have none: a produce with acks 0.
fn question(asked: &Asked, id: i32) -> Result<(Head, Option<Bytes>), Broken> {
    let mut asked = lock(asked);
    while let Some(first) = asked.pop_front() {
        if first.0.id == id {
            return Ok(first);
        }
    }
    Err(Broken::Codec(format!("an answer to {id}, which nobody asked")))
}
