//! Consumer groups: the classic protocol and committed offsets, as Apache Kafka's group coordinator has them.
//!
//! Decisions are pure and live in `machine`, `joining`, `rebalance` (membership) and `offsets`. [`Groups`] is the shell:
//! it holds the groups behind one lock, journals what must outlive the process before it answers, lets requests wait,
//! and wakes when the next session or rebalance runs out of time. A member whose connection vanishes is a member until
//! its session ends.

mod admin;
pub(crate) mod alarm;
mod answer;
mod joining;
mod machine;
mod member;
mod members;
mod offset_requests;
mod offsets;
mod rebalance;
mod store;

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    time::{Duration, Instant},
};

use kafka_protocol::{error::ResponseError, protocol::StrBytes};
use tokio::sync::oneshot;

use self::{
    alarm::{Alarm, Timed},
    answer::{Answer, Token},
    machine::{Group, Limits},
    store::{Entry, Record},
};
pub(crate) use self::{
    offset_requests::Committer,
    offsets::{Offset, Partition},
};
use crate::{journal::Journal, ports::Log};

/// The broker's settings for groups.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// `group.min.session.timeout.ms`
    pub(crate) min_session_timeout: Duration,
    /// `group.max.session.timeout.ms`
    pub(crate) max_session_timeout: Duration,
    /// `group.initial.rebalance.delay.ms`: how long the first rebalance of an empty group waits for more members.
    pub(crate) initial_rebalance_delay: Duration,
    /// `offset.metadata.max.bytes`
    pub(crate) max_metadata_bytes: usize,
    /// `group.max.size`
    pub(crate) max_members: usize,
}

impl Default for Settings {
    /// Kafka's defaults, but for the initial delay, which a developer would only wait for, and a bound on the size.
    fn default() -> Self {
        Self {
            min_session_timeout: Duration::from_secs(6),
            max_session_timeout: Duration::from_secs(30 * 60),
            initial_rebalance_delay: Duration::ZERO,
            max_metadata_bytes: 4096,
            max_members: 1000,
        }
    }
}

/// All groups of the broker.
#[derive(Debug)]
pub(crate) struct Groups {
    settings: Settings,
    topics: OnceLock<Weak<dyn Log>>,
    state: Mutex<Inner>,
    alarm: Alarm,
}

#[derive(Debug)]
struct Inner {
    limits: Limits,
    groups: BTreeMap<String, Entry>,
    journal: Journal,
    waiting: HashMap<Token, oneshot::Sender<Answer>>,
    last_token: Token,
}

impl Groups {
    /// Opens the groups as the journal knows them. Members are members still, their session times begin anew.
    ///
    /// # Errors
    /// When the journal cannot be read, or outside a tokio runtime.
    pub(crate) fn open(settings: Settings, mut journal: Journal) -> io::Result<Arc<Self>> {
        let limits = Limits { initial_delay: settings.initial_rebalance_delay, members: settings.max_members };
        let (mut groups, now) = (BTreeMap::new(), alarm::now());
        journal.replay(|record: Record| store::apply(&mut groups, record, limits, now))?;
        let inner = Inner { limits, groups, journal, waiting: HashMap::new(), last_token: 0 };
        let next = inner.next_deadline();
        let (topics, alarm) = (OnceLock::new(), Alarm::default());
        let this = Arc::new(Self { settings, topics, state: Mutex::new(inner), alarm });
        this.alarm.arm(next);
        this.alarm.start(&this)?;
        Ok(this)
    }

    /// From now on, offsets are refused for partitions that the log does not have. Only the first call counts.
    pub(crate) fn check_partitions_with(&self, log: &Arc<dyn Log>) {
        // A second call would name the same log.
        let _ = self.topics.set(Arc::downgrade(log));
    }

