//! What the groups keep across a restart: the records of their journal, and how they add up.

use std::{collections::BTreeMap, time::Instant};

use serde::{Deserialize, Serialize};

use super::{
    machine::{Group, GroupRecord, Limits},
    offsets::{Offset, Offsets, Partition, Staged},
};

/// A record of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Record {
    /// A group became stable or empty, or a static member was replaced. The last one counts.
    Group { group: String, state: GroupRecord },
    /// Offsets were committed.
    Commit { group: String, offsets: Vec<Offset> },
    /// Offsets wait for the end of a transaction.
    Stage { group: String, producer: i64, offsets: Vec<Staged> },
    /// A producer's transaction ended, in all groups.
    Finish { producer: i64, commit: bool },
    /// Committed offsets were deleted.
    DeleteOffsets { group: String, partitions: Vec<Partition> },
    /// A topic was deleted, and its offsets with it.
    ForgetTopic { topic: String },
    /// A group was deleted.
    DeleteGroup { group: String },
}

/// A group with its offsets.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) group: Group,
    /// The group as it is in the journal. It differs in the middle of a rebalance, which a restart calls off.
    pub(super) journaled: Option<GroupRecord>,
    pub(super) offsets: Offsets,
}

impl Entry {
    pub(super) fn new(limits: Limits) -> Self {
        Self { group: Group::new(limits), journaled: None, offsets: Offsets::default() }
    }

    /// Whether there is nothing in it that anyone could miss: never more than an idea of a group.
    pub(super) fn is_void(&self) -> bool {
        let group = &self.group;
        group.generation == 0 && group.members.is_empty() && group.promised.is_empty() && self.offsets.is_empty()
    }
}

/// Adds a record to what those before it made.
pub(super) fn apply(groups: &mut BTreeMap<String, Entry>, record: Record, limits: Limits, now: Instant) {
    match record {
        Record::Group { group, state } => {
            let entry = entry(groups, group, limits);
            entry.journaled = Some(state.clone());
            entry.group = Group::restore(limits, state, now);
        }
        Record::Commit { group, offsets } => entry(groups, group, limits).offsets.commit(offsets),
        Record::Stage { group, producer, offsets } => entry(groups, group, limits).offsets.stage(producer, offsets),
        Record::Finish { producer, commit } => {
            groups.values_mut().for_each(|entry| entry.offsets.finish(producer, commit));
        }
        Record::DeleteOffsets { group, partitions } => entry(groups, group, limits).offsets.delete(&partitions),
        Record::ForgetTopic { topic } => groups.values_mut().for_each(|entry| entry.offsets.forget(&topic)),
        Record::DeleteGroup { group } => {
            groups.remove(&group);
        }
    }
}

fn entry(groups: &mut BTreeMap<String, Entry>, name: String, limits: Limits) -> &mut Entry {
    groups.entry(name).or_insert_with(|| Entry::new(limits))
}

/// The fewest records that make the same groups. An empty group without offsets is left out: nothing is lost with it.
pub(super) fn snapshot(groups: &BTreeMap<String, Entry>) -> Vec<Record> {
    let mut records = Vec::new();
    for (name, entry) in groups {
        if entry.offsets.is_empty() && entry.group.members.is_empty() {
            continue;
        }
        let (offsets, staged) = entry.offsets.contents();
        records.extend(entry.journaled.clone().map(|state| Record::Group { group: name.clone(), state }));
        records.push(Record::Commit { group: name.clone(), offsets });
        for (producer, offsets) in staged {
            records.push(Record::Stage { group: name.clone(), producer, offsets });
        }
    }
    records
}
