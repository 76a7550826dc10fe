//! Settings. Every duration is a [`Duration`], every size names its unit.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    security::SecurityConfig,
    transport::{PlainTcp, Transport},
};

/// How to reach a cluster.
#[derive(Clone)]
pub struct ClusterConfig {
    /// `host:port` of some brokers; the rest is learnt from them.
    pub bootstrap: Vec<String>,
    /// What this process calls itself towards brokers.
    pub client_id: String,
    /// Limit for making one connection, its handshake included.
    pub connect_timeout: Duration,
    /// Limit for one request's answer; long polls and joins get their own waiting time on top.
    pub request_timeout: Duration,
    /// Limit for one call with all its retries, where the call has no limit of its own.
    pub call_timeout: Duration,
    /// First wait after a failure; it doubles, with jitter, up to [`max_backoff`](Self::max_backoff).
    pub initial_backoff: Duration,
    /// Longest wait between two tries.
    pub max_backoff: Duration,
    /// How old cached metadata may become before it is asked for again.
    pub metadata_max_age: Duration,
    /// Largest answer taken from a broker; a larger one closes the connection.
    pub max_response_bytes: usize,
    /// Largest size one record batch may have after decompression.
    pub max_batch_bytes: usize,
    /// How bytes get to a broker.
    pub transport: Arc<dyn Transport>,
    /// How connections authenticate, and how rskafka encrypts. Set it with [`with_security`](Self::with_security).
    pub security: SecurityConfig,
}

impl ClusterConfig {
    /// Defaults: plain TCP, 5 s to connect, 10 s per request, 30 s per call, backoff 50 ms to 1 s.
    pub fn new(bootstrap: Vec<String>, client_id: impl Into<String>) -> Self {
        Self {
            bootstrap,
            client_id: client_id.into(),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(10),
            call_timeout: Duration::from_secs(30),
            initial_backoff: Duration::from_millis(50),
            max_backoff: Duration::from_secs(1),
            metadata_max_age: Duration::from_secs(60),
            max_response_bytes: 100 * 1024 * 1024,
            max_batch_bytes: 64 * 1024 * 1024,
            transport: Arc::new(PlainTcp),
            security: SecurityConfig::plaintext(),
        }
    }

    /// Encrypts and authenticates all connections in this way, rskafka's as well.
    #[must_use]
    pub fn with_security(mut self, security: SecurityConfig) -> Self {
        self.transport = security.transport();
        self.security = security;
        self
    }
}

impl fmt::Debug for ClusterConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterConfig")
            .field("bootstrap", &self.bootstrap)
            .field("client_id", &self.client_id)
            .field("transport", &self.transport.name())
            .field("security", &self.security)
            .finish_non_exhaustive()
    }
}

/// Limits of a producer.
#[derive(Debug, Clone)]
pub struct ProducerConfig {
    /// Bytes that may wait for a broker; past them `send` waits.
    pub max_queued_bytes: usize,
    /// Largest batch sent in one request for one partition.
    pub max_batch_bytes: usize,
    /// Largest record accepted; a larger one is refused at once. Keep it below the topic's `max.message.bytes`.
    pub max_record_bytes: usize,
    /// Limit from `send` to the acknowledgement, all retries included.
    pub delivery_timeout: Duration,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            max_queued_bytes: 32 * 1024 * 1024,
            max_batch_bytes: 900 * 1024,
            max_record_bytes: 1_000_000,
            delivery_timeout: Duration::from_secs(60),
        }
    }
}

/// A transactional producer.
#[derive(Debug, Clone)]
pub struct TransactionConfig {
    /// `transactional.id`. A newer instance with the same one fences this one.
    pub transactional_id: String,
    /// A transaction open for longer is aborted by the coordinator, and the producer is over. Whole milliseconds; brokers allow
    /// 15 minutes by default.
    pub transaction_timeout: Duration,
    /// Largest batch for one partition. Keep it below the topics' `max.message.bytes`.
    pub max_batch_bytes: usize,
    /// Largest record accepted; a larger one is refused at once.
    pub max_record_bytes: usize,
    /// Most bytes of records on their way at the same time; what is more goes in another round.
    pub max_round_bytes: usize,
}

