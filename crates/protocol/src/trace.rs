//! W3C Trace Context, level 1: `traceparent`. Span ids derive from event ids, so that a redelivery continues the
//! same trace with the same spans.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::ids::EventId;

/// A parsed `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceParent {
    trace_id: u128,
    span_id: u64,
    flags: u8,
}

impl TraceParent {
    /// Parses `00-<32 hex>-<16 hex>-<2 hex>`; later versions are read as version 00, as the specification asks.
    /// `None` for anything malformed or all-zero, which the specification says to ignore.
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.trim().splitn(5, '-');
        let (version, trace, span, flags) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let rest = fields.next();
        let hex =
            |s: &str, n: usize| s.len() == n && s.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if !hex(version, 2) || version == "ff" || (version == "00" && rest.is_some()) {
            return None;
        }
        if !hex(trace, 32) || !hex(span, 16) || !hex(flags, 2) {
            return None;
        }
        let parsed = Self {
            trace_id: u128::from_str_radix(trace, 16).ok()?,
            span_id: u64::from_str_radix(span, 16).ok()?,
            flags: u8::from_str_radix(flags, 16).ok()?,
        };
        (parsed.trace_id != 0 && parsed.span_id != 0).then_some(parsed)
    }

    /// A new sampled trace for a record that brought none; derives from the record's id.
    pub fn root(id: &EventId) -> Self {
        let hash = hash(id, "trace");
        Self { trace_id: hash.as_u128().max(1), span_id: (hash.as_u64_pair().1).max(1), flags: 1 }
    }

    /// The same trace, in the span of the record `id`.
    #[must_use]
    pub fn child(self, id: &EventId) -> Self {
        Self { span_id: hash(id, "span").as_u64_pair().0.max(1), ..self }
    }

    /// The trace id, 32 hex digits.
    pub fn trace_id(self) -> String {
        format!("{:032x}", self.trace_id)
    }
}

fn hash(id: &EventId, what: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{what}:{id}").as_bytes())
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
}

impl Serialize for TraceParent {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TraceParent {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not a traceparent"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_specifications_example_round_trips() {
        assert_eq!(TraceParent::parse(EXAMPLE).map(|t| t.to_string()).as_deref(), Some(EXAMPLE));
    }

    #[test]
    fn malformed_ones_are_ignored() {
        for bad in [
            "",
            "00",
            "00-0-0-0",
            &EXAMPLE.to_uppercase(),
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            &format!("{EXAMPLE}-x"),
        ] {
            assert_eq!(TraceParent::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_child_keeps_the_trace() {
        let parent = TraceParent::parse(EXAMPLE).unwrap();
        let child = parent.child(&EventId::new("x"));
        assert_eq!(parent.trace_id(), child.trace_id());
        assert_ne!(parent, child);
    }
}
