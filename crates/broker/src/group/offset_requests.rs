//! Requests about offsets, between the wire and the groups.

use kafka_protocol::{
    error::ResponseError,
    messages::{
        OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse, OffsetFetchRequest,
        OffsetFetchResponse,
        offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic},
        offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic},
        offset_fetch_response::{
            OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
            OffsetFetchResponseTopic, OffsetFetchResponseTopics,
        },
    },
    protocol::StrBytes,
};

use super::{
    Groups, Inner,
    machine::Claim,
    members::claim,
    offsets::{Offset, Offsets, Partition, Staged},
    owned,
    store::Record,
};

/// Partitions grouped by topic, as requests name them.
pub(super) type Topics = Vec<(String, Vec<i32>)>;

/// What is known of a partition's offset.
struct Found {
    partition: i32,
    offset: i64,
    leader_epoch: i32,
    metadata: Option<StrBytes>,
    code: i16,
}

/// A member's claim on a group, as requests of transactions carry it.
#[derive(Debug, Clone)]
pub(crate) struct Committer {
    group: String,
    claim: Claim,
}

/// Offsets to commit: those that can be, and a code for each that was asked for.
#[derive(Debug)]
pub(crate) struct Examined {
    good: Vec<Offset>,
    codes: Vec<i16>,
}

impl Committer {
    /// From the fields of a request.
    pub(crate) fn new(group: &str, member_id: &StrBytes, instance: Option<&StrBytes>, generation: i32) -> Self {
        Self { group: group.to_owned(), claim: claim(member_id, instance, generation) }
    }
}

