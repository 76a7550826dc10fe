//! Something that answers in a broker's place, with what no broker says: the call fails, nothing hangs, the process
//! lives, and when the answers are honest again the same client goes on.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    collections::BTreeMap,
    future::Future,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use anabranch_broker::{ApiKey, Broker, BrokerConfig};
use anabranch_kafka::{
    BoxStream, Cluster, ClusterConfig, Error, ErrorKind, Event, FetchConfig, GroupConfig, GroupConsumer, NewTopic,
    OutRecord, Position, ProducerConfig, TopicPartition, Transport,
};
use futures::{FutureExt, future::BoxFuture, future::join_all};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Each call is over by then, or hangs.
const LIMIT: Duration = Duration::from_secs(10);

/// What is done to an honest answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    /// Two billion items where the first array begins.
    HugeCount,
    /// A count of -2, or the most that its form holds.
    NegativeCount,
    /// Half of it, in a frame that is whole.
    CutShort,
    /// The length of the whole, half of it, and the end of the connection.
    CutOff,
    WrongId,
    Garbage,
    /// A frame of two gigabytes is announced.
    HugeFrame,
    NegativeFrame,
}

const LIES: [Lie; 8] = [
    Lie::HugeCount,
    Lie::NegativeCount,
    Lie::CutShort,
    Lie::CutOff,
    Lie::WrongId,
    Lie::Garbage,
    Lie::HugeFrame,
    Lie::NegativeFrame,
];

/// Where the first array of an answer begins, in the newest version that client and broker share, and whether its
/// count is a varint.
fn first_array(api: ApiKey, version: i16) -> (usize, bool) {
    // Correlation id; tagged fields of the header; throttle time.
    match api {
        ApiKey::ApiVersions => (4 + 2, version >= 3),
        ApiKey::Fetch => (4 + 1 + 4 + 2 + 4, true),
        ApiKey::JoinGroup => (4 + 1 + 4 + 2 + 4, true),
        _ => (4 + 1 + 4, true),
    }
}

/// The bytes to send for an honest answer, its length not included; `None` after them: the connection ends.
fn forge(lie: Lie, api: ApiKey, version: i16, honest: &[u8]) -> (Vec<u8>, bool) {
    let framed = |body: &[u8]| [&i32::try_from(body.len()).unwrap().to_be_bytes()[..], body].concat();
    let counted = |varint: &[u8], fixed: i32| {
        let (at, flexible) = first_array(api, version);
        let count = if flexible { varint.to_vec() } else { fixed.to_be_bytes().to_vec() };
        let mut body = [&honest[..at.min(honest.len())], &count].concat();
        body.resize(body.len().max(honest.len()), 0);
        framed(&body)
    };
    match lie {
        Lie::HugeCount => (counted(&[0xff, 0xff, 0xff, 0xff, 0x07], i32::MAX), true),
        Lie::NegativeCount => (counted(&[0xff, 0xff, 0xff, 0xff, 0x0f], -2), true),
        Lie::CutShort => (framed(&honest[..honest.len() / 2]), true),
        Lie::CutOff => (framed(honest)[..4 + honest.len() / 2].to_vec(), false),
        Lie::WrongId => (framed(&[&[0x7f, 0x11, 0x22, 0x33], &honest[4..]].concat()), true),
        Lie::Garbage => (framed(&[&honest[..4], &vec![0xa5; honest.len()]].concat()), true),
        Lie::HugeFrame => ([&i32::MAX.to_be_bytes()[..], honest].concat(), true),
        Lie::NegativeFrame => ([&(-5_i32).to_be_bytes()[..], honest].concat(), true),
    }
}

/// Stands before a broker. While it lies, it lies about one API.
struct Liar {
    address: SocketAddr,
    lies: Arc<AtomicBool>,
    told: Arc<AtomicU32>,
}

impl Liar {
    async fn start(broker: SocketAddr, api: ApiKey, lie: Lie) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (lies, told) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (armed, count) = (lies.clone(), told.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (armed, count) = (armed.clone(), count.clone());
                // A connection that ends is no news.
                tokio::spawn(async move { between(client, broker, api, lie, &armed, &count).await.ok() });
            }
        });
        Self { address, lies, told }
    }

    fn lie(&self, lies: bool) {
        self.lies.store(lies, Ordering::SeqCst);
    }
}

