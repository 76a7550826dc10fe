//! One connection to one broker: frames, correlation ids, version negotiation, deadlines.
//!
//! Writing and reading are tasks of their own, so that dropping a call half way never leaves half a frame on the
//! wire. A call that gets no answer in time closes the connection: what would come after it cannot be told from
//! a late answer's queue.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI32, Ordering},
    },
    time::{Duration, Instant},
};

use anabranch_wire::decode;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::future::BoxFuture;
use kafka_protocol::{
    messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse, RequestHeader, ResponseHeader},
    protocol::{Encodable, HeaderVersion, StrBytes},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    sync::{mpsc, oneshot},
    task::AbortHandle,
};

use crate::{
    api::{Api, api_versions, common_version},
    cluster::HealthCell,
    config::ClusterConfig,
    error::{Error, ErrorKind},
    security, silence,
    transport::BoxStream,
};

/// Frames that may wait to be written.
const WRITE_QUEUE_FRAMES: usize = 64;
/// A frame is read in steps of this size, so that a lying length allocates no more than what really came.
const READ_STEP_BYTES: usize = 256 * 1024;
/// A connection is replaced when this part of its session's lifetime is over.
const SESSION_PART: f64 = 0.8;
/// How long the reader may take to find out why nothing can be written.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// How a record of TLS with an alert begins. As a length it would be more than any answer has.
const TLS_ALERT: [u8; 2] = [0x15, 0x03];

/// A connection; clones share it. It closes when the last clone is dropped.
#[derive(Clone)]
pub(crate) struct Connection {
    inner: Arc<Inner>,
}

struct Inner {
    address: String,
    client_id: StrBytes,
    offer: Offer,
    /// For other connections to the same broker, when this one falls silent.
    config: ClusterConfig,
    shared: Arc<Shared>,
    frames: mpsc::Sender<Bytes>,
    next_id: AtomicI32,
    tasks: [AbortHandle; 2],
    /// When another has to take its place: the broker closes it when its session (KIP-368) is over.
    replace_at: Option<Instant>,
}

/// What a broker offers.
#[derive(Default)]
struct Offer {
    versions: HashMap<i16, (i16, i16)>,
    /// The levels that the cluster's features are at; empty where the broker does not tell.
    features: HashMap<String, i16>,
}

/// Why a connection is over.
#[derive(Debug, Clone)]
struct Gone {
    reason: String,
    /// TLS will never come about with these settings.
    refused: bool,
}

impl Gone {
    fn because(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), refused: false }
    }

    fn kind(&self, sent: bool) -> ErrorKind {
        let reason = self.reason.clone();
        if self.refused { ErrorKind::Security(reason) } else { ErrorKind::Disconnected { reason, sent } }
    }
}

impl From<std::io::Error> for Gone {
    fn from(error: std::io::Error) -> Self {
        match security::refusal(&error) {
            Some(reason) => Self { reason, refused: true },
            None => Self::because(error.to_string()),
        }
    }
}

/// What the tasks and the callers share.
struct Shared {
    state: Mutex<State>,
    health: Arc<HealthCell>,
}

struct State {
    waiting: HashMap<i32, oneshot::Sender<Result<Bytes, ErrorKind>>>,
    closed: Option<Gone>,
    /// When something last came; at first, when it was made.
    heard: Instant,
}

impl Drop for Inner {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self, gone: Gone) {
        let mut state = self.lock();
        let kind = state.closed.get_or_insert(gone).kind(true);
        for (_, waiter) in state.waiting.drain() {
            // A caller that has gone away is of no interest.
            drop(waiter.send(Err(kind.clone())));
        }
    }
}

impl Connection {
    /// Connects, learns the broker's versions and authenticates, all within the connect timeout.
    pub(crate) async fn open(config: &ClusterConfig, address: &str, health: Arc<HealthCell>) -> Result<Self, Error> {
        let limit = config.connect_timeout;
        let opened = tokio::time::timeout(limit, Self::open_unbounded(config, address, health.clone())).await;
        let result = match opened {
            Ok(result) => result,
            Err(_) => Err(Error::new("Connect", ErrorKind::Timeout { after: limit, sent: false })),
        };
        result.map_err(|e| {
            let e = e.at_broker(address);
            health.failed(&e);
            e
        })
    }

