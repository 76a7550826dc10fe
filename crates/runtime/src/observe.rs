//! Broadcast reading: every process of an observing agent sees all of its tasks, on every partition.
//!
//! A handler waits until what was observed reaches its own record, so that it never judges a task by less than what
//! lies before it in its partition.

use std::collections::HashMap;
use std::sync::Arc;

use anabranch_kafka::{Cluster, FetchConfig, Fetched, Isolation, Position, TopicPartition};
use tokio::sync::watch;

use crate::kind::Handler;

/// How far the observer is, by partition.
#[derive(Debug, Clone)]
pub(crate) struct Progress(watch::Receiver<HashMap<i32, i64>>);

impl Progress {
    /// Waits until `offset` of `partition` was observed. Returns at once if the observer ended (shutdown).
    pub(crate) async fn reached(&mut self, partition: i32, offset: i64) {
        let _ = self.0.wait_for(|at| at.get(&partition).is_some_and(|next| *next > offset)).await;
    }
}

/// Starts observing `topic` from its beginning.
///
/// # Errors
/// If the partitions of the topic cannot be learned.
pub(crate) async fn start(
    cluster: &Cluster,
    topic: &str,
    agent: Arc<dyn Handler>,
) -> Result<Progress, anabranch_kafka::Error> {
    let partitions = cluster.partition_count(topic).await?;
    let config = FetchConfig { isolation: Isolation::ReadUncommitted, ..FetchConfig::default() };
    let mut fetcher = cluster.fetcher(config);
    let topic: Arc<str> = topic.into();
    for partition in 0..partitions {
        fetcher.add(TopicPartition { topic: topic.clone(), partition }, Position::Earliest);
    }
    let (sender, receiver) = watch::channel(HashMap::new());
    tokio::spawn(async move {
        while !sender.is_closed() {
            match fetcher.next().await {
                Ok(fetched) => {
                    observe_all(&*agent, &fetched);
                    sender.send_modify(|at| {
                        at.insert(fetched.partition, fetched.next_offset);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "observing is held up");
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                }
            }
        }
    });
    Ok(Progress(receiver))
}

fn observe_all(agent: &dyn Handler, fetched: &Fetched) {
    for record in &fetched.records {
        if let Err(error) = agent.observe(record) {
            // It becomes a dead letter when it is handled; here it is only not seen.
            tracing::debug!(offset = record.offset, error, "a task that cannot be observed");
        }
    }
}
