//! Group consumers: membership, fetching and committing put together.

mod commit;
mod coordinator;
mod driver;
mod offsets;
mod requests;
pub(crate) mod wire;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use anabranch_core::group::{Failure, Notice};
use tokio::{sync::mpsc, sync::oneshot, task::JoinSet};

pub use commit::Committer;
pub(crate) use commit::wait_for_change;
pub(crate) use coordinator::{Coordinates, Coordinator};
pub(crate) use driver::Identity;
pub(crate) use offsets::committed;

use crate::{
    backoff::Backoff,
    cluster::Cluster,
    config::{FetchConfig, GroupConfig, Position},
    error::{Error, ErrorKind},
    fetcher::Fetcher,
    types::{AssignedPartition, Fetched, TopicPartition},
};
use driver::{Command, Handle};

/// What happens to a member of a group.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// Partitions came. With none: the group was joined, and there is nothing for this member now.
    Assigned {
        /// Counts assignments of this consumer, from 1.
        epoch: u64,
        /// The ones that came; those held before are not repeated.
        partitions: Vec<AssignedPartition>,
    },
    /// Partitions are to be given up. No more records of them come; work on them may be drained and committed
    /// until `done`.
    Revoked {
        /// The latest assignment epoch at the time.
        epoch: u64,
        /// The ones that leave.
        partitions: Vec<TopicPartition>,
        /// Call `done.done()`, or drop it. After the rebalance timeout they are [`Lost`](Event::Lost).
        done: RevokeDone,
    },
    /// Partitions are gone: fenced, evicted, or not drained in time. Nothing may be committed for them.
    Lost {
        /// The ones that are gone.
        partitions: Vec<TopicPartition>,
    },
    /// Records came, or a position moved.
    Records(Fetched),
    /// Something is away or broken that may come back; the consumer keeps trying by itself.
    Reconnecting {
        /// What happened.
        error: String,
    },
    /// Nothing more will come: authorization, unknown group protocol, fenced instance id.
    Fatal(Error),
}

/// Tells the membership that revoked partitions are drained. Dropping it says so too.
#[derive(Debug)]
pub struct RevokeDone {
    drain: u64,
    commands: mpsc::UnboundedSender<Command>,
}

impl RevokeDone {
    /// Drained: the partitions may go to their next owner.
    pub fn done(self) {}
}

impl Drop for RevokeDone {
    fn drop(&mut self) {
        // A membership that has ended waits for nobody.
        drop(self.commands.send(Command::Drained(self.drain)));
    }
}

/// A member of a group. Membership, heartbeats and fetches run on tasks of their own: however long the caller
/// takes between two calls of [`next`](Self::next), the membership stays.
///
/// Dropping it without [`leave`](Self::leave) is what a crash is: the group waits for the session timeout.
pub struct GroupConsumer {
    config: GroupConfig,
    coordinator: Coordinator,
    handle: Handle,
    fetcher: Fetcher,
    /// Assignments whose starting points are being looked up, oldest first.
    starting: VecDeque<(u64, BTreeSet<TopicPartition>)>,
    lookup: JoinSet<Result<Vec<AssignedPartition>, Error>>,
    lookup_backoff: Backoff,
    /// The wait before the next lookup, after one that failed.
    lookup_wait: Duration,
    /// Partitions the caller knows of.
    told: BTreeMap<TopicPartition, u64>,
    epoch: u64,
    over: bool,
}

impl std::fmt::Debug for GroupConsumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let partitions: Vec<_> = self.told.keys().map(ToString::to_string).collect();
        f.debug_struct("GroupConsumer")
            .field("group", &self.config.group)
            .field("partitions", &partitions)
            .finish_non_exhaustive()
    }
}

impl Drop for GroupConsumer {
    fn drop(&mut self) {
        self.handle.task.abort();
    }
}