    async fn open_unbounded(config: &ClusterConfig, address: &str, health: Arc<HealthCell>) -> Result<Self, Error> {
        let stream = config.transport.connect(address).await.map_err(|e| match security::refusal(&e) {
            Some(reason) => Error::new("Connect", ErrorKind::Security(reason)),
            None => Error::new("Connect", ErrorKind::Connect(e.to_string())),
        })?;
        let mut connection = Self::start(config, address, stream, health);
        let offer = match connection.negotiate(config.connect_timeout).await {
            Ok(offer) => offer,
            Err(error) => return Err(first_answer_missed(config, error)),
        };
        connection.settle(|inner| inner.offer = offer)?;
        if let Some(sasl) = config.security.sasl() {
            let lifetime = security::authenticate(&connection, sasl, config.connect_timeout).await?;
            let replace_at = lifetime.map(|lifetime| Instant::now() + lifetime.mul_f64(SESSION_PART));
            connection.settle(|inner| inner.replace_at = replace_at)?;
        }
        Ok(connection)
    }

    /// Completes a connection that nobody shares yet.
    fn settle(&mut self, complete: impl FnOnce(&mut Inner)) -> Result<(), Error> {
        Arc::get_mut(&mut self.inner).map(complete).ok_or_else(|| Error::closed("Connect"))
    }

    fn start(config: &ClusterConfig, address: &str, stream: BoxStream, health: Arc<HealthCell>) -> Self {
        let (read, write) = tokio::io::split(stream);
        let (frames, queue) = mpsc::channel(WRITE_QUEUE_FRAMES);
        let state = State { waiting: HashMap::new(), closed: None, heard: Instant::now() };
        let shared = Arc::new(Shared { state: Mutex::new(state), health });
        let writer = tokio::spawn(write_frames(write, queue, shared.clone())).abort_handle();
        let reader = tokio::spawn(read_frames(read, config.max_response_bytes, shared.clone())).abort_handle();
        Self {
            inner: Arc::new(Inner {
                address: address.to_owned(),
                client_id: StrBytes::from_string(config.client_id.clone()),
                offer: Offer::default(),
                config: config.clone(),
                shared,
                frames,
                next_id: AtomicI32::new(1),
                tasks: [writer, reader],
                replace_at: None,
            }),
        }
    }

    /// KIP-511: ask with version 3; a broker that does not know it answers code 35 in version 0.
    async fn negotiate(&self, limit: Duration) -> Result<Offer, Error> {
        let mut version = ApiVersionsRequest::SPEAKS.1;
        loop {
            let request = api_versions(version);
            let mut body = self.exchange(&request, version, limit).await?;
            let refused = body.len() >= 2 && body.get(0..2) == Some(&[0, 35][..]);
            if refused && version > 0 {
                version = 0;
                continue;
            }
            let answer = decode::<ApiVersionsResponse>(&mut body, version)
                .map_err(|e| Error::malformed(ApiVersionsRequest::NAME, e))?;
            if answer.error_code != 0 {
                return Err(Error::broker_code(ApiVersionsRequest::NAME, answer.error_code, None));
            }
            let features = answer.finalized_features.iter().map(|f| (f.name.to_string(), f.max_version_level));
            return Ok(Offer {
                versions: answer.api_keys.iter().map(|a| (a.api_key, (a.min_version, a.max_version))).collect(),
                features: features.collect(),
            });
        }
    }

    pub(crate) fn address(&self) -> &str {
        &self.inner.address
    }

    /// Whether new requests should go over it: it is open and not known to be dead, and the broker's session does not end
    /// soon. What is under way when it is replaced is still answered.
    pub(crate) fn is_usable(&self) -> bool {
        let (open, heard) = {
            let state = self.inner.shared.lock();
            (state.closed.is_none(), state.heard)
        };
        open && self.inner.replace_at.is_none_or(|at| Instant::now() < at)
            && !self.inner.shared.health.deaths.includes(self.address(), heard)
    }

    /// The version of a request that would be used here.
    pub(crate) fn version_of<R: Api>(&self) -> Result<i16, Error> {
        self.version_up_to::<R>(i16::MAX)
    }

