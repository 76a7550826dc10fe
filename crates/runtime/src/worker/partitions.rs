//! The partitions this process owns, each with its frontier. A frontier belongs to one assignment: what completes
//! after a partition left finds nothing here, and commits nothing.

use std::collections::HashMap;

use anabranch_core::frontier::{Frontier, Snapshot, metadata};
use anabranch_kafka::{AssignedPartition, CommittedOffset, OffsetToCommit, TopicPartition};

#[derive(Debug)]
struct Owned {
    tenure: Tenure,
    frontier: Frontier,
}

/// Which assignment of a partition a piece of work belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Tenure {
    pub(crate) tp: TopicPartition,
    pub(crate) epoch: u64,
    /// Counts how often the log went back within the assignment.
    life: u32,
}

/// What is to be committed of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ToCommit {
    tenure: Tenure,
    snapshot: Snapshot,
}

impl ToCommit {
    pub(crate) fn tp(&self) -> &TopicPartition {
        &self.tenure.tp
    }

    /// As the committer wants it.
    pub(crate) fn request(&self) -> (TopicPartition, u64, OffsetToCommit) {
        let offset = OffsetToCommit { offset: self.snapshot.offset, metadata: self.snapshot.metadata.clone() };
        (self.tenure.tp.clone(), self.tenure.epoch, offset)
    }

    /// Which offsets it says are done.
    pub(crate) fn covers(&self) -> impl Fn(i64) -> bool + use<> {
        let done = metadata::decode(self.snapshot.offset, &self.snapshot.metadata).unwrap_or_default();
        let offset = self.snapshot.offset;
        move |at| at < offset || done.iter().any(|range| range.contains(&at))
    }

    /// Bytes of its metadata.
    pub(crate) fn metadata_len(&self) -> usize {
        self.snapshot.metadata.len()
    }

    /// The same without metadata.
    pub(crate) fn bare(self) -> Self {
        Self { snapshot: self.snapshot.without_metadata(), ..self }
    }
}

/// The partitions of this process.
#[derive(Debug)]
pub(crate) struct Partitions {
    owned: HashMap<TopicPartition, Owned>,
    /// Most bytes of a commit's metadata.
    metadata_limit: usize,
}

impl Default for Partitions {
    fn default() -> Self {
        Self { owned: HashMap::new(), metadata_limit: metadata::LIMIT }
    }
}

