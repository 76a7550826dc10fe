//! The composer role: the only stateful one. Joins results, watches deadlines, decides, and takes decisions of people.
//!
//! Works through batches in log order. What a batch leads to is written in a fixed order, each step acknowledged
//! before the next: what leaves, then the state, then the offsets. A crash in between repeats the batch; outbound ids
//! are deterministic, so a reader can drop the repeat.

mod partition;
mod state;

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anabranch_core::join::{Join, JoinPolicy};
use anabranch_kafka::{AssignedPartition, Event, Fetched, GroupConsumer, Isolation, OffsetToCommit, TopicPartition};
use anabranch_sdk::composer::{Bands, Composer};
use anabranch_topology::Topology;
use tokio::sync::mpsc;

use self::partition::{Fault, Outputs, PartitionJoin};
use crate::clock;
use crate::metrics::{ResultLabel, TopicLabel};
use crate::service::Service;
use crate::worker::Halt;

/// How often timers are looked at and offsets committed.
const TICK: Duration = Duration::from_millis(100);
/// Most cases decided by their deadline in one turn.
const DUE_AT_ONCE: usize = 1_000;
/// Longest wait for the last commit.
const LAST_COMMIT: Duration = Duration::from_secs(5);

pub(crate) fn bands(topology: &Topology) -> Bands {
    Bands {
        publish_above: topology.confidence.publish_above,
        follow_up_from: topology.confidence.follow_up_above,
        max_follow_up_rounds: topology.confidence.max_follow_up_rounds,
    }
}

/// A partition number whose topics this process owns.
struct Slot<C> {
    /// `None` while the state is being read.
    join: Option<PartitionJoin<C>>,
    /// Counts assignments, so that a restore of an earlier one is told from this one's.
    tenure: u64,
    /// What was read before the state was.
    backlog: Vec<Fetched>,
    /// Where the results ended when the partition came. Deadlines wait until they were read: an answer that lies
    /// unread in the log is not missing.
    results_end: i64,
    /// Next offset to commit by topic, and what is committed.
    positions: HashMap<TopicPartition, (i64, i64)>,
}

/// A state that was read.
struct Restored {
    partition: i32,
    tenure: u64,
    result: Result<(Join, i64), anabranch_kafka::Error>,
}

/// The loop.
pub(crate) struct Joining<C> {
    service: Service,
    composer: Arc<C>,
    consumer: GroupConsumer,
    slots: HashMap<i32, Slot<C>>,
    restored: (mpsc::Sender<Restored>, mpsc::Receiver<Restored>),
    tenures: u64,
    review_partitions: i32,
}

impl<C: Composer> Joining<C> {
    /// A loop on `consumer`; the review topic has so many partitions.
    pub(crate) fn new(service: Service, composer: C, consumer: GroupConsumer, review_partitions: i32) -> Self {
        let (composer, restored) = (Arc::new(composer), mpsc::channel(64));
        Self { service, composer, consumer, slots: HashMap::new(), restored, tenures: 0, review_partitions }
    }

    /// Runs until shutdown, then commits and leaves.
    pub(crate) async fn run(mut self) -> Result<(), Halt> {
        let drain = self.service.shutdown.drain.clone();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let halt = loop {
            let turned = tokio::select! {
                () = drain.cancelled() => break None,
                event = self.consumer.next() => self.on_event(event).await,
                Some(restored) = self.restored.1.recv() => self.on_restored(restored).await,
                _ = tick.tick() => self.on_tick().await,
            };
            self.service.health.turned();
            self.service.health.prepared(self.slots.values().all(|s| s.join.is_some()));
            if let Err(halt) = turned {
                break Some(halt);
            }
        };
        self.commit(|_| true).await;
        if let Err(error) = tokio::time::timeout(LAST_COMMIT, self.consumer.leave()).await.unwrap_or(Ok(())) {
            tracing::warn!(%error, "could not leave the group, its session will time out");
        }
        halt.map_or(Ok(()), Err)
    }

    async fn on_event(&mut self, event: Event) -> Result<(), Halt> {
        match event {
            Event::Assigned { partitions, .. } => self.on_assigned(&partitions),
            Event::Revoked { partitions, done, .. } => {
                tracing::info!(?partitions, "revoked");
                self.commit(|tp| partitions.contains(tp)).await;
                self.drop_partitions(&partitions);
                done.done();
            }
            Event::Lost { partitions } => {
                tracing::warn!(?partitions, "lost");
                self.drop_partitions(&partitions);
                self.service.health.joined(false);
            }
            Event::Records(fetched) => return self.on_records(fetched).await,
            Event::Reconnecting { error } => tracing::warn!(error, "reconnecting"),
            Event::Fatal(error) => return Err(Halt::Group(error)),
            other => tracing::debug!(?other, "event of no concern"),
        }
        Ok(())
    }