impl Groups {
    /// OffsetCommit, versions 2 to 9.
    pub(crate) fn offset_commit(&self, request: &OffsetCommitRequest) -> OffsetCommitResponse {
        let instance = request.group_instance_id.as_ref();
        let generation = request.generation_id_or_member_epoch;
        let committer = Committer::new(&request.group_id, &request.member_id, instance, generation);
        let offsets = request.topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(|p| Offset {
                topic: owned(&topic.name),
                partition: p.partition_index,
                offset: p.committed_offset,
                leader_epoch: p.committed_leader_epoch,
                metadata: p.committed_metadata.as_ref().map(owned).unwrap_or_default(),
            })
        });
        let mut codes = self.commit(&committer, self.examine(offsets.collect()), None).into_iter();
        let topic = |topic: &kafka_protocol::messages::offset_commit_request::OffsetCommitRequestTopic| {
            let partitions = topic.partitions.iter().zip(codes.by_ref()).map(|(p, code)| {
                OffsetCommitResponsePartition::default().with_partition_index(p.partition_index).with_error_code(code)
            });
            let partitions = partitions.collect();
            OffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions)
        };
        OffsetCommitResponse::default().with_topics(request.topics.iter().map(topic).collect())
    }

    /// Holds offsets back until `producer`'s transaction ends. Returns a code for each.
    pub(crate) fn stage_offsets(&self, producer: i64, committer: &Committer, offsets: Examined) -> Vec<i16> {
        self.commit(committer, offsets, Some(producer))
    }

    /// Sorts out the offsets that cannot be committed. This asks the log, and so must not be called under a lock that
    /// the log may wait for.
    pub(crate) fn examine(&self, offsets: Vec<Offset>) -> Examined {
        let codes: Vec<i16> = offsets.iter().map(|offset| self.judge(offset)).collect();
        let good = offsets.into_iter().zip(&codes).filter(|(_, code)| **code == 0).map(|(offset, _)| offset).collect();
        Examined { good, codes }
    }

    /// Ends `producer`'s transaction in all groups: what it staged is committed or dropped. Does nothing, and
    /// succeeds, where nothing is staged.
    pub(crate) fn finish_offsets(&self, producer: i64, commit: bool) -> Result<(), ResponseError> {
        let mut inner = self.lock();
        if inner.groups.values().any(|entry| entry.offsets.has_staged(producer)) {
            inner.write_and_apply(Record::Finish { producer, commit })?;
        }
        Ok(())
    }

    /// Commits the offsets that can be, or stages them for a producer. Returns a code for each.
    fn commit(&self, committer: &Committer, offsets: Examined, producer: Option<i64>) -> Vec<i16> {
        let Examined { good, mut codes } = offsets;
        if let Err(error) = self.commit_all(committer, good, producer) {
            codes.iter_mut().filter(|code| **code == 0).for_each(|code| *code = error.code());
        }
        codes
    }

    /// Whether the offset itself is acceptable: 0, or a code.
    fn judge(&self, offset: &Offset) -> i16 {
        if !self.exists(&offset.topic, offset.partition) {
            ResponseError::UnknownTopicOrPartition.code()
        } else if offset.metadata.len() > self.settings.max_metadata_bytes {
            ResponseError::OffsetMetadataTooLarge.code()
        } else {
            0
        }
    }

    fn commit_all(
        &self,
        committer: &Committer,
        offsets: Vec<Offset>,
        producer: Option<i64>,
    ) -> Result<(), ResponseError> {
        let Committer { group, claim } = committer;
        let mut inner = self.lock();
        if inner.groups.contains_key(group) {
            inner.with(group, |group, now| group.may_commit(now, claim, producer.is_some()))?;
        } else if claim.generation >= 0 {
            return Err(ResponseError::IllegalGeneration);
        }
        if offsets.is_empty() {
            return Ok(());
        }
        let group = group.clone();
        inner.write_and_apply(match producer {
            None => Record::Commit { group, offsets },
            Some(producer) => {
                let offsets = offsets.into_iter().map(|offset| Staged { offset, outdated: false }).collect();
                Record::Stage { group, producer, offsets }
            }
        })
    }

    /// OffsetFetch, versions 1 to 7 (one group) and 8 to 9 (any number).
    pub(crate) fn offset_fetch(&self, request: &OffsetFetchRequest, version: i16) -> OffsetFetchResponse {
        let inner = self.lock();
        let stable = request.require_stable;
        if version < 8 {
            let topics = request
                .topics
                .as_ref()
                .map(|topics| topics.iter().map(|t| (owned(&t.name), t.partition_indexes.clone())).collect::<Topics>());
            let found = inner.fetch(&request.group_id, topics, stable);
            return OffsetFetchResponse::default().with_topics(found.into_iter().map(single).collect());
        }
        let group = |group: &kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup| {
            let topics = group
                .topics
                .as_ref()
                .map(|topics| topics.iter().map(|t| (owned(&t.name), t.partition_indexes.clone())).collect::<Topics>());
            let found = inner.fetch(&group.group_id, topics, stable);
            OffsetFetchResponseGroup::default()
                .with_group_id(group.group_id.clone())
                .with_topics(found.into_iter().map(batched).collect())
        };
        OffsetFetchResponse::default().with_groups(request.groups.iter().map(group).collect())
    }

    /// OffsetDelete, version 0.
    pub(crate) fn offset_delete(&self, request: &OffsetDeleteRequest) -> OffsetDeleteResponse {
        let mut inner = self.lock();
        let Some(entry) = inner.groups.get(request.group_id.as_str()) else {
            return OffsetDeleteResponse::default().with_error_code(ResponseError::GroupIdNotFound.code());
        };
        let in_use = super::admin::Subscribed::of(&entry.group);
        if in_use.is_opaque() {
            return OffsetDeleteResponse::default().with_error_code(ResponseError::NonEmptyGroup.code());
        }
        let free = request.topics.iter().filter(|topic| !in_use.contains(&topic.name));
        let partitions: Vec<Partition> =
            free.flat_map(|t| t.partitions.iter().map(|p| (owned(&t.name), p.partition_index))).collect();
        let group = owned(&request.group_id);
        let result = inner.write_and_apply(Record::DeleteOffsets { group, partitions });
        let code = super::code(&result);
        let topics = request.topics.iter().map(|topic| {
            let subscribed = ResponseError::GroupSubscribedToTopic.code();
            let code = if in_use.contains(&topic.name) { subscribed } else { code };
            let partition =
                |index| OffsetDeleteResponsePartition::default().with_partition_index(index).with_error_code(code);
            let partitions = topic.partitions.iter().map(|p| partition(p.partition_index)).collect();
            OffsetDeleteResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions)
        });
        OffsetDeleteResponse::default().with_topics(topics.collect())
    }

    /// A topic was deleted: its offsets go with it, in every group.
    pub(crate) fn topic_deleted(&self, topic: &str) -> Result<(), ResponseError> {
        let mut inner = self.lock();
        if inner.groups.values().any(|entry| entry.offsets.knows(topic)) {
            inner.write_and_apply(Record::ForgetTopic { topic: topic.to_owned() })?;
        }
        Ok(())
    }
}

