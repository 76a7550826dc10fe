//! What a case finds: a broker behind its own proxy, a cluster handle, and names nobody else uses.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anabranch_broker::{Broker, BrokerConfig, Storage, TransactionVersion};
use anabranch_kafka::{
    Cluster, ClusterConfig, FetchConfig, Fetched, Fetcher, Isolation, NewTopic, OutRecord, Position, Producer,
    ProducerConfig, Record, TopicPartition,
};
use anabranch_testkit::kafka_proxy::{Caps, KafkaProxy};
use bytes::Bytes;

use crate::raw::Raw;

/// Long enough for anything that is to happen soon, short enough for a hang to be seen.
pub const SOON: Duration = Duration::from_secs(20);

/// What the broker of a case offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// All it has.
    Full,
    /// No more than Redpanda.
    Redpanda,
    /// The lowest version of everything that both sides speak.
    Oldest,
    /// All it has, with transaction version 2 (KIP-890) where the broker is ours.
    Two,
}

impl Profile {
    fn caps(self) -> Caps {
        match self {
            Self::Full | Self::Two => Caps::Full,
            Self::Redpanda => Caps::Redpanda,
            Self::Oldest => Caps::Oldest,
        }
    }
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

static NEXT: AtomicU32 = AtomicU32::new(0);

pub struct World {
    pub profile: Profile,
    pub proxy: KafkaProxy,
    pub cluster: Cluster,
    broker: String,
}

impl World {
    pub async fn new(profile: Profile) -> Self {
        let broker = broker(profile);
        let proxy = KafkaProxy::start(&broker, profile.caps(), 0).unwrap();
        let cluster = Cluster::new(config(&proxy));
        Self { profile, proxy, cluster, broker }
    }

    /// Another process, so to say: connections of its own.
    pub fn another_cluster(&self) -> Cluster {
        Cluster::new(config(&self.proxy))
    }

    /// Around the proxy.
    pub fn broker(&self) -> &str {
        &self.broker
    }

    pub async fn raw(&self) -> Raw {
        Raw::connect(&self.broker).await
    }

    pub fn name(&self, what: &str) -> String {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        format!("{what}-{}-{}", now.as_micros() % 1_000_000_000, NEXT.fetch_add(1, Ordering::Relaxed))
    }

    pub async fn topic(&self, partitions: i32) -> String {
        self.topic_with(partitions, &[]).await
    }

    pub async fn topic_with(&self, partitions: i32, configs: &[(&str, &str)]) -> String {
        let name = self.name("t");
        self.create(new_topic(&name, partitions, configs)).await;
        name
    }

    pub async fn create(&self, topic: NewTopic) {
        for (name, result) in self.cluster.admin().create_topics(vec![topic]).await.unwrap() {
            result.unwrap_or_else(|e| panic!("{name}: {e}"));
        }
    }

    pub fn producer(&self) -> Producer {
        self.cluster.producer(ProducerConfig::default())
    }

    pub fn fetcher(&self, isolation: Isolation) -> Fetcher {
        self.cluster.fetcher(FetchConfig { isolation, ..FetchConfig::default() })
    }

    /// Sends values to a partition, by rskafka.
    pub async fn send(&self, topic: &str, partition: i32, values: &[&str]) {
        let records = values.iter().map(|v| to(topic, partition, v)).collect();
        self.producer().send_all(records).await.unwrap();
    }

    /// Reads a partition from its start until `count` records have come.
    pub async fn read(&self, topic: &str, partition: i32, count: usize) -> Vec<Record> {
        let mut fetcher = self.fetcher(Isolation::ReadUncommitted);
        fetcher.add(TopicPartition::new(topic, partition), Position::Earliest);
        read_from(&mut fetcher, count).await
    }
}

pub fn config(proxy: &KafkaProxy) -> ClusterConfig {
    ClusterConfig {
        connect_timeout: Duration::from_secs(2),
        request_timeout: Duration::from_secs(5),
        call_timeout: Duration::from_secs(20),
        ..ClusterConfig::new(vec![proxy.address()], "conformance")
    }
}

pub fn new_topic(name: &str, partitions: i32, configs: &[(&str, &str)]) -> NewTopic {
    let configs: BTreeMap<_, _> = configs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    NewTopic { name: name.into(), partitions, replication_factor: 1, configs }
}

pub fn to(topic: &str, partition: i32, value: &str) -> OutRecord {
    OutRecord {
        topic: topic.into(),
        partition: Some(partition),
        value: Some(Bytes::from(value.to_owned())),
        ..OutRecord::default()
    }
}

/// The next answer that is not merely a leader moving, within [`SOON`].
pub async fn next(fetcher: &mut Fetcher) -> Fetched {
    let good = async {
        loop {
            match fetcher.next().await {
                Ok(fetched) => return fetched,
                Err(error) => assert!(error.is_retryable(), "{error}"),
            }
        }
    };
    tokio::time::timeout(SOON, good).await.expect("nothing is fetched")
}

pub async fn read_from(fetcher: &mut Fetcher, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    while records.len() < count {
        records.extend(next(fetcher).await.records);
    }
    records
}

pub fn values(records: &[Record]) -> Vec<String> {
    records.iter().map(|r| String::from_utf8(r.value.clone().unwrap_or_default().to_vec()).unwrap()).collect()
}

/// The broker of this run: the one named in the environment, or an embedded one.
fn broker(profile: Profile) -> String {
    match std::env::var("ANABRANCH_TEST_KAFKA") {
        Ok(address) => address,
        Err(_) => embedded(profile),
    }
}

/// The embedded brokers, one for all cases of a profile. They run as long as the process.
fn embedded(profile: Profile) -> String {
    static KAFKA: OnceLock<String> = OnceLock::new();
    static REDPANDA: OnceLock<String> = OnceLock::new();
    static TWO: OnceLock<String> = OnceLock::new();
    let one = TransactionVersion::One;
    let (cell, offers, transaction_version) = match profile {
        Profile::Full | Profile::Oldest => (&KAFKA, anabranch_broker::Profile::Kafka, one),
        Profile::Redpanda => (&REDPANDA, anabranch_broker::Profile::Redpanda, one),
        Profile::Two => (&TWO, anabranch_broker::Profile::Kafka, TransactionVersion::Two),
    };
    let config =
        BrokerConfig { storage: Storage::Memory, profile: offers, transaction_version, ..BrokerConfig::default() };
    cell.get_or_init(|| start(config)).clone()
}

/// Each case has a runtime that ends with it; the broker must not end with the first.
fn start(config: BrokerConfig) -> String {
    let (sender, address) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let broker = Broker::start(config).await.unwrap();
            sender.send(broker.bootstrap()).unwrap();
            std::future::pending::<()>().await;
        });
    });
    address.recv().unwrap()
}
