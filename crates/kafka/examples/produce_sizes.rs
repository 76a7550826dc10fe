//! How long one record of each of some sizes takes to be acknowledged on an idle broker, one after another.
//!
//! ```text
//! cargo run -p anabranch-kafka --example produce_sizes -- 127.0.0.1:9092 [COUNT]
//! ```

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anabranch_kafka::{Cluster, ClusterConfig, NewTopic, OutRecord, ProducerConfig};

const SIZES: [usize; 6] = [1_000, 6_000, 9_000, 30_000, 100_000, 400_000];

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().ok_or("which broker? Give host:port")?;
    let count: usize = arguments.next().map_or(Ok(50), |n| n.parse())?;
    let cluster = Cluster::new(ClusterConfig::new(vec![address], "produce-sizes"));
    let topic = format!("produce-sizes-{}", std::process::id());
    let new = NewTopic { name: topic.clone(), partitions: 1, replication_factor: 1, configs: BTreeMap::new() };
    cluster.admin().create_topics(vec![new]).await?.into_iter().try_for_each(|(_, result)| result)?;
    let producer = cluster.producer(ProducerConfig::default());
    for bytes in SIZES {
        let record = OutRecord { topic: topic.clone(), value: Some(vec![0; bytes].into()), ..OutRecord::default() };
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let began = Instant::now();
            producer.send(record.clone()).await?;
            times.push(began.elapsed());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        times.sort();
        println!("{bytes:>8} bytes: median {:>9.2?}, 90 % {:>9.2?}", times[count / 2], times[count * 9 / 10]);
    }
    Ok(())
}
