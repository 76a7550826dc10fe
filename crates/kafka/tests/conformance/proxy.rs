//! A TCP proxy in front of the broker, one per case. It writes itself into the addresses the broker tells, so that
//! everything goes through it, and can cut, fall silent, lose answers and hide versions.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex},
};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::{
    messages::{ApiKey, ApiVersionsResponse, FindCoordinatorResponse, MetadataResponse, ResponseHeader},
    protocol::{Decodable, Encodable, StrBytes},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

/// What the broker is made to offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// All it has.
    Full,
    /// No more than Redpanda's ranges.
    Redpanda,
    /// The lowest version of everything that both sides speak, and no `IncrementalAlterConfigs`.
    Oldest,
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "full",
            Self::Redpanda => "redpanda",
            Self::Oldest => "oldest",
        })
    }
}

/// The highest versions Redpanda offers, where known.
const REDPANDA: &[(ApiKey, i16)] = &[
    (ApiKey::JoinGroup, 6),
    (ApiKey::SyncGroup, 4),
    (ApiKey::Heartbeat, 4),
    (ApiKey::OffsetCommit, 8),
    (ApiKey::OffsetFetch, 7),
    (ApiKey::InitProducerId, 3),
    (ApiKey::TxnOffsetCommit, 3),
    (ApiKey::EndTxn, 3),
    (ApiKey::Produce, 7),
    (ApiKey::Fetch, 11),
    (ApiKey::Metadata, 8),
];

/// The lowest versions this client speaks, where brokers still know lower ones. Those have no way to say what is needed.
const OLDEST_SPOKEN: &[(ApiKey, i16)] = &[
    (ApiKey::Produce, 3),
    (ApiKey::Fetch, 4),
    (ApiKey::ListOffsets, 2),
    (ApiKey::Metadata, 1),
    (ApiKey::OffsetCommit, 2),
    (ApiKey::OffsetFetch, 2),
    (ApiKey::JoinGroup, 1),
    (ApiKey::CreateTopics, 2),
    (ApiKey::DeleteTopics, 1),
    (ApiKey::DescribeConfigs, 1),
];

impl Profile {
    fn cap(self, versions: &mut ApiVersionsResponse) {
        match self {
            Self::Full => {}
            Self::Redpanda => {
                for api in &mut versions.api_keys {
                    if let Some((_, max)) = REDPANDA.iter().find(|(key, _)| *key as i16 == api.api_key) {
                        api.max_version = api.max_version.min(*max);
                    }
                }
            }
            Self::Oldest => {
                versions.api_keys.retain(|api| api.api_key != ApiKey::IncrementalAlterConfigs as i16);
                for api in versions.api_keys.iter_mut().filter(|api| api.api_key != ApiKey::ApiVersions as i16) {
                    let floor = OLDEST_SPOKEN.iter().find(|(key, _)| *key as i16 == api.api_key).map_or(0, |(_, v)| *v);
                    api.max_version = api.min_version.max(floor).min(api.max_version);
                }
            }
        }
    }
}

/// How it is with the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Net {
    Up,
    /// Connections break, and new ones are closed at once.
    Cut,
    /// Connections stay, and nothing comes through.
    Silent,
}

#[derive(Debug, Default)]
struct Book {
    /// How many more answers to an API get lost.
    lose: HashMap<i16, u32>,
    requests: BTreeMap<i16, u64>,
    open: usize,
}

struct Shared {
    profile: Profile,
    upstream: String,
    port: i32,
    net: watch::Sender<Net>,
    book: Mutex<Book>,
}

/// The proxy; it ends with the runtime of its case.
#[derive(Clone)]
pub struct Proxy {
    shared: Arc<Shared>,
}

impl Proxy {
    pub async fn start(upstream: String, profile: Profile) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = i32::from(listener.local_addr().unwrap().port());
        let shared =
            Arc::new(Shared { profile, upstream, port, net: watch::Sender::new(Net::Up), book: Mutex::default() });
        let accepting = shared.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(accepting.clone(), client));
            }
        });
        Self { shared }
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.shared.port)
    }

    pub fn set(&self, net: Net) {
        self.shared.net.send_replace(net);
    }

    /// The next `times` answers to an API are lost, and their connections with them. The broker has done its part.
    pub fn lose_answers(&self, key: ApiKey, times: u32) {
        self.shared.book.lock().unwrap().lose.insert(key as i16, times);
    }

    /// Answers still to be lost.
    pub fn to_lose(&self, key: ApiKey) -> u32 {
        self.shared.book.lock().unwrap().lose.get(&(key as i16)).copied().unwrap_or(0)
    }

    /// Requests seen so far, by API.
    pub fn requests(&self) -> BTreeMap<i16, u64> {
        self.shared.book.lock().unwrap().requests.clone()
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.shared.book.lock().unwrap().open
    }
}