async fn frame(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(stream.read_i32().await?).unwrap()];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// One request after the other, as the broker answers them.
async fn between(
    mut client: TcpStream,
    broker: SocketAddr,
    api: ApiKey,
    lie: Lie,
    lies: &AtomicBool,
    told: &AtomicU32,
) -> io::Result<()> {
    let mut server = TcpStream::connect(broker).await?;
    loop {
        let request = frame(&mut client).await?;
        let key = i16::from_be_bytes([request[0], request[1]]);
        let version = i16::from_be_bytes([request[2], request[3]]);
        server.write_i32(i32::try_from(request.len()).unwrap()).await?;
        server.write_all(&request).await?;
        let honest = frame(&mut server).await?;
        if key != api as i16 || !lies.load(Ordering::SeqCst) {
            client.write_i32(i32::try_from(honest.len()).unwrap()).await?;
            client.write_all(&honest).await?;
            continue;
        }
        told.fetch_add(1, Ordering::SeqCst);
        let (bytes, goes_on) = forge(lie, api, version, &honest);
        client.write_all(&bytes).await?;
        if !goes_on {
            return Ok(());
        }
    }
}

/// Leads every connection to the liar.
struct Through(SocketAddr);

impl Transport for Through {
    fn name(&self) -> &'static str {
        "through a liar"
    }

    fn connect<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(async move { Ok(Box::pin(TcpStream::connect(self.0).await?) as BoxStream) })
    }
}

fn cluster(liar: &Liar) -> Cluster {
    let mut config = ClusterConfig::new(vec![liar.address.to_string()], "forged");
    config.request_timeout = Duration::from_millis(500);
    config.connect_timeout = Duration::from_millis(500);
    config.call_timeout = Duration::from_secs(1);
    config.metadata_max_age = Duration::ZERO;
    config.transport = Arc::new(Through(liar.address));
    Cluster::new(config)
}

type Call = fn(Cluster) -> BoxFuture<'static, Result<(), Error>>;

fn partition() -> TopicPartition {
    TopicPartition::new("t", 0)
}

/// A call for each API, none of which answers from memory.
fn calls() -> BTreeMap<&'static str, (ApiKey, Call)> {
    let call = |api: ApiKey, call: Call| (api, call);
    BTreeMap::from([
        ("versions", call(ApiKey::ApiVersions, |c| async move { c.ping(LIMIT / 5).await }.boxed())),
        ("metadata", call(ApiKey::Metadata, |c| async move { c.admin().list_topics().await.map(drop) }.boxed())),
        (
            "offsets",
            call(ApiKey::ListOffsets, |c| {
                async move { c.admin().earliest_offsets(&[partition()]).await.map(drop) }.boxed()
            }),
        ),
        (
            "coordinator",
            call(ApiKey::FindCoordinator, |c| async move { c.admin().committed_offsets("g").await.map(drop) }.boxed()),
        ),
        (
            "committed",
            call(ApiKey::OffsetFetch, |c| async move { c.admin().committed_offsets("g").await.map(drop) }.boxed()),
        ),
        ("groups", call(ApiKey::ListGroups, |c| async move { c.admin().list_groups().await.map(drop) }.boxed())),
        (
            "group",
            call(ApiKey::DescribeGroups, |c| {
                async move { c.admin().describe_groups(&["g".to_owned()]).await.map(drop) }.boxed()
            }),
        ),
        (
            "fetch",
            call(ApiKey::Fetch, |c| {
                async move {
                    let mut fetcher = c.fetcher(FetchConfig::default());
                    fetcher.add(partition(), Position::Earliest);
                    fetcher.next().await.map(drop)
                }
                .boxed()
            }),
        ),
    ])
}

async fn within<T>(what: &str, call: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, call).await.unwrap_or_else(|_| panic!("{what}: it hangs"))
}