    /// As [`version_of`](Self::version_of), but no version above `most`.
    fn version_up_to<R: Api>(&self, most: i16) -> Result<i16, Error> {
        let ours = (R::SPEAKS.0, R::SPEAKS.1.min(most));
        let theirs = self.inner.offer.versions.get(&R::KEY).copied();
        theirs.and_then(|theirs| common_version(ours, theirs)).ok_or_else(|| {
            Error::new(R::NAME, ErrorKind::UnsupportedVersion { ours, theirs }).at_broker(self.address())
        })
    }

    /// The level a feature of the cluster is at (KIP-584); 0: not at all, or the broker does not tell.
    pub(crate) fn feature(&self, name: &str) -> i16 {
        self.inner.offer.features.get(name).copied().unwrap_or(0)
    }

    /// Sends what `build` makes for the negotiated version and waits for the answer, at most for `limit`.
    pub(crate) async fn call<R: Api>(
        &self,
        limit: Duration,
        build: impl FnOnce(i16) -> R,
    ) -> Result<R::Response, Error> {
        self.call_up_to(i16::MAX, limit, build).await
    }

    /// As [`call`](Self::call), in no version above `most`.
    pub(crate) async fn call_up_to<R: Api>(
        &self,
        most: i16,
        limit: Duration,
        build: impl FnOnce(i16) -> R,
    ) -> Result<R::Response, Error> {
        let version = self.version_up_to::<R>(most)?;
        let request = build(version);
        let result = match self.exchange(&request, version, limit).await {
            Ok(mut body) => decode::<R::Response>(&mut body, version).map_err(|e| {
                self.inner.shared.close(Gone::because("unreadable answer"));
                Error::malformed(R::NAME, e)
            }),
            Err(e) => Err(e),
        };
        result.map_err(|e| {
            let e = e.at_broker(self.address());
            self.inner.shared.health.failed(&e);
            e
        })
    }

    /// One request and its answer's body.
    async fn exchange<R: Api>(&self, request: &R, version: i16, limit: Duration) -> Result<Bytes, Error> {
        let id = self.inner.next_id.fetch_add(1, Ordering::Relaxed) & i32::MAX;
        let frame = self.encode(request, version, id)?;
        let (sender, answer) = oneshot::channel();
        self.register::<R>(id, sender)?;
        let waiting = Waiting { shared: &self.inner.shared, id };
        let started = Instant::now();
        let gone = |sent| ErrorKind::Disconnected { reason: "closed".into(), sent };
        let outcome = tokio::time::timeout(limit, async {
            self.inner.frames.send(frame).await.map_err(|_| gone(false))?;
            tokio::select! {
                answer = answer => answer.unwrap_or_else(|_| Err(gone(true))),
                () = self.dies(R::KEY, started, limit) => {
                    let reason = "silent while the broker answers a new connection";
                    self.inner.shared.close(Gone::because(reason));
                    Err(ErrorKind::Disconnected { reason: reason.into(), sent: true })
                }
            }
        })
        .await;
        drop(waiting);
        match outcome {
            Ok(Ok(mut frame)) => {
                let header_version = R::Response::header_version(version);
                decode::<ResponseHeader>(&mut frame, header_version).map_err(|e| Error::malformed(R::NAME, e))?;
                Ok(frame)
            }
            Ok(Err(kind)) => Err(Error::new(R::NAME, kind)),
            Err(_) => {
                self.inner.shared.close(Gone::because("a request before got no answer in time"));
                Err(Error::new(R::NAME, ErrorKind::Timeout { after: started.elapsed(), sent: true }))
            }
        }
    }