impl GroupConsumer {
    /// Joins in the background. Needs a tokio runtime.
    pub fn start(cluster: &Cluster, config: GroupConfig) -> GroupConsumer {
        let coordinator = Coordinator::new(cluster.clone(), &config.group);
        let handle = driver::spawn(cluster, &config, coordinator.clone());
        let fetch = FetchConfig { isolation: config.isolation, ..config.fetch };
        let fetcher = Fetcher::with_reset(cluster.clone(), fetch, config.start);
        GroupConsumer {
            config,
            coordinator,
            handle,
            fetcher,
            starting: VecDeque::new(),
            lookup: JoinSet::new(),
            lookup_backoff: Backoff::new(cluster.config()),
            lookup_wait: Duration::ZERO,
            told: BTreeMap::new(),
            epoch: 0,
            over: false,
        }
    }

    /// What happens next; waits as long as nothing does. After [`Event::Fatal`] it waits for ever.
    ///
    /// Cancel-safe: dropping the future loses nothing.
    pub async fn next(&mut self) -> Event {
        loop {
            if self.over {
                return std::future::pending().await;
            }
            self.look_up();
            let event = tokio::select! {
                biased;
                notice = self.handle.notices.recv() => match notice {
                    Some(notice) => self.on_notice(notice),
                    None => self.ended(Error::closed("GroupMembership")),
                },
                Some(found) = self.lookup.join_next(), if !self.lookup.is_empty() => self.on_found(found),
                fetched = self.fetcher.next() => Some(self.on_fetched(fetched)),
            };
            if let Some(event) = event {
                return event;
            }
        }
    }

    /// Commits offsets under this membership.
    pub fn committer(&self) -> Committer {
        Committer {
            coordinator: self.coordinator.clone(),
            identity: self.handle.identity.clone(),
            instance_id: self.config.instance_id.clone(),
            commits: self.config.commits,
        }
    }

    /// Stops handing out and fetching partitions until they are resumed. Unknown ones are ignored.
    pub fn pause(&mut self, tps: &[TopicPartition]) {
        tps.iter().for_each(|tp| self.fetcher.pause(tp));
    }

    /// Goes on with paused partitions.
    pub fn resume(&mut self, tps: &[TopicPartition]) {
        tps.iter().for_each(|tp| self.fetcher.resume(tp));
    }

    /// Reads a partition on from `offset`; what was fetched of it and not handed out is dropped. It is not paused any
    /// more. Unknown ones are ignored.
    pub fn seek(&mut self, tp: &TopicPartition, offset: i64) {
        if self.told.contains_key(tp) {
            self.fetcher.add(tp.clone(), Position::Offset(offset));
        }
    }

    /// Leaves the group, so that the others take over at once. A static member only stops: it may come back within
    /// the session timeout without a rebalance.
    ///
    /// # Errors
    /// When the coordinator could not be told. The membership is over nevertheless.
    pub async fn leave(self) -> Result<(), Error> {
        self.end(false).await
    }

    /// Leaves the group for good, as a static member too.
    ///
    /// # Errors
    /// As [`leave`](Self::leave).
    pub async fn leave_for_good(self) -> Result<(), Error> {
        self.end(true).await
    }

    async fn end(self, for_good: bool) -> Result<(), Error> {
        let (left, answer) = oneshot::channel();
        if self.handle.commands.send(Command::Leave { for_good, left }).is_err() {
            return Ok(());
        }
        let limit = self.coordinator.cluster.config().request_timeout;
        match tokio::time::timeout(limit, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Ok(()),
            Err(_) => Err(Error::new("LeaveGroup", ErrorKind::Timeout { after: limit, sent: true })),
        }
    }

    /// Starts looking up where the oldest new assignment begins, unless one is under way.
    fn look_up(&mut self) {
        if !self.lookup.is_empty() {
            return;
        }
        if let Some((_, tps)) = self.starting.front() {
            let tps: Vec<_> = tps.iter().cloned().collect();
            let coordinator = self.coordinator.clone();
            let (start, isolation) = (self.config.start, self.config.isolation);
            let wait = self.lookup_wait;
            self.lookup.spawn(async move {
                tokio::time::sleep(wait).await;
                offsets::starting_points(&coordinator, &tps, start, isolation).await
            });
        }
    }

