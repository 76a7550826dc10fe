//! The loop of an agent and of the supervisor: reads, starts work in order by key, commits the frontier.
//!
//! Polling never waits for a handler. What is held is bounded in number and bytes; past the bounds the loop stops
//! fetching. A partition that leaves is drained for a bounded time; others go on meanwhile.

mod in_flight;
mod partitions;
mod queue;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anabranch_kafka::{Committer, Error, Event, Fetched, GroupConsumer, Record, RevokeDone, TopicPartition};
use anabranch_topology::Order;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::task::JoinSet;

pub(crate) use self::in_flight::InFlight;
use self::partitions::{Partitions, ToCommit};
use self::queue::{Held, Queue};
use crate::gate::Gate;
use crate::http::Health;
use crate::metrics::{Metrics, TopicLabel};
use crate::shutdown::Shutdown;

/// How often the frontier is committed while it moves.
const COMMIT_EVERY: Duration = Duration::from_millis(200);
/// Longest wait for the last commit of a partition that leaves.
const LAST_COMMIT: Duration = Duration::from_secs(5);

/// What one record is given to.
pub(crate) trait Processor: Send + Sync + 'static {
    /// Does all there is to do about a record, up to the acknowledgement of what is emitted.
    fn process(self: Arc<Self>, record: Record) -> impl Future<Output = Processed> + Send;
}

/// What became of a record.
#[derive(Debug)]
pub(crate) enum Processed {
    /// It is done: its offset may be committed.
    Done,
    /// This process cannot go on; the offset must not be committed.
    Halt(String),
}

/// Bounds of one process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) concurrency: usize,
    pub(crate) max_held_bytes: usize,
    pub(crate) order: Order,
    pub(crate) drain_timeout: Duration,
}

/// Runs until shutdown or halt.
pub(crate) struct Worker<P> {
    pub(crate) processor: Arc<P>,
    pub(crate) limits: Limits,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) health: Arc<Health>,
    pub(crate) in_flight: Arc<InFlight>,
    /// While it is held, nothing new is started and nothing fetched.
    pub(crate) gate: Gate,
    pub(crate) shutdown: Shutdown,
    /// A static member leaves its group when it stops.
    pub(crate) leave_for_good: bool,
}

/// Why a worker ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Halt {
    #[error("{0}")]
    Agent(String),
    #[error(
        "another process has joined the group under this instance id; give each process of an agent an id of its own, \
         or none (--instance-id, ANABRANCH_INSTANCE_ID)"
    )]
    Fenced,
    #[error("the group cannot be worked in: {0}")]
    Group(#[source] Error),
}

struct Revocation {
    partitions: Vec<TopicPartition>,
    done: RevokeDone,
    until: Instant,
}

/// A commit that has ended.
struct Committed {
    commits: Vec<ToCommit>,
    result: Result<(), Error>,
    /// Metadata of so many bytes was more than the broker takes; it was committed without.
    refused: Option<usize>,
}

/// The state of the running loop.
struct Loop<P> {
    worker: Worker<P>,
    consumer: GroupConsumer,
    committer: Committer,
    partitions: Partitions,
    queue: Queue,
    running: JoinSet<(Held, Option<Processed>)>,
    revocations: Vec<Revocation>,
    commit: Option<BoxFuture<'static, Committed>>,
    paused: bool,
    halt: Option<Halt>,
}

impl<P: Processor> Worker<P> {
    /// Runs the loop on `consumer` until shutdown, then drains, commits and leaves.
    pub(crate) async fn run(self, consumer: GroupConsumer) -> Result<(), Halt> {
        let committer = consumer.committer();
        let queue = Queue::new(self.limits);
        let mut state = Loop {
            worker: self,
            consumer,
            committer,
            partitions: Partitions::default(),
            queue,
            running: JoinSet::new(),
            revocations: Vec::new(),
            commit: None,
            paused: false,
            halt: None,
        };
        state.turn_until_told().await;
        state.drain().await;
        let (consumer, halt, for_good) = (state.consumer, state.halt, state.worker.leave_for_good);
        let leave = async move { if for_good { consumer.leave_for_good().await } else { consumer.leave().await } };
        if let Err(error) = tokio::time::timeout(LAST_COMMIT, leave).await.unwrap_or(Ok(())) {
            tracing::warn!(%error, "could not leave the group, its session will time out");
        }
        halt.map_or(Ok(()), Err)
    }
}

