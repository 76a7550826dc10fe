//! Sending what is due, reading what comes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anabranch_kafka::TopicPartition;
use anabranch_kafka::{Cluster, FetchConfig, Fetched, Isolation, OutRecord, Position, Producer, ProducerConfig};
use anabranch_protocol::Timestamp;
use anabranch_topology::Topology;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};

use crate::error::BenchError;
use crate::ledger::{Ledger, Role};
use crate::requests::{self, Requests};
use crate::schedule::Pace;

/// Most records that are made and queued in one go.
const CHUNK: u64 = 100;
/// Most bytes of them.
const CHUNK_BYTES: usize = 4 << 20;
/// Most of these goes under way. What has to wait for its turn is late, and counts as late.
const MAX_UNDER_WAY: usize = 16;

/// The time now, by this machine's clock.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Sends cases.
#[derive(Clone)]
pub(crate) struct Sender {
    producer: Producer,
    requests: Arc<Requests>,
    chunk: u64,
}

impl Sender {
    pub(crate) fn new(cluster: &Cluster, requests: Requests, payload_bytes: usize) -> Self {
        let config = ProducerConfig { delivery_timeout: Duration::from_secs(300), ..ProducerConfig::default() };
        let fitting = u64::try_from(CHUNK_BYTES / payload_bytes.max(1)).unwrap_or(CHUNK);
        Self { producer: cluster.producer(config), requests: Arc::new(requests), chunk: fitting.clamp(1, CHUNK) }
    }

    async fn send(&self, records: Vec<OutRecord>) -> Result<(), BenchError> {
        self.producer.send_all(records).await.map(drop).map_err(BenchError::kafka("sending cases"))
    }

    /// Sends cases that are not measured.
    ///
    /// # Errors
    /// What the broker said.
    pub(crate) async fn warm_up(&self, cases: u64) -> Result<(), BenchError> {
        let record = |number| self.requests.record(number, &requests::warm_up_key(number), now());
        self.send((0..cases).map(record).collect()).await
    }

    /// Sends one case, acknowledged.
    ///
    /// # Errors
    /// What the broker said.
    pub(crate) async fn one(&self, number: u64) -> Result<(), BenchError> {
        self.range(number..number + 1).await
    }

    async fn range(&self, numbers: Range<u64>) -> Result<(), BenchError> {
        self.send(numbers.map(|number| self.requests.record(number, &requests::key(number), now())).collect()).await
    }

    /// Sends each case when it is due, counted from `began`, whatever became of the others; returns when all are
    /// acknowledged.
    ///
    /// # Errors
    /// What the broker said.
    pub(crate) async fn run(self, pace: Pace, cases: u64, began: Instant) -> Result<(), BenchError> {
        let mut under_way = JoinSet::new();
        let mut sent = 0;
        while sent < cases {
            let due = pace.due_by(began.elapsed());
            while sent < due {
                let until = due.min(sent + self.chunk);
                let (sender, numbers) = (self.clone(), sent..until);
                while under_way.len() >= MAX_UNDER_WAY {
                    ended(under_way.join_next().await)?;
                }
                under_way.spawn(async move { sender.range(numbers).await });
                sent = until;
            }
            while let Some(sent) = under_way.try_join_next() {
                ended(Some(sent))?;
            }
            if sent < cases {
                tokio::time::sleep_until((began + pace.due_at(sent)).into()).await;
            }
        }
        while let Some(sent) = under_way.join_next().await {
            ended(Some(sent))?;
        }
        Ok(())
    }
}

fn ended(sent: Option<Result<Result<(), BenchError>, tokio::task::JoinError>>) -> Result<(), BenchError> {
    match sent {
        None => Ok(()),
        Some(Ok(sent)) => sent,
        Some(Err(error)) => Err(BenchError::Process(format!("sending cases: {error}"))),
    }
}

