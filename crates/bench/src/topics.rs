//! Topics: created, deleted, and read for the sizes of what is in them.

use std::collections::BTreeMap;
use std::time::Duration;

use anabranch_kafka::{Cluster, FetchConfig, Isolation, NewTopic, Position, TopicPartition};
use anabranch_topology::TopicSpec;

use crate::error::BenchError;

/// Longest wait for a broker that gives nothing.
const LIMIT: Duration = Duration::from_secs(30);

/// All partitions of a topic.
pub(crate) fn partitions(spec: &TopicSpec) -> impl Iterator<Item = TopicPartition> + use<'_> {
    (0..spec.partitions).map(|partition| TopicPartition::new(spec.name.as_str(), partition))
}

/// Creates topics.
///
/// # Errors
/// If one cannot be created.
pub(crate) async fn create(cluster: &Cluster, specs: &[TopicSpec]) -> Result<(), BenchError> {
    let new = specs.iter().map(|spec| NewTopic {
        name: spec.name.clone(),
        partitions: spec.partitions,
        replication_factor: spec.replication_factor,
        configs: spec.configs.clone(),
    });
    let created = cluster.admin().create_topics(new.collect()).await.map_err(BenchError::kafka("creating topics"))?;
    for (topic, created) in created {
        created.map_err(BenchError::kafka(format!("creating topic {topic}")))?;
    }
    Ok(())
}

/// Deletes the topics that begin so. What is left over harms nothing, and has a name that says whose it was.
pub(crate) async fn delete(cluster: &Cluster, prefix: &str) {
    let admin = cluster.admin();
    if let Ok(topics) = admin.list_topics().await {
        let names: Vec<String> = topics.into_iter().map(|t| t.name).filter(|name| name.starts_with(prefix)).collect();
        if !names.is_empty() {
            let _ = admin.delete_topics(&names).await;
        }
    }
}

/// What a partition got, in bytes: key, value and headers of each record.
pub(crate) type Sizes = BTreeMap<TopicPartition, Vec<usize>>;

/// Reads what lies between these ends, for its sizes.
///
/// # Errors
/// If it cannot be read.
pub(crate) async fn sizes(
    cluster: &Cluster,
    from: &BTreeMap<TopicPartition, i64>,
    to: &BTreeMap<TopicPartition, i64>,
) -> Result<Sizes, BenchError> {
    let mut fetcher = cluster.fetcher(FetchConfig {
        isolation: Isolation::ReadUncommitted,
        max_partition_bytes: 4 << 20,
        ..FetchConfig::default()
    });
    let mut left: BTreeMap<TopicPartition, i64> = BTreeMap::new();
    for (tp, end) in to {
        let start = from.get(tp).copied().unwrap_or(0);
        if start < *end {
            fetcher.add(tp.clone(), Position::Offset(start));
            left.insert(tp.clone(), *end);
        }
    }
    let mut sizes = Sizes::new();
    while !left.is_empty() {
        let fetched = match tokio::time::timeout(LIMIT, fetcher.next()).await {
            Ok(Ok(fetched)) => fetched,
            Ok(Err(error)) if error.is_retryable() => continue,
            Ok(Err(error)) => return Err(BenchError::kafka("reading what was written")(error)),
            Err(_) => return Err(BenchError::Process(format!("the broker gives nothing for {} s", LIMIT.as_secs()))),
        };
        let tp = fetched.topic_partition();
        let Some(end) = left.get(&tp).copied() else { continue };
        let of = sizes.entry(tp.clone()).or_default();
        of.extend(fetched.records.iter().filter(|record| record.offset < end).map(|record| {
            let headers = record.headers.iter().map(|h| h.name.len() + h.value.as_ref().map_or(0, |value| value.len()));
            let part = |part: &Option<bytes::Bytes>| part.as_ref().map_or(0, |bytes| bytes.len());
            part(&record.key) + part(&record.value) + headers.sum::<usize>()
        }));
        if fetched.next_offset.max(fetched.log_start_offset) >= end {
            left.remove(&tp);
            fetcher.remove(&tp);
        }
    }
    Ok(sizes)
}
