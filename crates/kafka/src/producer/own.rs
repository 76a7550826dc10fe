//! Our own Produce request, for what rskafka cannot express.

use std::time::{SystemTime, UNIX_EPOCH};

use kafka_protocol::messages::{
    ProduceRequest,
    produce_request::{PartitionProduceData, TopicProduceData},
};

use crate::{
    api::Api,
    batch::{Producing, encode_batch},
    cluster::{Cluster, Purpose},
    error::Error,
    offsets::topic_name,
    types::OutRecord,
};

/// All in-sync replicas.
pub(crate) const ACKS_ALL: i16 = -1;

pub(crate) fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

/// One try. Returns the offset of the first record.
pub(super) async fn produce(
    cluster: &Cluster,
    topic: &str,
    partition: i32,
    records: &[&OutRecord],
) -> Result<i64, Error> {
    let result = produce_once(cluster, topic, partition, records).await;
    result.inspect_err(|error| {
        if error.is_transient() {
            cluster.forget(topic);
        }
    })
}

async fn produce_once(cluster: &Cluster, topic: &str, partition: i32, records: &[&OutRecord]) -> Result<i64, Error> {
    let leader = cluster.leader(topic, partition).await?;
    let connection = cluster.connection(&leader.address, Purpose::Produce).await?;
    let batch = encode_batch(records, Producing::PLAIN, now_ms());
    let limit = cluster.config().request_timeout;
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch));
    let topic_data = TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![data]);
    let answer = connection
        .call(limit, |_| {
            ProduceRequest::default()
                .with_acks(ACKS_ALL)
                .with_timeout_ms(i32::try_from(limit.as_millis()).unwrap_or(i32::MAX))
                .with_topic_data(vec![topic_data])
        })
        .await?;
    let answered = answer.responses.into_iter().flat_map(|t| t.partition_responses).find(|p| p.index == partition);
    let Some(p) = answered else {
        return Err(Error::malformed(ProduceRequest::NAME, "the answer leaves out the partition"));
    };
    match p.error_code {
        0 => Ok(p.base_offset),
        code => {
            let message = p.error_message.map(|m| m.to_string());
            Err(Error::broker_code(ProduceRequest::NAME, code, message).at_broker(&leader.address))
        }
    }
}
