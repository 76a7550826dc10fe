//! The composer's state: one record for each open case on a compacted topic, partition by partition with the results.

use anabranch_core::join::{Case, Join};
use anabranch_kafka::{Cluster, Error, FetchConfig, Fetched, Isolation, OutRecord, Position, TopicPartition};
use anabranch_protocol::CorrelationId;
use bytes::Bytes;

use crate::emit::EmitError;

/// Reads the state of `partition` into `join`. Returns how many cases there are.
///
/// # Errors
/// If the topic cannot be read; what was read so far is in `join`.
pub(super) async fn restore(cluster: &Cluster, topic: &str, partition: i32, join: &mut Join) -> Result<usize, Error> {
    let tp = TopicPartition { topic: topic.into(), partition };
    // The end of the log, not of what is committed: an earlier owner's transaction may be committed already and its marker
    // not written here yet. Reading committed gets past it once it is.
    let ends = cluster.admin().end_offsets(std::slice::from_ref(&tp), Isolation::ReadUncommitted).await?;
    let end = ends.get(&tp).copied().unwrap_or(0);
    let mut fetcher = cluster.fetcher(FetchConfig { isolation: Isolation::ReadCommitted, ..FetchConfig::default() });
    fetcher.add(tp, Position::Earliest);
    let mut next = 0;
    while next < end {
        let fetched = fetcher.next().await?;
        next = fetched.next_offset.max(fetched.log_start_offset);
        take_in(join, &fetched);
    }
    Ok(join.len())
}

fn take_in(join: &mut Join, fetched: &Fetched) {
    for record in &fetched.records {
        let Some(id) = record.key.as_deref().and_then(|k| std::str::from_utf8(k).ok()).map(CorrelationId::new) else {
            tracing::warn!(offset = record.offset, "a state record without a readable key");
            continue;
        };
        match record.value.as_deref().map(serde_json::from_slice::<Case>) {
            Some(Ok(case)) => join.restore(case),
            None => join.drop_case(&id),
            // A state that cannot be read is a case that cannot be joined: its deadline would never be kept.
            Some(Err(error)) => {
                tracing::error!(correlation_id = %id, offset = record.offset, %error, "a case's state cannot be read");
            }
        }
    }
}

/// The state record of a case: its value, or a tombstone once it is forgotten.
pub(super) fn record(
    topic: &str,
    partition: i32,
    id: &CorrelationId,
    case: Option<&Case>,
) -> Result<OutRecord, EmitError> {
    Ok(OutRecord {
        topic: topic.to_owned(),
        // Beside the results it was joined from, whatever the key says.
        partition: Some(partition),
        key: Some(Bytes::from(id.as_str().to_owned())),
        value: case.map(serde_json::to_vec).transpose()?.map(Bytes::from),
        headers: Vec::new(),
        timestamp_ms: None,
    })
}
