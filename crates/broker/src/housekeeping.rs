//! Retention and compaction, in the background.

use std::{sync::Weak, time::Duration};

use crate::{node::Node, topics::Topics};

/// Looks after the logs until the node is gone.
pub(crate) async fn run(node: Weak<Node>, interval: Duration) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(topics) = node.upgrade().map(|node| node.topics.clone()) else { return };
        // Files are read and written, and a large topic takes its time.
        if let Err(error) = tokio::task::spawn_blocking(move || tend(&topics)).await {
            tracing::error!(%error, "housekeeping has failed");
        }
    }
}

fn tend(topics: &Topics) {
    for topic in topics.all() {
        let partitions = topic.partitions().clone();
        for (index, partition) in partitions.iter().enumerate() {
            if let Err(error) = partition.tend() {
                tracing::warn!(topic = topic.name, partition = index, %error, "retention or compaction has failed");
            }
        }
    }
}
