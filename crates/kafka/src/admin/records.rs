//! Deleting the beginning of logs, at their leaders.

use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};

use kafka_protocol::messages::{
    DeleteRecordsRequest, DeleteRecordsResponse,
    delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic},
};

use super::millis;
use crate::{Cluster, Error, TopicPartition, api::Api, backoff::Backoff, cluster::Purpose, offsets::topic_name};

const NAME: &str = DeleteRecordsRequest::NAME;

type Offsets = BTreeMap<TopicPartition, i64>;

pub(super) async fn delete(cluster: &Cluster, before: &Offsets) -> Result<Offsets, Error> {
    let deadline = Instant::now() + cluster.config().call_timeout;
    let mut backoff = Backoff::new(cluster.config());
    let mut begins = Offsets::new();
    loop {
        let missing: Offsets =
            before.iter().filter(|(tp, _)| !begins.contains_key(*tp)).map(|(tp, at)| (tp.clone(), *at)).collect();
        if missing.is_empty() {
            return Ok(begins);
        }
        let Some(error) = delete_once(cluster, &missing, &mut begins).await else { continue };
        let wait = backoff.next_wait();
        if !error.is_transient() || Instant::now() + wait >= deadline {
            return Err(error);
        }
        missing.keys().for_each(|tp| cluster.forget(&tp.topic));
        tokio::time::sleep(wait).await;
    }
}

/// Asks each leader once. What was deleted is in `begins`; the worst error is returned.
async fn delete_once(cluster: &Cluster, before: &Offsets, begins: &mut Offsets) -> Option<Error> {
    let mut worst: Option<Error> = None;
    let mut note = |error: Error| {
        if worst.as_ref().is_none_or(Error::is_transient) {
            worst = Some(error);
        }
    };
    let mut leaders: HashMap<String, Offsets> = HashMap::new();
    for (tp, offset) in before {
        match cluster.leader(&tp.topic, tp.partition).await {
            Ok(leader) => drop(leaders.entry(leader.address).or_default().insert(tp.clone(), *offset)),
            Err(error) => note(error),
        }
    }
    for (address, before) in leaders {
        match ask(cluster, &address, &before).await {
            Ok(answer) => read(&answer, &address, begins, &mut note),
            Err(error) => note(error),
        }
    }
    let all = before.keys().all(|tp| begins.contains_key(tp));
    match (all, worst) {
        (true, _) => None,
        (false, Some(error)) => Some(error),
        (false, None) => Some(Error::malformed(NAME, "the answer leaves out partitions")),
    }
}

async fn ask(cluster: &Cluster, address: &str, before: &Offsets) -> Result<DeleteRecordsResponse, Error> {
    let connection = cluster.connection(address, Purpose::Control).await?;
    let limit = cluster.config().request_timeout;
    let mut topics: Vec<DeleteRecordsTopic> = Vec::new();
    for (tp, offset) in before {
        let partition = DeleteRecordsPartition::default().with_partition_index(tp.partition).with_offset(*offset);
        match topics.iter_mut().find(|topic| **topic.name == *tp.topic) {
            Some(topic) => topic.partitions.push(partition),
            None => topics
                .push(DeleteRecordsTopic::default().with_name(topic_name(&tp.topic)).with_partitions(vec![partition])),
        }
    }
    connection.call(limit, |_| DeleteRecordsRequest::default().with_topics(topics).with_timeout_ms(millis(limit))).await
}

fn read(answer: &DeleteRecordsResponse, address: &str, begins: &mut Offsets, note: &mut impl FnMut(Error)) {
    for topic in &answer.topics {
        for p in &topic.partitions {
            if p.error_code == 0 {
                begins.insert(TopicPartition::new(topic.name.as_str(), p.partition_index), p.low_watermark);
            } else {
                let error = Error::broker_code(NAME, p.error_code, None);
                note(error.at_broker(address).on_partition(topic.name.as_str(), p.partition_index));
            }
        }
    }
}