impl Inner {
    /// What a group has committed on `topics`, or on all of its own.
    fn fetch(&self, group: &str, topics: Option<Topics>, stable: bool) -> Vec<(String, Vec<Found>)> {
        let offsets = self.groups.get(group).map(|entry| &entry.offsets);
        let topics = topics.unwrap_or_else(|| by_topic(offsets.map(|o| o.partitions(stable)).unwrap_or_default()));
        let found = |name: &str, partition| look_up(offsets, &(name.to_owned(), partition), stable);
        let topic = |(name, partitions): (String, Vec<i32>)| {
            let found = partitions.into_iter().map(|partition| found(&name, partition)).collect();
            (name, found)
        };
        topics.into_iter().map(topic).collect()
    }
}

fn by_topic(partitions: Vec<Partition>) -> Topics {
    let mut topics = Topics::new();
    for (topic, partition) in partitions {
        match topics.last_mut() {
            Some((last, partitions)) if *last == topic => partitions.push(partition),
            _ => topics.push((topic, vec![partition])),
        }
    }
    topics
}

fn look_up(offsets: Option<&Offsets>, at: &Partition, stable: bool) -> Found {
    let none = Found { partition: at.1, offset: -1, leader_epoch: -1, metadata: Some(StrBytes::new()), code: 0 };
    let Some(offsets) = offsets else { return none };
    if stable && offsets.is_unstable(at) {
        return Found { code: ResponseError::UnstableOffsetCommit.code(), ..none };
    }
    let Some(offset) = offsets.committed(at) else { return none };
    let metadata = Some(StrBytes::from_string(offset.metadata.clone()));
    Found { offset: offset.offset, leader_epoch: offset.leader_epoch, metadata, ..none }
}

fn single((name, found): (String, Vec<Found>)) -> OffsetFetchResponseTopic {
    let partition = |found: Found| {
        OffsetFetchResponsePartition::default()
            .with_partition_index(found.partition)
            .with_committed_offset(found.offset)
            .with_committed_leader_epoch(found.leader_epoch)
            .with_metadata(found.metadata)
            .with_error_code(found.code)
    };
    let partitions = found.into_iter().map(partition).collect();
    OffsetFetchResponseTopic::default().with_name(StrBytes::from_string(name).into()).with_partitions(partitions)
}

fn batched((name, found): (String, Vec<Found>)) -> OffsetFetchResponseTopics {
    let partition = |found: Found| {
        OffsetFetchResponsePartitions::default()
            .with_partition_index(found.partition)
            .with_committed_offset(found.offset)
            .with_committed_leader_epoch(found.leader_epoch)
            .with_metadata(found.metadata)
            .with_error_code(found.code)
    };
    let partitions = found.into_iter().map(partition).collect();
    OffsetFetchResponseTopics::default().with_name(StrBytes::from_string(name).into()).with_partitions(partitions)
}
