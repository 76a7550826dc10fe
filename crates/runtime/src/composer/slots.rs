//! The partitions that this process joins: for each number, the topics owned, how far they are read and committed, the
//! state, what is to be done and what is to be written.

use std::collections::{BTreeSet, HashMap, hash_map};

use anabranch_kafka::{AssignedPartition, Delivered, Fetched, OffsetToCommit, TopicPartition};
use anabranch_sdk::composer::Composer;

use super::outputs::Outputs;
use super::partition::{Fault, PartitionJoin};
use super::payloads::{Address, Payloads};
use super::state::Ends;
use super::work::Work;
use super::write::Batch;
use crate::clock;
use crate::emit::EmitError;

/// Most bytes of payloads that are fetched at once.
const FETCH_BYTES: usize = 8 * 1024 * 1024;
/// Most records, and most of their bytes, that are gathered for one transaction.
const WRITE_RECORDS: usize = 10_000;
const WRITE_BYTES: usize = 8 * 1024 * 1024;

/// How far one partition of one topic is.
#[derive(Debug, Clone, Copy)]
struct Position {
    /// The assignment it came in.
    epoch: u64,
    /// Next offset to commit.
    next: i64,
    committed: i64,
}

/// A partition number whose topics this process owns.
pub(super) struct Slot<C> {
    /// `None` while the state is being read.
    pub(super) join: Option<PartitionJoin<C>>,
    /// Counts assignments, so that a restore of an earlier one is told from this one's.
    pub(super) tenure: u64,
    /// What was read before the state was.
    pub(super) backlog: Vec<Fetched>,
    /// Where results and decisions ended when the partition came; `None` while that is being asked. Deadlines wait until
    /// they were read: an answer that lies unread in the log is not missing.
    pub(super) ends: Option<Ends>,
    /// What is to be written next.
    pub(super) out: Outputs,
    positions: HashMap<TopicPartition, Position>,
}

impl<C: Composer> Slot<C> {
    /// Whether this topic's partition is owned.
    pub(super) fn owns(&self, tp: &TopicPartition) -> bool {
        self.positions.contains_key(tp)
    }

    /// The partitions owned.
    pub(super) fn partitions(&self) -> impl Iterator<Item = &TopicPartition> {
        self.positions.keys()
    }

    /// Does one thing. What it came from may be committed with what it led to.
    fn apply(&mut self, work: &Work, payloads: &mut Payloads) -> Result<(), Fault> {
        if let Some(join) = &mut self.join {
            join.apply(work, clock::now(), payloads, &mut self.out)?;
            payloads.trim();
        }
        match work {
            Work::ReadTo(tp, next) => self.read_to(tp, *next),
            Work::Record(record, _) => {
                let tp = TopicPartition { topic: record.topic.clone(), partition: record.partition };
                self.read_to(&tp, record.offset + 1);
            }
            Work::Overdue(..) | Work::Bell(..) => {}
        }
        Ok(())
    }

    /// Reading of a partition went on to `next`.
    fn read_to(&mut self, tp: &TopicPartition, next: i64) {
        if let Some(position) = self.positions.get_mut(tp) {
            position.next = position.next.max(next);
        }
    }

    /// Whether all results and decisions were read that there were when the partition came.
    pub(super) fn has_caught_up(&self, results: &TopicPartition) -> bool {
        let has_read = |(tp, end): (&TopicPartition, &i64)| self.positions.get(tp).is_none_or(|at| at.next >= *end);
        self.positions.contains_key(results) && self.ends.as_ref().is_some_and(|ends| ends.iter().all(has_read))
    }
}

/// How far doing what is to be done has come.
#[derive(Debug)]
pub(super) enum Turn {
    /// All of it is done.
    Done,
    /// There is enough to be written, and more to do.
    Full,
    /// These payloads are to be fetched first.
    Lacking(BTreeSet<Address>),
}

/// All of them, by partition number.
pub(super) struct Slots<C> {
    slots: HashMap<i32, Slot<C>>,
    tenures: u64,
}

impl<C: Composer> Slots<C> {
    pub(super) fn new() -> Self {
        Self { slots: HashMap::new(), tenures: 0 }
    }

    /// A partition came. The tenure whose state is to be read, if its number is new here.
    pub(super) fn assign(&mut self, epoch: u64, assigned: &AssignedPartition) -> Option<u64> {
        // A group that has committed nothing commits its start, so that its lag can be seen.
        let committed = assigned.committed.as_ref().map_or(-1, |c| c.offset);
        let position = Position { epoch, next: assigned.start_offset, committed };
        match self.slots.entry(assigned.tp.partition) {
            hash_map::Entry::Occupied(mut slot) => {
                slot.get_mut().positions.insert(assigned.tp.clone(), position);
                None
            }
            hash_map::Entry::Vacant(vacant) => {
                self.tenures += 1;
                vacant.insert(Slot {
                    join: None,
                    tenure: self.tenures,
                    backlog: Vec::new(),
                    ends: None,
                    out: Outputs::default(),
                    positions: [(assigned.tp.clone(), position)].into(),
                });
                Some(self.tenures)
            }
        }
    }

