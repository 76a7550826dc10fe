//! The composer role: the only stateful one. Joins results, watches deadlines, decides, and takes decisions of people.
//!
//! Works through batches in log order. What a batch leads to — what leaves, the state, the offsets — is written in one
//! transaction. When that cannot be (partitions went to another process meanwhile), the state in memory is thrown away and
//! the membership begins again from what is written.
//!
//! In memory a case is references and times. Payloads are read back from where they lie when they are needed, in portions:
//! memory stays bounded whatever a batch brings.

mod deciding;
mod letters;
mod loader;
mod outputs;
mod partition;
mod payloads;
pub(crate) mod replaying;
mod restoring;
mod reviewing;
mod slots;
mod state;
mod view;
mod work;
mod write;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anabranch_kafka::{Commits, Event, Fetched, GroupConsumer, TopicPartition};
use anabranch_sdk::composer::{Bands, Composer};
use anabranch_topology::Topology;
use futures::FutureExt as _;
use tokio::sync::{Semaphore, mpsc};

use self::loader::Loader;
use self::partition::Fault;
use self::payloads::{Address, Payloads};
use self::restoring::Restored;
use self::slots::{Slots, Turn};
use self::work::Work;
use self::write::{Unwritten, Writer};
use crate::clock;
use crate::metrics::{ResultLabel, TopicLabel};
use crate::prepare;
use crate::service::Service;
use crate::worker::Halt;

/// How often timers are looked at, and state and offsets written that nothing is written with that others wait for: an answer
/// that leaves a case open is no reason for a transaction of its own.
const TICK: Duration = Duration::from_millis(100);
/// Most cases decided by their deadline in one turn.
const DUE_AT_ONCE: usize = 1_000;
/// Most partitions whose state is read at the same time.
const RESTORE_AT_ONCE: usize = 8;
/// Most records, and bytes of them, gathered before they are worked through. While a transaction is under way the next
/// gathers, so that an idle composer does not wait and a busy one writes large ones.
const GATHER_RECORDS: usize = 1_000;
const GATHER_BYTES: usize = 16 * 1024 * 1024;
/// While a broker is waited for, the loop says so often that it is not stuck.
const TURNED_EVERY: Duration = Duration::from_secs(5);
/// Longest wait for leaving the group.
const LEAVE: Duration = Duration::from_secs(5);
/// Wait before a membership begins again.
const AGAIN_AFTER: Duration = Duration::from_millis(250);

pub(crate) fn bands(topology: &Topology) -> Bands {
    Bands {
        publish_above: topology.confidence.publish_above,
        follow_up_from: topology.confidence.follow_up_above,
        max_follow_up_rounds: topology.confidence.max_follow_up_rounds,
    }
}

/// What a composer process works with.
pub(crate) struct Joining<C> {
    pub(crate) service: Service,
    pub(crate) composer: Arc<C>,
    /// Results first, then, if there is one, the review topic.
    pub(crate) topics: Vec<String>,
    pub(crate) review_partitions: i32,
    /// Names this process among those that write transactions.
    pub(crate) instance: String,
}

impl<C: Composer> Joining<C> {
    /// Runs until shutdown or halt; begins again when it has to step down.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let this = Arc::new(self);
        let drain = this.service.shutdown.drain.clone();
        while !drain.is_cancelled() {
            let start = async || Writer::start(&this.service, &this.instance).await;
            let writer = prepare::patiently(&this.service, "cannot write in transactions", start).await?;
            match Membership::new(this.clone(), writer).run().await {
                Ok(()) => break,
                Err(Unwritten::Halt(halt)) => return Err(halt.into()),
                Err(Unwritten::StepDown(why)) => {
                    tracing::warn!(why, "stepping down: another process has taken over, beginning again");
                    this.service.metrics.handled("step-down");
                    tokio::select! {
                        () = drain.cancelled() => {}
                        () = tokio::time::sleep(AGAIN_AFTER) => {}
                    }
                }
            }
        }
        Ok(())
    }
}

/// One membership in the group, with the state of its partitions.
struct Membership<C> {
    role: Arc<Joining<C>>,
    consumer: GroupConsumer,
    writer: Writer,
    loader: Loader,
    slots: Slots<C>,
    payloads: Payloads,
    state_topic: String,
    restores: Arc<Semaphore>,
    restored: (mpsc::Sender<Restored>, mpsc::Receiver<Restored>),
    /// Offsets are committed in the next turn, even if nothing else is to be written.
    commit_due: bool,
}

