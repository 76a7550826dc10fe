//! ListOffsets: where partitions begin and end.

use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};

use kafka_protocol::{
    messages::{
        BrokerId, ListOffsetsRequest, TopicName,
        list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
        list_offsets_response::ListOffsetsResponse,
    },
    protocol::StrBytes,
};

use crate::{
    api::Api,
    backoff::Backoff,
    cluster::{Cluster, Purpose},
    config::Isolation,
    error::Error,
    types::TopicPartition,
};

/// The timestamp that asks for a log's end.
pub(crate) const LATEST: i64 = -1;
/// The timestamp that asks for a log's first offset.
pub(crate) const EARLIEST: i64 = -2;

/// Topic names and their partitions.
pub(crate) type ByTopic = BTreeMap<std::sync::Arc<str>, Vec<i32>>;

/// Sorts partitions by topic, as most requests want them.
pub(crate) fn by_topic<'a>(tps: impl IntoIterator<Item = &'a TopicPartition>) -> ByTopic {
    let mut topics = ByTopic::new();
    for tp in tps {
        topics.entry(tp.topic.clone()).or_default().push(tp.partition);
    }
    topics
}

pub(crate) fn topic_name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

impl Cluster {
    /// The offset for a timestamp (or [`LATEST`], [`EARLIEST`]) of each partition; -1: there is none.
    ///
    /// Tries again within the call timeout where a leader is away or has moved.
    pub(crate) async fn list_offsets(
        &self,
        tps: &[TopicPartition],
        timestamp: i64,
        isolation: Isolation,
    ) -> Result<BTreeMap<TopicPartition, i64>, Error> {
        let deadline = Instant::now() + self.config().call_timeout;
        let mut backoff = Backoff::new(self.config());
        let mut found = BTreeMap::new();
        loop {
            let missing: Vec<_> = tps.iter().filter(|tp| !found.contains_key(*tp)).cloned().collect();
            let Some(error) = self.list_offsets_once(&missing, timestamp, isolation, &mut found).await else {
                return Ok(found);
            };
            let wait = backoff.next_wait();
            if !error.is_transient() || Instant::now() + wait >= deadline {
                return Err(error);
            }
            for tp in &missing {
                self.forget(&tp.topic);
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Asks each leader once; what came is in `found`, and the worst error is returned.
    async fn list_offsets_once(
        &self,
        tps: &[TopicPartition],
        timestamp: i64,
        isolation: Isolation,
        found: &mut BTreeMap<TopicPartition, i64>,
    ) -> Option<Error> {
        let mut worst: Option<Error> = None;
        let mut note = |error: Error| {
            if worst.as_ref().is_none_or(Error::is_transient) {
                worst = Some(error);
            }
        };
        let mut leaders: HashMap<String, Vec<&TopicPartition>> = HashMap::new();
        for tp in tps {
            match self.leader(&tp.topic, tp.partition).await {
                Ok(leader) => leaders.entry(leader.address).or_default().push(tp),
                Err(error) => note(error),
            }
        }
        for (address, tps) in leaders {
            match self.ask_leader(&address, &tps, timestamp, isolation).await {
                Ok(answer) => read_answer(answer, &address, found, &mut note),
                Err(error) => note(error),
            }
        }
        let all = tps.iter().all(|tp| found.contains_key(tp));
        match (all, worst) {
            (true, _) => None,
            (false, Some(error)) => Some(error),
            (false, None) => Some(Error::malformed(ListOffsetsRequest::NAME, "the answer leaves out partitions")),
        }
    }

    async fn ask_leader(
        &self,
        address: &str,
        tps: &[&TopicPartition],
        timestamp: i64,
        isolation: Isolation,
    ) -> Result<ListOffsetsResponse, Error> {
        let connection = self.connection(address, Purpose::Control).await?;
        let partition =
            |index: &i32| ListOffsetsPartition::default().with_partition_index(*index).with_timestamp(timestamp);
        let topics = by_topic(tps.iter().copied())
            .iter()
            .map(|(topic, indexes)| {
                let partitions = indexes.iter().map(partition).collect();
                ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(partitions)
            })
            .collect();
        connection
            .call(self.config().request_timeout, |_| {
                ListOffsetsRequest::default()
                    .with_replica_id(BrokerId(-1))
                    .with_isolation_level(isolation.level())
                    .with_topics(topics)
            })
            .await
    }
}

fn read_answer(
    answer: ListOffsetsResponse,
    address: &str,
    found: &mut BTreeMap<TopicPartition, i64>,
    note: &mut impl FnMut(Error),
) {
    for topic in answer.topics {
        for p in topic.partitions {
            if p.error_code == 0 {
                found.insert(TopicPartition::new(topic.name.as_str(), p.partition_index), p.offset);
            } else {
                let error = Error::broker_code(ListOffsetsRequest::NAME, p.error_code, None);
                note(error.at_broker(address).on_partition(topic.name.as_str(), p.partition_index));
            }
        }
    }
}