    /// Partitions left, and with them what was to be written for a number that has none left.
    pub(super) fn remove(&mut self, partitions: &[TopicPartition]) {
        for tp in partitions {
            if let Some(slot) = self.slots.get_mut(&tp.partition) {
                slot.positions.remove(tp);
                slot.backlog.retain(|fetched| fetched.topic_partition() != *tp);
                if let Some(join) = &mut slot.join {
                    join.forget(tp);
                }
            }
        }
        self.slots.retain(|_, slot| !slot.positions.is_empty());
    }

    pub(super) fn get_mut(&mut self, number: i32) -> Option<&mut Slot<C>> {
        self.slots.get_mut(&number)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Slot<C>> {
        self.slots.values()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (i32, &mut Slot<C>)> {
        self.slots.iter_mut().map(|(number, slot)| (*number, slot))
    }

    /// How many partitions are owned, of all topics.
    pub(super) fn owned(&self) -> usize {
        self.slots.values().map(|s| s.positions.len()).sum()
    }

    /// Whether something is to be written that others wait for.
    pub(super) fn is_awaited(&self) -> bool {
        self.slots.values().any(|s| s.out.is_awaited())
    }

    /// Number and bytes of what waits to be done.
    pub(super) fn queued(&self) -> (usize, usize) {
        let queued = self.slots.values().filter_map(|s| s.join.as_ref()).map(PartitionJoin::queued);
        queued.fold((0, 0), |sum, q| (sum.0 + q.0, sum.1 + q.1))
    }

    /// Does what is to be done, as far as the payloads at hand allow.
    ///
    /// # Errors
    /// What must stop the process.
    pub(super) fn work(&mut self, payloads: &mut Payloads) -> Result<Turn, Fault> {
        let size = |slot: &Slot<C>| (slot.out.len(), slot.out.bytes());
        let (mut records, mut bytes) = self.slots.values().map(size).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        for slot in self.slots.values_mut() {
            let before = size(slot);
            (records, bytes) = (records - before.0, bytes - before.1);
            while let Some(work) = slot.join.as_mut().and_then(|join| join.next(payloads)) {
                slot.apply(&work, payloads)?;
                if records + slot.out.len() >= WRITE_RECORDS || bytes + slot.out.bytes() >= WRITE_BYTES {
                    return Ok(Turn::Full);
                }
            }
            let after = size(slot);
            (records, bytes) = (records + after.0, bytes + after.1);
        }
        let (mut needed, mut room) = (BTreeSet::new(), FETCH_BYTES);
        for join in self.slots.values_mut().filter_map(|s| s.join.as_mut()) {
            room = join.look_ahead(room, &mut needed);
        }
        Ok(if needed.is_empty() { Turn::Done } else { Turn::Lacking(payloads.pin(&needed)) })
    }

    /// All that is to be written, with the offsets that led to it.
    ///
    /// # Errors
    /// If a state cannot be written as JSON.
    pub(super) fn batch(&mut self, state_topic: &str) -> Result<Batch, EmitError> {
        let mut batch = Batch::default();
        for (number, slot) in &mut self.slots {
            let Some(join) = &mut slot.join else { continue };
            slot.out.write(state_topic, *number, &mut join.join, &mut batch.records, &mut batch.copied)?;
            let moved = slot.positions.iter().filter(|(_, p)| p.next > p.committed);
            batch.offsets.extend(moved.map(|(tp, p)| {
                let offset = OffsetToCommit { offset: p.next, metadata: String::new() };
                (tp.clone(), p.epoch, offset)
            }));
        }
        Ok(batch)
    }

    /// Copies were written, and lie there. `false`: where one lies is not known.
    pub(super) fn copied(&mut self, batch: &Batch, delivered: &[Delivered]) -> bool {
        batch.copied.iter().all(|copied| {
            let offset = delivered.get(copied.index).map_or(-1, |d| d.offset);
            let join = self.slots.get_mut(&copied.partition).and_then(|s| s.join.as_mut());
            offset >= 0 && join.is_none_or(|join| join.join.found(copied.id.as_str(), copied.piece, offset))
        })
    }

    /// A batch was written.
    pub(super) fn written(&mut self, batch: &Batch) {
        for slot in self.slots.values_mut() {
            slot.out = Outputs::default();
        }
        for (tp, _, offset) in &batch.offsets {
            let position = self.slots.get_mut(&tp.partition).and_then(|s| s.positions.get_mut(tp));
            if let Some(position) = position {
                position.committed = offset.offset;
            }
        }
    }
}
