//! Fetch: reads at once what there is, or waits for it. Fetch sessions are refused the way that makes clients do without.

use std::{sync::Arc, time::Duration};

use kafka_protocol::{
    ResponseError,
    messages::{
        FetchRequest, FetchResponse, ProducerId,
        fetch_request::{FetchPartition, FetchTopic},
        fetch_response::{AbortedTransaction, FetchableTopicResponse, PartitionData},
    },
};
use tokio::time::Instant;

use super::{find, known_names};
use crate::{
    log::{Fetched, Partition, Waiter},
    node::Node,
    server::dispatch::{Api, Call},
};

/// The most that one answer carries, but for a single larger batch; `fetch.max.bytes` of Apache Kafka's broker.
const RESPONSE_MAX: usize = 55 << 20;

impl Api for FetchRequest {
    fn topics(&self, node: &Node) -> Vec<String> {
        known_names(node, self.topics.iter().map(|topic| (&topic.topic, topic.topic_id)))
    }

    fn refuse(&self, error: ResponseError) -> Self::Response {
        let topic = |topic: &FetchTopic| {
            let partitions = topic.partitions.iter().map(|partition| refused(partition, error)).collect();
            empty(topic).with_partitions(partitions)
        };
        FetchResponse::default().with_responses(self.topics.iter().map(topic).collect())
    }

    async fn answer(self, call: &Call<'_>) -> Self::Response {
        if let Some(error) = session_error(&self) {
            return FetchResponse::default().with_error_code(error.code());
        }
        let wait = Duration::from_millis(self.max_wait_ms.try_into().unwrap_or(0));
        let deadline = Instant::now() + wait;
        loop {
            let waiter = Arc::new(Waiter::default());
            if !wait.is_zero() {
                watch(&self, call.node, &waiter);
            }
            let reading = read(&self, call.node);
            let enough = reading.bytes >= usize::try_from(self.min_bytes).unwrap_or(0) || reading.failed;
            if enough || wait.is_zero() || tokio::time::timeout_at(deadline, waiter.grown()).await.is_err() {
                return reading.response;
            }
        }
    }
}

/// Sessions are never given out, so a client that names one, or goes on with one, is told that there is none.
fn session_error(request: &FetchRequest) -> Option<ResponseError> {
    match (request.session_id, request.session_epoch) {
        (0, -1 | 0) => None,
        (0, _) => Some(ResponseError::InvalidFetchSessionEpoch),
        // The last request of a session that the client ends is a full one.
        (_, -1) => None,
        _ => Some(ResponseError::FetchSessionIdNotFound),
    }
}

/// Registers with every partition before it is read, so that no growth is missed.
fn watch(request: &FetchRequest, node: &Node, waiter: &Arc<Waiter>) {
    for topic in &request.topics {
        let Ok(known) = find(node, &topic.topic, topic.topic_id) else { continue };
        for partition in topic.partitions.iter().filter_map(|partition| known.partition(partition.partition)) {
            partition.watch(waiter);
        }
    }
}

struct Reading {
    response: FetchResponse,
    bytes: usize,
    failed: bool,
}

fn read(request: &FetchRequest, node: &Node) -> Reading {
    let max_bytes = usize::try_from(request.max_bytes).unwrap_or(0).min(RESPONSE_MAX);
    let (mut bytes, mut failed) = (0_usize, false);
    let mut responses = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let known = find(node, &topic.topic, topic.topic_id);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let log = known
                .as_ref()
                .map_err(|error| *error)
                .and_then(|known| known.partition(partition.partition).ok_or(ResponseError::UnknownTopicOrPartition));
            let left = max_bytes.saturating_sub(bytes);
            let limit = usize::try_from(partition.partition_max_bytes).unwrap_or(0).min(left);
            let data = match log.and_then(|log| read_one(&log, request, partition, limit, bytes == 0)) {
                Ok(fetched) => {
                    bytes += fetched.records.len();
                    found(partition, fetched, request.isolation_level == 1)
                }
                Err(error) => {
                    failed = true;
                    refused(partition, error)
                }
            };
            partitions.push(data);
        }
        responses.push(empty(topic).with_partitions(partitions));
    }
    Reading { response: FetchResponse::default().with_responses(responses), bytes, failed }
}

fn read_one(
    log: &Partition,
    request: &FetchRequest,
    partition: &FetchPartition,
    max_bytes: usize,
    at_least_one: bool,
) -> Result<Fetched, ResponseError> {
    super::partitions::check_epoch(partition.current_leader_epoch)?;
    let committed = request.isolation_level == 1;
    log.fetch(partition.fetch_offset, committed, max_bytes, at_least_one).map_err(|refusal| refusal.error)
}

fn empty(topic: &FetchTopic) -> FetchableTopicResponse {
    FetchableTopicResponse::default().with_topic(topic.topic.clone()).with_topic_id(topic.topic_id)
}

fn found(partition: &FetchPartition, fetched: Fetched, committed: bool) -> PartitionData {
    let aborted = fetched.aborted.iter().map(|aborted| {
        let producer = ProducerId(aborted.producer_id);
        AbortedTransaction::default().with_producer_id(producer).with_first_offset(aborted.first_offset)
    });
    PartitionData::default()
        .with_partition_index(partition.partition)
        .with_high_watermark(fetched.end)
        .with_last_stable_offset(fetched.stable)
        .with_log_start_offset(fetched.log_start)
        .with_aborted_transactions(committed.then(|| aborted.collect()))
        .with_records(Some(fetched.records))
}

fn refused(partition: &FetchPartition, error: ResponseError) -> PartitionData {
    PartitionData::default()
        .with_partition_index(partition.partition)
        .with_error_code(error.code())
        .with_high_watermark(-1)
        .with_aborted_transactions(None)
        .with_records(Some(bytes::Bytes::new()))
}
