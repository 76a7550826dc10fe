//! The transactions of one transactional id, one after another: a state machine without I/O.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use kafka_protocol::error::ResponseError;
use serde::{Deserialize, Serialize};

use super::Moment;
use crate::{
    group::Partition,
    ports::{Marker, Producer},
};

/// The last epoch a producer is given. One more is kept back, to fence it with.
const LAST_EPOCH: i16 = i16::MAX - 1;

/// Where a transactional id is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Phase {
    Empty,
    Ongoing,
    PrepareCommit,
    PrepareAbort,
    CompleteCommit,
    CompleteAbort,
}

/// A transactional id: its producer, and its current or last transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Transaction {
    pub(super) producer: i64,
    /// -1 before the first.
    pub(super) epoch: i16,
    /// The identity before the last raise asked for by its owner; a repeated request may still carry it. An epoch of
    /// -1 means that there is none, as after fencing.
    last_producer: i64,
    last_epoch: i16,
    /// The producer id that follows when the end of this transaction is written: the epochs of this one are used up.
    next_producer: Option<i64>,
    pub(super) timeout_ms: i32,
    pub(super) phase: Phase,
    pub(super) partitions: BTreeSet<Partition>,
    /// Groups whose offsets are part of it.
    pub(super) groups: BTreeSet<String>,
    /// When it began: milliseconds since 1970.
    pub(super) started: i64,
    /// When it runs out of time, or when its end is tried again.
    #[serde(skip)]
    pub(super) deadline: Option<Instant>,
}

/// What a request to end a transaction came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It is decided now; markers are to be written.
    Decided,
    /// It had been decided so before, and is done.
    Done,
}

impl Transaction {
    /// A transactional id nobody has used.
    pub(super) fn new(producer: i64) -> Self {
        Self {
            producer,
            epoch: -1,
            last_producer: -1,
            last_epoch: -1,
            next_producer: None,
            timeout_ms: 0,
            phase: Phase::Empty,
            partitions: BTreeSet::new(),
            groups: BTreeSet::new(),
            started: -1,
            deadline: None,
        }
    }

    /// Sets the deadline after a restart.
    pub(super) fn restore(&mut self, at: Moment) {
        self.deadline = match self.phase {
            Phase::Ongoing => {
                let due = self.started.saturating_add(i64::from(self.timeout_ms));
                let left = u64::try_from(due.saturating_sub(at.wall)).unwrap_or_default();
                // A clock that went back must not make a transaction immortal.
                Some(at.now + Duration::from_millis(left).min(self.timeout()))
            }
            Phase::PrepareCommit | Phase::PrepareAbort => Some(at.now),
            Phase::Empty | Phase::CompleteCommit | Phase::CompleteAbort => None,
        };
    }

