//! A dead letter keeps the original key, value and headers byte for byte, and adds why, where from and how often
//! tried. The names are Apache Kafka's own where it has one (KIP-1191).

use crate::header::Header;
use crate::ids::CorrelationId;

/// KIP-1191: the topic the record came from.
pub const TOPIC: &str = "__dlq.errors.topic";
/// KIP-1191: its partition.
pub const PARTITION: &str = "__dlq.errors.partition";
/// KIP-1191: its offset.
pub const OFFSET: &str = "__dlq.errors.offset";
/// KIP-1191: the group that gave up.
pub const GROUP: &str = "__dlq.errors.group";
/// KIP-1191: how often it was tried.
pub const DELIVERY_COUNT: &str = "__dlq.errors.delivery.count";
/// KIP-1191: the error.
pub const MESSAGE: &str = "__dlq.errors.message";
/// Ours: `terminal`, `retryable` (attempts used up) or `unreadable`.
pub const CLASS: &str = "__dlq.errors.class";
/// Ours: the agent that gave up.
pub const AGENT: &str = "__dlq.errors.agent";
/// Ours: its version.
pub const AGENT_VERSION: &str = "__dlq.errors.agent.version";
/// Ours: the case, also where the original has no such header.
pub const CORRELATION_ID: &str = "__dlq.errors.correlationid";

/// Longest error message kept in a header, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 8 * 1024;

/// Why a record became a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure<'a> {
    /// Topic it came from.
    pub topic: &'a str,
    /// Partition it came from.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// The consumer group that gave up.
    pub group: &'a str,
    /// Attempts, from 1.
    pub attempts: u32,
    /// `terminal`, `retryable` or `unreadable`.
    pub class: &'static str,
    /// The error with its causes.
    pub message: &'a str,
    /// The agent.
    pub agent: &'a str,
    /// Its version.
    pub agent_version: &'a str,
    /// The case.
    pub correlation_id: &'a CorrelationId,
}

/// The headers of the dead letter: the original ones, untouched and in order, then the reasons.
pub fn headers(original: &[Header], failure: &Failure<'_>) -> Vec<Header> {
    let mut out = original.to_vec();
    let mut end = failure.message.len().min(MAX_MESSAGE_BYTES);
    while !failure.message.is_char_boundary(end) {
        end -= 1;
    }
    for (name, value) in [
        (TOPIC, failure.topic.to_owned()),
        (PARTITION, failure.partition.to_string()),
        (OFFSET, failure.offset.to_string()),
        (GROUP, failure.group.to_owned()),
        (DELIVERY_COUNT, failure.attempts.to_string()),
        (MESSAGE, failure.message[..end].to_owned()),
        (CLASS, failure.class.to_owned()),
        (AGENT, failure.agent.to_owned()),
        (AGENT_VERSION, failure.agent_version.to_owned()),
        (CORRELATION_ID, failure.correlation_id.to_string()),
    ] {
        out.push(Header::text(name, value));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_original_headers_stay_first_and_untouched() {
        let original = vec![Header { name: "x".into(), value: None }, Header::text("x", "2"), Header::text("x", "2")];
        let failure = Failure {
            topic: "t",
            partition: 1,
            offset: 2,
            group: "g",
            attempts: 3,
            class: "terminal",
            message: &"é".repeat(MAX_MESSAGE_BYTES),
            agent: "a",
            agent_version: "1",
            correlation_id: &CorrelationId::new("c"),
        };
        let all = headers(&original, &failure);
        assert_eq!(&all[..3], &original[..]);
        assert_eq!(crate::header::last(&all, DELIVERY_COUNT), Some("3"));
    }
}
