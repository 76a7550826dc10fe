//! The composer's state: one record for each case on a compacted topic, partition by partition with the results, and copies
//! of the payloads of parked cases beside them.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use anabranch_core::join::{Join, JoinPolicy, Piece, Saved, StateKey};
use anabranch_kafka::{Cluster, Error, FetchConfig, Fetched, Isolation, OutRecord, Position, Record, TopicPartition};
use anabranch_protocol::CorrelationId;
use anabranch_topology::Topology;
use bytes::Bytes;

use super::payloads::Payload;
use crate::emit::EmitError;
use crate::metrics::Metrics;
use crate::service::Service;

/// How often a restore says how far it is.
const TELL_EVERY: Duration = Duration::from_secs(2);

/// Where the topics that are joined ended when a partition came. Nothing is too late before it was read up to there.
pub(super) type Ends = BTreeMap<TopicPartition, i64>;

/// Reads the state of a partition. With it comes where results and review decisions ended before.
///
/// # Errors
/// If a topic cannot be read.
pub(super) async fn read(service: &Service, partition: i32) -> Result<(Join, Ends), Error> {
    let review = service.topology.inbound.review.as_ref().map(|topic| topic.name.clone());
    let joined = [service.topology.results_topic()].into_iter().chain(review);
    let joined: Vec<TopicPartition> = joined.map(|topic| TopicPartition { topic: topic.into(), partition }).collect();
    let ends = service.cluster.admin().end_offsets(&joined, Isolation::ReadUncommitted).await?;
    let mut join = Join::new(policy(&service.topology));
    restore(&service.cluster, &service.topology.state_topic(), partition, &mut join, &service.metrics).await?;
    Ok((join, ends.into_iter().collect()))
}

/// What the topology says about joins.
pub(super) fn policy(topology: &Topology) -> JoinPolicy {
    JoinPolicy {
        deadline: topology.join.deadline,
        closed_memory: topology.join.closed_memory,
        max_follow_up_rounds: topology.confidence.max_follow_up_rounds,
        wait_for: topology.join.wait_for,
        when_deadline_passes: topology.join.when_deadline_passes,
        parking: topology.parking,
    }
}

async fn restore(
    cluster: &Cluster,
    topic: &str,
    partition: i32,
    join: &mut Join,
    metrics: &Metrics,
) -> Result<(), Error> {
    let tp = TopicPartition { topic: topic.into(), partition };
    let asked = std::slice::from_ref(&tp);
    let start = cluster.admin().earliest_offsets(asked).await?.get(&tp).copied().unwrap_or(0);
    // The end of the log, not of what is committed: an earlier owner's transaction may be committed already and its marker
    // not written here yet. Reading committed gets past it once it is.
    let end = cluster.admin().end_offsets(asked, Isolation::ReadUncommitted).await?.get(&tp).copied().unwrap_or(0);
    let mut fetcher = cluster.fetcher(FetchConfig { isolation: Isolation::ReadCommitted, ..FetchConfig::default() });
    fetcher.add(tp, Position::Earliest);
    let mut progress = Progress::new(metrics, partition, start, end);
    let mut copies = Copies::default();
    while progress.next < end {
        let fetched = fetcher.next().await?;
        take_in(join, &mut copies, &fetched);
        progress.reached(fetched.next_offset.max(fetched.log_start_offset), join.len());
    }
    copies.tell(join);
    tracing::info!(partition, cases = join.len(), took_ms = progress.took_ms(), "state restored");
    Ok(())
}

/// How far a restore is; what is left of it is on a gauge until it ends, however it ends.
struct Progress<'a> {
    metrics: &'a Metrics,
    partition: i32,
    start: i64,
    next: i64,
    end: i64,
    began: Instant,
    told: Instant,
}

impl<'a> Progress<'a> {
    fn new(metrics: &'a Metrics, partition: i32, start: i64, end: i64) -> Self {
        metrics.state_left.inc_by((end - start).max(0));
        let now = Instant::now();
        Self { metrics, partition, start, next: start, end, began: now, told: now }
    }

    fn reached(&mut self, next: i64, cases: usize) {
        let before = self.left();
        self.next = self.next.max(next);
        self.metrics.state_left.dec_by(before - self.left());
        if self.told.elapsed() >= TELL_EVERY {
            self.told = Instant::now();
            let done_percent = (self.next - self.start) * 100 / (self.end - self.start).max(1);
            tracing::info!(partition = self.partition, cases, done_percent, left = self.left(), "restoring the state");
        }
    }

    fn left(&self) -> i64 {
        (self.end - self.next).max(0)
    }

    fn took_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        self.metrics.state_left.dec_by(self.left());
    }
}

/// Where copies lie. A copy can come before its case, and after an older record of it.
#[derive(Default)]
struct Copies(HashMap<(String, Piece), i64>);

impl Copies {
    fn tell(self, join: &mut Join) {
        for ((id, piece), offset) in self.0 {
            if !join.found(&id, piece, offset) {
                tracing::warn!(correlation_id = id, ?piece, offset, "a copy that no case refers to");
            }
        }
    }
}

fn take_in(join: &mut Join, copies: &mut Copies, fetched: &Fetched) {
    for record in &fetched.records {
        match record.key.as_deref().and_then(StateKey::parse) {
            Some(StateKey::Case(id)) => take_in_case(join, id, record),
            Some(StateKey::Kept(piece, id)) => {
                let copy = (id.to_owned(), piece);
                match &record.value {
                    Some(_) => copies.0.insert(copy, record.offset),
                    None => copies.0.remove(&copy),
                };
            }
            None => tracing::error!(offset = record.offset, "a state record whose key is none of a composer's"),
        }
    }
}

fn take_in_case(join: &mut Join, id: &str, record: &Record) {
    let Some(value) = record.value.as_deref() else { return join.drop_case(id) };
    let restored = match Saved::read(value) {
        Ok(saved) => join.restore(id, saved).map_err(|e| e.to_string()),
        Err(error) => Err(error.to_string()),
    };
    // A state that cannot be read is a case that cannot be joined: its deadline would never be kept.
    if let Err(error) = restored {
        tracing::error!(correlation_id = id, offset = record.offset, error, "a case's state cannot be read");
    }
}

/// The state record of a case: its value, or a tombstone once it is forgotten.
pub(super) fn case_record(
    topic: &str,
    partition: i32,
    id: &CorrelationId,
    saved: Option<Saved<'_>>,
) -> Result<OutRecord, EmitError> {
    let value = saved.map(|saved| serde_json::to_vec(&saved)).transpose()?;
    Ok(record(topic, partition, StateKey::Case(id.as_str()), value.map(Bytes::from)))
}

/// The record of a copy.
pub(super) fn copy_record(topic: &str, partition: i32, id: &str, piece: Piece, payload: &Payload) -> OutRecord {
    let headers = payload.envelope.headers();
    OutRecord { headers, ..record(topic, partition, StateKey::Kept(piece, id), Some(payload.data.clone())) }
}

/// Removes a copy.
pub(super) fn copy_removed(topic: &str, partition: i32, id: &str, piece: Piece) -> OutRecord {
    record(topic, partition, StateKey::Kept(piece, id), None)
}

fn record(topic: &str, partition: i32, key: StateKey<'_>, value: Option<Bytes>) -> OutRecord {
    OutRecord {
        topic: topic.to_owned(),
        // Beside the results it was joined from, whatever the key says.
        partition: Some(partition),
        key: Some(Bytes::from(key.to_string())),
        value,
        headers: Vec::new(),
        timestamp_ms: None,
    }
}
