//! The journal of one partition of tasks that this process owns.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};

use anabranch_core::journal::{Journal, Line, Position};
use anabranch_kafka::{OutRecord, TopicPartition};
use anabranch_protocol::TaskId;
use bytes::Bytes;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{NoJournal, Shared, lock};

/// How far a journal is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    /// It is being read.
    Loading,
    /// It can be used.
    Ready,
    /// It can be neither read nor written.
    Broken(String),
    /// The partition has left.
    Gone,
}

/// A task that is done, and where it was delivered.
#[derive(Debug)]
struct Finished {
    tp: TopicPartition,
    offset: i64,
    task: TaskId,
}

/// The journal of one partition.
#[derive(Debug)]
pub(super) struct Partition {
    /// Where it is written.
    pub(super) tp: TopicPartition,
    /// By right of which partition its position is committed, and since when.
    pub(super) right: (TopicPartition, u64),
    /// What this assignment is called in the log.
    pub(super) run: Arc<str>,
    log: Mutex<Journal>,
    /// The partitions of this number that are owned: tasks, and those that come back.
    held: Mutex<BTreeSet<TopicPartition>>,
    /// Done; not yet known to be committed.
    finished: Mutex<Vec<Finished>>,
    /// Committed; not yet said to be closed.
    pub(super) to_close: Mutex<Vec<TaskId>>,
    /// What was committed last.
    pub(super) committed: Mutex<Option<Position>>,
    /// Below which offset the log was last trimmed.
    pub(super) trimmed: Mutex<i64>,
    phase: watch::Sender<Phase>,
    gone: CancellationToken,
}

impl Partition {
    pub(super) fn new(topic: &Arc<str>, tasks: TopicPartition, epoch: u64) -> Self {
        Self {
            tp: TopicPartition { topic: topic.clone(), partition: tasks.partition },
            right: (tasks.clone(), epoch),
            run: format!("{:016x}", rand::random::<u64>()).into(),
            log: Mutex::default(),
            held: Mutex::new(BTreeSet::from([tasks])),
            finished: Mutex::default(),
            to_close: Mutex::default(),
            committed: Mutex::default(),
            trimmed: Mutex::default(),
            phase: watch::Sender::new(Phase::Loading),
            gone: CancellationToken::new(),
        }
    }

    /// What the log means, as far as it is known.
    pub(super) fn log(&self) -> MutexGuard<'_, Journal> {
        lock(&self.log)
    }

    pub(super) fn also_held(&self, tp: TopicPartition) {
        lock(&self.held).insert(tp);
    }

    /// `true` if that was the last one.
    pub(super) fn no_longer_held(&self, tp: &TopicPartition) -> bool {
        let mut held = lock(&self.held);
        held.remove(tp);
        held.is_empty()
    }

    pub(super) fn leave(&self) {
        self.phase.send_replace(Phase::Gone);
        self.gone.cancel();
    }

    /// Is cancelled when the partition leaves.
    pub(super) fn gone(&self) -> &CancellationToken {
        &self.gone
    }

    /// It is read, or cannot be.
    pub(super) fn enter(&self, phase: Phase) {
        self.phase.send_if_modified(|now| {
            let changed = *now == Phase::Loading;
            if changed {
                *now = phase;
            }
            changed
        });
    }

    pub(super) fn is_ready(&self) -> bool {
        *self.phase.borrow() == Phase::Ready
    }

    /// Waits until it is read.
    pub(super) async fn ready(&self) -> Result<(), NoJournal> {
        let mut phase = self.phase.subscribe();
        let decided = phase.wait_for(|phase| *phase != Phase::Loading).await;
        match decided.as_deref() {
            Ok(Phase::Ready) => Ok(()),
            Ok(Phase::Broken(why)) => Err(NoJournal::Broken(why.clone())),
            Ok(Phase::Gone | Phase::Loading) | Err(_) => Err(NoJournal::Left),
        }
    }

    /// A task that was delivered there is done.
    pub(super) fn finished(&self, tp: TopicPartition, offset: i64, task: TaskId) {
        lock(&self.finished).push(Finished { tp, offset, task });
    }

    /// These offsets are committed.
    pub(super) fn committed(&self, tp: &TopicPartition, covers: &dyn Fn(i64) -> bool) {
        let done = |f: &Finished| f.tp == *tp && covers(f.offset);
        let committed: Vec<_> = lock(&self.finished).extract_if(.., |f| done(f)).map(|f| f.task).collect();
        lock(&self.to_close).extend(committed);
    }

    /// The record that a line of no case makes.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    pub(super) fn record(&self, line: &Line) -> Result<OutRecord, String> {
        let value = line.write().map_err(|e| e.to_string())?;
        Ok(OutRecord {
            topic: self.tp.topic.to_string(),
            partition: Some(self.tp.partition),
            value: Some(Bytes::from(value)),
            ..OutRecord::default()
        })
    }

    /// Writes a line of no case, and takes it in. Ends without having written it when the partition leaves.
    ///
    /// # Errors
    /// What no retry mends.
    pub(super) async fn write(&self, shared: &Shared, line: &Line) -> Result<(), String> {
        let record = self.record(line)?;
        let bytes = record.value.as_ref().map_or(0, Bytes::len);
        let write = self.log().write();
        let sent = tokio::select! {
            sent = shared.emitter.emit(vec![record]) => Some(sent),
            () = self.gone.cancelled() => None,
        };
        let mut log = self.log();
        log.ended(write);
        match sent {
            Some(Ok(delivered)) => {
                for at in delivered {
                    log.apply(at.offset, line, bytes);
                }
                Ok(())
            }
            Some(Err(error)) => Err(error.to_string()),
            None => Err("the partition has left".to_owned()),
        }
    }
}