impl Partitions {
    /// A partition came: what was done above the committed offset before is not done again.
    pub(crate) fn assign(&mut self, epoch: u64, partition: &AssignedPartition) {
        let tp = partition.tp.clone();
        let committed = partition.committed.as_ref();
        let mut frontier = Frontier::new(partition.start_offset, committed.map(|c| c.offset));
        if let Some(committed) = committed.filter(|c| c.offset == partition.start_offset) {
            frontier.restore(done_before(&tp, committed));
        }
        self.owned.insert(tp.clone(), Owned { tenure: Tenure { tp, epoch, life: 0 }, frontier });
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

    /// The assignment of a partition.
    pub(crate) fn tenure(&self, tp: &TopicPartition) -> Option<Tenure> {
        self.owned.get(tp).map(|owned| owned.tenure.clone())
    }

    /// Whether a partition is still ours, by this assignment.
    pub(crate) fn holds(&self, tenure: &Tenure) -> bool {
        self.owned.get(&tenure.tp).is_some_and(|owned| owned.tenure == *tenure)
    }

    /// Whether an offset is known to be done, from before.
    pub(crate) fn was_done(&self, tp: &TopicPartition, offset: i64) -> bool {
        self.owned.get(tp).is_some_and(|owned| owned.frontier.was_done(offset))
    }

    /// Where reading goes on.
    pub(crate) fn position(&self, tp: &TopicPartition) -> Option<i64> {
        self.owned.get(tp).map(|owned| owned.frontier.next())
    }

    /// The log went back to `offset`: the topic was made anew, or its end was lost. What is known of its offsets is of
    /// other records.
    pub(crate) fn went_back(&mut self, tp: &TopicPartition, offset: i64) {
        if let Some(owned) = self.owned.get_mut(tp) {
            owned.tenure.life += 1;
            owned.frontier = Frontier::new(offset, None);
        }
    }

    /// A record was read. `None` if it is not to be worked on: not ours, received before, or done before.
    pub(crate) fn receive(&mut self, tp: &TopicPartition, offset: i64) -> Option<Tenure> {
        let owned = self.owned.get_mut(tp)?;
        owned.frontier.receive(offset).then(|| owned.tenure.clone())
    }

    /// Reading went on to `next`.
    pub(crate) fn skip_to(&mut self, tp: &TopicPartition, next: i64) {
        if let Some(owned) = self.owned.get_mut(tp) {
            owned.frontier.skip_to(next);
        }
    }

    /// Whether work on this record may start. Not if so much is done above the frontier that its commit has hardly room
    /// for more, and this would add to it.
    pub(crate) fn may_start(&self, tenure: &Tenure, offset: i64) -> bool {
        let Some(frontier) = self.frontier(tenure) else { return true };
        !frontier.is_full(self.metadata_limit) || frontier.highest_done().is_some_and(|highest| offset < highest)
    }

    /// Of the records that may not start, those below this offset may now. `None`: all of them.
    pub(crate) fn startable_below(&self, tp: &TopicPartition) -> Option<i64> {
        let frontier = &self.owned.get(tp)?.frontier;
        frontier.is_full(self.metadata_limit).then(|| frontier.highest_done().unwrap_or(i64::MAX))
    }

    /// Work is done.
    pub(crate) fn done(&mut self, tenure: &Tenure, offset: i64) {
        if let Some(owned) = self.owned.get_mut(&tenure.tp).filter(|o| o.tenure == *tenure) {
            owned.frontier.done(offset);
        }
    }

    fn frontier(&self, tenure: &Tenure) -> Option<&Frontier> {
        self.owned.get(&tenure.tp).filter(|o| o.tenure == *tenure).map(|o| &o.frontier)
    }

    /// What may be committed, of those that `which` picks.
    pub(crate) fn to_commit(&self, which: impl Fn(&TopicPartition) -> bool) -> Vec<ToCommit> {
        let picked = self.owned.values().filter(|owned| which(&owned.tenure.tp));
        let to_commit = |owned: &Owned| {
            let snapshot = owned.frontier.to_commit(self.metadata_limit)?;
            Some(ToCommit { tenure: owned.tenure.clone(), snapshot })
        };
        picked.filter_map(to_commit).collect()
    }

    /// A commit was acknowledged.
    pub(crate) fn committed(&mut self, commits: &[ToCommit]) {
        for commit in commits {
            if let Some(owned) = self.owned.get_mut(commit.tp()).filter(|o| o.tenure == commit.tenure) {
                owned.frontier.committed(&commit.snapshot);
            }
        }
    }

    /// The broker takes less metadata than this: from now on at most half as much is written. Returns how much.
    pub(crate) fn metadata_refused(&mut self, bytes: usize) -> usize {
        self.metadata_limit = self.metadata_limit.min(bytes / 2);
        self.metadata_limit
    }
}

/// Metadata is used if this runtime wrote it, for this offset. Else work is repeated, which is safe.
fn done_before(tp: &TopicPartition, committed: &CommittedOffset) -> Vec<std::ops::Range<i64>> {
    metadata::decode(committed.offset, &committed.metadata).unwrap_or_else(|why| {
        let begins: String = committed.metadata.chars().take(40).collect();
        tracing::warn!(
            topic = &*tp.topic,
            partition = tp.partition,
            offset = committed.offset,
            %why,
            begins,
            "the committed metadata is not used; replaying from the committed offset"
        );
        Vec::new()
    })
}