    fn on_assigned(&mut self, partitions: &[AssignedPartition]) {
        for assigned in partitions {
            let number = assigned.tp.partition;
            // A group that has committed nothing commits its start, so that its lag can be seen.
            let committed = assigned.committed.as_ref().map_or(-1, |c| c.offset);
            let position = (assigned.start_offset, committed);
            if let Some(slot) = self.slots.get_mut(&number) {
                slot.positions.insert(assigned.tp.clone(), position);
                continue;
            }
            self.tenures += 1;
            let slot = Slot {
                join: None,
                tenure: self.tenures,
                backlog: Vec::new(),
                results_end: i64::MAX,
                positions: [(assigned.tp.clone(), position)].into(),
            };
            self.slots.insert(number, slot);
            tokio::spawn(self.restore(number, self.tenures));
        }
        let reading: Vec<TopicPartition> = self.reading();
        self.consumer.pause(&reading);
        self.service.health.joined(true);
        self.service.metrics.assigned.set(self.slots.values().map(|s| s.positions.len() as i64).sum());
    }

    /// Partitions whose state is still being read.
    fn reading(&self) -> Vec<TopicPartition> {
        self.slots.values().filter(|s| s.join.is_none()).flat_map(|s| s.positions.keys().cloned()).collect()
    }

    fn restore(&self, partition: i32, tenure: u64) -> impl Future<Output = ()> + Send + use<C> {
        let (service, sender) = (self.service.clone(), self.restored.0.clone());
        async move {
            let policy = JoinPolicy {
                deadline: service.topology.join.deadline,
                closed_memory: service.topology.join.closed_memory,
                max_follow_up_rounds: service.topology.confidence.max_follow_up_rounds,
            };
            let result = async {
                let results = TopicPartition { topic: service.topology.results_topic().into(), partition };
                let ends = service
                    .cluster
                    .admin()
                    .end_offsets(std::slice::from_ref(&results), Isolation::ReadUncommitted)
                    .await?;
                let mut join = Join::new(policy);
                let cases =
                    state::restore(&service.cluster, &service.topology.state_topic(), partition, &mut join).await?;
                tracing::info!(partition, cases, "state restored");
                Ok((join, ends.get(&results).copied().unwrap_or(0)))
            };
            let result = result.await;
            // The loop is gone: nobody needs the state any more.
            let _ = sender.send(Restored { partition, tenure, result }).await;
        }
    }

