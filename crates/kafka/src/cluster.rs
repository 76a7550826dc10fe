//! A handle on a cluster: its brokers, its metadata, its connections and its health.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::{Duration, Instant},
};

use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, EndTxnRequest, FetchRequest, FindCoordinatorRequest,
    InitProducerIdRequest, JoinGroupRequest, MetadataRequest, MetadataResponse, OffsetCommitRequest, ProduceRequest,
    TxnOffsetCommitRequest, metadata_request::MetadataRequestTopic,
};
use kafka_protocol::{messages::TopicName, protocol::StrBytes};
use rand::seq::SliceRandom;

use crate::{
    Admin, Error, FetchConfig, Fetcher, Producer, ProducerConfig, TransactionConfig, TransactionalProducer,
    api::{Api, api_versions},
    backoff::retry,
    config::ClusterConfig,
    connection::Connection,
    error::ErrorKind,
    group::Coordinates,
    metadata::{Broker, Metadata, address},
    silence::Deaths,
};

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const LEADER_NOT_AVAILABLE: i16 = 5;
const COORDINATOR_NOT_AVAILABLE: i16 = 15;

/// What a cluster tells of itself. No broker says its own version; these say as much as is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerInfo {
    /// The cluster's id, from Metadata 2 on.
    pub cluster_id: Option<String>,
    /// How many brokers.
    pub nodes: usize,
    /// The level of the feature `metadata.version`, as in Apache Kafka with `KRaft`; 0: not told.
    pub metadata_version: i16,
    /// The level of the feature `transaction.version`; 0: the first one, or not told.
    pub transaction_version: i16,
    /// The version that is spoken of the requests that matter most; those that the broker does not offer are left out.
    pub negotiated: Vec<(&'static str, i16)>,
}

/// When a broker last answered, and what last went wrong.
#[derive(Debug, Clone, Default)]
pub struct Health {
    /// When any broker last answered anything.
    pub last_answer: Option<Instant>,
    /// The last failure since then; `None` after an answer.
    pub last_error: Option<String>,
}

/// Where connections note how it goes.
#[derive(Debug, Default)]
pub(crate) struct HealthCell {
    health: Mutex<Health>,
    /// Connections that died unnoticed.
    pub(crate) deaths: Deaths,
}

impl HealthCell {
    fn lock(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn answered(&self) {
        let mut health = self.lock();
        health.last_answer = Some(Instant::now());
        health.last_error = None;
    }

    /// Only what says that a broker is away counts: an error code is an answer.
    pub(crate) fn failed(&self, error: &Error) {
        if error.code().is_none() {
            self.lock().last_error = Some(error.to_string());
        }
    }
}

/// What a pooled connection is for. A broker answers one connection's requests in order, so that a slow
/// kind must not share one with another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    Control,
    Commit,
    Produce,
}

/// A handle on a cluster; cheap to clone. Connections are made when needed and shared between clones.
#[derive(Clone)]
pub struct Cluster {
    pub(crate) shared: Arc<Shared>,
}

type Slot = Arc<tokio::sync::Mutex<Option<Connection>>>;

pub(crate) struct Shared {
    pub(crate) config: ClusterConfig,
    pub(crate) health: Arc<HealthCell>,
    metadata: RwLock<Metadata>,
    refreshing: tokio::sync::Mutex<()>,
    pool: Mutex<HashMap<(String, Purpose), Slot>>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Makes a handle. No I/O. A security configuration that sends secrets or records in clear is warned of.
    pub fn new(config: ClusterConfig) -> Cluster {
        if let Some(warning) = config.security.warning() {
            tracing::warn!(protocol = config.security.protocol(), "{warning}");
        }
        let shared = Shared {
            config,
            health: Arc::default(),
            metadata: RwLock::default(),
            refreshing: tokio::sync::Mutex::default(),
            pool: Mutex::default(),
        };
        Cluster { shared: Arc::new(shared) }
    }

    /// A round trip to any broker, within `timeout`.
    ///
    /// # Errors
    /// What the last broker tried had to say.
    pub async fn ping(&self, timeout: Duration) -> Result<(), Error> {
        let ask = async {
            let connection = self.any_broker(Purpose::Control).await?;
            connection.call(timeout, api_versions).await
        };
        match tokio::time::timeout(timeout, ask).await {
            Ok(answer) => answer.map(|_| ()),
            Err(_) => {
                let error = Error::new("Ping", ErrorKind::Timeout { after: timeout, sent: true });
                self.shared.health.failed(&error);
                Err(error)
            }
        }
    }

