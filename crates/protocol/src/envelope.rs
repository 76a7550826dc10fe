//! The envelope: `CloudEvents` 1.0 attributes of a record, in the Kafka protocol binding.
//!
//! The runtime writes binary mode; binary and structured mode are read. A record from outside with no attributes at all is
//! still a request: what is missing is minted from its key or its place, so that a redelivery mints the same.

use std::borrow::Cow;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::header::{self, Header};
use crate::ids::{CorrelationId, EventId};
use crate::structured;
use crate::time::Timestamp;
use crate::trace::TraceParent;

/// `content-type` of what the runtime writes.
pub const JSON: &str = "application/json";
/// `content-type` of a structured-mode record; parameters may follow.
pub const STRUCTURED: &str = "application/cloudevents+json";

/// A record as it was read, borrowed.
#[derive(Debug, Clone, Copy)]
pub struct RecordView<'a> {
    /// Topic.
    pub topic: &'a str,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Record timestamp, milliseconds since the epoch.
    pub timestamp_ms: i64,
    /// Key; any bytes.
    pub key: Option<&'a [u8]>,
    /// Value; `None` is a tombstone.
    pub value: Option<&'a Bytes>,
    /// Headers in order.
    pub headers: &'a [Header],
}

/// The attributes that every record of the runtime carries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// `ce_id`.
    pub id: EventId,
    /// `ce_source`.
    pub source: String,
    /// `ce_type`.
    pub kind: String,
    /// `ce_subject`.
    pub subject: Option<String>,
    /// `ce_time`.
    pub time: Timestamp,
    /// `ce_correlationid`.
    pub correlation_id: CorrelationId,
    /// `ce_causationid`; `None` on what came from outside.
    pub causation_id: Option<EventId>,
    /// `ce_expirytime`: the case's deadline, absolute.
    pub deadline: Option<Timestamp>,
    /// `traceparent` of this hop.
    pub trace: TraceParent,
    /// `tracestate` of this hop.
    pub trace_state: Option<String>,
    /// `ce_traceparent`: the trace of the inbound record, unchanged.
    pub origin_trace: TraceParent,
}

/// An envelope and its data.
#[derive(Debug, Clone)]
pub struct Decoded {
    /// The attributes.
    pub envelope: Envelope,
    /// The data: JSON text, if the producer kept to the contract.
    pub data: Bytes,
}

/// Why a record cannot be read. Every one of these is terminal: reading it again gives the same answer.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EnvelopeError {
    /// A tombstone where a message was expected.
    #[error("the record has no value (a tombstone)")]
    NoValue,
    /// The data is not the JSON that was expected.
    #[error("the value is not valid JSON for {expected}: {reason}")]
    NotJson {
        /// What it was to be.
        expected: &'static str,
        /// The parser's words.
        reason: String,
    },
    /// A structured-mode record that is not a `CloudEvents` JSON object.
    #[error("not a CloudEvents structured-mode JSON event: {0}")]
    Structured(String),
    /// An attribute that is there but cannot be read.
    #[error("attribute {name} cannot be read: {value:?}")]
    BadAttribute {
        /// The header or member.
        name: &'static str,
        /// Its text, at most 80 characters.
        value: String,
    },
}

impl Decoded {
    /// Parses the data.
    ///
    /// # Errors
    /// [`EnvelopeError::NotJson`] with the parser's line and column.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, EnvelopeError> {
        serde_json::from_slice(&self.data)
            .map_err(|e| EnvelopeError::NotJson { expected: short_type_name::<T>(), reason: e.to_string() })
    }
}

fn short_type_name<T>() -> &'static str {
    let full = std::any::type_name::<T>();
    full.rsplit("::").next().unwrap_or(full)
}

