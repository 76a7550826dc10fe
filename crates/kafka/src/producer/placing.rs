//! Which partition a record goes to.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Instant,
};

use anabranch_protocol::partition::partition_for_key;

use super::TOPIC_GRACE;
use crate::{backoff::Backoff, cluster::Cluster, error::Error, types::OutRecord};

/// Chooses partitions: as told, by the key as Java clients do, or in turn.
pub(crate) struct Placer {
    cluster: Cluster,
    next_keyless: AtomicU32,
}

impl Placer {
    pub(crate) fn new(cluster: Cluster) -> Self {
        Self { cluster, next_keyless: AtomicU32::new(0) }
    }

    pub(crate) async fn place(&self, record: &OutRecord) -> Result<i32, Error> {
        if let Some(partition) = record.partition.filter(|p| *p >= 0) {
            return Ok(partition);
        }
        let count = self.partition_count(&record.topic).await?;
        Ok(match &record.key {
            Some(key) => partition_for_key(key, count),
            None => {
                let turn = self.next_keyless.fetch_add(1, Ordering::Relaxed) & u32::MAX >> 1;
                turn.cast_signed().checked_rem(count).unwrap_or(0)
            }
        })
    }

    /// A topic that is unknown may just have been created.
    async fn partition_count(&self, topic: &str) -> Result<i32, Error> {
        let give_up = Instant::now() + TOPIC_GRACE;
        let mut backoff = Backoff::new(self.cluster.config());
        loop {
            let result = self.cluster.partition_count(topic).await;
            let unknown = matches!(&result, Err(error) if error.is_unknown_topic());
            let wait = backoff.next_wait();
            if !unknown || Instant::now() + wait >= give_up {
                return result;
            }
            tokio::time::sleep(wait).await;
        }
    }
}