    /// What is known without asking.
    pub fn health(&self) -> Health {
        self.shared.health.lock().clone()
    }

    /// The number of partitions of a topic, from metadata not older than `metadata_max_age`.
    ///
    /// # Errors
    /// [`Error::is_unknown_topic`] at once when there is no such topic; what is away is waited for, within the call
    /// timeout.
    pub async fn partition_count(&self, topic: &str) -> Result<i32, Error> {
        if let Some(count) = self.read_metadata().partition_count(topic, self.config().metadata_max_age) {
            return Ok(count);
        }
        // Boxed, as is what else is rare here: every future that sends a record would hold it, and all futures around that.
        let asking = self.retrying(|| async {
            let counts = self.partition_counts(&[topic]).await?;
            let unknown = || Error::broker_code("Metadata", UNKNOWN_TOPIC_OR_PARTITION, None).on_topic(topic);
            counts.get(topic).copied().ok_or_else(unknown)
        });
        Box::pin(asking).await
    }

    /// The numbers of partitions of those topics that exist, as a broker sees it now. Taken from its answer, not from
    /// what is remembered: another task may have forgotten a topic in between, which must not look like its deletion.
    pub(crate) async fn partition_counts(&self, topics: &[&str]) -> Result<BTreeMap<Arc<str>, i32>, Error> {
        let answer = self.ask_topics(topics).await?;
        let mut counts = BTreeMap::new();
        for topic in &answer.topics {
            let Some(name) = &topic.name else { continue };
            match (topic.error_code, i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX)) {
                (UNKNOWN_TOPIC_OR_PARTITION, _) => {}
                (0, 0) => {
                    return Err(Error::broker_code("Metadata", LEADER_NOT_AVAILABLE, None).on_topic(name.as_str()));
                }
                (0, count) => drop(counts.insert(Arc::from(name.as_str()), count)),
                (code, _) => return Err(Error::broker_code("Metadata", code, None).on_topic(name.as_str())),
            }
        }
        Ok(counts)
    }

    /// Topics, configs, groups.
    pub fn admin(&self) -> Admin {
        Admin::new(self.clone())
    }

    /// A producer. Needs a tokio runtime.
    pub fn producer(&self, config: ProducerConfig) -> Producer {
        Producer::new(self.clone(), config)
    }

    /// A transactional producer. An earlier instance with the same transactional id is fenced, and its open transaction
    /// aborted. Needs a tokio runtime.
    ///
    /// # Errors
    /// What the coordinator last had to say within the call timeout.
    pub async fn transactional(&self, config: TransactionConfig) -> Result<TransactionalProducer, Error> {
        TransactionalProducer::start(self.clone(), config).await
    }

    /// Whether the broker offers all requests that transactions with a group's offsets need. Redpanda leaves some out with
    /// `enable_transactions=false`, and some services that speak Kafka's protocol have none of them.
    ///
    /// # Errors
    /// What the last broker tried had to say.
    pub async fn offers_transactions(&self) -> Result<bool, Error> {
        let connection = self.any_broker(Purpose::Control).await?;
        Ok(connection.version_of::<InitProducerIdRequest>().is_ok()
            && connection.version_of::<AddPartitionsToTxnRequest>().is_ok()
            && connection.version_of::<AddOffsetsToTxnRequest>().is_ok()
            && connection.version_of::<TxnOffsetCommitRequest>().is_ok()
            && connection.version_of::<EndTxnRequest>().is_ok())
    }

    /// What the cluster tells of itself, for reports.
    ///
    /// # Errors
    /// What the last broker tried had to say.
    pub async fn broker_info(&self) -> Result<BrokerInfo, Error> {
        let metadata = self.ask_metadata(Some(Vec::new())).await?;
        let connection = self.any_broker(Purpose::Control).await?;
        let negotiated = [
            (ProduceRequest::NAME, connection.version_of::<ProduceRequest>()),
            (FetchRequest::NAME, connection.version_of::<FetchRequest>()),
            (MetadataRequest::NAME, connection.version_of::<MetadataRequest>()),
            (JoinGroupRequest::NAME, connection.version_of::<JoinGroupRequest>()),
            (OffsetCommitRequest::NAME, connection.version_of::<OffsetCommitRequest>()),
            (InitProducerIdRequest::NAME, connection.version_of::<InitProducerIdRequest>()),
            (TxnOffsetCommitRequest::NAME, connection.version_of::<TxnOffsetCommitRequest>()),
            (EndTxnRequest::NAME, connection.version_of::<EndTxnRequest>()),
        ];
        Ok(BrokerInfo {
            cluster_id: metadata.cluster_id.map(|id| id.to_string()),
            nodes: metadata.brokers.len(),
            metadata_version: connection.feature("metadata.version"),
            transaction_version: connection.feature("transaction.version"),
            negotiated: negotiated.into_iter().filter_map(|(name, version)| Some((name, version.ok()?))).collect(),
        })
    }

    /// A reader of chosen partitions, without a group. Needs a tokio runtime.
    pub fn fetcher(&self, config: FetchConfig) -> Fetcher {
        Fetcher::new(self.clone(), config)
    }

    pub(crate) fn config(&self) -> &ClusterConfig {
        &self.shared.config
    }

    pub(crate) fn read_metadata(&self) -> std::sync::RwLockReadGuard<'_, Metadata> {
        self.shared.metadata.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_metadata(&self) -> std::sync::RwLockWriteGuard<'_, Metadata> {
        self.shared.metadata.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Repeats a call within the call timeout.
    pub(crate) async fn retrying<T, F>(&self, try_once: impl FnMut() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        retry(self.config(), Instant::now() + self.config().call_timeout, try_once).await
    }

    /// The pooled connection to an address, made anew if it is gone.
    pub(crate) async fn connection(&self, address: &str, purpose: Purpose) -> Result<Connection, Error> {
        let slot = {
            let mut pool = self.shared.pool.lock().unwrap_or_else(PoisonError::into_inner);
            pool.entry((address.to_owned(), purpose)).or_default().clone()
        };
        let mut slot = slot.lock().await;
        if let Some(open) = slot.as_ref().filter(|c| c.is_usable()) {
            return Ok(open.clone());
        }
        let opened = Box::pin(self.open(address)).await?;
        *slot = Some(opened.clone());
        Ok(opened)
    }

    /// A connection of its own, shared with nobody.
    pub(crate) async fn open(&self, address: &str) -> Result<Connection, Error> {
        Connection::open(self.config(), address, self.shared.health.clone()).await
    }

    /// A connection to whichever broker answers: known ones first, then the bootstrap list.
    pub(crate) async fn any_broker(&self, purpose: Purpose) -> Result<Connection, Error> {
        let mut addresses = self.read_metadata().addresses();
        addresses.shuffle(&mut rand::rng());
        let known = addresses.len();
        addresses.extend(self.config().bootstrap.iter().filter(|b| !b.trim().is_empty()).cloned());
        addresses[known..].shuffle(&mut rand::rng());
        let mut last = Error::invalid("Connect", "no bootstrap broker is configured");
        for address in addresses {
            match self.connection(&address, purpose).await {
                Ok(connection) => return Ok(connection),
                // That one refuses us says more than that another is away.
                Err(error) if last.is_fatal() && !error.is_fatal() => {}
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Asks for the metadata of some topics and remembers it. Several callers wait for one another, and take over
    /// what the one before has just learnt.
    pub(crate) async fn refresh(&self, topics: &[&str]) -> Result<(), Error> {
        let asked = Instant::now();
        let _one_at_a_time = self.shared.refreshing.lock().await;
        if !topics.is_empty() && topics.iter().all(|t| self.read_metadata().is_newer_than(t, asked)) {
            return Ok(());
        }
        self.ask_topics(topics).await.map(|_| ())
    }

    /// The metadata of some topics, remembered.
    async fn ask_topics(&self, topics: &[&str]) -> Result<MetadataResponse, Error> {
        let names = topics.iter().map(|t| TopicName(StrBytes::from_string((*t).to_owned())));
        let wanted = names.map(|name| MetadataRequestTopic::default().with_name(Some(name))).collect();
        let answer = self.ask_metadata(Some(wanted)).await?;
        self.write_metadata().learn(&answer);
        Ok(answer)
    }

    /// Metadata of the given topics, or of all.
    pub(crate) async fn ask_metadata(
        &self,
        topics: Option<Vec<MetadataRequestTopic>>,
    ) -> Result<MetadataResponse, Error> {
        let connection = self.any_broker(Purpose::Control).await?;
        connection
            .call(self.config().request_timeout, |version| {
                MetadataRequest::default().with_topics(topics).with_allow_auto_topic_creation(version < 4)
            })
            .await
    }

    /// Metadata of all topics, remembered.
    pub(crate) async fn refresh_all(&self) -> Result<MetadataResponse, Error> {
        let answer = self.ask_metadata(None).await?;
        self.write_metadata().learn_all(&answer);
        Ok(answer)
    }

    /// Forgets what is known of a topic: a leader moved, or a partition is unknown.
    pub(crate) fn forget(&self, topic: &str) {
        self.write_metadata().forget(topic);
    }

    /// The leader of a partition, from metadata or, when it is not known there, from a broker.
    pub(crate) async fn leader(&self, topic: &str, partition: i32) -> Result<Broker, Error> {
        if let Some(leader) = self.read_metadata().leader(topic, partition) {
            return Ok(leader);
        }
        Box::pin(self.refresh(&[topic])).await?;
        let metadata = self.read_metadata();
        metadata.leader(topic, partition).ok_or_else(|| {
            let code = match metadata.partition_count(topic, Duration::MAX) {
                Some(count) if partition < count => LEADER_NOT_AVAILABLE,
                Some(_) => UNKNOWN_TOPIC_OR_PARTITION,
                None => metadata.error_of(topic),
            };
            Error::broker_code("Metadata", code, None).on_partition(topic, partition)
        })
    }

    /// The controller's address; any broker passes admin requests on in KRaft, so that an unknown one is no error.
    pub(crate) async fn controller(&self) -> Result<Connection, Error> {
        let known = self.read_metadata().controller();
        let controller = match known {
            Some(broker) => Some(broker),
            None => {
                let answer = self.ask_metadata(Some(Vec::new())).await?;
                self.write_metadata().learn(&answer);
                self.read_metadata().controller()
            }
        };
        match controller {
            Some(broker) => self.connection(&broker.address, Purpose::Control).await,
            None => self.any_broker(Purpose::Control).await,
        }
    }

    /// Whether rskafka gets to this cluster's brokers by itself. It cannot verify a certificate's IPv6 address: it takes
    /// the host to end at the first colon. There everything is produced by our own requests.
    pub(crate) fn rskafka_reaches(&self) -> bool {
        let config = self.config();
        let by_name = || {
            let known = self.read_metadata().addresses();
            known.iter().chain(&config.bootstrap).all(|address| !address.starts_with('['))
        };
        config.transport.rskafka_reaches() && (!config.security.uses_tls() || by_name())
    }

    /// Forgets the controller, after a broker said that it is none.
    pub(crate) fn forget_controller(&self) {
        self.write_metadata().forget_controller();
    }

    /// Asks any broker for the coordinator of a group or a transactional id.
    pub(crate) async fn find_coordinator(&self, kind: Coordinates, key: &str) -> Result<Broker, Error> {
        let connection = self.any_broker(Purpose::Control).await?;
        let key = StrBytes::from_string(key.to_owned());
        let answer = connection
            .call(self.config().request_timeout, |version| match version {
                4.. => FindCoordinatorRequest::default().with_coordinator_keys(vec![key]).with_key_type(kind as i8),
                _ => FindCoordinatorRequest::default().with_key(key).with_key_type(kind as i8),
            })
            .await?;
        let (code, message, node, host, port) = match answer.coordinators.into_iter().next() {
            Some(c) => (c.error_code, c.error_message, c.node_id, c.host, c.port),
            None => (answer.error_code, answer.error_message, answer.node_id, answer.host, answer.port),
        };
        let failed = |code| {
            let message = message.map(|m| m.to_string()).filter(|m| !m.is_empty());
            Error::broker_code(FindCoordinatorRequest::NAME, code, message).at_broker(connection.address())
        };
        match (code, host.is_empty()) {
            (0, false) => Ok(Broker { id: node.0, address: address(&host, port) }),
            (0, true) => Err(failed(COORDINATOR_NOT_AVAILABLE)),
            (code, _) => Err(failed(code)),
        }
    }
}