impl Envelope {
    /// Reads a record, in binary or structured mode, and mints what it lacks.
    ///
    /// # Errors
    /// See [`EnvelopeError`].
    pub fn decode(record: &RecordView<'_>) -> Result<Decoded, EnvelopeError> {
        let value = record.value.ok_or(EnvelopeError::NoValue)?;
        let text = |name| header::last(record.headers, name).map(Cow::Borrowed);
        if let Some(event) = structured::read(record.headers, value)? {
            let envelope = Self::from_attributes(record, |name| event.attribute(name).or_else(|| text(name)))?;
            return Ok(Decoded { envelope, data: event.data });
        }
        let envelope = Self::from_attributes(record, text)?;
        Ok(Decoded { envelope, data: value.clone() })
    }

    fn from_attributes<'a>(
        record: &RecordView<'_>,
        get: impl Fn(&'static str) -> Option<Cow<'a, str>>,
    ) -> Result<Self, EnvelopeError> {
        let at = |name| get(name).filter(|text| !text.is_empty());
        let owned = |name| at(name).map(Cow::into_owned);
        let time_of = |name| match at(name) {
            None => Ok(None),
            Some(text) => Timestamp::parse(&text)
                .map(Some)
                .ok_or_else(|| EnvelopeError::BadAttribute { name, value: text.chars().take(80).collect() }),
        };
        let place = (record.topic, record.partition, record.offset);
        let id = owned(header::ID).map_or_else(|| EventId::mint(place.0, place.1, place.2), EventId::new);
        let correlation_id = owned(header::CORRELATION_ID)
            .filter(|text| CorrelationId::is_plain(text))
            .map_or_else(|| CorrelationId::mint(record.key, place.0, place.1, place.2), CorrelationId::new);
        // A malformed trace is ignored, as W3C Trace Context asks; it is no reason to lose a case.
        let trace_of = |name| at(name).and_then(|text| TraceParent::parse(&text));
        let trace = trace_of(header::TRACE_PARENT);
        let origin_trace = trace_of(header::ORIGIN_TRACE_PARENT).or(trace).unwrap_or_else(|| TraceParent::root(&id));
        Ok(Self {
            source: owned(header::SOURCE).unwrap_or_else(|| record.topic.to_owned()),
            kind: owned(header::TYPE).unwrap_or_default(),
            subject: owned(header::SUBJECT),
            time: time_of(header::TIME)?.unwrap_or_else(|| Timestamp::from_millis(record.timestamp_ms)),
            correlation_id,
            causation_id: owned(header::CAUSATION_ID).map(EventId::new),
            deadline: time_of(header::EXPIRY_TIME)?,
            trace: trace.unwrap_or(origin_trace),
            trace_state: owned(header::TRACE_STATE),
            origin_trace,
            id,
        })
    }

    /// The envelope of a record that `source` emits because of this one.
    #[must_use]
    pub fn caused(&self, id: EventId, source: &str, kind: &str, now: Timestamp) -> Self {
        Self {
            trace: self.trace.child(&id),
            causation_id: Some(self.id.clone()),
            id,
            source: source.to_owned(),
            kind: kind.to_owned(),
            subject: None,
            time: now,
            correlation_id: self.correlation_id.clone(),
            deadline: self.deadline,
            trace_state: self.trace_state.clone(),
            origin_trace: self.origin_trace,
        }
    }