/// Which topic tells what.
pub(crate) fn roles(topology: &Topology, naps: bool) -> BTreeMap<String, Role> {
    if naps {
        let tasks = topology.tasks_topic("napper");
        return BTreeMap::from([
            (topology.results_topic(), Role::Outcome),
            (topology.dlq_topic(&tasks), Role::DeadLetter),
        ]);
    }
    let of = |(alias, topic): (&String, &anabranch_topology::Topic)| {
        let role = match alias.as_str() {
            "customer-messages" => Role::Message,
            "fraud-alerts" => return None,
            _ => Role::Outcome,
        };
        Some((topic.name.clone(), role))
    };
    let mut roles: BTreeMap<String, Role> = topology.outbound.iter().filter_map(of).collect();
    for topic in [topology.inbound.requests.name.clone(), topology.results_topic()] {
        roles.insert(topology.dlq_topic(&topic), Role::DeadLetter);
    }
    roles
}

/// What was read so far.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) ledger: Ledger,
    /// From here times count.
    pub(crate) began: Instant,
    /// Cases of the warm-up that have ended.
    warm: BTreeSet<Vec<u8>>,
    failure: Option<String>,
}

/// Reads outcomes as a `read_committed` reader sees them, from the start of the topics on, until dropped.
#[derive(Debug)]
pub(crate) struct Outcomes {
    seen: Arc<Mutex<Seen>>,
    /// Something came.
    news: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Drop for Outcomes {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Outcomes {
    /// Begins to read.
    ///
    /// # Errors
    /// If a topic is not there.
    pub(crate) async fn follow(cluster: &Cluster, roles: BTreeMap<String, Role>) -> Result<Self, BenchError> {
        let config = FetchConfig { isolation: Isolation::ReadCommitted, ..FetchConfig::default() };
        let mut fetcher = cluster.fetcher(config);
        for topic in roles.keys() {
            let count = cluster.partition_count(topic).await.map_err(BenchError::kafka(topic.as_str()))?;
            (0..count).for_each(|p| fetcher.add(TopicPartition::new(topic.as_str(), p), Position::Earliest));
        }
        let seen = Seen { ledger: Ledger::new(0), began: Instant::now(), warm: BTreeSet::new(), failure: None };
        let (seen, news) = (Arc::new(Mutex::new(seen)), Arc::new(Notify::new()));
        let (into, tell) = (seen.clone(), news.clone());
        let task = tokio::spawn(async move {
            loop {
                let fetched = fetcher.next().await;
                let at = Instant::now();
                let mut seen = into.lock().unwrap_or_else(PoisonError::into_inner);
                match fetched {
                    Ok(fetched) => seen.take(&fetched, at, &roles),
                    // A broker that is away comes back.
                    Err(error) if error.is_retryable() => continue,
                    Err(error) => {
                        seen.failure = Some(error.to_string());
                        tell.notify_waiters();
                        return;
                    }
                }
                tell.notify_waiters();
            }
        });
        Ok(Self { seen, news, task })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something holds; `false` if it does not within `limit`.
    ///
    /// # Errors
    /// If nothing can be read any more.
    pub(crate) async fn until(&self, limit: Duration, holds: impl Fn(&Seen) -> bool) -> Result<bool, BenchError> {
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            let news = self.news.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            {
                let seen = self.lock();
                if let Some(failure) = &seen.failure {
                    return Err(BenchError::Process(format!("the outcomes cannot be read: {failure}")));
                }
                if holds(&seen) {
                    return Ok(true);
                }
            }
            if tokio::time::timeout_at(deadline, news).await.is_err() {
                return Ok(false);
            }
        }
    }
}

impl Seen {
    fn take(&mut self, fetched: &Fetched, at: Instant, roles: &BTreeMap<String, Role>) {
        let Some(role) = roles.get(&*fetched.topic) else { return };
        let at = at.saturating_duration_since(self.began);
        for record in &fetched.records {
            let key = record.key.as_deref().unwrap_or_default();
            match requests::number_of(key) {
                Some(number) => self.ledger.seen(number, *role, at),
                None if *role != Role::Message => drop(self.warm.insert(key.to_vec())),
                None => {}
            }
        }
    }

    /// Cases of the warm-up that have ended.
    pub(crate) fn warm(&self) -> u64 {
        u64::try_from(self.warm.len()).unwrap_or(u64::MAX)
    }
}
