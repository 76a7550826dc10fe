//! How a transaction ended, read from the log: its markers are there when its coordinator says nothing any more.

use std::time::{Duration, Instant};

use anabranch_core::transaction::Sight;

use crate::{
    cluster::Cluster,
    config::{FetchConfig, Isolation, Position},
    fetcher::Fetcher,
    types::TopicPartition,
};

/// A fetch that waits no longer for an end that has not come.
const MAX_WAIT: Duration = Duration::from_millis(100);
/// A sight of one partition takes no longer, so that another can be tried.
const LIMIT: Duration = Duration::from_secs(2);

/// Looks at records of one transaction until one tells. Compaction and retention may have taken some.
pub(super) async fn look<'a>(
    cluster: &Cluster,
    witnesses: impl Iterator<Item = (&'a TopicPartition, &'a i64)>,
    deadline: Instant,
) -> Sight {
    let mut seen = Sight::Gone;
    for (tp, offset) in witnesses {
        match look_at(cluster, tp, *offset, deadline).await {
            sight @ (Sight::Committed | Sight::Aborted) => return sight,
            Sight::NotYet => seen = Sight::NotYet,
            Sight::Gone => {}
        }
    }
    seen
}

async fn look_at(cluster: &Cluster, tp: &TopicPartition, offset: i64, deadline: Instant) -> Sight {
    // In this order: what is there afterwards was there before.
    match is_there(cluster, tp, offset, Isolation::ReadCommitted, deadline).await {
        Ok(true) => return Sight::Committed,
        Ok(false) => {}
        Err(sight) => return sight,
    }
    match is_there(cluster, tp, offset, Isolation::ReadUncommitted, deadline).await {
        Ok(true) => Sight::Aborted,
        Ok(false) => Sight::Gone,
        Err(sight) => sight,
    }
}

/// Whether readers get the record at this offset.
async fn is_there(
    cluster: &Cluster,
    tp: &TopicPartition,
    offset: i64,
    isolation: Isolation,
    deadline: Instant,
) -> Result<bool, Sight> {
    let config = FetchConfig { isolation, max_wait: MAX_WAIT, ..FetchConfig::default() };
    let mut fetcher = Fetcher::new(cluster.clone(), config);
    fetcher.add(tp.clone(), Position::Offset(offset));
    let until = deadline.min(Instant::now() + LIMIT);
    loop {
        match tokio::time::timeout_at(until.into(), fetcher.next()).await {
            Err(_) => return Err(Sight::NotYet),
            Ok(Ok(fetched)) if fetched.records.iter().any(|r| r.offset == offset) => return Ok(true),
            Ok(Ok(fetched)) if fetched.log_start_offset > offset => return Err(Sight::Gone),
            Ok(Ok(fetched)) if fetched.next_offset > offset => return Ok(false),
            Ok(Ok(_)) => {}
            // The fetcher goes on by itself.
            Ok(Err(error)) if error.is_transient() => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, topic = %tp.topic, partition = tp.partition, offset, "a record cannot be looked at");
                return Err(Sight::Gone);
            }
        }
    }
}
