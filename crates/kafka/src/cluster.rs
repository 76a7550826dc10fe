//! A cluster.
use std::time::{Duration, Instant};
use crate::{Admin, ClusterConfig, Error, FetchConfig, Fetcher, Producer, ProducerConfig};

/// When a broker last answered, and what last went wrong.
#[derive(Debug, Clone, Default)]
pub struct Health {
    /// When any broker last answered anything.
    pub last_answer: Option<Instant>,
    /// The last failure since then; `None` after an answer.
    pub last_error: Option<String>,
}

/// A handle on a cluster; cheap to clone.
#[derive(Debug, Clone)]
pub struct Cluster;

impl Cluster {
    /// No I/O.
    pub fn new(config: ClusterConfig) -> Cluster { unimplemented!() }
    /// A round trip to any broker.
    pub async fn ping(&self, timeout: Duration) -> Result<(), Error> { unimplemented!() }
    /// What is known without asking.
    pub fn health(&self) -> Health { unimplemented!() }
    /// The number of partitions of a topic.
    pub async fn partition_count(&self, topic: &str) -> Result<i32, Error> { unimplemented!() }
    /// Topics, configs, groups.
    pub fn admin(&self) -> Admin { unimplemented!() }
    /// A producer.
    pub fn producer(&self, config: ProducerConfig) -> Producer { unimplemented!() }
    /// A reader of chosen partitions, without a group.
    pub fn fetcher(&self, config: FetchConfig) -> Fetcher { unimplemented!() }
}
