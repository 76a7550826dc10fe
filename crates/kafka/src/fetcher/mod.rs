//! Reading chosen partitions.
//!
//! A [`Fetcher`] keeps, per broker, at most two fetches under way, on connections of its own. The long one is over all
//! partitions that are free when it starts, and waits for data. A partition that becomes free meanwhile goes with a
//! short one, which hardly waits, again and again until the long one has ended; then all go together. So none waits for
//! the others' silence, and what is idle costs one request a wait.
//!
//! What came and was not yet taken is not asked for again, so that memory is bounded by two answers per broker.
//!
//! All state is in the struct and all I/O in tasks of its [`JoinSet`]: dropping the future of
//! [`next`](Fetcher::next) loses nothing, dropping the fetcher ends everything.

mod request;
mod seek;
mod state;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use kafka_protocol::error::ResponseError;
use tokio::task::JoinSet;

use crate::{
    backoff::Backoff,
    cluster::Cluster,
    config::{FetchConfig, Position, StartOffset},
    error::{Error, ErrorKind},
    types::{Fetched, TopicPartition},
};
use request::{Answer, Asked, Slots, Which, fetch};
use seek::{Seek, find_offset};
use state::State;

/// The short fetch's wait. A long one does not start before a short one has ended, so that this delays it.
const SHORT_WAIT: Duration = Duration::from_millis(20);
/// A partition's failures in a row before they are told; fewer are a leader moving.
const QUIET_FAILURES: u32 = 3;

/// Reads chosen partitions, without a group: compacted topics, a live view, a broadcast.
pub struct Fetcher {
    cluster: Cluster,
    config: FetchConfig,
    /// What to do when the log no longer has a position; `None`: tell, and stop reading that partition.
    reset: Option<StartOffset>,
    partitions: BTreeMap<TopicPartition, State>,
    ready: VecDeque<(u64, Fetched)>,
    links: HashMap<String, Slots>,
    tasks: JoinSet<Done>,
    metadata_asked: bool,
    metadata_backoff: Backoff,
    metadata_after: Option<Instant>,
    leaderless_rounds: u32,
    /// Counts `add`s and answers: an answer to a partition since removed or added anew is known by it.
    ticks: u64,
}

/// What a task brings back.
enum Done {
    Fetched { address: String, which: Which, asked: Vec<Asked>, answer: Result<Vec<Answer>, Error> },
    Found { tp: TopicPartition, id: u64, offset: Result<i64, Error> },
    Metadata(BTreeSet<Arc<str>>, Result<(), Error>),
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let partitions: Vec<_> = self.partitions.keys().map(ToString::to_string).collect();
        f.debug_struct("Fetcher").field("partitions", &partitions).finish_non_exhaustive()
    }
}

impl Fetcher {
    pub(crate) fn new(cluster: Cluster, config: FetchConfig) -> Self {
        let metadata_backoff = Backoff::new(cluster.config());
        Self {
            cluster,
            config,
            reset: None,
            partitions: BTreeMap::new(),
            ready: VecDeque::new(),
            links: HashMap::new(),
            tasks: JoinSet::new(),
            metadata_asked: false,
            metadata_backoff,
            metadata_after: None,
            leaderless_rounds: 0,
            ticks: 0,
        }
    }

    /// As [`Cluster::fetcher`], going on at `reset` where the log no longer has a position.
    pub(crate) fn with_reset(cluster: Cluster, config: FetchConfig, reset: StartOffset) -> Self {
        Self { reset: Some(reset), ..Self::new(cluster, config) }
    }

    /// Starts reading a partition; if it is read already, from the new position on.
    pub fn add(&mut self, tp: TopicPartition, position: Position) {
        self.remove(&tp);
        self.ticks += 1;
        let seek = match position {
            Position::Earliest => Seek::Earliest,
            Position::Latest => Seek::Latest,
            Position::Offset(offset) => Seek::At(offset),
        };
        let state = State::new(self.ticks, seek, Backoff::new(self.cluster.config()));
        self.partitions.insert(tp, state);
    }