    /// Returns once this connection is known to be dead, by the silence after this request or by another's.
    async fn dies(&self, api: i16, asked: Instant, limit: Duration) {
        let (address, deaths) = (self.address(), &self.inner.shared.health.deaths);
        let heard = || self.inner.shared.lock().heard;
        // Beyond the usual limit is what the request itself asks the broker to wait.
        let watching = async {
            match silence::patience(api, limit.saturating_sub(self.inner.config.request_timeout)) {
                Some(patience) => {
                    deaths.watch(address, asked, patience, heard, || self.try_another()).await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = watching => {}
            () = deaths.include(address, heard) => {}
        }
    }

    /// Whether a new connection to the same broker works. Boxed: making one exchanges requests too.
    fn try_another(&self) -> BoxFuture<'_, bool> {
        let health = self.inner.shared.health.clone();
        Box::pin(async move { Self::open(&self.inner.config, self.address(), health).await.is_ok() })
    }

    fn register<R: Api>(&self, id: i32, sender: oneshot::Sender<Result<Bytes, ErrorKind>>) -> Result<(), Error> {
        let mut state = self.inner.shared.lock();
        if let Some(gone) = &state.closed {
            return Err(Error::new(R::NAME, gone.kind(false)));
        }
        state.waiting.insert(id, sender);
        Ok(())
    }

    fn encode<R: Api>(&self, request: &R, version: i16, id: i32) -> Result<Bytes, Error> {
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(id)
            .with_client_id(Some(self.inner.client_id.clone()));
        let header_version = ApiKey::try_from(R::KEY)
            .map_err(|()| Error::invalid(R::NAME, "unknown request key"))?
            .request_header_version(version);
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        header
            .encode(&mut frame, header_version)
            .and_then(|()| request.encode(&mut frame, version))
            .map_err(|e| Error::invalid(R::NAME, format!("cannot be encoded in version {version}: {e}")))?;
        let length = i32::try_from(frame.len() - 4).map_err(|_| Error::invalid(R::NAME, "larger than 2 GiB"))?;
        frame[0..4].copy_from_slice(&length.to_be_bytes());
        Ok(frame.freeze())
    }
}

/// A connection that ends before its first answer may have a reason that TLS knows of.
fn first_answer_missed(config: &ClusterConfig, error: Error) -> Error {
    match (error.kind(), config.security.closed_at_once()) {
        (ErrorKind::Disconnected { .. } | ErrorKind::Security(_), Some(why)) => {
            Error::new("Connect", ErrorKind::Security(why.to_owned()))
        }
        _ => error,
    }
}

/// Forgets a request when its caller stops waiting.
struct Waiting<'a> {
    shared: &'a Shared,
    id: i32,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.shared.lock().waiting.remove(&self.id);
    }
}

async fn write_frames(mut write: WriteHalf<BoxStream>, mut queue: mpsc::Receiver<Bytes>, shared: Arc<Shared>) {
    while let Some(frame) = queue.recv().await {
        let mut result = write.write_all(&frame).await;
        if result.is_ok() && queue.is_empty() {
            result = write.flush().await;
        }
        if let Err(e) = result {
            // What the broker said before it closed, such as an alert of TLS, is the reader's to tell.
            tokio::time::sleep(LAST_WORDS).await;
            shared.close(e.into());
            return;
        }
    }
}

async fn read_frames(mut read: ReadHalf<BoxStream>, max_bytes: usize, shared: Arc<Shared>) {
    let mut buffer = BytesMut::new();
    let gone = loop {
        match read_frame(&mut read, &mut buffer, max_bytes).await {
            Ok(frame) => {
                shared.health.answered();
                let id = frame.get(0..4).map_or(0, |mut id| id.get_i32());
                let waiter = {
                    let mut state = shared.lock();
                    state.heard = Instant::now();
                    state.waiting.remove(&id)
                };
                if let Some(waiter) = waiter {
                    // A caller that has gone away is of no interest.
                    drop(waiter.send(Ok(frame)));
                }
            }
            Err(gone) => break gone,
        }
    };
    shared.close(gone);
}

async fn read_frame(read: &mut ReadHalf<BoxStream>, buffer: &mut BytesMut, max_bytes: usize) -> Result<Bytes, Gone> {
    fill(read, buffer, 4).await?;
    if buffer.starts_with(&TLS_ALERT) {
        let reason = "the broker speaks TLS on this port; see ANABRANCH_KAFKA_SECURITY_PROTOCOL";
        return Err(Gone { reason: reason.to_owned(), refused: true });
    }
    let length = buffer.get_i32();
    let length = usize::try_from(length).map_err(|_| Gone::because(format!("answer of negative length {length}")))?;
    if length < 4 || length > max_bytes {
        return Err(Gone::because(format!("answer of {length} bytes; the limit is {max_bytes}")));
    }
    fill(read, buffer, length).await?;
    Ok(buffer.split_to(length).freeze())
}

async fn fill(read: &mut ReadHalf<BoxStream>, buffer: &mut BytesMut, wanted: usize) -> Result<(), Gone> {
    while buffer.len() < wanted {
        let missing = wanted - buffer.len();
        buffer.reserve(missing.min(READ_STEP_BYTES));
        match read.read_buf(buffer).await {
            Ok(0) => return Err(Gone::because("closed by the broker")),
            Ok(_) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}