    fn exists(&self, topic: &str, partition: i32) -> bool {
        let log = self.topics.get().and_then(Weak::upgrade);
        log.is_none_or(|log| log.exists(topic, partition))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with a group, which is made if it is not there, then journals and answers what came of it.
    fn with<R>(&self, name: &str, act: impl FnOnce(&mut Group, Instant) -> R) -> R {
        let mut inner = self.lock();
        let result = inner.with(name, act);
        self.alarm.arm(inner.groups.get(name).and_then(|entry| entry.group.next_deadline()));
        result
    }

    /// The same, for a group that must be there.
    fn with_known<R>(
        &self,
        name: &str,
        act: impl FnOnce(&mut Group, Instant) -> Result<R, ResponseError>,
    ) -> Result<R, ResponseError> {
        if !self.lock().groups.contains_key(name) {
            return Err(ResponseError::UnknownMemberId);
        }
        self.with(name, act)
    }

    /// Lets a request wait for its answer. `None` if there will be none, which is a fault of this module.
    async fn wait(&self, name: &str, act: impl FnOnce(&mut Group, Instant, Token)) -> Option<Answer> {
        let (sender, receiver) = oneshot::channel();
        let token = self.lock().enlist(sender);
        self.with(name, |group, now| act(group, now, token));
        receiver.await.ok()
    }
}

impl Timed for Groups {
    fn fire(&self, now: Instant) -> Option<Instant> {
        let mut inner = self.lock();
        let due = |entry: &Entry| entry.group.next_deadline().is_some_and(|at| at <= now);
        let names: Vec<_> = inner.groups.iter().filter(|(_, e)| due(e)).map(|(name, _)| name.clone()).collect();
        for name in names {
            inner.with(&name, |group, now| group.advance(now));
        }
        inner.next_deadline()
    }
}

impl Inner {
    fn next_deadline(&self) -> Option<Instant> {
        self.groups.values().filter_map(|entry| entry.group.next_deadline()).min()
    }

    fn enlist(&mut self, sender: oneshot::Sender<Answer>) -> Token {
        self.last_token += 1;
        self.waiting.insert(self.last_token, sender);
        self.last_token
    }

    fn with<R>(&mut self, name: &str, act: impl FnOnce(&mut Group, Instant) -> R) -> R {
        let limits = self.limits;
        let entry = self.groups.entry(name.to_owned()).or_insert_with(|| Entry::new(limits));
        let result = act(&mut entry.group, alarm::now());
        let record = entry.group.take_changed().then(|| entry.group.record());
        entry.journaled = record.clone().or(entry.journaled.take());
        let answers = entry.group.take_answers();
        if entry.is_void() {
            self.groups.remove(name);
        }
        if let Some(state) = record {
            // Members can join again if this is lost, so they are answered all the same.
            let _ = self.write(&Record::Group { group: name.to_owned(), state });
        }
        for (token, answer) in answers {
            if let Some(sender) = self.waiting.remove(&token) {
                // An error means that the request was given up: its connection is gone.
                let _ = sender.send(answer);
            }
        }
        result
    }

    /// Journals a record. A failure is logged, and is the client's to retry.
    fn write(&mut self, record: &Record) -> Result<(), ResponseError> {
        let written = self.journal.append(record);
        self.journal.tidy(|| store::snapshot(&self.groups));
        written.map_err(|error| {
            tracing::error!(%error, "could not write the journal of the groups");
            ResponseError::CoordinatorNotAvailable
        })
    }

    /// Journals a record, then adds it to the groups.
    fn write_and_apply(&mut self, record: Record) -> Result<(), ResponseError> {
        self.journal.append(&record).map_err(|error| {
            tracing::error!(%error, "could not write the journal of the groups");
            ResponseError::CoordinatorNotAvailable
        })?;
        store::apply(&mut self.groups, record, self.limits, alarm::now());
        self.journal.tidy(|| store::snapshot(&self.groups));
        Ok(())
    }
}

/// A code for the wire.
fn code<T>(result: &Result<T, ResponseError>) -> i16 {
    result.as_ref().err().map_or(0, ResponseError::code)
}

/// A string from the wire without the request it is a slice of.
fn owned(text: &StrBytes) -> String {
    text.as_str().to_owned()
}

#[cfg(test)]
mod tests;
