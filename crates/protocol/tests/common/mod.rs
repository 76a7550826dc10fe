//! What several of the tests need.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use anabranch_protocol::{CorrelationId, Envelope, EventId, Header, RecordView, Timestamp, TraceParent};
use bytes::Bytes;

/// An envelope with every attribute set.
pub(crate) fn full(kind: &str) -> Envelope {
    Envelope {
        id: EventId::new("5f1c0a1e-0000-5000-8000-000000000001"),
        source: "/kyc/supervisor".into(),
        kind: kind.into(),
        subject: Some("identity".into()),
        time: Timestamp::from_millis(1_900_000_000_123),
        correlation_id: CorrelationId::new("case-7"),
        causation_id: Some(EventId::new("cause-1")),
        deadline: Some(Timestamp::from_millis(1_900_000_300_000)),
        trace: TraceParent::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").expect("a trace"),
        trace_state: Some("vendor=1,other=a b".into()),
        origin_trace: TraceParent::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-1111111111111111-00").expect("a trace"),
    }
}

/// An envelope with only what is never missing.
pub(crate) fn bare(kind: &str) -> Envelope {
    let full = full(kind);
    Envelope { subject: None, causation_id: None, deadline: None, trace_state: None, ..full }
}

/// A record as it comes from a topic.
pub(crate) fn record<'a>(key: Option<&'a [u8]>, value: Option<&'a Bytes>, headers: &'a [Header]) -> RecordView<'a> {
    RecordView { topic: "kyc.requests", partition: 3, offset: 41, timestamp_ms: 1_800_000_000_000, key, value, headers }
}
