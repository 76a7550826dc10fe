//! A TCP proxy in front of the broker, one per case. It writes itself into the addresses the broker tells, so that
//! everything goes through it, and can cut, fall silent, lose answers and hide versions.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex},
};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::{
    messages::{
        AddOffsetsToTxnResponse, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, ApiKey, ApiVersionsResponse,
        EndTxnResponse, FindCoordinatorResponse, InitProducerIdResponse, MetadataResponse, ProduceRequest,
        ProduceResponse, ProducerId, RequestHeader, ResponseHeader, TxnOffsetCommitRequest, TxnOffsetCommitResponse,
        add_partitions_to_txn_response::{AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult},
        produce_request::PartitionProduceData,
        produce_response::{PartitionProduceResponse, TopicProduceResponse},
        txn_offset_commit_request::TxnOffsetCommitRequestPartition,
        txn_offset_commit_response::{TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic},
    },
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
    /// All it has, with transaction version 2 (KIP-890) where the broker is ours.
    Two,
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "full",
            Self::Redpanda => "redpanda",
            Self::Oldest => "oldest",
            Self::Two => "two",
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
    (ApiKey::FindCoordinator, 3),
    (ApiKey::InitProducerId, 3),
    (ApiKey::AddPartitionsToTxn, 1),
    (ApiKey::AddOffsetsToTxn, 1),
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
    (ApiKey::FindCoordinator, 1),
    (ApiKey::InitProducerId, 3),
    (ApiKey::TxnOffsetCommit, 3),
];

impl Profile {
    fn cap(self, versions: &mut ApiVersionsResponse) {
        match self {
            Self::Full | Self::Two => {}
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
    /// How many more requests of an API break their connection before the broker hears of them.
    cut: HashMap<i16, u32>,
    /// The codes with which the next requests of an API are answered, instead of by the broker.
    refuse: HashMap<i16, VecDeque<i16>>,
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

    /// The next `times` requests of an API break their connection, and the broker hears nothing of them.
    pub fn cut_requests(&self, key: ApiKey, times: u32) {
        self.shared.book.lock().unwrap().cut.insert(key as i16, times);
    }

    /// The next requests of an API are answered with these codes, and the broker hears nothing of them.
    pub fn refuse(&self, key: ApiKey, codes: &[i16]) {
        self.shared.book.lock().unwrap().refuse.insert(key as i16, codes.iter().copied().collect());
    }

    /// Requests still to be cut or refused.
    pub fn to_refuse(&self, key: ApiKey) -> usize {
        let book = self.shared.book.lock().unwrap();
        let cut = usize::try_from(book.cut.get(&(key as i16)).copied().unwrap_or(0)).unwrap();
        cut + book.refuse.get(&(key as i16)).map_or(0, VecDeque::len)
    }

    /// All connections break; new ones are made at once.
    pub fn blink(&self) {
        self.set(Net::Cut);
        self.set(Net::Up);
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

/// Requests in the order of their answers: API, version, and the answer to give in the broker's place.
type Asked = Mutex<VecDeque<(i16, i16, Option<Bytes>)>>;

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
        let (cut, code) = {
            let mut book = shared.book.lock().unwrap();
            let cut = book.cut.get_mut(&key).filter(|left| **left > 0).map(|left| *left -= 1).is_some();
            (cut, book.refuse.get_mut(&key).and_then(VecDeque::pop_front))
        };
        if cut {
            return;
        }
        let refusal = code.map(|code| refusal(key, version, &frame, code));
        let frame = if refusal.is_some() { harmless(&frame) } else { frame };
        asked.lock().unwrap().push_back((key, version, refusal));
        if send(&mut to, &frame).await.is_none() {
            return;
        }
    }
}

async fn forward_answers(shared: &Shared, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, asked: &Asked) {
    while let Some(frame) = frame(&mut from).await {
        let (key, version, instead) = asked.lock().unwrap().pop_front().expect("an answer nobody asked for");
        if let Some(instead) = instead {
            if send(&mut to, &instead).await.is_none() {
                return;
            }
            continue;
        }
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

/// What is asked of the broker in the place of a request that it is not to hear: its answer keeps the order.
fn harmless(frame: &Bytes) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(ApiKey::ApiVersions as i16);
    bytes.put_i16(0);
    bytes.put_slice(&frame[4..8]);
    bytes.put_i16(-1);
    bytes.freeze()
}

/// The answer to a request with an error code.
fn refusal(key: i16, version: i16, frame: &Bytes, code: i16) -> Bytes {
    let api = ApiKey::try_from(key).unwrap();
    let mut body = frame.clone();
    RequestHeader::decode(&mut body, api.request_header_version(version)).unwrap();
    let id = i32::from_be_bytes(frame[4..8].try_into().unwrap());
    let mut bytes = BytesMut::new();
    let header = ResponseHeader::default().with_correlation_id(id);
    header.encode(&mut bytes, api.response_header_version(version)).unwrap();
    let out = &mut bytes;
    match api {
        ApiKey::InitProducerId => InitProducerIdResponse::default()
            .with_error_code(code)
            .with_producer_id(ProducerId(-1))
            .encode(out, version),
        ApiKey::EndTxn => EndTxnResponse::default().with_error_code(code).encode(out, version),
        ApiKey::AddOffsetsToTxn => AddOffsetsToTxnResponse::default().with_error_code(code).encode(out, version),
        ApiKey::AddPartitionsToTxn => {
            let request = AddPartitionsToTxnRequest::decode(&mut body, version).unwrap();
            let topics = request.v3_and_below_topics.into_iter().map(|topic| {
                let partition = |p| {
                    let result = AddPartitionsToTxnPartitionResult::default().with_partition_index(p);
                    result.with_partition_error_code(code)
                };
                AddPartitionsToTxnTopicResult::default()
                    .with_name(topic.name)
                    .with_results_by_partition(topic.partitions.into_iter().map(partition).collect())
            });
            AddPartitionsToTxnResponse::default()
                .with_results_by_topic_v3_and_below(topics.collect())
                .encode(out, version)
        }
        ApiKey::TxnOffsetCommit => {
            let request = TxnOffsetCommitRequest::decode(&mut body, version).unwrap();
            let topics = request.topics.into_iter().map(|topic| {
                let partition = |p: TxnOffsetCommitRequestPartition| {
                    let result = TxnOffsetCommitResponsePartition::default().with_partition_index(p.partition_index);
                    result.with_error_code(code)
                };
                TxnOffsetCommitResponseTopic::default()
                    .with_name(topic.name)
                    .with_partitions(topic.partitions.into_iter().map(partition).collect())
            });
            TxnOffsetCommitResponse::default().with_topics(topics.collect()).encode(out, version)
        }
        ApiKey::Produce => {
            let request = ProduceRequest::decode(&mut body, version).unwrap();
            let topics = request.topic_data.into_iter().map(|topic| {
                let partition = |p: PartitionProduceData| {
                    PartitionProduceResponse::default().with_index(p.index).with_error_code(code).with_base_offset(-1)
                };
                TopicProduceResponse::default()
                    .with_name(topic.name)
                    .with_partition_responses(topic.partition_data.into_iter().map(partition).collect())
            });
            ProduceResponse::default().with_responses(topics.collect()).encode(out, version)
        }
        other => panic!("no refusal of {other:?}"),
    }
    .unwrap();
    bytes.freeze()
}
