//! One fetch over many partitions of one broker.

use std::sync::Arc;

use kafka_protocol::messages::{
    BrokerId, FetchRequest,
    fetch_request::{FetchPartition, FetchTopic},
    fetch_response::PartitionData,
};

use crate::{
    api::Api,
    batch::{Aborted, Partition, read_partition},
    cluster::Cluster,
    config::FetchConfig,
    error::Error,
    link::Link,
    offsets::topic_name,
    types::{Fetched, TopicPartition},
};

/// No fetch session (KIP-227): each request says all it wants.
const SESSIONLESS_EPOCH: i32 = -1;

/// One partition in a request.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) tp: TopicPartition,
    pub(super) id: u64,
    pub(super) offset: i64,
    pub(super) served: u64,
}

/// One partition in an answer.
pub(super) type Answer = (TopicPartition, Result<Fetched, Error>);

/// Which of a broker's two fetches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Long,
    Short,
}

/// The two connections to a broker, and which has a fetch under way.
#[derive(Default)]
pub(super) struct Slots {
    long: (bool, Arc<Link>),
    short: (bool, Arc<Link>),
}

impl Slots {
    /// The fetch that may start now: the long one when nothing is under way, the short one beside a long one.
    pub(super) fn start(&mut self) -> Option<(Which, Arc<Link>)> {
        let (which, slot) = match (self.long.0, self.short.0) {
            (_, true) => return None,
            (true, false) => (Which::Short, &mut self.short),
            (false, false) => (Which::Long, &mut self.long),
        };
        slot.0 = true;
        Some((which, slot.1.clone()))
    }

    pub(super) fn end(&mut self, which: Which) {
        match which {
            Which::Long => self.long.0 = false,
            Which::Short => self.short.0 = false,
        }
    }
}

/// One fetch on `link`: a long poll holds up whatever is behind it, hence connections of a fetcher's own.
pub(super) async fn fetch(
    link: &Link,
    cluster: &Cluster,
    address: &str,
    config: &FetchConfig,
    asked: &[Asked],
) -> Result<Vec<Answer>, Error> {
    let connection = link.connection(cluster, address).await?;
    let limit = cluster.config().request_timeout + config.max_wait;
    let answer = connection.call(limit, |version| request(version, config, asked)).await?;
    if answer.error_code != 0 {
        return Err(Error::broker_code(FetchRequest::NAME, answer.error_code, None).at_broker(address));
    }
    let mut answers = Vec::new();
    let mut spent = 0;
    for topic in answer.responses {
        for data in topic.partitions {
            let index = data.partition_index;
            let Some(a) = asked.iter().find(|a| a.tp.partition == index && *a.tp.topic == **topic.topic) else {
                continue;
            };
            let result = read(cluster, config, a, data, &mut spent).map_err(|e| e.at_broker(address));
            answers.push((a.tp.clone(), result));
        }
    }
    Ok(answers)
}

fn request(version: i16, config: &FetchConfig, asked: &[Asked]) -> FetchRequest {
    let mut topics: Vec<FetchTopic> = Vec::new();
    for a in asked {
        let partition = FetchPartition::default()
            .with_partition(a.tp.partition)
            .with_fetch_offset(a.offset)
            .with_partition_max_bytes(config.max_partition_bytes);
        // The order of partitions is the order of service, so that a topic may come more than once.
        match topics.last_mut().filter(|t| **t.topic == *a.tp.topic) {
            Some(topic) => topic.partitions.push(partition),
            None => {
                topics.push(FetchTopic::default().with_topic(topic_name(&a.tp.topic)).with_partitions(vec![partition]));
            }
        }
    }
    let mut request = FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        // Redpanda never answers an empty fetch that may not wait.
        .with_max_wait_ms(i32::try_from(config.max_wait.as_millis()).unwrap_or(i32::MAX).max(1))
        .with_min_bytes(config.min_bytes)
        .with_max_bytes(config.max_bytes)
        .with_isolation_level(config.isolation.level())
        .with_topics(topics);
    if version >= 7 {
        request = request.with_session_epoch(SESSIONLESS_EPOCH);
    }
    request
}

fn read(
    cluster: &Cluster,
    config: &FetchConfig,
    asked: &Asked,
    data: PartitionData,
    spent: &mut usize,
) -> Result<Fetched, Error> {
    let TopicPartition { topic, partition } = &asked.tp;
    if data.error_code != 0 {
        let error = Error::broker_code(FetchRequest::NAME, data.error_code, None);
        return Err(error.on_partition(&**topic, *partition));
    }
    let aborted = data.aborted_transactions.unwrap_or_default();
    let aborted =
        aborted.iter().map(|a| Aborted { producer_id: a.producer_id.0, first_offset: a.first_offset }).collect();
    let asked = Partition {
        topic: topic.clone(),
        partition: *partition,
        fetch_offset: asked.offset,
        isolation: config.isolation,
        max_batch_bytes: cluster.config().max_batch_bytes,
    };
    let (records, next_offset) = read_partition(&asked, data.records.unwrap_or_default(), aborted, spent)?;
    Ok(Fetched {
        topic: asked.topic,
        partition: asked.partition,
        records,
        next_offset,
        high_watermark: data.high_watermark,
        last_stable_offset: data.last_stable_offset,
        log_start_offset: data.log_start_offset,
    })
}
