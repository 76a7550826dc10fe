//! The offsets of one group: those committed, and those that wait for the end of a transaction.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A partition of a topic.
pub(crate) type Partition = (String, i32);

/// An offset of a partition, as it is committed and journaled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Offset {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: String,
}

/// The offsets of a group.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Offsets {
    committed: BTreeMap<Partition, Offset>,
    /// By producer id.
    staged: BTreeMap<i64, BTreeMap<Partition, Staged>>,
}

/// An offset that counts when its transaction commits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Staged {
    pub(super) offset: Offset,
    /// A plain commit came after it and is the newer one.
    pub(super) outdated: bool,
}

impl Offset {
    fn key(&self) -> Partition {
        (self.topic.clone(), self.partition)
    }
}

impl Offsets {
    pub(super) fn is_empty(&self) -> bool {
        self.committed.is_empty() && self.staged.is_empty()
    }

    pub(super) fn commit(&mut self, offsets: Vec<Offset>) {
        for offset in offsets {
            let key = offset.key();
            for staged in self.staged.values_mut() {
                if let Some(staged) = staged.get_mut(&key) {
                    staged.outdated = true;
                }
            }
            self.committed.insert(key, offset);
        }
    }

    pub(super) fn stage(&mut self, producer: i64, offsets: Vec<Staged>) {
        let staged = self.staged.entry(producer).or_default();
        staged.extend(offsets.into_iter().map(|staged| (staged.offset.key(), staged)));
    }

    /// Whether this producer has offsets staged here.
    pub(super) fn has_staged(&self, producer: i64) -> bool {
        self.staged.contains_key(&producer)
    }

    /// Ends a producer's transaction.
    pub(super) fn finish(&mut self, producer: i64, commit: bool) {
        for (key, staged) in self.staged.remove(&producer).unwrap_or_default() {
            if commit && !staged.outdated {
                self.committed.insert(key, staged.offset);
            }
        }
    }

    pub(super) fn committed(&self, partition: &Partition) -> Option<&Offset> {
        self.committed.get(partition)
    }

    /// Whether an open transaction may still change the partition's offset.
    pub(super) fn is_unstable(&self, partition: &Partition) -> bool {
        self.staged.values().any(|staged| staged.contains_key(partition))
    }

    /// Every partition with an offset, committed or (if asked) staged, in order.
    pub(super) fn partitions(&self, with_staged: bool) -> Vec<Partition> {
        let staged = self.staged.values().filter(|_| with_staged).flat_map(BTreeMap::keys);
        let mut all: Vec<_> = self.committed.keys().chain(staged).cloned().collect();
        all.sort();
        all.dedup();
        all
    }

    /// Forgets what is committed on partitions.
    pub(super) fn delete(&mut self, partitions: &[Partition]) {
        for partition in partitions {
            self.committed.remove(partition);
        }
    }

    /// Forgets a topic that is gone, staged offsets included.
    pub(super) fn forget(&mut self, topic: &str) {
        self.committed.retain(|(name, _), _| name != topic);
        for staged in self.staged.values_mut() {
            staged.retain(|(name, _), _| name != topic);
        }
        self.staged.retain(|_, staged| !staged.is_empty());
    }

    /// Whether the topic has offsets here.
    pub(super) fn knows(&self, topic: &str) -> bool {
        self.partitions(true).iter().any(|(name, _)| name == topic)
    }

    /// Everything, for a snapshot.
    pub(super) fn contents(&self) -> (Vec<Offset>, Vec<(i64, Vec<Staged>)>) {
        let staged = self.staged.iter().map(|(id, staged)| (*id, staged.values().cloned().collect())).collect();
        (self.committed.values().cloned().collect(), staged)
    }
}