    /// The headers in binary mode.
    pub fn headers(&self) -> Vec<Header> {
        let mut out = Vec::with_capacity(14);
        let mut put = |name: &'static str, value: String| out.push(Header::text(name, value));
        put(header::SPEC_VERSION, "1.0".to_owned());
        put(header::ID, self.id.to_string());
        put(header::SOURCE, self.source.clone());
        put(header::TYPE, self.kind.clone());
        put(header::TIME, self.time.to_string());
        put(header::CONTENT_TYPE, JSON.to_owned());
        put(header::CORRELATION_ID, self.correlation_id.to_string());
        put(header::TRACE_PARENT, self.trace.to_string());
        put(header::ORIGIN_TRACE_PARENT, self.origin_trace.to_string());
        let optional = [
            (header::SUBJECT, self.subject.clone()),
            (header::CAUSATION_ID, self.causation_id.as_ref().map(ToString::to_string)),
            (header::EXPIRY_TIME, self.deadline.map(|d| d.to_string())),
            (header::TRACE_STATE, self.trace_state.clone()),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                put(name, value);
            }
        }
        // In order of name: a client that keeps headers in a sorted map then carries them unchanged.
        out.sort_by(|a, b| a.name.cmp(&b.name));
        out
    }

    /// Headers and value in structured mode, for tools that want one self-contained value; the runtime itself writes
    /// binary mode. Data that is no JSON goes as base64.
    ///
    /// # Errors
    /// [`EnvelopeError::Structured`] if the JSON cannot be written.
    pub fn structured(&self, data: &[u8]) -> Result<(Vec<Header>, Bytes), EnvelopeError> {
        structured::write(self.headers(), data)
    }

    /// Whether the deadline has passed.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.deadline.is_some_and(|deadline| now >= deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record<'a>(value: Option<&'a Bytes>, headers: &'a [Header]) -> RecordView<'a> {
        RecordView {
            topic: "kyc.requests",
            partition: 1,
            offset: 9,
            timestamp_ms: 1_700_000_000_000,
            key: None,
            value,
            headers,
        }
    }

    #[test]
    fn a_bare_record_is_still_a_request() {
        let value = Bytes::from_static(b"{}");
        let a = Envelope::decode(&record(Some(&value), &[])).unwrap().envelope;
        let b = Envelope::decode(&record(Some(&value), &[])).unwrap().envelope;
        assert_eq!(a, b);
        assert_eq!(a.time.as_millis(), 1_700_000_000_000);
    }

    #[test]
    fn what_is_written_is_read() {
        let value = Bytes::from_static(b"{}");
        let parent = Envelope::decode(&record(Some(&value), &[])).unwrap().envelope;
        let mut child =
            parent.caused(EventId::new("e2"), "/kyc/supervisor", "anabranch.task.v1", Timestamp::from_millis(5));
        child.deadline = Some(Timestamp::from_millis(77_000));
        child.trace_state = Some("v=1".to_owned());
        let headers = child.headers();
        let read = Envelope::decode(&record(Some(&value), &headers)).unwrap().envelope;
        assert_eq!(read, child);
    }

    #[test]
    fn null_and_repeated_headers_are_taken_in_stride() {
        let value = Bytes::from_static(b"{}");
        let headers = [
            Header { name: header::ID.into(), value: None },
            Header::text(header::CORRELATION_ID, "first"),
            Header::text(header::CORRELATION_ID, "last"),
            Header { name: header::CORRELATION_ID.into(), value: None },
        ];
        let read = Envelope::decode(&record(Some(&value), &headers)).unwrap().envelope;
        assert_eq!(read.correlation_id.as_str(), "last");
    }

    #[test]
    fn structured_mode_is_read() {
        let value = Bytes::from(
            r#"{"specversion":"1.0","id":"a","source":"/s","type":"t","correlationid":"c-1","expirytime":"2030-01-01T00:00:00Z","data":{"x":1}}"#,
        );
        let headers = [Header::text(header::CONTENT_TYPE, "application/cloudevents+json; charset=UTF-8")];
        let read = Envelope::decode(&record(Some(&value), &headers)).unwrap();
        assert_eq!(read.envelope.correlation_id.as_str(), "c-1");
        assert_eq!(&read.data[..], br#"{"x":1}"#);
        assert!(read.envelope.deadline.is_some());
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        assert_eq!(Envelope::decode(&record(None, &[])).unwrap_err(), EnvelopeError::NoValue);
        let value = Bytes::from_static(b"{}");
        let headers = [Header::text(header::EXPIRY_TIME, "soon")];
        assert!(matches!(Envelope::decode(&record(Some(&value), &headers)), Err(EnvelopeError::BadAttribute { .. })));
    }
}
