//! How many small transactions a broker takes, one after another: ten records on two partitions each.
//!
//! ```text
//! cargo run -p anabranch-kafka --example transaction_rate -- 127.0.0.1:9092 [COUNT]
//! ```
//! Without an address it starts the embedded broker in memory, once with transaction version 1 and once with 2.

use std::{collections::BTreeMap, time::Instant};

use anabranch_broker::{Broker, BrokerConfig, TransactionVersion};
use anabranch_kafka::{Cluster, ClusterConfig, Error, NewTopic, OutRecord, TransactionConfig};

const RECORDS: i32 = 10;
const VALUE_BYTES: usize = 1024;

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().filter(|a| a.contains(':'));
    let count = arguments.next().map_or(Ok(1_000), |n| n.parse())?;
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

async fn measure(name: &str, address: &str, count: u32) -> Result<(), Failure> {
    let cluster = Cluster::new(ClusterConfig::new(vec![address.to_owned()], "transaction-rate"));
    let topic = format!("transaction-rate-{}", std::process::id());
    let new = NewTopic { name: topic.clone(), partitions: 2, replication_factor: 1, configs: BTreeMap::new() };
    for (_, result) in cluster.admin().create_topics(vec![new]).await? {
        result.or_else(|error: Error| if error.is_already_exists() { Ok(()) } else { Err(error) })?;
    }
    let mut producer = cluster.transactional(TransactionConfig::new(topic.as_str())).await?;
    let records: Vec<OutRecord> = (0..RECORDS)
        .map(|i| OutRecord {
            topic: topic.clone(),
            partition: Some(i % 2),
            value: Some(vec![0; VALUE_BYTES].into()),
            ..OutRecord::default()
        })
        .collect();
    let mut times = Vec::new();
    let started = Instant::now();
    for _ in 0..count {
        let began = Instant::now();
        let mut txn = producer.begin().await?;
        txn.send(records.clone()).await?;
        txn.commit().await?;
        times.push(began.elapsed());
    }
    let took = started.elapsed();
    times.sort_unstable();
    let at = |part: f64| times.get((times.len() as f64 * part) as usize).copied().unwrap_or_default();
    println!(
        "{name}: {count} transactions of {RECORDS} records of {VALUE_BYTES} bytes on 2 partitions: {:.0} a second, p50 {:?}, p99 {:?}",
        f64::from(count) / took.as_secs_f64(),
        at(0.5),
        at(0.99),
    );
    Ok(())
}
