//! Records about models: the ledger's entries, and what processes tell each other.

use std::sync::Arc;

use anabranch_kafka::{Cluster, Error, FetchConfig, Fetcher, Isolation, OutRecord, Position, TopicPartition};
use anabranch_protocol::{CorrelationId, Envelope, EventId, Timestamp, TraceParent};
use bytes::Bytes;
use serde::Serialize;

use crate::clock;
use crate::emit::{self, EmitError};

/// `ce_type` of a ledger's entry.
pub(super) const CALL: &str = "anabranch.model-call.v1";
/// `ce_type` of what a process wants of rate limits.
pub(super) const DEMAND: &str = "anabranch.model-demand.v1";

/// Where records about models go, and from whom.
#[derive(Debug, Clone)]
pub(super) struct Address {
    pub(super) topic: String,
    /// `ce_source`.
    pub(super) source: String,
}

impl Address {
    /// A record with this key: a case's id, or the name of an agent or process.
    ///
    /// # Errors
    /// If `data` has no JSON form.
    pub(super) fn record(
        &self,
        kind: &str,
        id: &str,
        key: &str,
        data: &impl Serialize,
    ) -> Result<OutRecord, EmitError> {
        let id = EventId::new(id.to_owned());
        let trace = TraceParent::root(&id);
        let envelope = Envelope {
            trace,
            origin_trace: trace,
            id,
            source: self.source.clone(),
            kind: kind.to_owned(),
            subject: None,
            time: clock::now(),
            correlation_id: CorrelationId::new(key.to_owned()),
            causation_id: None,
            deadline: None,
            trace_state: None,
        };
        let mut record = emit::record(&self.topic, &envelope, data)?;
        record.key = Some(Bytes::from(key.to_owned()));
        Ok(record)
    }
}

/// A reader of all partitions of a topic, and where each of those ends now that has anything to be read.
pub(super) struct Tail {
    pub(super) fetcher: Fetcher,
    /// Partitions that are not read to the end that they had, with that end.
    pub(super) left: std::collections::BTreeMap<TopicPartition, i64>,
}

/// Reads `topic` from the first record that is not older than `since`.
///
/// # Errors
/// If the topic's partitions or offsets cannot be learned.
pub(super) async fn tail(cluster: &Cluster, topic: &str, since: Timestamp) -> Result<Tail, Error> {
    let name: Arc<str> = topic.into();
    let partitions = cluster.partition_count(topic).await?;
    let tps: Vec<_> = (0..partitions).map(|partition| TopicPartition { topic: name.clone(), partition }).collect();
    let admin = cluster.admin();
    let mut left = admin.end_offsets(&tps, Isolation::ReadUncommitted).await?;
    // Asked for second: where there is no such record, none was before the end above either.
    let starts = admin.offsets_for_timestamp(&tps, since.as_millis().max(0)).await?;
    let mut fetcher = cluster.fetcher(FetchConfig { isolation: Isolation::ReadUncommitted, ..FetchConfig::default() });
    for tp in tps {
        let end = left.get(&tp).copied().unwrap_or(0);
        let start = starts.get(&tp).copied().flatten().unwrap_or(end);
        if start >= end {
            left.remove(&tp);
        }
        fetcher.add(tp, Position::Offset(start));
    }
    Ok(Tail { fetcher, left })
}