impl<C: Composer> Membership<C> {
    fn new(role: Arc<Joining<C>>, writer: Writer) -> Self {
        let mut config = role.service.group_config(role.topics.clone());
        config.commits = Commits::InTransactions;
        let (cluster, topology) = (&role.service.cluster, &role.service.topology);
        let consumer = GroupConsumer::start(cluster, config);
        let state_topic = topology.state_topic();
        let loader = Loader::new(cluster, topology);
        Self {
            role,
            consumer,
            writer,
            loader,
            slots: Slots::new(),
            payloads: Payloads::default(),
            state_topic,
            restores: Arc::new(Semaphore::new(RESTORE_AT_ONCE)),
            restored: mpsc::channel(64),
            commit_due: false,
        }
    }

    fn service(&self) -> &Service {
        &self.role.service
    }

    /// Runs until a drain, then writes what is left and leaves.
    async fn run(mut self) -> Result<(), Unwritten> {
        let ended = self.turn_until_told().await;
        let last = match ended {
            Ok(()) => self.write_last().await,
            Err(unwritten) => Err(unwritten),
        };
        self.service().health.joined(false);
        let (consumer, for_good) = (self.consumer, self.role.service.membership.leave_for_good);
        let leave = async move { if for_good { consumer.leave_for_good().await } else { consumer.leave().await } };
        if let Err(error) = tokio::time::timeout(LEAVE, leave).await.unwrap_or(Ok(())) {
            tracing::warn!(%error, "could not leave the group, its session will time out");
        }
        last
    }

