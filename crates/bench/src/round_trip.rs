//! What one record takes on an idle broker: to its acknowledgement, and to a reader that waits for it.

use std::time::{Duration, Instant};

use anabranch_kafka::Cluster;
use anabranch_topology::TopicSpec;
use rskafka::client::partition::{Compression, UnknownTopicHandling};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::error::BenchError;
use crate::floor::{client, record};
use crate::stats::{Latencies, Percentiles};
use crate::topics;

/// How often.
const TIMES: usize = 200;
/// Bytes of the record, about as many as a small task has.
const BYTES: usize = 1_000;
/// Longest time for one.
const LIMIT: Duration = Duration::from_secs(10);

/// What was measured, through plain rskafka.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoundTrip {
    /// From produce to the acknowledgement of all in-sync replicas.
    pub acknowledged_ms: Percentiles,
    /// From produce to a reader that waits for it.
    pub delivered_ms: Percentiles,
}

/// Measures it on a topic of its own, as the application's are.
///
/// # Errors
/// If the broker refuses, or does not answer within 10 s.
pub(crate) async fn measure(
    brokers: &[String],
    cluster: &Cluster,
    like: &TopicSpec,
    prefix: &str,
) -> Result<RoundTrip, BenchError> {
    let name = format!("{prefix}round-trip");
    let spec = TopicSpec { name: name.clone(), partitions: 1, configs: Default::default(), ..like.clone() };
    topics::create(cluster, std::slice::from_ref(&spec)).await?;
    let measured = there_and_back(brokers, &name).await;
    topics::delete(cluster, &name).await;
    measured
}

async fn there_and_back(brokers: &[String], topic: &str) -> Result<RoundTrip, BenchError> {
    let failed = |error: rskafka::client::error::Error| BenchError::Floor(error.to_string());
    let open = async || {
        let client = client(brokers).await?;
        client.partition_client(topic.to_owned(), 0, UnknownTopicHandling::Retry).await.map_err(failed)
    };
    let (writer, reader) = (open().await?, open().await?);
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let reading = tokio::spawn(async move {
        let mut offset = 0;
        while let Ok((records, _)) = reader.fetch_records(offset, 1..1 << 20, 500).await {
            let at = Instant::now();
            if let Some(last) = records.last() {
                offset = last.offset + 1;
                if arrived.send(at).is_err() {
                    return;
                }
            }
        }
    });
    let (mut acknowledged, mut delivered) = (Latencies::new(), Latencies::new());
    // The first few make connections.
    for turn in 0..TIMES + 20 {
        let began = Instant::now();
        writer.produce(vec![record(BYTES)], Compression::NoCompression).await.map_err(failed)?;
        let answered = began.elapsed();
        let at = tokio::time::timeout(LIMIT, arrivals.recv()).await.ok().flatten();
        let at = at.ok_or_else(|| BenchError::Floor("a record that was written cannot be read".to_owned()))?;
        if turn >= 20 {
            acknowledged.add(answered);
            delivered.add(at.saturating_duration_since(began));
        }
    }
    reading.abort();
    match (acknowledged.percentiles(), delivered.percentiles()) {
        (Some(acknowledged_ms), Some(delivered_ms)) => Ok(RoundTrip { acknowledged_ms, delivered_ms }),
        _ => Err(BenchError::Floor("nothing was measured".to_owned())),
    }
}
