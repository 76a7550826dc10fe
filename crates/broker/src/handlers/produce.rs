//! Produce.

use kafka_protocol::{
    ResponseError,
    messages::{
        ProduceRequest, ProduceResponse,
        produce_request::{PartitionProduceData, TopicProduceData},
        produce_response::{PartitionProduceResponse, TopicProduceResponse},
    },
};

use super::{find, known_names, told};
use crate::{
    log::{Appended, Refusal, batch::Header},
    node::Node,
    ports::{Producer, Transactions as _},
    server::dispatch::{Api, Call},
    topics::Topic,
};

fn each(
    request: &ProduceRequest,
    mut append: impl FnMut(&TopicProduceData, &PartitionProduceData) -> Result<Appended, Refusal>,
) -> ProduceResponse {
    let topic = |topic: &TopicProduceData| {
        let partition = |partition: &PartitionProduceData| respond(partition.index, &append(topic, partition));
        TopicProduceResponse::default()
            .with_name(topic.name.clone())
            .with_topic_id(topic.topic_id)
            .with_partition_responses(topic.partition_data.iter().map(partition).collect())
    };
    ProduceResponse::default().with_responses(request.topic_data.iter().map(topic).collect())
}

fn respond(index: i32, result: &Result<Appended, Refusal>) -> PartitionProduceResponse {
    let (code, message) = told(result);
    let response =
        PartitionProduceResponse::default().with_index(index).with_error_code(code).with_error_message(message);
    match result {
        Ok(appended) => response
            .with_base_offset(appended.base_offset)
            .with_log_append_time_ms(appended.log_append_time)
            .with_log_start_offset(appended.log_start),
        Err(_) => response.with_base_offset(-1).with_log_append_time_ms(-1).with_log_start_offset(-1),
    }
}

/// Whether a transactional batch may be appended now.
fn may_append(
    request: &ProduceRequest,
    topic: &Topic,
    index: i32,
    header: &Header,
    call: &Call<'_>,
) -> Result<(), Refusal> {
    if !header.is_transactional() {
        return Ok(());
    }
    let Some(id) = &request.transactional_id else {
        let message = "a transactional batch in a request without a transactional id";
        return Err(Refusal::new(ResponseError::InvalidRequest, message));
    };
    let producer = Producer { id: header.producer_id, epoch: header.producer_epoch };
    let code = call.node.transactions.before_append(id, producer, &topic.name, index, call.version);
    match ResponseError::try_from_code(code) {
        None => Ok(()),
        Some(error) => Err(Refusal::new(error, error.to_string())),
    }
}

impl Api for ProduceRequest {
    fn topics(&self, node: &Node) -> Vec<String> {
        known_names(node, self.topic_data.iter().map(|topic| (&topic.name, topic.topic_id)))
    }

    fn silent(&self) -> bool {
        self.acks == 0
    }

    fn refuse(&self, error: ResponseError) -> Self::Response {
        each(self, |_, _| Err(Refusal::new(error, error.to_string())))
    }

    async fn answer(self, call: &Call<'_>) -> Self::Response {
        if !(-1..=1).contains(&self.acks) {
            return self.refuse(ResponseError::InvalidRequiredAcks);
        }
        each(&self, |data, partition| {
            let unknown = |error: ResponseError| Refusal::new(error, error.to_string());
            let topic = find(call.node, &data.name, data.topic_id).map_err(unknown)?;
            let index = partition.index;
            let log = topic.partition(index).ok_or(ResponseError::UnknownTopicOrPartition).map_err(unknown)?;
            let bytes = partition.records.clone().unwrap_or_default();
            log.append(&bytes, call.version, |header| may_append(&self, &topic, index, header, call))
        })
    }
}