    fn timeout(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.timeout_ms).unwrap_or_default())
    }

    /// The current identity.
    pub(super) fn identity(&self) -> Producer {
        Producer { id: self.producer, epoch: self.epoch }
    }

    pub(super) fn is_ending(&self) -> bool {
        matches!(self.phase, Phase::PrepareCommit | Phase::PrepareAbort)
    }

    /// Whether the caller is the current producer, and the transaction is not just being ended.
    pub(super) fn admit(&self, caller: Producer) -> Result<(), ResponseError> {
        if caller.id != self.producer {
            Err(ResponseError::InvalidProducerIdMapping)
        } else if caller.epoch != self.epoch {
            Err(ResponseError::ProducerFenced)
        } else if self.is_ending() {
            Err(ResponseError::ConcurrentTransactions)
        } else {
            Ok(())
        }
    }

    /// Whether `caller` may start over with InitProducerId. `None`: a new instance, which may always.
    pub(super) fn may_init(&self, caller: Option<Producer>) -> Result<(), ResponseError> {
        if self.is_ending() {
            return Err(ResponseError::ConcurrentTransactions);
        }
        let Some(caller) = caller else { return Ok(()) };
        let is_current = caller.id == self.producer && [self.epoch, self.last_epoch].contains(&caller.epoch);
        let is_rotated = caller.id == self.last_producer && caller.epoch == self.last_epoch;
        if self.epoch == -1 || is_current || is_rotated { Ok(()) } else { Err(ResponseError::ProducerFenced) }
    }

    /// Whether InitProducerId needs a fresh producer id first, because the epochs of this one are used up.
    pub(super) fn needs_id(&self, caller: Option<Producer>) -> bool {
        self.epoch >= LAST_EPOCH && caller.is_none_or(|caller| caller == self.identity())
    }

    /// Gives the producer its next epoch, or the first of `fresh`; [`Transaction::may_init`] has been asked, and no
    /// transaction is ongoing. A repeated request (KIP-360) gets what the first one got.
    pub(super) fn init(&mut self, caller: Option<Producer>, fresh: Option<i64>, timeout_ms: i32) {
        let was = self.identity();
        if caller.is_some_and(|caller| was.epoch != -1 && caller != was) {
            return;
        }
        (self.producer, self.epoch) = match fresh {
            Some(fresh) => (fresh, 0),
            None => (was.id, was.epoch.saturating_add(1)),
        };
        (self.last_producer, self.last_epoch) = if caller.is_some() { (was.id, was.epoch) } else { (-1, -1) };
        self.timeout_ms = timeout_ms;
        self.phase = Phase::Empty;
        self.started = -1;
    }

    /// Whether a partition is part of the ongoing transaction.
    pub(super) fn has(&self, partition: &Partition) -> bool {
        self.phase == Phase::Ongoing && self.partitions.contains(partition)
    }

    /// Makes partitions and groups part of the transaction, which begins with the first of them.
    pub(super) fn join(&mut self, at: Moment, partitions: impl IntoIterator<Item = Partition>, group: Option<&str>) {
        if self.phase != Phase::Ongoing {
            self.phase = Phase::Ongoing;
            self.started = at.wall;
            self.deadline = Some(at.now + self.timeout());
        }
        self.partitions.extend(partitions);
        self.groups.extend(group.map(str::to_owned));
    }

    /// Decides the end, as `caller` asks. With `raise` (transaction version 2) the epoch rises with it, and a repeated
    /// request is known by the epoch before.
    pub(super) fn end(
        &mut self,
        caller: Producer,
        commit: bool,
        raise: bool,
        fresh: impl FnOnce() -> Result<i64, ResponseError>,
    ) -> Result<End, ResponseError> {
        let last = Producer { id: self.last_producer, epoch: self.last_epoch };
        let is_repeat = raise && caller == last && !matches!(self.phase, Phase::Empty | Phase::Ongoing);
        if !is_repeat && caller.id != self.producer {
            return Err(ResponseError::InvalidProducerIdMapping);
        }
        if !is_repeat && caller.epoch != self.epoch {
            return Err(ResponseError::ProducerFenced);
        }
        match (self.phase, commit) {
            (Phase::PrepareCommit, true) | (Phase::PrepareAbort, false) => Err(ResponseError::ConcurrentTransactions),
            (Phase::CompleteCommit, true) | (Phase::CompleteAbort, false) if is_repeat || !raise => Ok(End::Done),
            (Phase::Ongoing, _) => self.decide(commit, raise, fresh),
            // Under version 2 a producer cannot know whether anything was added, and aborts to be sure.
            (Phase::Empty | Phase::CompleteCommit | Phase::CompleteAbort, false) if raise && !is_repeat => {
                self.decide(false, true, fresh)
            }
            _ => Err(ResponseError::InvalidTxnState),
        }
    }

    fn decide(
        &mut self,
        commit: bool,
        raise: bool,
        fresh: impl FnOnce() -> Result<i64, ResponseError>,
    ) -> Result<End, ResponseError> {
        if raise {
            self.next_producer = if self.epoch >= LAST_EPOCH { Some(fresh()?) } else { None };
            (self.last_producer, self.last_epoch) = (self.producer, self.epoch);
            self.epoch = self.epoch.saturating_add(1);
        }
        self.phase = if commit { Phase::PrepareCommit } else { Phase::PrepareAbort };
        self.deadline = None;
        Ok(End::Decided)
    }

    /// Decides to abort an ongoing transaction against its producer, which is fenced by a raised epoch.
    pub(super) fn fence(&mut self) {
        self.epoch = self.epoch.saturating_add(1);
        (self.last_producer, self.last_epoch) = (-1, -1);
        self.phase = Phase::PrepareAbort;
        self.deadline = None;
    }

    /// The marker to write on every partition, if the end is decided.
    pub(super) fn marker(&self) -> Option<Marker> {
        let marker =
            Marker { producer: self.identity(), commit: self.phase == Phase::PrepareCommit, coordinator_epoch: 0 };
        self.is_ending().then_some(marker)
    }

    /// All markers are written.
    pub(super) fn complete(&mut self) {
        self.phase = match self.phase {
            Phase::PrepareCommit => Phase::CompleteCommit,
            Phase::PrepareAbort => Phase::CompleteAbort,
            other => other,
        };
        if let Some(next) = self.next_producer.take() {
            (self.producer, self.epoch) = (next, 0);
        }
        self.partitions.clear();
        self.groups.clear();
        self.started = -1;
        self.deadline = None;
    }
}
