//! Emitting records: what is emitted is acknowledged before anything is said to be done.

use std::sync::Arc;
use std::time::Duration;

use anabranch_kafka::{Delivered, Error, OutRecord, Producer, Record};
use anabranch_protocol::dead_letter::{self, Failure};
use anabranch_protocol::{CorrelationId, Envelope, EnvelopeError, Timestamp};
use anabranch_sdk::error::{AgentError, Class};
use serde::Serialize;

use crate::metrics::Metrics;

/// Longest wait between tries to emit while the broker is away.
const MAX_WAIT: Duration = Duration::from_secs(1);
/// `max.message.bytes`, as brokers have it by default.
const DEFAULT_RECORD_LIMIT: usize = 1024 * 1024;

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

    /// The most that the broker takes, where the record is larger: of those that say it, what it says, else what brokers
    /// take by default.
    pub(crate) fn size_limit(&self) -> Option<usize> {
        match self {
            Self::Broker(error) => match error.kind() {
                anabranch_kafka::ErrorKind::RecordTooLarge { limit_bytes, .. } => {
                    Some(limit_bytes.unwrap_or(DEFAULT_RECORD_LIMIT))
                }
                _ => None,
            },
            Self::Json(_) => None,
        }
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
    Ok(OutRecord::message(topic, envelope, serde_json::to_vec(data)?))
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
        let records: Vec<Arc<OutRecord>> = records.into_iter().map(Arc::new).collect();
        let mut wait = Duration::from_millis(100);
        loop {
            match self.producer.send_shared(records.clone()).await {
                Ok(delivered) => {
                    records.iter().for_each(|record| self.metrics.emitted(&record.topic));
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

/// Why a record is given up.
#[derive(Debug, Clone)]
pub(crate) struct Reason {
    /// `terminal`, `retryable` (attempts used up) or `unreadable`.
    pub(crate) class: &'static str,
    /// The error, with its causes on one line.
    pub(crate) message: String,
    /// The error and its causes one by one, the root last.
    pub(crate) causes: Vec<String>,
    /// Attempts, from 1.
    pub(crate) attempts: u32,
    /// When it failed first; `None`: just now.
    pub(crate) first_failure: Option<Timestamp>,
}

impl Reason {
    /// After one attempt, just now.
    pub(crate) fn new(class: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { class, causes: vec![message.clone()], message, attempts: 1, first_failure: None }
    }

    /// What cannot be read.
    pub(crate) fn unreadable(error: &EnvelopeError) -> Self {
        Self::new("unreadable", error.to_string())
    }

    /// An agent's error, after so many attempts.
    pub(crate) fn of(error: &AgentError, attempts: u32) -> Self {
        let class = match error.class() {
            Class::Retryable { .. } => "retryable",
            Class::Terminal => "terminal",
            Class::Fatal => "fatal",
        };
        let causes = error.causes().map(str::to_owned).collect();
        Self { class, message: error.to_string(), causes, attempts, first_failure: None }
    }
}

/// Who gives up on a record, and why.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GivenUp<'a> {
    pub(crate) dlq_topic: &'a str,
    pub(crate) group: &'a str,
    pub(crate) agent: &'a str,
    pub(crate) agent_version: &'a str,
    pub(crate) reason: &'a Reason,
    pub(crate) correlation_id: &'a CorrelationId,
}

/// Most bytes of the error in a dead letter that would be too large for the broker with all of it.
pub(crate) const LEAN: usize = 200;

/// The dead letter of a record that is given up now: its key, value and headers byte for byte, and why, of which at most so many bytes.
pub(crate) fn dead_letter(record: &Record, given_up: &GivenUp<'_>, now: Timestamp, most: usize) -> OutRecord {
    let reason = given_up.reason;
    let failure = Failure {
        topic: &record.topic,
        partition: record.partition,
        offset: record.offset,
        group: given_up.group,
        attempts: reason.attempts,
        class: reason.class,
        message: &reason.message,
        causes: &reason.causes,
        agent: given_up.agent,
        agent_version: given_up.agent_version,
        correlation_id: given_up.correlation_id,
        first_failure: reason.first_failure.unwrap_or(now),
        last_failure: now,
    };
    OutRecord {
        topic: given_up.dlq_topic.to_owned(),
        partition: None,
        key: record.key.clone(),
        value: record.value.clone(),
        headers: dead_letter::headers_within(&record.headers, &failure, most),
        timestamp_ms: None,
    }
}
