//! The partitions this process owns, each with its frontier. A frontier belongs to one assignment: what completes
//! after a partition left finds nothing here, and commits nothing.

use std::collections::HashMap;

use anabranch_core::frontier::Frontier;
use anabranch_kafka::{AssignedPartition, OffsetToCommit, TopicPartition};

#[derive(Debug)]
struct Owned {
    epoch: u64,
    frontier: Frontier,
}

/// Which assignment of a partition a piece of work belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Tenure {
    pub(crate) tp: TopicPartition,
    pub(crate) epoch: u64,
}

/// The partitions of this process.
#[derive(Debug, Default)]
pub(crate) struct Partitions {
    owned: HashMap<TopicPartition, Owned>,
}

impl Partitions {
    /// A partition came.
    pub(crate) fn assign(&mut self, epoch: u64, partition: &AssignedPartition) {
        let committed = partition.committed.as_ref().map(|c| c.offset);
        let frontier = Frontier::new(partition.start_offset, committed);
        self.owned.insert(partition.tp.clone(), Owned { epoch, frontier });
    }

    /// A partition left.
    pub(crate) fn remove(&mut self, tp: &TopicPartition) {
        self.owned.remove(tp);
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.owned.len()
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<TopicPartition> {
        self.owned.keys().cloned().collect()
    }

    /// A record was read. `None` if it is not to be worked on: not ours, or received before.
    pub(crate) fn receive(&mut self, tp: &TopicPartition, offset: i64) -> Option<Tenure> {
        let owned = self.owned.get_mut(tp)?;
        owned.frontier.receive(offset).then(|| Tenure { tp: tp.clone(), epoch: owned.epoch })
    }

    /// Reading went on to `next`.
    pub(crate) fn skip_to(&mut self, tp: &TopicPartition, next: i64) {
        if let Some(owned) = self.owned.get_mut(tp) {
            owned.frontier.skip_to(next);
        }
    }

    /// Work is done.
    pub(crate) fn done(&mut self, tenure: &Tenure, offset: i64) {
        if let Some(owned) = self.owned.get_mut(&tenure.tp).filter(|o| o.epoch == tenure.epoch) {
            owned.frontier.done(offset);
        }
    }

    /// What may be committed, of those that `which` picks.
    pub(crate) fn to_commit(&self, which: impl Fn(&TopicPartition) -> bool) -> Vec<(TopicPartition, OffsetToCommit)> {
        self.owned
            .iter()
            .filter(|(tp, _)| which(tp))
            .filter_map(|(tp, owned)| {
                // Metadata stays empty for now: what is done above the frontier goes here.
                let commit = OffsetToCommit { offset: owned.frontier.to_commit()?, metadata: String::new() };
                Some((tp.clone(), commit))
            })
            .collect()
    }

    /// A commit was acknowledged.
    pub(crate) fn committed(&mut self, offsets: &[(TopicPartition, OffsetToCommit)]) {
        for (tp, commit) in offsets {
            if let Some(owned) = self.owned.get_mut(tp) {
                owned.frontier.committed(commit.offset);
            }
        }
    }
}
