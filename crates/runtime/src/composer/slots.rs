//! The partitions that this process joins: for each number, the topics owned, how far they are read and committed, the
//! state, and what is to be written.

use std::collections::{HashMap, hash_map};

use anabranch_kafka::{AssignedPartition, Fetched, OffsetToCommit, TopicPartition};
use anabranch_sdk::composer::Composer;

use super::partition::{Outputs, PartitionJoin};
use super::write::Batch;
use crate::emit::EmitError;

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
    /// Where the results ended when the partition came. Deadlines wait until they were read: an answer that lies
    /// unread in the log is not missing.
    pub(super) results_end: i64,
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

    /// Reading of a partition went on to `next`.
    pub(super) fn read_to(&mut self, tp: &TopicPartition, next: i64) {
        if let Some(position) = self.positions.get_mut(tp) {
            position.next = position.next.max(next);
        }
    }

    /// Whether all results were read that there were when the partition came.
    pub(super) fn has_caught_up(&self, results: &TopicPartition) -> bool {
        self.positions.get(results).is_some_and(|position| position.next >= self.results_end)
    }
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
                    results_end: i64::MAX,
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

    /// How many records wait to be written.
    pub(super) fn pending(&self) -> usize {
        self.slots.values().map(|s| s.out.len()).sum()
    }

    /// All that is to be written, with the offsets that led to it.
    ///
    /// # Errors
    /// If a state cannot be written as JSON.
    pub(super) fn batch(&self) -> Result<Batch, EmitError> {
        let mut batch = Batch::default();
        for slot in self.slots.values() {
            let Some(join) = &slot.join else { continue };
            batch.records.extend(slot.out.records.iter().cloned());
            batch.records.extend(join.state(&slot.out)?);
            let moved = slot.positions.iter().filter(|(_, p)| p.next > p.committed);
            batch.offsets.extend(moved.map(|(tp, p)| {
                let offset = OffsetToCommit { offset: p.next, metadata: String::new() };
                (tp.clone(), p.epoch, offset)
            }));
        }
        Ok(batch)
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
