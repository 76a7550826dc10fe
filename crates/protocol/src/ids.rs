//! Ids. What the runtime emits is named after what caused it, so that a redelivery emits the same ids again and
//! every reader can recognise a repeat. Derived ids are UUID version 5 (RFC 9562) in a namespace of our own.

use std::fmt;
use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Namespace of every derived id: UUID v5 of the URL `urn:anabranch` in the URL namespace.
static NAMESPACE: LazyLock<Uuid> = LazyLock::new(|| Uuid::new_v5(&Uuid::NAMESPACE_URL, b"urn:anabranch"));

/// Derives an id from parts. Parts are length-prefixed, so that ("ab","c") and ("a","bc") differ.
fn derive(parts: &[&[u8]]) -> String {
    let mut bytes = Vec::with_capacity(parts.iter().map(|p| p.len() + 8).sum());
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    Uuid::new_v5(&NAMESPACE, &bytes).hyphenated().to_string()
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Takes the text as it is.
            pub fn new(text: impl Into<String>) -> Self { Self(text.into()) }
            /// The text.
            pub fn as_str(&self) -> &str { &self.0 }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.0) }
        }
    };
}

id! {
    /// What all records of one case share. Also their key, so that a case stays in one partition of every topic.
    CorrelationId
}
id! {
    /// `ce_id` of one record.
    EventId
}
id! {
    /// One plan. Derives from the case and what the plan holds, so that equal plans have equal ids.
    PlanId
}
id! {
    /// One task of one plan. Derives from the plan, the step and the round.
    TaskId
}

/// Longest correlation id taken over from a key or a header as it is, in bytes.
pub const MAX_CORRELATION_ID_BYTES: usize = 256;

impl CorrelationId {
    /// Mints the correlation id of a record that names none: from its key, or from where it lies if it has no key, so
    /// that a redelivery mints the same one.
    pub fn mint(key: Option<&[u8]>, topic: &str, partition: i32, offset: i64) -> Self {
        match key {
            Some(key) if !key.is_empty() => match std::str::from_utf8(key) {
                Ok(text) if Self::is_plain(text) => Self(text.to_owned()),
                _ => Self(derive(&[b"key", key])),
            },
            _ => Self(derive(&[b"position", topic.as_bytes(), &partition.to_be_bytes(), &offset.to_be_bytes()])),
        }
    }

    /// Whether `text` may be used as it is: not empty, printable, and at most [`MAX_CORRELATION_ID_BYTES`].
    pub fn is_plain(text: &str) -> bool {
        !text.is_empty() && text.len() <= MAX_CORRELATION_ID_BYTES && !text.chars().any(char::is_control)
    }
}

impl EventId {
    /// The id of a record from outside that names none: from where it lies.
    pub fn mint(topic: &str, partition: i32, offset: i64) -> Self {
        Self(derive(&[b"event", topic.as_bytes(), &partition.to_be_bytes(), &offset.to_be_bytes()]))
    }

    /// The id of the `index`-th record of kind `kind` that `agent` emits because of `cause`.
    pub fn derive(cause: &EventId, agent: &str, kind: &str, index: u32) -> Self {
        Self(derive(&[b"emit", cause.0.as_bytes(), agent.as_bytes(), kind.as_bytes(), &index.to_be_bytes()]))
    }

    /// The id of what a person says about a case: saying the same again is known by it.
    pub fn said<'a>(case: &'a CorrelationId, kind: &'a str, parts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut all = vec![&b"said"[..], case.0.as_bytes(), kind.as_bytes()];
        all.extend(parts.into_iter().map(str::as_bytes));
        Self(derive(&all))
    }

    /// The id of an outbound record of a case. It depends on the case and on which of its records this is, not on
    /// which redelivery led to it.
    pub fn outbound(case: &CorrelationId, topic: &str, kind: &str, index: u32) -> Self {
        Self(derive(&[b"out", case.0.as_bytes(), topic.as_bytes(), kind.as_bytes(), &index.to_be_bytes()]))
    }
}

impl PlanId {
    /// The id of a case's plan: of what is asked and of what is to be done, each serialized. A request that is delivered
    /// twice, even as two records, yields the same plan, and so the same tasks with the same idempotency keys.
    pub fn derive(case: &CorrelationId, request: &[u8], steps: &[u8]) -> Self {
        Self(derive(&[b"plan", case.0.as_bytes(), request, steps]))
    }
}

impl TaskId {
    /// The id of the task for `step` in `round` of `plan`.
    pub fn derive(plan: &PlanId, step: &str, round: u32) -> Self {
        Self(derive(&[b"task", plan.0.as_bytes(), step.as_bytes(), &round.to_be_bytes()]))
    }

    /// A key for an outside tool that accepts one (`Idempotency-Key`): the same for every attempt at this task.
    pub fn idempotency_key(&self, label: &str) -> String {
        derive(&[b"tool", self.0.as_bytes(), label.as_bytes()])
    }
}

impl From<&TaskId> for EventId {
    fn from(task: &TaskId) -> Self {
        Self(task.0.clone())
    }
}

impl From<&PlanId> for EventId {
    fn from(plan: &PlanId) -> Self {
        Self(plan.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redelivery_mints_the_same_correlation_id() {
        let a = CorrelationId::mint(None, "kyc.requests", 3, 17);
        assert_eq!(a, CorrelationId::mint(None, "kyc.requests", 3, 17));
        assert_ne!(a, CorrelationId::mint(None, "kyc.requests", 3, 18));
        assert_eq!(CorrelationId::mint(Some(b"case-7"), "t", 0, 0).as_str(), "case-7");
    }

    #[test]
    fn a_key_that_is_not_text_still_names_a_case() {
        let a = CorrelationId::mint(Some(&[0xff, 0xfe]), "t", 0, 0);
        assert_eq!(a, CorrelationId::mint(Some(&[0xff, 0xfe]), "t", 5, 9));
        assert!(CorrelationId::is_plain(a.as_str()));
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(derive(&[b"ab", b"c"]), derive(&[b"a", b"bc"]));
    }
}
