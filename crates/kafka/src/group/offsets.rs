//! OffsetFetch: what a group has committed, and where its members start.

use std::{collections::BTreeMap, sync::Arc};

use kafka_protocol::{
    messages::{
        GroupId, OffsetFetchRequest, OffsetFetchResponse,
        offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics},
    },
    protocol::StrBytes,
};

use super::coordinator::Coordinator;
use crate::{
    api::Api,
    cluster::Purpose,
    config::{Isolation, StartOffset},
    error::Error,
    offsets::{EARLIEST, LATEST, by_topic, topic_name},
    types::{AssignedPartition, CommittedOffset, TopicPartition},
};

const NAME: &str = OffsetFetchRequest::NAME;
/// From here on several groups are asked for at once, and the fields are others.
const BATCHED: i16 = 8;
/// KIP-447: offsets of an open transaction are waited for.
const STABLE: i16 = 7;

type Committed = BTreeMap<TopicPartition, CommittedOffset>;

/// What a group has committed for some partitions, or for all. Tries again within the call timeout.
pub(crate) async fn committed(
    coordinator: &Coordinator,
    tps: Option<&[TopicPartition]>,
    require_stable: bool,
) -> Result<Committed, Error> {
    coordinator
        .cluster
        .retrying(|| async {
            let result = committed_once(coordinator, tps, require_stable).await;
            if result.is_err() {
                coordinator.forget();
            }
            result
        })
        .await
}

async fn committed_once(
    coordinator: &Coordinator,
    tps: Option<&[TopicPartition]>,
    require_stable: bool,
) -> Result<Committed, Error> {
    let connection = coordinator.connection(Purpose::Commit).await?;
    let topics = tps.map(by_topic);
    let answer = connection
        .call(coordinator.cluster.config().request_timeout, |version| {
            let group = GroupId(StrBytes::from_string(coordinator.group.to_string()));
            let request = OffsetFetchRequest::default().with_require_stable(require_stable && version >= STABLE);
            if version >= BATCHED {
                let topic = |(topic, indexes): (Arc<str>, Vec<i32>)| {
                    OffsetFetchRequestTopics::default().with_name(topic_name(&topic)).with_partition_indexes(indexes)
                };
                let topics = topics.map(|topics| topics.into_iter().map(topic).collect());
                request.with_groups(vec![OffsetFetchRequestGroup::default().with_group_id(group).with_topics(topics)])
            } else {
                let topic = |(topic, indexes): (Arc<str>, Vec<i32>)| {
                    OffsetFetchRequestTopic::default().with_name(topic_name(&topic)).with_partition_indexes(indexes)
                };
                request.with_group_id(group).with_topics(topics.map(|topics| topics.into_iter().map(topic).collect()))
            }
        })
        .await?;
    read(answer).map_err(|e| e.at_broker(connection.address()))
}

fn read(answer: OffsetFetchResponse) -> Result<Committed, Error> {
    let mut committed = Committed::new();
    let mut keep = |topic: &str, partition: i32, code: i16, offset: i64, metadata: Option<StrBytes>| {
        if code != 0 {
            return Err(Error::broker_code(NAME, code, None).on_partition(topic, partition));
        }
        if offset >= 0 {
            let metadata = metadata.map(|m| m.to_string()).unwrap_or_default();
            committed.insert(TopicPartition::new(topic, partition), CommittedOffset { offset, metadata });
        }
        Ok(())
    };
    let code = answer.groups.first().map_or(answer.error_code, |group| group.error_code);
    if code != 0 {
        return Err(Error::broker_code(NAME, code, None));
    }
    for topic in answer.groups.into_iter().flat_map(|group| group.topics) {
        for p in topic.partitions {
            keep(&topic.name, p.partition_index, p.error_code, p.committed_offset, p.metadata)?;
        }
    }
    for topic in answer.topics {
        for p in topic.partitions {
            keep(&topic.name, p.partition_index, p.error_code, p.committed_offset, p.metadata)?;
        }
    }
    Ok(committed)
}

/// Where to start each partition.
pub(super) async fn starting_points(
    coordinator: &Coordinator,
    tps: &[TopicPartition],
    start: StartOffset,
    isolation: Isolation,
) -> Result<Vec<AssignedPartition>, Error> {
    if tps.is_empty() {
        return Ok(Vec::new());
    }
    let committed = committed(coordinator, Some(tps), true).await?;
    let unknown: Vec<_> = tps.iter().filter(|tp| !committed.contains_key(*tp)).cloned().collect();
    let timestamp = match start {
        StartOffset::Earliest => EARLIEST,
        StartOffset::Latest => LATEST,
    };
    let found = match unknown.is_empty() {
        true => BTreeMap::new(),
        false => coordinator.cluster.list_offsets(&unknown, timestamp, isolation).await?,
    };
    let assigned = |tp: &TopicPartition| {
        let committed = committed.get(tp).cloned();
        let start_offset = committed.as_ref().map(|c| c.offset).or_else(|| found.get(tp).copied()).unwrap_or(0);
        AssignedPartition { tp: tp.clone(), start_offset: start_offset.max(0), committed }
    };
    Ok(tps.iter().map(assigned).collect())
}
