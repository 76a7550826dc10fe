//! The loop of an agent and of the supervisor: reads, starts work in order by key, commits the frontier.
//!
//! Polling never waits for a handler. What is held is bounded in number and bytes; past the bounds the loop stops
//! fetching. A partition that leaves is drained for a bounded time; others go on meanwhile. What is to be tried again
//! takes no slot while it waits, here or in a retry topic.
//!
//! | room | what is in it |
//! |---|---|
//! | `events` | partitions that come and leave, records that are read |
//! | `tiers`, `retrying` | the retry topics' partitions; what comes out of them |
//! | `queue` | what is read and not done |
//! | `starting`, `work` | what starts, and how its turn ends |
//! | `partitions`, `committing` | frontiers and their commits |
//! | `reading` | which partitions are read |

mod committing;
mod events;
mod in_flight;
mod partitions;
mod queue;
mod reading;
mod retrying;
mod starting;
#[cfg(test)]
mod tests;
mod tiers;
mod work;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anabranch_kafka::{AssignedPartition, Committer, Error, GroupConsumer, RevokeDone, TopicPartition};
use anabranch_topology::Order;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::task::JoinSet;

use self::committing::Committed;
pub(crate) use self::in_flight::InFlight;
use self::partitions::Partitions;
use self::queue::{Held, Queue};
use self::reading::Reading;
use self::retrying::Looked;
use self::tiers::Tiers;
use self::work::{Bench, Turn};
use crate::attempts::Retry;
use crate::clock;
use crate::gate::Gate;
use crate::http::Health;
use crate::metrics::Metrics;
use crate::retry::{Delivery, Retries};
use crate::shutdown::Shutdown;

/// How often the frontier is committed while it moves.
const COMMIT_EVERY: Duration = Duration::from_millis(200);
/// Longest wait for the last commit of a partition that leaves.
const LAST_COMMIT: Duration = Duration::from_secs(5);

/// What one record is given to. The loop knows no more of it than this, so that it is compiled once for all roles.
pub(crate) trait Processor: Send + Sync + 'static {
    /// Does all there is to do about a record now, up to the acknowledgement of what is emitted. It waits for no second
    /// attempt: it asks for one.
    fn process<'a>(&'a self, delivery: &'a Delivery) -> BoxFuture<'a, Processed>;

    /// Partitions came. Their records come later.
    fn assigned(&self, epoch: u64, partitions: &[AssignedPartition]) {
        let _ = (epoch, partitions);
    }

    /// The offsets that `covers` names are committed: their records are delivered to nobody any more.
    fn committed(&self, tp: &TopicPartition, covers: &dyn Fn(i64) -> bool) {
        let _ = (tp, covers);
    }

    /// Partitions are about to leave; what can be committed of them is. Bounded in time by the processor.
    fn leaving<'a>(&'a self, partitions: &'a [TopicPartition]) -> BoxFuture<'a, ()> {
        let _ = partitions;
        std::future::ready(()).boxed()
    }

    /// Partitions are gone.
    fn left(&self, partitions: &[TopicPartition]) {
        let _ = partitions;
    }
}

/// What became of a record.
#[derive(Debug)]
pub(crate) enum Processed {
    /// It is done: its offset may be committed.
    Done,
    /// It is to be tried again.
    Retry(Retry),
    /// It is not done, as the process drains: it is delivered again.
    Back,
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
pub(crate) struct Worker {
    pub(crate) processor: Arc<dyn Processor>,
    pub(crate) retries: Arc<Retries>,
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

/// The state of the running loop.
struct Loop {
    worker: Worker,
    bench: Bench,
    consumer: GroupConsumer,
    committer: Committer,
    partitions: Partitions,
    queue: Queue,
    tiers: Tiers,
    reading: Reading,
    /// Looks at what waits in the retry topics of partitions that came.
    looks: JoinSet<Looked>,
    running: JoinSet<(Held, Option<Turn>)>,
    revocations: Vec<Revocation>,
    commit: Option<BoxFuture<'static, Committed>>,
    halt: Option<Halt>,
}

impl Worker {
    /// Runs the loop on `consumer` until shutdown, then drains, commits and leaves.
    pub(crate) async fn run(self, consumer: GroupConsumer) -> Result<(), Halt> {
        let mut state = Loop::new(self, consumer);
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

impl Loop {
    fn new(worker: Worker, consumer: GroupConsumer) -> Self {
        let committer = consumer.committer();
        let (retries, all) = (worker.retries.clone(), worker.limits.max_held_bytes);
        let at_heads = if retries.delays().is_empty() { 0 } else { all / tiers::SHARE };
        let queue = Queue::new(Limits { max_held_bytes: all - at_heads, ..worker.limits });
        let tiers = Tiers::new(retries.home.clone(), retries.delays().clone(), at_heads);
        let pressed = Arc::new(AtomicBool::new(false));
        Self {
            bench: Bench { processor: worker.processor.clone(), retries, pressed, metrics: worker.metrics.clone() },
            worker,
            consumer,
            committer,
            partitions: Partitions::default(),
            queue,
            tiers,
            reading: Reading::default(),
            looks: JoinSet::new(),
            running: JoinSet::new(),
            revocations: Vec::new(),
            commit: None,
            halt: None,
        }
    }

    async fn turn_until_told(&mut self) {
        let drain = self.worker.shutdown.drain.clone();
        let mut tick = tokio::time::interval(COMMIT_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut gate = self.worker.gate.watch();
        while self.halt.is_none() {
            let due = self.wake_in();
            tokio::select! {
                () = drain.cancelled() => break,
                event = self.consumer.next() => self.on_event(event).await,
                Some(ended) = self.running.join_next() => self.on_ended(ended),
                Some(looked) = self.looks.join_next() => self.on_looked(looked),
                ended = committing::wait_for(&mut self.commit) => self.on_committed(ended),
                _ = tick.tick() => self.start_commit(),
                () = sleep(due) => {}
                // The sender lives in the worker: it cannot be gone. What changed is looked at below.
                _ = gate.changed() => {}
            }
            self.bring_back();
            self.start_work();
            self.settle_revocations().await;
            self.throttle();
            self.worker.health.turned();
        }
    }

    /// How long until something is due that nobody tells.
    fn wake_in(&self) -> Option<Duration> {
        let now = clock::now();
        let due = self.queue.next_due().into_iter().chain(self.tiers.wake_at(self.takes_more())).min()?;
        Some(due.since(now))
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
        let all = self.partitions.all();
        self.worker.processor.leaving(&all).await;
        self.worker.processor.left(&all);
    }
}

/// Sleeps for so long, or for ever.
async fn sleep(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}

fn names<'a>(partitions: impl Iterator<Item = &'a TopicPartition>) -> String {
    let mut names: Vec<String> = partitions.map(|tp| format!("{}-{}", tp.topic, tp.partition)).collect();
    names.sort();
    names.join(" ")
}