    /// Stops reading a partition and forgets what was fetched of it.
    pub fn remove(&mut self, tp: &TopicPartition) {
        if let Some(state) = self.partitions.remove(tp) {
            self.ready.retain(|(id, _)| *id != state.id);
        }
    }

    /// Stops handing out and fetching a partition until it is resumed. What was fetched before is kept.
    pub fn pause(&mut self, tp: &TopicPartition) {
        if let Some(state) = self.partitions.get_mut(tp) {
            state.paused = true;
        }
    }

    /// Goes on with a paused partition.
    pub fn resume(&mut self, tp: &TopicPartition) {
        if let Some(state) = self.partitions.get_mut(tp) {
            state.paused = false;
        }
    }

    /// The partitions being read.
    pub fn partitions(&self) -> impl Iterator<Item = &TopicPartition> {
        self.partitions.keys()
    }

    /// The next batch; waits as long as there is none. It may be empty and only move `next_offset`,
    /// `high_watermark` or `log_start_offset`.
    ///
    /// Cancel-safe: dropping the future loses nothing.
    ///
    /// # Errors
    /// A retryable error is information, and so is an unknown topic: the fetcher keeps trying by itself, with backoff.
    /// So is a batch that cannot be read, or unpacks to more than [`ClusterConfig::max_batch_bytes`](crate::ClusterConfig):
    /// its partition stands still and is tried again after a second, then less and less often, down to once a minute.
    /// After any other error that names a partition, that partition is not read until it is added again.
    pub async fn next(&mut self) -> Result<Fetched, Error> {
        loop {
            if let Some(fetched) = self.take_ready() {
                return Ok(fetched);
            }
            let wake = self.dispatch();
            let done = tokio::select! {
                Some(done) = self.tasks.join_next(), if !self.tasks.is_empty() => done,
                () = sleep_until(wake) => continue,
            };
            match done {
                Ok(done) => self.settle(done)?,
                // A task ends early only when this fetcher is dropped, or by a bug that must not hide.
                Err(e) => return Err(Error::malformed("Fetch", e)),
            }
        }
    }

    fn take_ready(&mut self) -> Option<Fetched> {
        let paused =
            |fetched: &Fetched| self.partitions.get(&fetched.topic_partition()).is_some_and(|state| state.paused);
        let index = self.ready.iter().position(|(_, fetched)| !paused(fetched))?;
        let (_, fetched) = self.ready.remove(index)?;
        self.ticks += 1;
        if let Some(state) = self.partitions.get_mut(&fetched.topic_partition()) {
            state.served = self.ticks;
        }
        Some(fetched)
    }

    /// Starts what can be started now, and says when there is more to start.
    fn dispatch(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let mut wake: Option<Instant> = None;
        let mut later = |at: Instant| wake = Some(wake.map_or(at, |w| w.min(at)));
        let buffered: BTreeSet<u64> = self.ready.iter().map(|(id, _)| *id).collect();
        let mut by_broker: BTreeMap<String, Vec<Asked>> = BTreeMap::new();
        let mut leaderless = BTreeSet::new();
        let mut seeks = Vec::new();
        for (tp, state) in &mut self.partitions {
            if state.paused || state.busy || state.suspended || buffered.contains(&state.id) {
                continue;
            }
            if let Some(at) = state.not_before.filter(|at| *at > now) {
                later(at);
                continue;
            }
            let Seek::At(offset) = state.seek else {
                state.busy = true;
                seeks.push((tp.clone(), state.id, state.seek));
                continue;
            };
            match self.cluster.read_metadata().leader(&tp.topic, tp.partition) {
                Some(leader) => {
                    let asked = Asked { tp: tp.clone(), id: state.id, offset, served: state.served };
                    by_broker.entry(leader.address).or_default().push(asked);
                }
                None => drop(leaderless.insert(tp.topic.clone())),
            }
        }
        for (tp, id, seek) in seeks {
            self.spawn_seek(tp, id, seek);
        }
        for (address, asked) in by_broker {
            self.spawn_fetch(address, asked);
        }
        if !leaderless.is_empty() && !self.metadata_asked {
            match self.metadata_after.filter(|at| *at > now) {
                Some(at) => later(at),
                None => self.spawn_metadata(leaderless),
            }
        }
        wake
    }

