//! The raw floor: as many records of the same sizes, into as many partitions, through plain rskafka: produced with the
//! acknowledgement of all in-sync replicas, and fetched once each while they are produced. No key, no header, no logic.
//!
//! What the application wrote beside that is not in it: committed offsets, transactions' markers. What compaction has
//! taken away by the time it is counted is neither; that makes the floor faster, not slower.

use std::time::{Duration, Instant};

use anabranch_kafka::Cluster;
use anabranch_topology::TopicSpec;
use rskafka::BackoffConfig;
use rskafka::chrono::DateTime;
use rskafka::client::partition::{Compression, PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder};
use rskafka::record::Record;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::error::BenchError;
use crate::load;
use crate::topics::{self, Sizes};

/// Most bytes of a batch.
const BATCH_BYTES: usize = 900 * 1024;
/// Most bytes of an answer to a fetch.
const FETCH_BYTES: i32 = 8 << 20;
/// Longest wait for something to fetch, in milliseconds.
const FETCH_WAIT_MS: i32 = 500;
/// Longest time for all of it.
const LIMIT: Duration = Duration::from_secs(900);

/// What the floor came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FloorFigures {
    /// Records written and read.
    pub records: u64,
    /// Their bytes: keys, values and headers of the originals.
    pub bytes: u64,
    /// The topics they were spread over.
    pub topics: usize,
    /// Most records in a batch.
    pub batch: usize,
    /// From the first produce to the last record fetched.
    pub seconds: f64,
}

/// One partition of the floor.
struct Lane {
    writer: PartitionClient,
    reader: PartitionClient,
    batches: Vec<Vec<usize>>,
    records: usize,
}

/// Writes and reads it.
///
/// # Errors
/// If the broker refuses, or it takes longer than 15 minutes.
pub(crate) async fn measure(
    brokers: &[String],
    cluster: &Cluster,
    specs: &[TopicSpec],
    sizes: &Sizes,
    batch: usize,
    prefix: &str,
) -> Result<FloorFigures, BenchError> {
    let copies: Vec<TopicSpec> = specs
        .iter()
        .filter(|spec| topics::partitions(spec).any(|tp| sizes.get(&tp).is_some_and(|sizes| !sizes.is_empty())))
        .map(|spec| TopicSpec { name: format!("{prefix}{}", spec.name), configs: kept(spec), ..spec.clone() })
        .collect();
    topics::create(cluster, &copies).await?;
    let figures = async {
        let lanes = lanes(brokers, sizes, batch, prefix).await?;
        let (records, bytes) = (lanes.iter().map(|lane| lane.records as u64).sum(), total(sizes));
        let seconds = move_all(lanes).await?.as_secs_f64();
        Ok(FloorFigures { records, bytes, topics: copies.len(), batch, seconds })
    };
    let figures = tokio::time::timeout(LIMIT, figures).await;
    topics::delete(cluster, prefix).await;
    figures.unwrap_or_else(|_| Err(BenchError::Floor(format!("it took longer than {} s", LIMIT.as_secs()))))
}

/// Settings that say how a record is kept, not for how long.
fn kept(spec: &TopicSpec) -> std::collections::BTreeMap<String, String> {
    let alike = ["min.insync.replicas", "max.message.bytes"];
    spec.configs
        .iter()
        .filter(|(name, _)| alike.contains(&name.as_str()))
        .map(|(n, v)| (n.clone(), v.clone()))
        .collect()
}

fn total(sizes: &Sizes) -> u64 {
    sizes.values().flatten().map(|size| *size as u64).sum()
}

async fn lanes(brokers: &[String], sizes: &Sizes, batch: usize, prefix: &str) -> Result<Vec<Lane>, BenchError> {
    // A produce waits behind a fetch of the same client.
    let (writers, readers) = (client(brokers).await?, client(brokers).await?);
    let mut lanes = Vec::new();
    for (tp, sizes) in sizes.iter().filter(|(_, sizes)| !sizes.is_empty()) {
        let topic = format!("{prefix}{}", tp.topic);
        let open = async |client: &Client| {
            let opened = client.partition_client(topic.clone(), tp.partition, UnknownTopicHandling::Retry).await;
            opened.map_err(|error| BenchError::Floor(error.to_string()))
        };
        let (writer, reader) = (open(&writers).await?, open(&readers).await?);
        lanes.push(Lane { writer, reader, batches: batches(sizes, batch), records: sizes.len() });
    }
    Ok(lanes)
}

/// A client that knows the leaders.
///
/// # Errors
/// If no broker answers.
pub(crate) async fn client(brokers: &[String]) -> Result<Client, BenchError> {
    let failed = |error: rskafka::client::error::Error| BenchError::Floor(error.to_string());
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(50),
        max_backoff: Duration::from_secs(1),
        base: 2.0,
        deadline: Some(Duration::from_secs(15)),
    };
    let builder = ClientBuilder::new(brokers.to_vec()).client_id("anabranch-bench-floor").backoff_config(backoff);
    let client = builder.build().await.map_err(failed)?;
    client.list_topics().await.map_err(failed)?;
    Ok(client)
}

/// As many records in a batch as fit.
fn batches(sizes: &[usize], most: usize) -> Vec<Vec<usize>> {
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut bytes = 0;
    for size in sizes {
        match batches.last_mut() {
            Some(last) if last.len() < most && bytes + size <= BATCH_BYTES => {
                last.push(*size);
                bytes += size;
            }
            _ => {
                batches.push(vec![*size]);
                bytes = *size;
            }
        }
    }
    batches
}

/// A record of this size, of now: one that is older than the topic keeps records would be gone at once.
pub(crate) fn record(bytes: usize) -> Record {
    let now = load::now().as_millis();
    let timestamp = DateTime::from_timestamp_millis(now).unwrap_or_default();
    Record { key: None, value: Some(vec![b'x'; bytes]), headers: Default::default(), timestamp }
}

async fn move_all(lanes: Vec<Lane>) -> Result<Duration, BenchError> {
    let began = Instant::now();
    let mut tasks: JoinSet<Result<(), rskafka::client::error::Error>> = JoinSet::new();
    for Lane { writer, reader, batches, records } in lanes {
        tasks.spawn(async move {
            for batch in batches {
                let batch = batch.into_iter().map(record).collect();
                writer.produce(batch, Compression::NoCompression).await?;
            }
            Ok(())
        });
        tasks.spawn(async move {
            let (mut offset, end) = (0, i64::try_from(records).unwrap_or(i64::MAX));
            while offset < end {
                let (records, _) = reader.fetch_records(offset, 1..FETCH_BYTES, FETCH_WAIT_MS).await?;
                offset = records.last().map_or(offset, |record| record.offset + 1);
            }
            Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        let done = done.map_err(|error| BenchError::Floor(error.to_string()))?;
        done.map_err(|error| BenchError::Floor(error.to_string()))?;
    }
    Ok(began.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_hold_all_records_within_both_bounds() {
        let sizes = [400_000, 400_000, 400_000, 10, 10, 2_000_000, 5];
        let made = batches(&sizes, 3);
        assert_eq!(made, [vec![400_000, 400_000], vec![400_000, 10, 10], vec![2_000_000], vec![5]]);
        assert_eq!(batches(&[1; 5], 2).iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
        assert!(batches(&[], 2).is_empty());
    }
}
