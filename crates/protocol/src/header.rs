//! Record headers, and the names that the runtime gives a meaning.

use std::borrow::Cow;

use bytes::Bytes;

/// One record header. Kafka allows a null value and repeated names; both are kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Header {
    /// The name. Kafka's protocol types it as a string. Each record of a case has a dozen, nearly always of the same few
    /// names: those take no memory.
    pub name: Cow<'static, str>,
    /// The bytes, or `None` for Kafka's null.
    pub value: Option<Bytes>,
}

impl Header {
    /// A header with a text value.
    pub fn text(name: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: Some(Bytes::from(value.into())) }
    }

    /// The value as text, if there is one and it is UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        self.value.as_deref().and_then(|v| std::str::from_utf8(v).ok())
    }
}

/// A name as it was read. What is no UTF-8 of it is replaced.
pub fn name(read: &[u8]) -> Cow<'static, str> {
    match KNOWN.iter().find(|known| known.as_bytes() == read) {
        Some(known) => Cow::Borrowed(known),
        None => Cow::Owned(String::from_utf8_lossy(read).into_owned()),
    }
}

/// Names that many records have, the most frequent first.
const KNOWN: [&str; 13] = [
    CORRELATION_ID,
    ID,
    TYPE,
    SOURCE,
    TIME,
    SPEC_VERSION,
    CONTENT_TYPE,
    TRACE_PARENT,
    ORIGIN_TRACE_PARENT,
    CAUSATION_ID,
    EXPIRY_TIME,
    SUBJECT,
    TRACE_STATE,
];

/// The last readable value of `name`: where a producer repeats a header, the last one counts, as in Kafka's `lastHeader`.
pub fn last<'a>(headers: &'a [Header], name: &str) -> Option<&'a str> {
    headers.iter().rev().filter(|h| h.name == name).find_map(Header::as_str)
}

/// `ce_specversion` of the Kafka protocol binding.
pub const SPEC_VERSION: &str = "ce_specversion";
/// `ce_id`: deterministic, so that a repeat is recognised.
pub const ID: &str = "ce_id";
/// `ce_source`: who wrote the record, a URI reference.
pub const SOURCE: &str = "ce_source";
/// `ce_type`.
pub const TYPE: &str = "ce_type";
/// `ce_time`, RFC 3339.
pub const TIME: &str = "ce_time";
/// `ce_subject`: for tasks and partials, the agent.
pub const SUBJECT: &str = "ce_subject";
/// `content-type` of the value.
pub const CONTENT_TYPE: &str = "content-type";
/// The case; also the record key.
pub const CORRELATION_ID: &str = "ce_correlationid";
/// `ce_id` of the record that caused this one.
pub const CAUSATION_ID: &str = "ce_causationid";
/// The deadline, RFC 3339 (`CloudEvents` expiry time extension).
pub const EXPIRY_TIME: &str = "ce_expirytime";
/// W3C trace context of this hop.
pub const TRACE_PARENT: &str = "traceparent";
/// W3C trace state of this hop.
pub const TRACE_STATE: &str = "tracestate";
/// Ours, on the late topic: why a record came too late to count, a fixed word.
pub const LATE_REASON: &str = "anabranch_late_reason";
/// The trace of the inbound record, unchanged (`CloudEvents` distributed tracing extension).
pub const ORIGIN_TRACE_PARENT: &str = "ce_traceparent";