    fn spawn_seek(&mut self, tp: TopicPartition, id: u64, seek: Seek) {
        let (cluster, isolation) = (self.cluster.clone(), self.config.isolation);
        let reset = self.reset.unwrap_or_default();
        self.tasks.spawn(async move {
            let offset = find_offset(&cluster, &tp, seek, reset, isolation).await;
            Done::Found { tp, id, offset }
        });
    }

    fn spawn_fetch(&mut self, address: String, mut asked: Vec<Asked>) {
        let slots = self.links.entry(address.clone()).or_default();
        let Some((which, link)) = slots.start() else { return };
        // Who waited longest goes first: a broker fills its answer from the front.
        asked.sort_by_key(|a| a.served);
        for a in &asked {
            if let Some(state) = self.partitions.get_mut(&a.tp) {
                state.busy = true;
            }
        }
        let (cluster, mut config) = (self.cluster.clone(), self.config.clone());
        if which == Which::Short {
            config.max_wait = config.max_wait.min(SHORT_WAIT);
        }
        self.tasks.spawn(async move {
            let answer = fetch(&link, &cluster, &address, &config, &asked).await;
            Done::Fetched { address, which, asked, answer }
        });
    }

    fn spawn_metadata(&mut self, topics: BTreeSet<Arc<str>>) {
        self.metadata_asked = true;
        let cluster = self.cluster.clone();
        self.tasks.spawn(async move {
            let names: Vec<&str> = topics.iter().map(|t| &**t).collect();
            let result = cluster.refresh(&names).await;
            Done::Metadata(topics, result)
        });
    }

    fn settle(&mut self, done: Done) -> Result<(), Error> {
        match done {
            Done::Metadata(topics, result) => {
                self.metadata_asked = false;
                // Even a good answer may name no leader yet.
                self.metadata_after = Some(Instant::now() + self.metadata_backoff.next_wait());
                result.and_then(|()| self.leaders_found(&topics))
            }
            Done::Found { tp, id, offset } => {
                let Some(state) = self.partitions.get_mut(&tp).filter(|s| s.id == id) else { return Ok(()) };
                state.busy = false;
                match offset {
                    Ok(offset) => {
                        state.seek = Seek::At(offset);
                        Ok(())
                    }
                    Err(error) => self.failed(&tp, error),
                }
            }
            Done::Fetched { address, which, asked, answer } => {
                if let Some(slots) = self.links.get_mut(&address) {
                    slots.end(which);
                }
                self.settle_fetch(asked, answer)
            }
        }
    }

    /// Tells of topics that still have no leader after several questions.
    fn leaders_found(&mut self, topics: &BTreeSet<Arc<str>>) -> Result<(), Error> {
        let metadata = self.cluster.read_metadata();
        let mut wanted = self.partitions.keys().filter(|tp| topics.contains(&tp.topic));
        let Some(tp) = wanted.find(|tp| metadata.leader(&tp.topic, tp.partition).is_none()) else {
            self.leaderless_rounds = 0;
            return Ok(());
        };
        self.leaderless_rounds += 1;
        if self.leaderless_rounds < QUIET_FAILURES {
            return Ok(());
        }
        let code = match metadata.partition_count(&tp.topic, Duration::MAX) {
            Some(count) if tp.partition < count => ResponseError::LeaderNotAvailable.code(),
            Some(_) => ResponseError::UnknownTopicOrPartition.code(),
            None => metadata.error_of(&tp.topic),
        };
        Err(Error::broker_code("Metadata", code, None).on_topic(&*tp.topic))
    }

