//! Transactions: producer ids, and who may write what until when, as Apache Kafka's transaction coordinator has them.
//!
//! Decisions are pure and live in `transaction`. [`Transactional`] is the shell: it journals every decision before it
//! is acted on or answered, writes the markers, and aborts transactions that run out of time.
//!
//! Locks: the log may hold a partition's lock while it calls [`ports::Transactions::before_append`], because no call to
//! the log is made under the lock of this module. A transaction that is being ended is in a *prepare* phase meanwhile,
//! in which nothing can join it, so that no record can slip in behind its marker.

mod ending;
mod ids;
mod listing;
mod partitions;
mod producers;
mod transaction;

use std::{
    collections::{BTreeMap, HashSet},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use kafka_protocol::error::ResponseError;
use serde::{Deserialize, Serialize};

use self::{ids::Ids, transaction::Transaction};
use crate::{
    group::{
        Groups,
        alarm::{self, Alarm, Timed},
    },
    journal::Journal,
    ports,
};

/// The transaction protocol: Kafka's feature `transaction.version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// As Redpanda: partitions are added before they are written, and the end of a transaction leaves the epoch.
    One,
    /// KIP-890: writing adds a partition, and every end raises the epoch, for clients that speak it.
    Two,
}

/// The broker's settings for transactions.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// `transaction.version`
    pub(crate) version: Version,
    /// `transaction.max.timeout.ms`
    pub(crate) max_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { version: Version::One, max_timeout: Duration::from_secs(15 * 60) }
    }
}

/// How long to wait before the end of a transaction is tried again, after the log failed to take a marker.
const RETRY: Duration = Duration::from_secs(1);

/// All transactional producers of the broker.
pub(crate) struct Transactional {
    settings: Settings,
    log: Arc<dyn ports::Log>,
    groups: Arc<Groups>,
    state: Mutex<Inner>,
    alarm: Alarm,
}

impl std::fmt::Debug for Transactional {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transactional").field("settings", &self.settings).finish_non_exhaustive()
    }
}

struct Inner {
    transactions: BTreeMap<String, Transaction>,
    ids: Ids,
    journal: Journal,
    /// Transactions whose markers are being written.
    ending: HashSet<String>,
}

/// A record of the journal.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Record {
    /// Producer ids below this are given out.
    Ids { below: i64 },
    /// A transaction changed. The last one counts.
    Transaction { id: String, state: Transaction },
}

/// One moment on both clocks.
#[derive(Debug, Clone, Copy)]
struct Moment {
    /// For deadlines.
    now: Instant,
    /// For what is journaled and shown: milliseconds since 1970.
    wall: i64,
}

impl Moment {
    fn present() -> Self {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { now: alarm::now(), wall: i64::try_from(wall.as_millis()).unwrap_or(i64::MAX) }
    }
}

impl Transactional {
    /// Opens the coordinator as the journal knows it: transactions whose end was decided are ended, open ones keep
    /// their deadline. From now on the groups refuse offsets of partitions that the log does not have.
    ///
    /// # Errors
    /// When the journal cannot be read, or outside a tokio runtime.
    pub(crate) fn open(
        settings: Settings,
        log: Arc<dyn ports::Log>,
        groups: Arc<Groups>,
        mut journal: Journal,
    ) -> io::Result<Arc<Self>> {
        let (mut transactions, mut ids) = (BTreeMap::new(), Ids::default());
        journal.replay(|record| match record {
            Record::Ids { below } => ids = Ids::from(below),
            Record::Transaction { id, state } => {
                transactions.insert(id, state);
            }
        })?;
        let moment = Moment::present();
        transactions.values_mut().for_each(|transaction: &mut Transaction| transaction.restore(moment));
        groups.check_partitions_with(&log);
        let inner = Inner { transactions, ids, journal, ending: HashSet::new() };
        let this = Arc::new(Self { settings, log, groups, state: Mutex::new(inner), alarm: Alarm::default() });
        let next = this.fire(moment.now);
        this.alarm.arm(next);
        this.alarm.start(&this)?;
        Ok(this)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes a transaction, and journals the change.
    fn update<R>(
        &self,
        id: &str,
        change: impl FnOnce(&mut Transaction, Moment) -> Result<R, ResponseError>,
    ) -> Result<R, ResponseError> {
        let mut inner = self.lock();
        let result = inner.update(id, change);
        self.alarm.arm(inner.transactions.get(id).and_then(|transaction| transaction.deadline));
        result
    }
}

impl Inner {
    fn update<R>(
        &mut self,
        id: &str,
        change: impl FnOnce(&mut Transaction, Moment) -> Result<R, ResponseError>,
    ) -> Result<R, ResponseError> {
        let current = self.transactions.get(id).ok_or(ResponseError::InvalidProducerIdMapping)?;
        let mut next = current.clone();
        let result = change(&mut next, Moment::present())?;
        if next != *current {
            self.put(id, next)?;
        }
        Ok(result)
    }

    fn put(&mut self, id: &str, state: Transaction) -> Result<(), ResponseError> {
        self.write(&Record::Transaction { id: id.to_owned(), state: state.clone() })?;
        self.transactions.insert(id.to_owned(), state);
        self.journal.tidy(|| {
            let all = self.transactions.iter();
            let states = all.map(|(id, state)| Record::Transaction { id: id.clone(), state: state.clone() });
            std::iter::once(Record::Ids { below: self.ids.below() }).chain(states).collect()
        });
        Ok(())
    }

    /// Journals a record. A failure is logged, and is the client's to retry.
    fn write(&mut self, record: &Record) -> Result<(), ResponseError> {
        self.journal.append(record).map_err(|error| {
            tracing::error!(%error, "could not write the journal of the transactions");
            ResponseError::CoordinatorNotAvailable
        })
    }

    /// A producer id never given out before.
    fn fresh_id(&mut self) -> Result<i64, ResponseError> {
        if let Some(below) = self.ids.must_reserve() {
            self.write(&Record::Ids { below })?;
            self.ids.reserve(below);
        }
        Ok(self.ids.take())
    }
}

impl Timed for Transactional {
    fn fire(&self, now: Instant) -> Option<Instant> {
        for id in self.due(now) {
            self.run_out(&id);
        }
        self.lock().transactions.values().filter_map(|transaction| transaction.deadline).min()
    }
}

/// A code for the wire.
fn code<T>(result: &Result<T, ResponseError>) -> i16 {
    result.as_ref().err().map_or(0, ResponseError::code)
}

/// An error for a client that learned of `PRODUCER_FENCED` with version `since` of its request.
fn known_to(version: i16, since: i16, error: ResponseError) -> ResponseError {
    if version < since { by_epoch(error) } else { error }
}

/// An error for a request that tells a fenced producer by its epoch, in all versions.
fn by_epoch(error: ResponseError) -> ResponseError {
    if error == ResponseError::ProducerFenced { ResponseError::InvalidProducerEpoch } else { error }
}

#[cfg(test)]
mod tests;
