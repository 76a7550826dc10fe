//! What a small transaction costs: ten records on two partitions, and an offset of a group. Records first and offset then,
//! and both at once, in turn; on a broker that does nothing else, with a rest before each and one right after another.
//!
//! ```text
//! cargo run -p anabranch-kafka --example transaction_rate -- 127.0.0.1:9092 [COUNT]
//! ```
//! Without an address it starts the embedded broker in memory, once with transaction version 1 and once with 2.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anabranch_broker::{Broker, BrokerConfig, TransactionVersion};
use anabranch_kafka::{
    Cluster, ClusterConfig, Commits, Committer, Error, Event, GroupConfig, GroupConsumer, NewTopic, OffsetToCommit,
    OutRecord, TopicPartition, TransactionConfig, TransactionalProducer,
};

const RECORDS: i32 = 10;
const VALUE_BYTES: usize = 1024;
/// Longer than the markers of a transaction take.
const REST: Duration = Duration::from_millis(50);

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().filter(|a| a.contains(':'));
    let count = arguments.next().map_or(Ok(200), |n| n.parse())?;
    match address {
        Some(address) => measure(&address, &address, count).await,
        None => {
            for transaction_version in [TransactionVersion::One, TransactionVersion::Two] {
                let broker = Broker::start(BrokerConfig { transaction_version, ..BrokerConfig::default() }).await?;
                let name = format!("embedded broker in memory, transaction version {transaction_version:?}");
                measure(&name, &broker.bootstrap(), count).await?;
                broker.stop().await;
            }
            Ok(())
        }
    }
}

async fn measure(name: &str, address: &str, count: usize) -> Result<(), Failure> {
    let cluster = Cluster::new(ClusterConfig::new(vec![address.to_owned()], "transaction-rate"));
    let topic = format!("transaction-rate-{}", std::process::id());
    let new = NewTopic { name: topic.clone(), partitions: 2, replication_factor: 1, configs: BTreeMap::new() };
    for (_, result) in cluster.admin().create_topics(vec![new]).await? {
        result.or_else(|error: Error| if error.is_already_exists() { Ok(()) } else { Err(error) })?;
    }
    let group = GroupConfig { commits: Commits::InTransactions, ..GroupConfig::new(&topic, vec![topic.clone()]) };
    let mut consumer = GroupConsumer::start(&cluster, group);
    while !matches!(consumer.next().await, Event::Assigned { partitions, .. } if !partitions.is_empty()) {}
    let committer = consumer.committer();
    let mut producer = cluster.transactional(TransactionConfig::new(topic.as_str())).await?;
    for rest in [REST, Duration::ZERO] {
        let mut times: [Vec<Duration>; 2] = Default::default();
        for turn in 0..2 * count {
            // A sleep of nothing is one of up to a millisecond.
            if !rest.is_zero() {
                tokio::time::sleep(rest).await;
            }
            let began = Instant::now();
            one(&mut producer, &committer, &topic, turn % 2 == 1).await?;
            times[turn % 2].push(began.elapsed());
        }
        for (how, times) in ["one after the other", "at once"].into_iter().zip(&mut times) {
            times.sort_unstable();
            let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default();
            println!(
                "{name}: {count} transactions {rest:?} apart, records and offset {how}: p10 {:.2?}, p50 {:.2?}, p90 {:.2?}",
                at(10),
                at(50),
                at(90)
            );
        }
    }
    consumer.leave().await?;
    Ok(())
}

async fn one(
    producer: &mut TransactionalProducer,
    committer: &Committer,
    topic: &str,
    at_once: bool,
) -> Result<(), Error> {
    let record = |i: i32| OutRecord {
        topic: topic.to_owned(),
        partition: Some(i % 2),
        value: Some(vec![0; VALUE_BYTES].into()),
        ..OutRecord::default()
    };
    let records: Vec<OutRecord> = (0..RECORDS).map(record).collect();
    let offset = OffsetToCommit { offset: 0, metadata: String::new() };
    let offsets = vec![(TopicPartition::new(topic, 0), u64::MAX, offset)];
    let mut transaction = producer.begin().await?;
    if at_once {
        transaction.write(records, committer, offsets).await?;
    } else {
        transaction.send(records).await?;
        transaction.commit_offsets_each(committer, offsets).await?;
    }
    transaction.commit().await
}
