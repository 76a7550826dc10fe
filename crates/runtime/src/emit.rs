//! Emitting records: what is emitted is acknowledged before anything is said to be done.

use std::sync::Arc;
use std::time::Duration;

use anabranch_kafka::{Delivered, Error, OutRecord, Producer, Record};
use anabranch_protocol::dead_letter::{self, Failure};
use anabranch_protocol::{CorrelationId, Envelope};
use bytes::Bytes;
use serde::Serialize;

use crate::metrics::Metrics;

/// Longest wait between tries to emit while the broker is away.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// Why a record could not be emitted. No retry mends it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EmitError {
    /// The broker will not take it: too large, no such topic, no right.
    #[error(transparent)]
    Broker(#[from] Error),
    /// It has no JSON form.
    #[error("cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl EmitError {
    /// The record is larger than the broker takes.
    pub(crate) fn is_too_large(&self) -> bool {
        matches!(self, Self::Broker(e) if matches!(e.kind(), anabranch_kafka::ErrorKind::RecordTooLarge { .. }))
    }

    /// The topic does not exist.
    pub(crate) fn is_unknown_topic(&self) -> bool {
        matches!(self, Self::Broker(e) if e.is_unknown_topic())
    }
}

/// The record that `envelope` and `data` make, keyed by correlation id.
///
/// # Errors
/// If `data` cannot be written as JSON.
pub(crate) fn record(topic: &str, envelope: &Envelope, data: &impl Serialize) -> Result<OutRecord, EmitError> {
    Ok(OutRecord {
        topic: topic.to_owned(),
        partition: None,
        key: Some(Bytes::from(envelope.correlation_id.as_str().to_owned())),
        value: Some(Bytes::from(serde_json::to_vec(data)?)),
        headers: envelope.headers(),
        timestamp_ms: Some(envelope.time.as_millis()),
    })
}

/// Emits until it is acknowledged.
#[derive(Debug, Clone)]
pub(crate) struct Emitter {
    producer: Producer,
    metrics: Arc<Metrics>,
}

impl Emitter {
    pub(crate) fn new(producer: Producer, metrics: Arc<Metrics>) -> Self {
        Self { producer, metrics }
    }

    /// Emits all records and waits for every acknowledgement. While the broker is away it keeps trying: what calls
    /// this may be dropped to give up. A retry may emit a record twice; ids are deterministic, so readers can tell.
    ///
    /// # Errors
    /// Only what no retry mends: a record that is too large, a topic that does not exist, a right that is missing.
    pub(crate) async fn emit(&self, records: Vec<OutRecord>) -> Result<Vec<Delivered>, EmitError> {
        let topics: Vec<String> = records.iter().map(|r| r.topic.clone()).collect();
        let mut wait = Duration::from_millis(100);
        loop {
            match self.producer.send_all(records.clone()).await {
                Ok(delivered) => {
                    topics.iter().for_each(|t| self.metrics.emitted(t));
                    return Ok(delivered);
                }
                Err(error) if error.is_retryable() => {
                    tracing::warn!(%error, retry_in_ms = wait.as_millis() as u64, "could not emit, trying again");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(MAX_WAIT);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Who gives up on a record, and why.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GivenUp<'a> {
    pub(crate) dlq_topic: &'a str,
    pub(crate) group: &'a str,
    pub(crate) agent: &'a str,
    pub(crate) agent_version: &'a str,
    pub(crate) attempts: u32,
    pub(crate) class: &'static str,
    pub(crate) message: &'a str,
    pub(crate) correlation_id: &'a CorrelationId,
}

/// The dead letter of a record: its key, value and headers byte for byte, and why.
pub(crate) fn dead_letter(record: &Record, given_up: &GivenUp<'_>) -> OutRecord {
    let failure = Failure {
        topic: &record.topic,
        partition: record.partition,
        offset: record.offset,
        group: given_up.group,
        attempts: given_up.attempts,
        class: given_up.class,
        message: given_up.message,
        agent: given_up.agent,
        agent_version: given_up.agent_version,
        correlation_id: given_up.correlation_id,
    };
    OutRecord {
        topic: given_up.dlq_topic.to_owned(),
        partition: None,
        key: record.key.clone(),
        value: record.value.clone(),
        headers: dead_letter::headers(&record.headers, &failure),
        timestamp_ms: None,
    }
}
