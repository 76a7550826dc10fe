//! A dead letter keeps the original key, value and headers byte for byte, and adds why, where from and how often
//! tried. The names are Apache Kafka's own where it has one (KIP-1191).
//!
//! What is added stands after the original headers, in one block that begins with [`TOPIC`]: so a letter can be taken
//! apart again ([`read`]) and sent back as it was ([`redriven`]).

use crate::header::{self, Header};
use crate::ids::CorrelationId;
use crate::time::Timestamp;

/// How the names of all that is added begin.
pub const PREFIX: &str = "__dlq.errors.";
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
/// KIP-1191: the error, with its causes on one line.
pub const MESSAGE: &str = "__dlq.errors.message";
/// Ours: the error and its causes, each on a line of its own, the root last.
pub const CAUSES: &str = "__dlq.errors.causes";
/// Ours: `terminal`, `retryable` (attempts used up) or `unreadable`.
pub const CLASS: &str = "__dlq.errors.class";
/// Ours: the agent that gave up.
pub const AGENT: &str = "__dlq.errors.agent";
/// Ours: its version.
pub const AGENT_VERSION: &str = "__dlq.errors.agent.version";
/// Ours: the case, also where the original has no such header.
pub const CORRELATION_ID: &str = "__dlq.errors.correlationid";
/// Ours: when it failed first, RFC 3339.
pub const FIRST_FAILURE: &str = "__dlq.errors.first.failure";
/// Ours: when it failed last, RFC 3339.
pub const LAST_FAILURE: &str = "__dlq.errors.last.failure";

/// On a record that was sent back from a dead letter topic, and on the plan of a case that was: how often so far.
pub const REDRIVES: &str = "__anabranch.redrives";

/// Longest error message kept in a header, in bytes; the causes have as much again.
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
    /// The error and its causes one by one, the root last. None: there is the message alone.
    pub causes: &'a [String],
    /// The agent.
    pub agent: &'a str,
    /// Its version.
    pub agent_version: &'a str,
    /// The case.
    pub correlation_id: &'a CorrelationId,
    /// When it failed first.
    pub first_failure: Timestamp,
    /// When it failed last.
    pub last_failure: Timestamp,
}

/// The headers of the dead letter: the original ones, untouched and in order, then the reasons.
pub fn headers(original: &[Header], failure: &Failure<'_>) -> Vec<Header> {
    headers_within(original, failure, MAX_MESSAGE_BYTES)
}

/// As [`headers`], with at most so many bytes of the message and of the causes: for a record that leaves little room.
pub fn headers_within(original: &[Header], failure: &Failure<'_>, most: usize) -> Vec<Header> {
    let most = most.min(MAX_MESSAGE_BYTES);
    let causes: Vec<String> = failure.causes.iter().map(|cause| cause.replace(['\n', '\r'], " ")).collect();
    let causes = if causes.is_empty() { failure.message.replace(['\n', '\r'], " ") } else { causes.join("\n") };
    let mut out = original.to_vec();
    for (name, value) in [
        (TOPIC, failure.topic.to_owned()),
        (PARTITION, failure.partition.to_string()),
        (OFFSET, failure.offset.to_string()),
        (GROUP, failure.group.to_owned()),
        (DELIVERY_COUNT, failure.attempts.to_string()),
        (MESSAGE, cut(failure.message, most).to_owned()),
        (CAUSES, cut(&causes, most).to_owned()),
        (CLASS, failure.class.to_owned()),
        (AGENT, failure.agent.to_owned()),
        (AGENT_VERSION, failure.agent_version.to_owned()),
        (CORRELATION_ID, failure.correlation_id.to_string()),
        (FIRST_FAILURE, failure.first_failure.to_string()),
        (LAST_FAILURE, failure.last_failure.to_string()),
    ] {
        out.push(Header::text(name, value));
    }
    out
}

/// At most so many bytes of a text.
fn cut(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// A dead letter's headers, taken apart. All of it but the original may be anybody's words: check before use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter<'a> {
    /// The headers of the record that was given up, as they were.
    pub original: &'a [Header],
    /// Topic it came from.
    pub topic: &'a str,
    /// Partition and offset it had there.
    pub place: Option<(i32, i64)>,
    /// The consumer group that gave up.
    pub group: Option<&'a str>,
    /// Attempts.
    pub attempts: Option<u32>,
    /// `terminal`, `retryable` or `unreadable`.
    pub class: Option<&'a str>,
    /// The error with its causes.
    pub message: Option<&'a str>,
    /// The error and its causes one by one, the root last.
    pub causes: Vec<&'a str>,
    /// The agent.
    pub agent: Option<&'a str>,
    /// Its version.
    pub agent_version: Option<&'a str>,
    /// The case.
    pub correlation_id: Option<&'a str>,
    /// When it failed first.
    pub first_failure: Option<Timestamp>,
    /// When it failed last.
    pub last_failure: Option<Timestamp>,
}