    async fn on_restored(&mut self, restored: Restored) -> Result<(), Halt> {
        let Restored { partition, tenure, result } = restored;
        if self.slots.get(&partition).is_none_or(|s| s.tenure != tenure) {
            return Ok(());
        }
        let (join, results_end) = match result {
            Ok(read) => read,
            Err(error) if error.is_fatal() => return Err(Halt::Group(error)),
            Err(error) => {
                tracing::warn!(partition, %error, "cannot read the state, trying again");
                let again = self.restore(partition, tenure);
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    again.await;
                });
                return Ok(());
            }
        };
        let review_partitions = self.review_partitions;
        let (composer, service) = (self.composer.clone(), self.service.clone());
        let Some(slot) = self.slots.get_mut(&partition) else { return Ok(()) };
        slot.results_end = results_end;
        slot.join = Some(PartitionJoin::new(partition, join, composer, service, review_partitions));
        let resumed: Vec<TopicPartition> = slot.positions.keys().cloned().collect();
        let backlog = std::mem::take(&mut slot.backlog);
        self.consumer.resume(&resumed);
        for fetched in backlog {
            self.on_records(fetched).await?;
        }
        Ok(())
    }

    async fn on_records(&mut self, fetched: Fetched) -> Result<(), Halt> {
        let tp = fetched.topic_partition();
        let Some(slot) = self.slots.get_mut(&fetched.partition).filter(|s| s.positions.contains_key(&tp)) else {
            return Ok(());
        };
        let Some(join) = &mut slot.join else {
            slot.backlog.push(fetched);
            return Ok(());
        };
        let label = TopicLabel { topic: tp.topic.to_string() };
        self.service.metrics.records.get_or_create(&label).inc_by(fetched.records.len() as u64);
        let mut out = Outputs::default();
        for record in &fetched.records {
            join.apply(record, &mut out).map_err(halt)?;
        }
        write(&self.service, join, out).await?;
        if let Some((position, _)) = slot.positions.get_mut(&tp) {
            *position = (*position).max(fetched.next_offset);
        }
        Ok(())
    }

    async fn on_tick(&mut self) -> Result<(), Halt> {
        let now = clock::now();
        let results = self.service.topology.results_topic();
        for (number, slot) in &mut self.slots {
            let tp = TopicPartition { topic: results.clone().into(), partition: *number };
            let read = slot.positions.get(&tp).is_some_and(|(position, _)| *position >= slot.results_end);
            let Some(join) = slot.join.as_mut().filter(|_| read) else { continue };
            let mut out = Outputs::default();
            join.due(now, DUE_AT_ONCE, &mut out).map_err(halt)?;
            write(&self.service, join, out).await?;
        }
        self.count_cases();
        self.commit(|_| true).await;
        Ok(())
    }

    fn count_cases(&self) {
        let phases = self.slots.values().filter_map(|s| s.join.as_ref()).map(|j| j.join.phases());
        let (joining, parked, closed) = phases.fold((0, 0, 0), |sum, p| (sum.0 + p.0, sum.1 + p.1, sum.2 + p.2));
        for (result, count) in [("joining", joining), ("parked", parked), ("closed", closed)] {
            self.service.metrics.cases.get_or_create(&ResultLabel { result }).set(count as i64);
        }
    }

    async fn commit(&mut self, which: impl Fn(&TopicPartition) -> bool) {
        let moved = self.slots.values().flat_map(|s| &s.positions);
        let offsets: Vec<(TopicPartition, OffsetToCommit)> = moved
            .filter(|(tp, (position, committed))| position > committed && which(tp))
            .map(|(tp, (position, _))| (tp.clone(), OffsetToCommit { offset: *position, metadata: String::new() }))
            .collect();
        if offsets.is_empty() {
            return;
        }
        match tokio::time::timeout(LAST_COMMIT, self.consumer.committer().commit(offsets.clone())).await {
            Ok(Ok(())) => {
                self.service.metrics.committed("ok");
                for (tp, commit) in offsets {
                    let slot = self.slots.get_mut(&tp.partition);
                    if let Some((_, committed)) = slot.and_then(|s| s.positions.get_mut(&tp)) {
                        *committed = commit.offset;
                    }
                }
            }
            Ok(Err(error)) if error.is_stale() => self.service.metrics.committed("stale"),
            Ok(Err(error)) => {
                tracing::warn!(%error, "could not commit, trying again");
                self.service.metrics.committed("failed");
            }
            Err(_) => tracing::warn!("a commit was not acknowledged in time, trying again"),
        }
    }

    fn drop_partitions(&mut self, partitions: &[TopicPartition]) {
        for tp in partitions {
            if let Some(slot) = self.slots.get_mut(&tp.partition) {
                slot.positions.remove(tp);
            }
        }
        self.slots.retain(|_, slot| !slot.positions.is_empty());
        self.service.metrics.assigned.set(self.slots.values().map(|s| s.positions.len() as i64).sum());
    }
}

/// Writes what a batch led to: what leaves, then the state. Waits for the broker; a shutdown that will not wait ends
/// it, and the batch is repeated.
async fn write<C: Composer>(service: &Service, join: &PartitionJoin<C>, out: Outputs) -> Result<(), Halt> {
    let state = join.state(&out).map_err(|e| halt(e.into()))?;
    let writing = async {
        if !out.records.is_empty() {
            service.emitter.emit(out.records).await?;
        }
        if !state.is_empty() {
            service.emitter.emit(state).await?;
        }
        Ok(())
    };
    tokio::pin!(writing);
    loop {
        tokio::select! {
            written = &mut writing => return written.map_err(|e| halt(Fault::Emit(e))),
            () = service.shutdown.now.cancelled() => {
                return Err(Halt::Agent("ended before a batch was written; it is repeated".into()));
            }
            // Waiting for a broker that is away is not being stuck.
            () = tokio::time::sleep(Duration::from_secs(5)) => service.health.turned(),
        }
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn halt(fault: Fault) -> Halt {
    Halt::Agent(fault.to_string())
}
