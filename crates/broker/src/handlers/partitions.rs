//! DeleteRecords, OffsetForLeaderEpoch, CreatePartitions, DescribeProducers: requests about partitions.

use kafka_protocol::{
    ResponseError,
    messages::{
        CreatePartitionsRequest, CreatePartitionsResponse, DeleteRecordsRequest, DeleteRecordsResponse,
        DescribeProducersRequest, DescribeProducersResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
        ProducerId, TopicName,
        create_partitions_response::CreatePartitionsTopicResult,
        delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult},
        describe_producers_response::{PartitionResponse, ProducerState, TopicResponse},
        offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult},
    },
};

use super::{names, told};
use crate::{
    log::{LEADER_EPOCH, Refusal, producers::Description},
    node::Node,
    server::dispatch::{Api, Call},
};

/// Whether a client that names a leader epoch (-1: none) knows the present one.
pub(super) fn check_epoch(epoch: i32) -> Result<(), ResponseError> {
    match epoch {
        -1 | LEADER_EPOCH => Ok(()),
        newer if newer > LEADER_EPOCH => Err(ResponseError::UnknownLeaderEpoch),
        _ => Err(ResponseError::FencedLeaderEpoch),
    }
}

impl Api for DeleteRecordsRequest {
    fn topics(&self, _: &Node) -> Vec<String> {
        names(self.topics.iter().map(|topic| &topic.name))
    }

    fn refuse(&self, error: ResponseError) -> Self::Response {
        delete_records(self, |_, _, _| Err(error))
    }

    async fn answer(self, call: &Call<'_>) -> Self::Response {
        delete_records(&self, |topic, index, offset| {
            let log = call.node.topics.partition(topic, index).ok_or(ResponseError::UnknownTopicOrPartition)?;
            log.delete_before(offset).map_err(|refusal| refusal.error)
        })
    }
}

fn delete_records(
    request: &DeleteRecordsRequest,
    mut delete: impl FnMut(&TopicName, i32, i64) -> Result<i64, ResponseError>,
) -> DeleteRecordsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let partitions = topic.partitions.iter().map(|partition| {
            let result = delete(&topic.name, partition.partition_index, partition.offset);
            DeleteRecordsPartitionResult::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(result.err().map_or(0, |error| error.code()))
                .with_low_watermark(result.unwrap_or(-1))
        });
        let partitions = partitions.collect();
        topics.push(DeleteRecordsTopicResult::default().with_name(topic.name.clone()).with_partitions(partitions));
    }
    DeleteRecordsResponse::default().with_topics(topics)
}

impl Api for OffsetForLeaderEpochRequest {
    fn topics(&self, _: &Node) -> Vec<String> {
        names(self.topics.iter().map(|topic| &topic.topic))
    }

    fn refuse(&self, error: ResponseError) -> Self::Response {
        epoch_ends(self, |_, _, _, _| Err(error))
    }

    async fn answer(self, call: &Call<'_>) -> Self::Response {
        epoch_ends(&self, |topic, index, current, wanted| {
            let log = call.node.topics.partition(topic, index).ok_or(ResponseError::UnknownTopicOrPartition)?;
            check_epoch(current)?;
            let (_, end, _) = log.bounds();
            Ok(if wanted >= LEADER_EPOCH { (LEADER_EPOCH, end) } else { (-1, -1) })
        })
    }
}

fn epoch_ends(
    request: &OffsetForLeaderEpochRequest,
    mut end: impl FnMut(&TopicName, i32, i32, i32) -> Result<(i32, i64), ResponseError>,
) -> OffsetForLeaderEpochResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let partitions = topic.partitions.iter().map(|p| {
            let result = end(&topic.topic, p.partition, p.current_leader_epoch, p.leader_epoch);
            let (epoch, offset) = result.unwrap_or((-1, -1));
            EpochEndOffset::default()
                .with_partition(p.partition)
                .with_error_code(result.err().map_or(0, |error| error.code()))
                .with_leader_epoch(epoch)
                .with_end_offset(offset)
        });
        let partitions = partitions.collect();
        topics.push(OffsetForLeaderTopicResult::default().with_topic(topic.topic.clone()).with_partitions(partitions));
    }
    OffsetForLeaderEpochResponse::default().with_topics(topics)
}

impl Api for CreatePartitionsRequest {
    fn topics(&self, _: &Node) -> Vec<String> {
        names(self.topics.iter().map(|topic| &topic.name))
    }

    fn refuse(&self, error: ResponseError) -> Self::Response {
        create_partitions(self, |_, _| Err(Refusal::new(error, error.to_string())))
    }

    async fn answer(self, call: &Call<'_>) -> Self::Response {
        create_partitions(&self, |topic, count| call.node.topics.grow(topic, count, self.validate_only))
    }
}

fn create_partitions(
    request: &CreatePartitionsRequest,
    mut grow: impl FnMut(&TopicName, i32) -> Result<(), Refusal>,
) -> CreatePartitionsResponse {
    let results = request.topics.iter().map(|topic| {
        let (code, message) = told(&grow(&topic.name, topic.count));
        CreatePartitionsTopicResult::default()
            .with_name(topic.name.clone())
            .with_error_code(code)
            .with_error_message(message)
    });
    CreatePartitionsResponse::default().with_results(results.collect())
}

impl Api for DescribeProducersRequest {
    fn topics(&self, _: &Node) -> Vec<String> {
        names(self.topics.iter().map(|topic| &topic.name))
    }

    fn refuse(&self, error: ResponseError) -> Self::Response {
        describe_producers(self, |_, _| Err(error))
    }

    async fn answer(self, call: &Call<'_>) -> Self::Response {
        describe_producers(&self, |topic, index| producers(call.node, topic, index))
    }
}

fn producers(node: &Node, topic: &TopicName, index: i32) -> Result<Vec<ProducerState>, ResponseError> {
    let log = node.topics.partition(topic, index).ok_or(ResponseError::UnknownTopicOrPartition)?;
    let state = |known: Description| {
        ProducerState::default()
            .with_producer_id(ProducerId(known.producer.id))
            .with_producer_epoch(i32::from(known.producer.epoch))
            .with_last_sequence(known.last_sequence)
            .with_last_timestamp(known.last_timestamp)
            .with_coordinator_epoch(known.coordinator_epoch)
            .with_current_txn_start_offset(known.open_since.unwrap_or(-1))
    };
    Ok(log.producers().into_iter().map(state).collect())
}

fn describe_producers(
    request: &DescribeProducersRequest,
    mut describe: impl FnMut(&TopicName, i32) -> Result<Vec<ProducerState>, ResponseError>,
) -> DescribeProducersResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let partitions = topic.partition_indexes.iter().map(|index| {
            let result = describe(&topic.name, *index);
            PartitionResponse::default()
                .with_partition_index(*index)
                .with_error_code(result.as_ref().err().map_or(0, ResponseError::code))
                .with_active_producers(result.unwrap_or_default())
        });
        let partitions = partitions.collect();
        topics.push(TopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions));
    }
    DescribeProducersResponse::default().with_topics(topics)
}