/// Takes a dead letter's headers apart. `None`: nothing that gave up a record wrote them, as they do not end with a block
/// that begins with [`TOPIC`]. An original that was a dead letter itself keeps what it had.
pub fn read(headers: &[Header]) -> Option<Letter<'_>> {
    let at = headers.iter().rposition(|h| h.name == TOPIC)?;
    let (original, block) = headers.split_at(at);
    if !block.iter().all(|h| h.name.starts_with(PREFIX)) {
        return None;
    }
    let text = |name| header::last(block, name);
    let time = |name| text(name).and_then(Timestamp::parse);
    let number = |name| text(name).and_then(|text| text.parse::<i64>().ok());
    let place = number(PARTITION).and_then(|p| i32::try_from(p).ok()).zip(number(OFFSET));
    Some(Letter {
        original,
        topic: text(TOPIC)?,
        place: place.filter(|(partition, offset)| *partition >= 0 && *offset >= 0),
        group: text(GROUP),
        attempts: number(DELIVERY_COUNT).and_then(|n| u32::try_from(n).ok()),
        class: text(CLASS),
        message: text(MESSAGE),
        causes: text(CAUSES).map(|text| text.lines().collect()).unwrap_or_default(),
        agent: text(AGENT),
        agent_version: text(AGENT_VERSION),
        correlation_id: text(CORRELATION_ID),
        first_failure: time(FIRST_FAILURE),
        last_failure: time(LAST_FAILURE),
    })
}

/// How often a record was sent back, as its headers say; 0 if they do not, or in no number.
pub fn redrives(headers: &[Header]) -> u32 {
    header::last(headers, REDRIVES).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The headers of a record that is sent back for the `redrives`-th time: the original ones in order, and that number.
pub fn redriven(original: &[Header], redrives: u32) -> Vec<Header> {
    let mut headers: Vec<Header> = original.iter().filter(|h| h.name != REDRIVES).cloned().collect();
    headers.push(Header::text(REDRIVES, redrives.to_string()));
    headers
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn failure<'a>(message: &'a str, causes: &'a [String], case: &'a CorrelationId) -> Failure<'a> {
        Failure {
            topic: "t",
            partition: 1,
            offset: 2,
            group: "g",
            attempts: 3,
            class: "terminal",
            message,
            causes,
            agent: "a",
            agent_version: "1",
            correlation_id: case,
            first_failure: Timestamp::from_millis(1_000),
            last_failure: Timestamp::from_millis(2_000),
        }
    }

    fn odd() -> Vec<Header> {
        let bytes = |name: &'static str, value: &'static [u8]| Header {
            name: name.into(),
            value: Some(Bytes::from_static(value)),
        };
        let null = Header { name: "x".into(), value: None };
        vec![null, Header::text("x", "2"), Header::text("x", "2"), bytes("", b"\xff\x00"), Header::text(MESSAGE, "")]
    }

    #[test]
    fn the_original_headers_stay_first_and_untouched() {
        let case = CorrelationId::new("c");
        let long = "é".repeat(MAX_MESSAGE_BYTES);
        let all = headers(&odd(), &failure(&long, &[], &case));
        assert_eq!(&all[..5], &odd()[..]);
        assert_eq!(header::last(&all, DELIVERY_COUNT), Some("3"));
        assert_eq!(header::last(&all, MESSAGE).map(str::len), Some(MAX_MESSAGE_BYTES));
        let lean = headers_within(&odd(), &failure(&long, &[], &case), 101);
        assert_eq!(header::last(&lean, CAUSES).map(str::len), Some(100), "no half of a character");
    }

    #[test]
    fn a_letter_is_taken_apart_into_what_it_was_made_of() {
        let case = CorrelationId::new("c");
        let causes = ["could not save\nat all".to_owned(), "disk full".to_owned()];
        let first = headers(&odd(), &failure("could not save: disk full", &causes, &case));
        let letter = read(&first).unwrap();
        assert_eq!(letter.original, odd());
        assert_eq!((letter.topic, letter.place, letter.attempts), ("t", Some((1, 2)), Some(3)));
        assert_eq!(letter.causes, ["could not save at all", "disk full"]);
        assert_eq!(
            letter.first_failure.zip(letter.last_failure).map(|(a, b)| b.as_millis() - a.as_millis()),
            Some(1_000)
        );
        // A letter that was given up itself, as a whole: the outer block goes, the inner one is the original's.
        let twice = headers(&first, &failure("again", &[], &case));
        assert_eq!(read(&twice).unwrap().original, first);
        assert_eq!(read(&twice).unwrap().causes, ["again"]);
    }

    #[test]
    fn what_nobody_gave_up_is_no_letter() {
        assert_eq!(read(&odd()), None);
        assert_eq!(read(&[Header::text(TOPIC, "t"), Header::text("x", "1")]), None, "not at the end");
        assert_eq!(read(&[Header { name: TOPIC.into(), value: None }]), None);
        let foreign = [Header::text(TOPIC, "t"), Header::text(PARTITION, "-1"), Header::text(OFFSET, "soon")];
        assert_eq!(read(&foreign).unwrap().place, None);
    }

    #[test]
    fn redrives_are_counted_once() {
        let once = redriven(&odd(), 1);
        assert_eq!((redrives(&odd()), redrives(&once)), (0, 1));
        let twice = redriven(&once, 2);
        assert_eq!(twice.len(), odd().len() + 1);
        assert_eq!((&twice[..5], redrives(&twice)), (&odd()[..], 2));
        assert_eq!(redrives(&[Header::text(REDRIVES, "many")]), 0);
    }
}
