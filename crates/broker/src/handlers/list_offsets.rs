//! ListOffsets.

use kafka_protocol::{
    ResponseError,
    messages::{
        ListOffsetsRequest, ListOffsetsResponse, TopicName,
        list_offsets_request::ListOffsetsPartition,
        list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse},
    },
};

use super::{names, partitions::check_epoch};
use crate::{
    log::{Found, LEADER_EPOCH},
    node::Node,
    server::dispatch::{Api, Call},
};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
/// The earliest that is not only in tiered storage: there is none.
const EARLIEST_LOCAL: i64 = -4;
/// The latest that is in tiered storage.
const LATEST_TIERED: i64 = -5;

impl Api for ListOffsetsRequest {
    fn topics(&self, _: &Node) -> Vec<String> {
        names(self.topics.iter().map(|topic| &topic.name))
    }

    fn refuse(&self, error: ResponseError) -> Self::Response {
        each(self, 0, |_, _| Err(error))
    }

    async fn answer(self, call: &Call<'_>) -> Self::Response {
        let committed = self.isolation_level == 1;
        each(&self, call.version, |topic, partition| look_up(call.node, topic, partition, committed))
    }
}

fn each(
    request: &ListOffsetsRequest,
    version: i16,
    mut look_up: impl FnMut(&TopicName, &ListOffsetsPartition) -> Result<Option<Found>, ResponseError>,
) -> ListOffsetsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let partitions = topic.partitions.iter().map(|partition| {
            let response = ListOffsetsPartitionResponse::default().with_partition_index(partition.partition_index);
            match look_up(&topic.name, partition) {
                Ok(Some(found)) => {
                    let epoch = if version >= 4 { LEADER_EPOCH } else { -1 };
                    response.with_offset(found.offset).with_timestamp(found.timestamp).with_leader_epoch(epoch)
                }
                Ok(None) => response,
                Err(error) => response.with_error_code(error.code()),
            }
        });
        let partitions = partitions.collect();
        topics.push(ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions));
    }
    ListOffsetsResponse::default().with_topics(topics)
}

fn look_up(
    node: &Node,
    topic: &TopicName,
    partition: &ListOffsetsPartition,
    committed: bool,
) -> Result<Option<Found>, ResponseError> {
    let index = partition.partition_index;
    let log = node.topics.partition(topic, index).ok_or(ResponseError::UnknownTopicOrPartition)?;
    check_epoch(partition.current_leader_epoch)?;
    let (start, end, stable) = log.bounds();
    let at = |offset| Ok(Some(Found { offset, timestamp: -1 }));
    match partition.timestamp {
        LATEST => at(if committed { stable } else { end }),
        EARLIEST | EARLIEST_LOCAL => at(start),
        LATEST_TIERED => Ok(None),
        MAX_TIMESTAMP => log.find_latest(committed).map_err(|_| ResponseError::KafkaStorageError),
        time if time >= 0 => log.find_time(time, committed).map_err(|_| ResponseError::KafkaStorageError),
        _ => Err(ResponseError::InvalidRequest),
    }
}
