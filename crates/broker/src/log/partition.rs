//! A partition as the request handlers see it: a lock around its log, and those who wait for more.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use bytes::Bytes;
use kafka_protocol::ResponseError;
use tokio::sync::Notify;

use super::{
    batch::{self, Header},
    core::Log,
    now_ms,
    producers::{Aborted, Description},
    read::Found,
    recovery::{self, RecoveryError},
    settings::Settings,
    validate::{self, Refusal},
};
use crate::ports::Marker;

/// One who waits for any of several partitions to grow.
#[derive(Debug, Default)]
pub(crate) struct Waiter(Notify);

impl Waiter {
    /// Waits until a watched partition has grown since it was watched.
    pub(crate) async fn grown(&self) {
        self.0.notified().await;
    }
}

/// Where a batch went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Appended {
    pub(crate) base_offset: i64,
    pub(crate) log_start: i64,
    /// Milliseconds since 1970 where the topic has the time of the append, else -1.
    pub(crate) log_append_time: i64,
}

/// What a partition has for a reader.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) end: i64,
    pub(crate) stable: i64,
    pub(crate) log_start: i64,
    pub(crate) aborted: Vec<Aborted>,
    pub(crate) records: Bytes,
}

/// A topic's settings, shared by its partitions.
pub(crate) type SharedSettings = Arc<Mutex<Arc<Settings>>>;

/// The settings as they are now.
pub(crate) fn current(settings: &SharedSettings) -> Arc<Settings> {
    Arc::clone(&settings.lock().unwrap_or_else(PoisonError::into_inner))
}

/// One partition.
#[derive(Debug)]
pub(crate) struct Partition {
    settings: SharedSettings,
    log: Mutex<Log>,
    waiters: Mutex<Vec<Weak<Waiter>>>,
}

fn storage(error: &io::Error) -> Refusal {
    Refusal::new(ResponseError::KafkaStorageError, error.to_string())
}

impl Partition {
    /// Opens the partition in a directory, or makes an empty one in memory.
    pub(crate) fn open(directory: Option<&Path>, settings: SharedSettings) -> Result<Self, RecoveryError> {
        let log = match directory {
            Some(directory) => recovery::open(directory)?,
            None => Log::new(None),
        };
        Ok(Self { settings, log: Mutex::new(log), waiters: Mutex::default() })
    }

    pub(super) fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a client's part of a Produce request of the given version. It is written when this returns.
    /// `may_append` is asked under the partition's lock, so that no marker can come between it and the append.
    pub(crate) fn append(
        &self,
        bytes: &Bytes,
        version: i16,
        may_append: impl FnOnce(&Header) -> Result<(), Refusal>,
    ) -> Result<Appended, Refusal> {
        let (settings, now) = (current(&self.settings), now_ms());
        let header = validate::check(bytes, &settings.rules(), version, now)?;
        let mut bytes = bytes.to_vec();
        if settings.log_append_time {
            batch::stamp(&mut bytes, now);
        }
        let stamped = |time| if settings.log_append_time { time } else { -1 };
        let mut log = self.log();
        if log.gone {
            return Err(Refusal::new(ResponseError::UnknownTopicOrPartition, "the topic was deleted"));
        }
        may_append(&header)?;
        if let Some(twin) = log.producers.check(&header)? {
            let log_append_time = stamped(twin.timestamp);
            return Ok(Appended { base_offset: twin.base_offset, log_start: log.start(), log_append_time });
        }
        let header = log.append(&mut bytes, settings.segment_bytes, now).map_err(|error| storage(&error))?;
        let log_start = log.start();
        drop(log);
        self.wake();
        Ok(Appended { base_offset: header.base_offset, log_start, log_append_time: stamped(now) })
    }

    /// Appends the marker of an ended transaction. `false` if a newer epoch of the producer has taken over.
    pub(crate) fn append_marker(&self, marker: Marker) -> io::Result<bool> {
        let segment_bytes = current(&self.settings).segment_bytes;
        let mut log = self.log();
        let appended = log.gone || log.append_marker(marker, segment_bytes, now_ms())?;
        drop(log);
        self.wake();
        Ok(appended)
    }

    /// Reads from an offset on. See [`Log::read`] for `max_bytes` and `at_least_one`.
    pub(crate) fn fetch(
        &self,
        offset: i64,
        committed: bool,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<Fetched, Refusal> {
        let log = self.log();
        let (start, end, stable) = (log.start(), log.end(), log.stable());
        if offset < start || offset > end {
            let message = format!("offset {offset} is outside {start}..={end}");
            return Err(Refusal::new(ResponseError::OffsetOutOfRange, message));
        }
        let limit = if committed { stable } else { end };
        let records = log.read(offset, limit, max_bytes, at_least_one).map_err(|error| storage(&error))?;
        let last = batch::Batches::new(records.clone()).last().map(|(header, _)| header.next_offset());
        let aborted = match last {
            Some(next) if committed => log.producers.aborted_in(offset, next),
            _ => Vec::new(),
        };
        Ok(Fetched { end, stable, log_start: start, aborted, records })
    }

    /// Log start and end, and the last stable offset.
    pub(crate) fn bounds(&self) -> (i64, i64, i64) {
        let log = self.log();
        (log.start(), log.end(), log.stable())
    }

    /// The first record not older than `timestamp`.
    pub(crate) fn find_time(&self, timestamp: i64, committed: bool) -> io::Result<Option<Found>> {
        let log = self.log();
        log.find_time(timestamp, if committed { log.stable() } else { log.end() })
    }

    /// The record with the latest timestamp.
    pub(crate) fn find_latest(&self, committed: bool) -> io::Result<Option<Found>> {
        let log = self.log();
        log.find_latest(if committed { log.stable() } else { log.end() })
    }

    /// Deletes what lies before an offset (-1: everything). Returns the new log start.
    pub(crate) fn delete_before(&self, offset: i64) -> Result<i64, Refusal> {
        let mut log = self.log();
        let offset = if offset == -1 { log.end() } else { offset };
        if offset < 0 || offset > log.end() {
            let message = format!("offset {offset} is not in the log, which ends at {}", log.end());
            return Err(Refusal::new(ResponseError::OffsetOutOfRange, message));
        }
        log.move_start(offset).map_err(|error| storage(&error))?;
        Ok(log.start())
    }

    /// Retention and compaction, as far as they are due.
    pub(crate) fn tend(&self) -> io::Result<()> {
        let (settings, now) = (current(&self.settings), now_ms());
        let mut log = self.log();
        if log.gone {
            return Ok(());
        }
        log.retain(&settings, now)?;
        drop(log);
        if settings.compact {
            self.compact(&settings, now)?;
        }
        Ok(())
    }

    /// Wakes the waiter once, at the next growth.
    pub(crate) fn watch(&self, waiter: &Arc<Waiter>) {
        let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        if waiters.len() >= 16 {
            waiters.retain(|waiter| waiter.strong_count() > 0);
        }
        waiters.push(Arc::downgrade(waiter));
    }

    /// Wakes all who watch.
    pub(crate) fn wake(&self) {
        let waiters = std::mem::take(&mut *self.waiters.lock().unwrap_or_else(PoisonError::into_inner));
        waiters.iter().filter_map(Weak::upgrade).for_each(|waiter| waiter.0.notify_one());
    }

    /// The topic is deleted: nothing is written any more, and those who wait are woken.
    pub(crate) fn leave(&self) {
        self.log().gone = true;
        self.wake();
    }

    /// The producers that the partition remembers.
    pub(crate) fn producers(&self) -> Vec<Description> {
        self.log().producers.describe()
    }
}