async fn serve(shared: Arc<Shared>, client: TcpStream) {
    let mut net = shared.net.subscribe();
    if *net.borrow_and_update() == Net::Cut {
        return;
    }
    let Ok(server) = TcpStream::connect(&shared.upstream).await else { return };
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    shared.book.lock().unwrap().open += 1;
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let asked = Arc::new(Mutex::new(VecDeque::new()));
    tokio::select! {
        () = forward_requests(&shared, client_read, server_write, &asked) => {}
        () = forward_answers(&shared, server_read, client_write, &asked) => {}
        _ = net.wait_for(|net| *net == Net::Cut) => {}
    }
    shared.book.lock().unwrap().open -= 1;
}

/// Requests in the order of their answers: API and version.
type Asked = Mutex<VecDeque<(i16, i16)>>;

async fn frame(read: &mut OwnedReadHalf) -> Option<Bytes> {
    let length = usize::try_from(read.read_i32().await.ok()?).ok()?;
    let mut frame = vec![0; length];
    read.read_exact(&mut frame).await.ok()?;
    Some(frame.into())
}

async fn send(write: &mut OwnedWriteHalf, frame: &[u8]) -> Option<()> {
    let mut bytes = BytesMut::with_capacity(frame.len() + 4);
    bytes.put_i32(i32::try_from(frame.len()).unwrap());
    bytes.put_slice(frame);
    write.write_all(&bytes).await.ok()
}

async fn speaking(shared: &Shared) {
    let mut net = shared.net.subscribe();
    net.wait_for(|net| *net != Net::Silent).await.unwrap();
}

async fn forward_requests(shared: &Shared, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, asked: &Asked) {
    while let Some(frame) = frame(&mut from).await {
        let number = |at: usize| i16::from_be_bytes([frame[at], frame[at + 1]]);
        let (key, version) = (number(0), number(2));
        speaking(shared).await;
        *shared.book.lock().unwrap().requests.entry(key).or_default() += 1;
        asked.lock().unwrap().push_back((key, version));
        if send(&mut to, &frame).await.is_none() {
            return;
        }
    }
}

async fn forward_answers(shared: &Shared, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, asked: &Asked) {
    while let Some(frame) = frame(&mut from).await {
        let (key, version) = asked.lock().unwrap().pop_front().expect("an answer nobody asked for");
        {
            let mut book = shared.book.lock().unwrap();
            if let Some(left) = book.lose.get_mut(&key).filter(|left| **left > 0) {
                *left -= 1;
                return;
            }
        }
        let frame = rewrite(shared, key, version, frame);
        speaking(shared).await;
        if send(&mut to, &frame).await.is_none() {
            return;
        }
    }
}

fn rewrite(shared: &Shared, key: i16, version: i16, frame: Bytes) -> Bytes {
    let host = || StrBytes::from_static_str("127.0.0.1");
    match ApiKey::try_from(key) {
        Ok(api @ ApiKey::ApiVersions) => change(api, version, frame, |answer: &mut ApiVersionsResponse| {
            shared.profile.cap(answer);
        }),
        Ok(api @ ApiKey::Metadata) => change(api, version, frame, |answer: &mut MetadataResponse| {
            for broker in &mut answer.brokers {
                (broker.host, broker.port) = (host(), shared.port);
            }
        }),
        Ok(api @ ApiKey::FindCoordinator) => change(api, version, frame, |answer: &mut FindCoordinatorResponse| {
            if !answer.host.is_empty() {
                (answer.host, answer.port) = (host(), shared.port);
            }
            for coordinator in answer.coordinators.iter_mut().filter(|c| !c.host.is_empty()) {
                (coordinator.host, coordinator.port) = (host(), shared.port);
            }
        }),
        _ => frame,
    }
}

fn change<R: Decodable + Encodable>(api: ApiKey, version: i16, mut frame: Bytes, with: impl FnOnce(&mut R)) -> Bytes {
    let header_version = api.response_header_version(version);
    let header = ResponseHeader::decode(&mut frame, header_version).unwrap();
    let mut answer = R::decode(&mut frame, version).unwrap();
    with(&mut answer);
    let mut bytes = BytesMut::new();
    header.encode(&mut bytes, header_version).unwrap();
    answer.encode(&mut bytes, version).unwrap();
    bytes.freeze()
}