    fn on_notice(&mut self, notice: Notice) -> Option<Event> {
        match notice {
            Notice::Assigned { epoch, partitions } => {
                self.starting.push_back((epoch, partitions));
                None
            }
            Notice::Revoked { drain, partitions } => {
                let done = RevokeDone { drain, commands: self.handle.commands.clone() };
                let partitions = self.forget(&partitions);
                // Nobody has heard of these: there is nothing to drain.
                (!partitions.is_empty()).then_some(Event::Revoked { epoch: self.epoch, partitions, done })
            }
            Notice::Lost { partitions } => {
                self.forget(&partitions);
                Some(Event::Lost { partitions: partitions.into_iter().collect() })
            }
            Notice::Retrying(failure) => Some(Event::Reconnecting { error: describe(&failure) }),
            Notice::Fatal(failure) => {
                let error = match failure {
                    Failure::Code(code, _) => {
                        Error::broker_code("GroupMembership", code, Some(format!("group {}", self.config.group)))
                    }
                    Failure::Transport(what) => Error::malformed("GroupMembership", what),
                };
                self.ended(error)
            }
        }
    }

    fn ended(&mut self, error: Error) -> Option<Event> {
        self.over = true;
        let all: Vec<_> = self.fetcher.partitions().cloned().collect();
        all.iter().for_each(|tp| self.fetcher.remove(tp));
        Some(Event::Fatal(error))
    }

    /// Stops reading partitions; returns those the caller knew of.
    fn forget(&mut self, partitions: &BTreeSet<TopicPartition>) -> Vec<TopicPartition> {
        for (_, starting) in &mut self.starting {
            starting.retain(|tp| !partitions.contains(tp));
        }
        for tp in partitions {
            self.fetcher.remove(tp);
        }
        partitions.iter().filter(|tp| self.told.remove(*tp).is_some()).cloned().collect()
    }

    fn on_found(
        &mut self,
        found: Result<Result<Vec<AssignedPartition>, Error>, tokio::task::JoinError>,
    ) -> Option<Event> {
        let found = match found {
            Ok(Ok(found)) => found,
            Ok(Err(error)) if error.is_fatal() => return self.ended(error),
            // The lookup starts again with the next turn.
            Ok(Err(error)) => {
                self.lookup_wait = self.lookup_backoff.next_wait();
                return Some(Event::Reconnecting { error: error.to_string() });
            }
            Err(error) => return self.ended(Error::malformed("OffsetFetch", error)),
        };
        self.lookup_backoff.reset();
        self.lookup_wait = Duration::ZERO;
        let (epoch, wanted) = self.starting.pop_front()?;
        // What was revoked meanwhile is not told.
        let partitions: Vec<_> = found.into_iter().filter(|a| wanted.contains(&a.tp)).collect();
        self.epoch = epoch;
        for assigned in &partitions {
            self.told.insert(assigned.tp.clone(), epoch);
            self.fetcher.add(assigned.tp.clone(), Position::Offset(assigned.start_offset));
        }
        Some(Event::Assigned { epoch, partitions })
    }

    fn on_fetched(&mut self, fetched: Result<Fetched, Error>) -> Event {
        match fetched {
            Ok(fetched) => Event::Records(fetched),
            Err(error) if error.is_fatal() => {
                self.over = true;
                Event::Fatal(error)
            }
            Err(error) => Event::Reconnecting { error: error.to_string() },
        }
    }
}

fn describe(failure: &Failure) -> String {
    match failure {
        Failure::Code(code, _) => Error::broker_code("GroupMembership", *code, None).to_string(),
        Failure::Transport(what) => what.clone(),
    }
}