async fn broker() -> Broker {
    let broker = Broker::start(BrokerConfig::default()).await.unwrap();
    let cluster = Cluster::new(ClusterConfig::new(vec![broker.address().to_string()], "set up"));
    let topic = NewTopic { name: "t".into(), partitions: 2, replication_factor: 1, configs: BTreeMap::new() };
    cluster.admin().create_topics(vec![topic]).await.unwrap().remove(0).1.unwrap();
    broker
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_answer_fails_its_call_and_nothing_else() {
    let broker = broker().await;
    let address = broker.address();
    let each = calls().into_iter().flat_map(|(name, (api, call))| LIES.map(|lie| (name, api, call, lie)));
    let tried = join_all(each.map(|(name, api, call, lie)| async move {
        let what = format!("{name}, {lie:?}");
        let liar = Liar::start(address, api, lie).await;
        liar.lie(true);
        let cluster = cluster(&liar);
        let started = Instant::now();
        let result = within(&what, call(cluster.clone())).await;
        assert!(liar.told.load(Ordering::SeqCst) > 0, "{what}: nobody lied");
        assert!(result.is_err(), "{what}: taken for the truth after {:?}", started.elapsed());
        liar.lie(false);
        let honest = within(&what, call(cluster)).await;
        assert!(honest.is_ok(), "{what}: afterwards: {honest:?}");
    }))
    .await;
    assert_eq!(tried.len(), 64);
    broker.stop().await;
}

/// Groups know no failed call: they say that they reconnect, and are members when the lies end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_outlives_forged_answers() {
    let broker = broker().await;
    let address = broker.address();
    let apis = [ApiKey::JoinGroup, ApiKey::SyncGroup, ApiKey::OffsetFetch];
    let each = apis
        .into_iter()
        .flat_map(|api| [Lie::HugeCount, Lie::CutShort, Lie::Garbage, Lie::NegativeFrame].map(|lie| (api, lie)));
    join_all(each.map(|(api, lie)| async move {
        let what = format!("{api:?}, {lie:?}");
        let liar = Liar::start(address, api, lie).await;
        liar.lie(true);
        let mut config = GroupConfig::new(format!("{api:?}-{lie:?}"), vec!["t".into()]);
        config.session_timeout = Duration::from_secs(6);
        config.rebalance_timeout = Duration::from_secs(2);
        let mut member = GroupConsumer::start(&cluster(&liar), config);
        let mut complaints = 0;
        while complaints < 2 {
            match within(&what, member.next()).await {
                Event::Reconnecting { .. } => complaints += 1,
                other => panic!("{what}: {other:?}"),
            }
        }
        liar.lie(false);
        loop {
            match within(&what, member.next()).await {
                Event::Assigned { partitions, .. } if !partitions.is_empty() => break,
                Event::Fatal(error) => panic!("{what}: {error}"),
                _ => {}
            }
        }
        within(&what, member.leave()).await.unwrap();
    }))
    .await;
    broker.stop().await;
}

/// A batch that unpacks to more than the limit, or is damaged for good: its partition stands still and says where, is
/// tried again now and then, and the others go on.
#[tokio::test]
async fn a_batch_that_is_too_large_stops_its_partition_alone() {
    let broker = broker().await;
    let mut config = ClusterConfig::new(vec![broker.address().to_string()], "bombed");
    config.max_batch_bytes = 4_096;
    let cluster = Cluster::new(config);
    let producer = cluster.producer(ProducerConfig::default());
    let record = |partition, size: usize| OutRecord {
        topic: "t".into(),
        partition: Some(partition),
        value: Some(vec![b'x'; size].into()),
        ..OutRecord::default()
    };
    producer.send(record(0, 10)).await.unwrap();
    producer.send(record(0, 10_000)).await.unwrap();
    let mut fetcher = cluster.fetcher(FetchConfig::default());
    (0..2).for_each(|p| fetcher.add(TopicPartition::new("t", p), Position::Earliest));
    let (mut complaints, mut read) = (Vec::new(), Vec::new());
    while complaints.len() < 3 {
        match within("the fetch", fetcher.next()).await {
            Ok(fetched) => read.extend(fetched.records.iter().map(|r| (r.partition, r.offset))),
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::CorruptBatch { offset: 1, .. }), "{error}");
                assert!(error.to_string().contains("t-0"), "it says where: {error}");
                producer.send(record(1, 10)).await.unwrap();
                complaints.push(Instant::now());
            }
        }
    }
    while read.len() < 4 {
        let fetched = within("the other partition", fetcher.next()).await.unwrap();
        read.extend(fetched.records.iter().map(|r| (r.partition, r.offset)));
    }
    read.sort_unstable();
    assert_eq!(read, [(0, 0), (1, 0), (1, 1), (1, 2)]);
    let waits: Vec<_> = complaints.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits[0] >= Duration::from_millis(500) && waits[1] >= Duration::from_secs(1), "{waits:?}");
    broker.stop().await;
}