impl<P: Processor> Loop<P> {
    async fn turn_until_told(&mut self) {
        let drain = self.worker.shutdown.drain.clone();
        let mut tick = tokio::time::interval(COMMIT_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut gate = self.worker.gate.watch();
        while self.halt.is_none() {
            tokio::select! {
                () = drain.cancelled() => break,
                event = self.consumer.next() => self.on_event(event).await,
                Some(ended) = self.running.join_next() => self.on_ended(ended),
                ended = wait_for(&mut self.commit) => self.on_committed(ended),
                _ = tick.tick() => self.start_commit(),
                // The sender lives in the worker: it cannot be gone. What changed is looked at below.
                _ = gate.changed() => {}
            }
            self.start_work();
            self.settle_revocations().await;
            self.throttle();
            self.worker.health.turned();
        }
    }

    async fn on_event(&mut self, event: Event) {
        match event {
            Event::Assigned { epoch, partitions } => {
                for partition in &partitions {
                    self.partitions.assign(epoch, partition);
                }
                tracing::info!(epoch, partitions = %names(partitions.iter().map(|p| &p.tp)), "assigned");
                if self.paused {
                    self.consumer.pause(&self.partitions.all());
                }
                self.worker.health.joined(true);
                self.worker.metrics.assigned.set(self.partitions.len() as i64);
            }
            Event::Revoked { epoch, partitions, done } => {
                tracing::info!(epoch, partitions = %names(partitions.iter()), "revoked, draining");
                self.queue.drop_partitions(&partitions);
                let until = Instant::now() + self.worker.limits.drain_timeout;
                self.revocations.push(Revocation { partitions, done, until });
            }
            Event::Lost { partitions } => {
                tracing::warn!(partitions = %names(partitions.iter()), "lost: what they were working on commits nothing");
                self.queue.drop_partitions(&partitions);
                partitions.iter().for_each(|tp| self.partitions.remove(tp));
                self.worker.health.joined(false);
                self.worker.metrics.assigned.set(self.partitions.len() as i64);
            }
            Event::Records(fetched) => self.on_records(fetched),
            Event::Reconnecting { error } => tracing::warn!(error, "reconnecting"),
            Event::Fatal(error) if error.is_fenced_instance() => self.halt = Some(Halt::Fenced),
            Event::Fatal(error) => self.halt = Some(Halt::Group(error)),
            other => tracing::debug!(?other, "event of no concern"),
        }
    }

    fn on_records(&mut self, fetched: Fetched) {
        let tp = fetched.topic_partition();
        let next_offset = fetched.next_offset;
        let first = fetched.records.first().map_or(next_offset, |record| record.offset);
        if self.partitions.position(&tp).is_some_and(|position| first < position) {
            tracing::warn!(%tp, offset = first, "the log goes on at an earlier offset: made anew, or its end was lost");
            self.queue.drop_partitions(std::slice::from_ref(&tp));
            self.partitions.went_back(&tp, first);
        }
        let label = TopicLabel { topic: fetched.topic.to_string() };
        self.worker.metrics.records.get_or_create(&label).inc_by(fetched.records.len() as u64);
        for record in fetched.records {
            if let Some(tenure) = self.partitions.receive(&tp, record.offset) {
                self.queue.offer(Held::new(tenure, record));
            }
        }
        self.partitions.skip_to(&tp, next_offset);
    }

    fn start_work(&mut self) {
        while self.worker.gate.is_open() && self.running.len() < self.worker.limits.concurrency {
            let Some((mut held, record)) = self.next_record() else { break };
            let processor = self.worker.processor.clone();
            let correlation = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned();
            let entry = self.worker.in_flight.enter(held.tenure.tp.clone(), held.offset, correlation);
            let now = self.worker.shutdown.now.clone();
            held.started = Instant::now();
            self.running.spawn(async move {
                let _entry = entry;
                let work = std::panic::AssertUnwindSafe(processor.process(record)).catch_unwind();
                let result = tokio::select! {
                    result = work => Some(result.unwrap_or_else(|panic| Processed::Halt(panic_words(&*panic)))),
                    () = now.cancelled() => None,
                };
                (held, result)
            });
        }
        self.worker.metrics.in_flight.set(self.running.len() as i64);
        self.worker.metrics.waiting.set(self.queue.waiting() as i64);
    }

    /// The next record to start. A partition with so much done above its frontier that a commit can hardly say it starts
    /// nothing more up there, and is not read on, until its frontier moves.
    fn next_record(&mut self) -> Option<(Held, Record)> {
        let (partitions, consumer) = (&self.partitions, &mut self.consumer);
        self.queue.next(
            |held| partitions.may_start(&held.tenure, held.offset),
            |tp| {
                tracing::info!(%tp, "too much is done above the lowest open offset, waiting for it");
                consumer.pause(std::slice::from_ref(tp));
            },
        )
    }

    /// A completion may have made room above the frontier.
    fn unstall(&mut self, tp: &TopicPartition) {
        if !self.queue.is_stalled(tp) {
            return;
        }
        self.queue.release(tp, self.partitions.startable_below(tp));
        if !self.queue.is_stalled(tp) && !self.paused {
            self.consumer.resume(std::slice::from_ref(tp));
        }
    }

    fn on_ended(&mut self, ended: Result<(Held, Option<Processed>), tokio::task::JoinError>) {
        let (held, result) = match ended {
            Ok(ended) => ended,
            Err(error) => return self.halt = Some(Halt::Agent(format!("a task of the runtime ended: {error}"))),
        };
        self.queue.finish(&held);
        match result {
            Some(Processed::Done) => {
                self.worker.metrics.work_seconds.observe(held.started.elapsed().as_secs_f64());
                self.partitions.done(&held.tenure, held.offset);
                self.unstall(&held.tenure.tp);
            }
            Some(Processed::Halt(why)) => self.halt = self.halt.take().or(Some(Halt::Agent(why))),
            None => tracing::debug!(offset = held.offset, "given up at shutdown, will be delivered again"),
        }
    }

    fn start_commit(&mut self) {
        if self.commit.is_some() {
            return;
        }
        let commits = self.partitions.to_commit(|_| true);
        if !commits.is_empty() {
            self.commit = Some(Box::pin(commit(self.committer.clone(), commits)));
        }
    }

    fn on_committed(&mut self, committed: Committed) {
        self.commit = None;
        if let Some(bytes) = committed.refused {
            let limit = self.partitions.metadata_refused(bytes);
            tracing::warn!(
                bytes,
                limit,
                "the broker takes less metadata with a commit (offset.metadata.max.bytes); committed without, writing less \
                 from now on: a crash repeats more"
            );
        }
        match committed.result {
            Ok(()) => {
                self.partitions.committed(&committed.commits);
                self.worker.metrics.committed("ok");
            }
            // The assignment is gone; its partitions are revoked or lost by an event of their own.
            Err(error) if error.is_stale() => self.worker.metrics.committed("stale"),
            Err(error) => {
                tracing::warn!(%error, "could not commit, trying again");
                self.worker.metrics.committed("failed");
            }
        }
    }

    /// Lets partitions go whose work has ended, or whose time is up.
    async fn settle_revocations(&mut self) {
        let mut waiting = Vec::new();
        for revocation in std::mem::take(&mut self.revocations) {
            let running = self.queue.running_in(&revocation.partitions);
            if running > 0 && Instant::now() < revocation.until {
                waiting.push(revocation);
                continue;
            }
            if running > 0 {
                tracing::warn!(running, "drain time is up; what still runs commits nothing and is delivered again");
            }
            self.commit_last(|tp| revocation.partitions.contains(tp)).await;
            revocation.partitions.iter().for_each(|tp| self.partitions.remove(tp));
            self.worker.metrics.assigned.set(self.partitions.len() as i64);
            revocation.done.done();
        }
        self.revocations = waiting;
    }

    /// Commits once more, in order after a commit that is under way.
    async fn commit_last(&mut self, which: impl Fn(&TopicPartition) -> bool) {
        if let Some(commit) = self.commit.take()
            && let Ok(ended) = tokio::time::timeout(LAST_COMMIT, commit).await
        {
            self.on_committed(ended);
        }
        let commits = self.partitions.to_commit(which);
        if commits.is_empty() {
            return;
        }
        match tokio::time::timeout(LAST_COMMIT, commit(self.committer.clone(), commits)).await {
            Ok(committed) => self.on_committed(committed),
            Err(_) => tracing::warn!("the last commit was not acknowledged; some work will be repeated"),
        }
    }

    /// Stops fetching when enough is held or the gate is, and goes on when there is room again.
    fn throttle(&mut self) {
        self.worker.metrics.held_bytes.set(self.queue.held_bytes() as i64);
        let open = self.worker.gate.is_open();
        if !self.paused && (self.queue.is_full() || !open) {
            self.consumer.pause(&self.partitions.all());
            self.paused = true;
        } else if self.paused && open && self.queue.has_room() {
            let mut all = self.partitions.all();
            all.retain(|tp| !self.queue.is_stalled(tp));
            self.consumer.resume(&all);
            self.paused = false;
        }
    }

    /// Ends: no new work; what runs may finish within the drain time.
    async fn drain(&mut self) {
        self.queue.clear();
        let running = self.running.len();
        tracing::info!(running, "draining");
        let until = tokio::time::sleep(self.worker.limits.drain_timeout);
        tokio::pin!(until);
        loop {
            tokio::select! {
                ended = self.running.join_next() => match ended {
                    Some(ended) => self.on_ended(ended),
                    None => break,
                },
                () = &mut until => {
                    tracing::warn!(running = self.running.len(), "drain time is up; what still runs is delivered again");
                    self.running.abort_all();
                    break;
                }
            }
        }
        self.commit_last(|_| true).await;
    }
}

/// Commits; without metadata where the broker takes less of it.
async fn commit(committer: Committer, commits: Vec<ToCommit>) -> Committed {
    let ask = |commits: &[ToCommit]| committer.commit_each(commits.iter().map(ToCommit::request).collect());
    match ask(&commits).await {
        Err(error) if error.is_metadata_too_large() => {
            let refused = commits.iter().map(ToCommit::metadata_len).max();
            let commits: Vec<ToCommit> = commits.into_iter().map(ToCommit::bare).collect();
            let result = ask(&commits).await;
            Committed { commits, result, refused }
        }
        result => Committed { commits, result, refused: None },
    }
}

/// Waits for the commit under way, or for ever if there is none.
async fn wait_for(commit: &mut Option<BoxFuture<'static, Committed>>) -> Committed {
    match commit {
        Some(commit) => commit.await,
        None => std::future::pending().await,
    }
}

fn names<'a>(partitions: impl Iterator<Item = &'a TopicPartition>) -> String {
    let mut names: Vec<String> = partitions.map(|tp| format!("{}-{}", tp.topic, tp.partition)).collect();
    names.sort();
    names.join(" ")
}

fn panic_words(panic: &(dyn std::any::Any + Send)) -> String {
    let words =
        panic.downcast_ref::<&str>().map(|s| (*s).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
    format!("the runtime panicked: {}", words.unwrap_or_default())
}