    fn settle_fetch(&mut self, asked: Vec<Asked>, answer: Result<Vec<Answer>, Error>) -> Result<(), Error> {
        let mut current = Vec::new();
        for a in asked {
            if let Some(state) = self.partitions.get_mut(&a.tp).filter(|s| s.id == a.id) {
                state.busy = false;
                current.push(a);
            }
        }
        let answers = match answer {
            Ok(answers) => answers,
            Err(error) => {
                for a in &current {
                    self.wait_before_retry(&a.tp);
                }
                return Err(error);
            }
        };
        // What an answer leaves out would be asked for again at once, and again.
        for a in current.iter().filter(|a| !answers.iter().any(|(tp, _)| *tp == a.tp)) {
            self.wait_before_retry(&a.tp);
        }
        let mut first_error = Ok(());
        for (tp, result) in answers {
            if !current.iter().any(|a| a.tp == tp) {
                continue;
            }
            let settled = match result {
                Ok(fetched) => {
                    self.arrived(&tp, fetched);
                    Ok(())
                }
                Err(error) => self.failed(&tp, error),
            };
            first_error = first_error.and(settled);
        }
        first_error
    }

    fn arrived(&mut self, tp: &TopicPartition, fetched: Fetched) {
        let Some(state) = self.partitions.get_mut(tp) else { return };
        state.failures = 0;
        state.backoff.reset();
        state.corrupt_backoff.reset();
        self.metadata_backoff.reset();
        let moved = state.seek != Seek::At(fetched.next_offset);
        state.seek = Seek::At(fetched.next_offset);
        let marks = (fetched.high_watermark, fetched.log_start_offset);
        if moved || !fetched.records.is_empty() || state.told != marks {
            state.told = marks;
            let id = state.id;
            self.ready.push_back((id, fetched));
        }
    }

    /// Notes a partition's failure. Returns it where a caller should know.
    fn failed(&mut self, tp: &TopicPartition, error: Error) -> Result<(), Error> {
        let reset = self.reset.is_some();
        let Some(state) = self.partitions.get_mut(tp) else { return Ok(()) };
        if let (true, Some(ResponseError::OffsetOutOfRange), Seek::At(offset)) =
            (reset, error.response_error(), state.seek)
        {
            tracing::warn!(topic = %tp.topic, partition = tp.partition, offset, "the log no longer has this offset");
            state.seek = Seek::OutOfRange(offset);
            return Ok(());
        }
        if matches!(error.kind(), ErrorKind::CorruptBatch { .. }) {
            return Err(self.stands_still(tp, error));
        }
        // In a group nobody adds a partition anew: what a human has not been asked to mend is tried again.
        let hopeless = if reset { error.is_fatal() } else { !error.is_transient() };
        if hopeless {
            state.suspended = true;
            return Err(error);
        }
        state.failures += 1;
        let tell = !error.is_transient() || state.failures >= QUIET_FAILURES || error.code().is_none();
        self.wait_before_retry(tp);
        if tell { Err(error) } else { Ok(()) }
    }

    /// A batch cannot be read. To step over it would lose cases without a word, and to end the process would let one
    /// record stop all partitions: so this one stands still, and says so each time it is tried.
    fn stands_still(&mut self, tp: &TopicPartition, error: Error) -> Error {
        self.cluster.forget(&tp.topic);
        if let Some(state) = self.partitions.get_mut(tp) {
            let wait = state.corrupt_backoff.next_wait();
            state.not_before = Some(Instant::now() + wait);
            let (topic, partition, wait_ms) = (&*tp.topic, tp.partition, wait.as_millis());
            tracing::error!(topic, partition, %error, wait_ms, "a batch cannot be read: its partition stands still");
        }
        error
    }

    fn wait_before_retry(&mut self, tp: &TopicPartition) {
        self.cluster.forget(&tp.topic);
        if let Some(state) = self.partitions.get_mut(tp) {
            state.not_before = Some(Instant::now() + state.backoff.next_wait());
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