impl TransactionConfig {
    /// Defaults: 60 s, batches of 900 KiB, records of 1 MB, 16 MiB at a time.
    pub fn new(transactional_id: impl Into<String>) -> Self {
        Self {
            transactional_id: transactional_id.into(),
            transaction_timeout: Duration::from_secs(60),
            max_batch_bytes: 900 * 1024,
            max_record_bytes: 1_000_000,
            max_round_bytes: 16 * 1024 * 1024,
        }
    }
}

/// How a group commits its offsets. Never both in one group: a plain commit would overtake one that is part of an open
/// transaction, and brokers do not keep the two apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Commits {
    /// By [`Committer::commit`](crate::Committer::commit) alone.
    #[default]
    Plain,
    /// By [`Transaction::commit_offsets`](crate::Transaction::commit_offsets) alone.
    InTransactions,
}

/// Which records of transactions are seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// Committed ones only, and nothing past the first open transaction.
    #[default]
    ReadCommitted,
    /// All, aborted ones included.
    ReadUncommitted,
}

impl Isolation {
    pub(crate) fn level(self) -> i8 {
        match self {
            Self::ReadUncommitted => 0,
            Self::ReadCommitted => 1,
        }
    }
}

/// Limits of fetching.
#[derive(Debug, Clone)]
pub struct FetchConfig {
    /// Longest time a broker holds a fetch that has nothing to give.
    pub max_wait: Duration,
    /// The broker answers as soon as it has this many bytes.
    pub min_bytes: i32,
    /// Most bytes of one answer (a single larger batch still comes).
    pub max_bytes: i32,
    /// Most bytes of one partition in an answer (a single larger batch still comes).
    pub max_partition_bytes: i32,
    /// Which records of transactions are seen. In a [`GroupConfig`] its own `isolation` counts.
    pub isolation: Isolation,
}

impl Default for FetchConfig {
    fn default() -> Self {
        Self {
            max_wait: Duration::from_millis(500),
            min_bytes: 1,
            max_bytes: 16 * 1024 * 1024,
            max_partition_bytes: 1024 * 1024,
            isolation: Isolation::default(),
        }
    }
}

/// Where a [`Fetcher`](crate::Fetcher) starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// At the first offset the log has.
    Earliest,
    /// After the last record there is now.
    Latest,
    /// At this offset.
    Offset(i64),
}

/// Where a group starts that has committed nothing, or whose committed offset the log no longer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StartOffset {
    /// At the first offset the log has.
    #[default]
    Earliest,
    /// After the last record there is now.
    Latest,
}

/// A membership in a consumer group.
#[derive(Debug, Clone)]
pub struct GroupConfig {
    /// `group.id`.
    pub group: String,
    /// The topics subscribed to. One that does not exist is waited for.
    pub topics: Vec<String>,
    /// `group.instance.id` (KIP-345): a restart within the session time causes no rebalance.
    pub instance_id: Option<String>,
    /// A member silent for this long is evicted. Brokers want 6 s or more by default.
    pub session_timeout: Duration,
    /// How long members may take to rejoin, and a revoked partition to drain.
    pub rebalance_timeout: Duration,
    /// Time between heartbeats; at most a third of the session timeout.
    pub heartbeat_interval: Duration,
    /// Where to start without a commit.
    pub start: StartOffset,
    /// Which records of transactions are seen.
    pub isolation: Isolation,
    /// How offsets are committed; the other way is refused.
    pub commits: Commits,
    /// Limits of fetching.
    pub fetch: FetchConfig,
}

impl GroupConfig {
    /// Defaults: session 45 s, rebalance 60 s, heartbeat 3 s, earliest, read committed, plain commits.
    pub fn new(group: impl Into<String>, topics: Vec<String>) -> Self {
        Self {
            group: group.into(),
            topics,
            instance_id: None,
            session_timeout: Duration::from_secs(45),
            rebalance_timeout: Duration::from_secs(60),
            heartbeat_interval: Duration::from_secs(3),
            start: StartOffset::default(),
            isolation: Isolation::default(),
            commits: Commits::default(),
            fetch: FetchConfig::default(),
        }
    }
}