    async fn turn_until_told(&mut self) -> Result<(), Unwritten> {
        let drain = self.service().shutdown.drain.clone();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = drain.cancelled() => return Ok(()),
                event = self.consumer.next() => self.on_event(event).await?,
                Some(restored) = self.restored.1.recv() => self.on_restored(restored)?,
                _ = tick.tick() => self.on_tick(),
            }
            while self.may_gather()
                && let Some(event) = self.consumer.next().now_or_never()
            {
                self.on_event(event).await?;
            }
            self.work().await?;
            if self.commit_due || self.slots.is_awaited() {
                self.write().await?;
            }
            let prepared = self.slots.iter().all(|s| s.join.is_some());
            self.service().health.turned();
            self.service().health.prepared(prepared);
        }
    }

    fn may_gather(&self) -> bool {
        let (queued, bytes) = self.slots.queued();
        queued < GATHER_RECORDS && bytes < GATHER_BYTES
    }

    /// Does all that is to be done, in portions that memory has room for. What a drain interrupts is done by the next owner.
    async fn work(&mut self) -> Result<(), Unwritten> {
        loop {
            match self.slots.work(&mut self.payloads).map_err(halt)? {
                Turn::Done => return Ok(()),
                Turn::Full => self.write().await?,
                Turn::Lacking(wanted) => {
                    if !self.load(&wanted).await? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Fetches payloads; waits for the broker as long as it takes. `false`: a drain came first.
    async fn load(&mut self, wanted: &BTreeSet<Address>) -> Result<bool, Unwritten> {
        let (health, drain) = (self.role.service.health.clone(), self.role.service.shutdown.drain.clone());
        let payloads = &mut self.payloads;
        let loading = self.loader.load(wanted, |address, loaded| payloads.fetched(address, loaded));
        tokio::pin!(loading);
        loop {
            tokio::select! {
                loaded = &mut loading => return loaded.map(|()| true).map_err(|e| Halt::Group(e).into()),
                () = drain.cancelled() => return Ok(false),
                () = tokio::time::sleep(TURNED_EVERY) => health.turned(),
            }
        }
    }

    async fn on_event(&mut self, event: Event) -> Result<(), Unwritten> {
        match event {
            Event::Assigned { epoch, partitions } => self.on_assigned(epoch, &partitions),
            Event::Revoked { partitions, done, .. } => {
                tracing::info!(?partitions, "revoked");
                self.write().await?;
                self.slots.remove(&partitions);
                self.count_partitions();
                done.done();
            }
            Event::Lost { partitions } => {
                tracing::warn!(?partitions, "lost: what was to be written for them is not");
                self.slots.remove(&partitions);
                self.count_partitions();
                self.service().health.joined(false);
            }
            Event::Records(fetched) => self.on_records(&fetched),
            Event::Reconnecting { error } => tracing::warn!(error, "reconnecting"),
            Event::Fatal(error) if error.is_fenced_instance() => return Err(Halt::Fenced.into()),
            Event::Fatal(error) => return Err(Halt::Group(error).into()),
            other => tracing::debug!(?other, "event of no concern"),
        }
        Ok(())
    }

    fn on_records(&mut self, fetched: &Fetched) {
        let tp = fetched.topic_partition();
        let Some(slot) = self.slots.get_mut(fetched.partition).filter(|s| s.owns(&tp)) else { return };
        let Some(join) = &mut slot.join else {
            slot.backlog.push(fetched.clone());
            return;
        };
        fetched.records.iter().for_each(|record| join.queue_record(record));
        join.queue(Work::ReadTo(tp.clone(), fetched.next_offset));
        let label = TopicLabel { topic: tp.topic.to_string() };
        self.service().metrics.records.get_or_create(&label).inc_by(fetched.records.len() as u64);
    }

    fn on_tick(&mut self) {
        let now = clock::now();
        let results: Arc<str> = self.service().topology.results_topic().into();
        for (number, slot) in self.slots.iter_mut() {
            let caught_up = slot.has_caught_up(&TopicPartition { topic: results.clone(), partition: number });
            let Some(join) = slot.join.as_mut().filter(|_| caught_up) else { continue };
            join.queue_due(now, DUE_AT_ONCE, &mut slot.out);
        }
        self.count_cases();
        self.commit_due = true;
    }

    fn count_cases(&self) {
        let phases = self.slots.iter().filter_map(|s| s.join.as_ref()).map(|j| j.join.phases());
        let (joining, parked, closed) = phases.fold((0, 0, 0), |sum, p| (sum.0 + p.0, sum.1 + p.1, sum.2 + p.2));
        for (result, count) in [("joining", joining), ("parked", parked), ("closed", closed)] {
            self.service().metrics.cases.get_or_create(&ResultLabel { result }).set(count as i64);
        }
    }

    fn count_partitions(&self) {
        self.service().metrics.assigned.set(self.slots.owned() as i64);
    }

    /// Writes all that is to be written, in one transaction. A shutdown that will not wait ends it: the batch is repeated.
    async fn write(&mut self) -> Result<(), Unwritten> {
        self.commit_due = false;
        let batch = self.slots.batch(&self.state_topic).map_err(|e| halt(Fault::Emit(e)))?;
        if batch.is_empty() {
            return Ok(());
        }
        let (health, now) = (self.role.service.health.clone(), self.role.service.shutdown.now.clone());
        let committer = self.consumer.committer();
        let writing = self.writer.write(&committer, &batch);
        tokio::pin!(writing);
        let delivered = loop {
            tokio::select! {
                written = &mut writing => break written?,
                () = now.cancelled() => {
                    return Err(Halt::Agent("ended before a batch was written; it is repeated".into()).into());
                }
                // Waiting for a broker that is away is not being stuck.
                () = tokio::time::sleep(TURNED_EVERY) => health.turned(),
            }
        };
        self.slots.written(&batch);
        if !self.slots.copied(&batch, &delivered) {
            // The broker had a batch already and did not say where: what is written tells.
            return Err(Unwritten::StepDown("where a copy was written is not known".to_owned()));
        }
        Ok(())
    }

    /// The last batch of a drain, within the time for it.
    async fn write_last(&mut self) -> Result<(), Unwritten> {
        let within = self.service().settings.drain_timeout;
        match tokio::time::timeout(within, self.write()).await {
            Ok(Err(Unwritten::StepDown(why))) => {
                tracing::warn!(why, "the last batch was not written; it is repeated");
                Ok(())
            }
            Ok(written) => written,
            Err(_) => {
                tracing::warn!("drain time is up; the last batch is repeated");
                Ok(())
            }
        }
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn halt(fault: Fault) -> Halt {
    Halt::Agent(fault.to_string())
}
