//! What can be set about the broker.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

/// Where the data is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Storage {
    /// In memory; gone with the broker.
    #[default]
    Memory,
    /// In a directory, which is made if it is not there. Only one broker may have it open.
    Directory(PathBuf),
}

/// Which broker it passes for: which APIs and versions it offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// Apache Kafka 4.
    #[default]
    Kafka,
    /// Redpanda: the classic group protocol, transaction version 1, and the lower version ranges it offers.
    Redpanda,
}

/// How transactions work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TransactionVersion {
    /// None at all, as in Redpanda with `enable_transactions=false`: their requests are not offered.
    Off,
    /// As in Redpanda, and in Apache Kafka before 4.0.
    #[default]
    One,
    /// With KIP-890: every transaction has its own epoch, and a produce adds its partition.
    Two,
}

/// The broker's settings.
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    /// Where to listen. Loopback only; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where the data is kept.
    pub storage: Storage,
    /// Which broker it passes for.
    pub profile: Profile,
    /// How transactions work. [`Profile::Redpanda`] knows version one only.
    pub transaction_version: TransactionVersion,
    /// `max.message.bytes` of topics that do not set it.
    pub max_message_bytes: usize,
    /// The largest request, in bytes. A connection that announces a larger one is closed.
    pub max_request_bytes: usize,
    /// `segment.bytes` of topics that do not set it.
    pub segment_bytes: u64,
    /// Partitions of a topic that is created without a number.
    pub default_partitions: i32,
    /// How long the first rebalance of an empty group waits for more members.
    pub initial_rebalance_delay: Duration,
    /// The shortest session time a group member may ask for.
    pub min_session_timeout: Duration,
    /// The longest session time a group member may ask for.
    pub max_session_timeout: Duration,
    /// The longest time a transaction may ask for.
    pub max_transaction_timeout: Duration,
    /// How often retention and compaction look for work.
    pub housekeeping_interval: Duration,
}

impl Default for BrokerConfig {
    /// Apache Kafka's defaults, but in memory, on a free loopback port, with small segments, quick housekeeping and no
    /// delay of a group's first rebalance.
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            storage: Storage::default(),
            profile: Profile::default(),
            transaction_version: TransactionVersion::default(),
            max_message_bytes: 1_048_588,
            max_request_bytes: 100 << 20,
            segment_bytes: 16 << 20,
            default_partitions: 1,
            initial_rebalance_delay: Duration::ZERO,
            min_session_timeout: Duration::from_secs(6),
            max_session_timeout: Duration::from_secs(30 * 60),
            max_transaction_timeout: Duration::from_secs(15 * 60),
            housekeeping_interval: Duration::from_secs(1),
        }
    }
}

/// Why the broker did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// It has no access control, so it may not be reached from elsewhere.
    #[error("{0} is not a loopback address; this broker has no access control")]
    NotLoopback(SocketAddr),
    /// The settings contradict each other.
    #[error("{0}")]
    Config(&'static str),
    /// The address could not be taken.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Another broker has the directory open.
    #[error("{0} is in use by another broker")]
    InUse(PathBuf),
    /// The data could not be read, or is damaged.
    #[error("cannot open the data: {0}")]
    Storage(#[from] io::Error),
}
