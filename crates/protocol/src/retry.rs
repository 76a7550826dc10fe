//! What travels with a record that waits in a retry topic.
//!
//! Key, value and headers stay as they were, byte for byte; what is known of the attempts follows as a block of headers
//! at the end, so that [`split`] gives the original back. Whatever becomes of it, it names where it was first read.

use crate::header::Header;
use crate::time::Timestamp;

/// Attempts made so far.
pub const ATTEMPTS: &str = "anabranch_retry_attempts";
/// Times it was put into a retry topic: of two records of one origin, the one with more is the later.
pub const ROUNDS: &str = "anabranch_retry_rounds";
/// Not to be tried again before, RFC 3339.
pub const DUE: &str = "anabranch_retry_due";
/// The topic it was first read from.
pub const TOPIC: &str = "anabranch_retry_topic";
/// Its partition there.
pub const PARTITION: &str = "anabranch_retry_partition";
/// Its offset there.
pub const OFFSET: &str = "anabranch_retry_offset";
/// Its timestamp there, in ms since the epoch; -1: none.
pub const TIMESTAMP: &str = "anabranch_retry_timestamp_ms";
/// When it first failed, RFC 3339.
pub const FIRST_FAILED_AT: &str = "anabranch_retry_first_failed_at";
/// How it first failed.
pub const FIRST_ERROR: &str = "anabranch_retry_first_error";
/// How it last failed.
pub const LAST_ERROR: &str = "anabranch_retry_last_error";

/// The block, in its order.
const BLOCK: [&str; 10] =
    [TOPIC, PARTITION, OFFSET, TIMESTAMP, ATTEMPTS, ROUNDS, DUE, FIRST_FAILED_AT, FIRST_ERROR, LAST_ERROR];

/// Longest error kept in a header, in bytes.
pub const MAX_ERROR_BYTES: usize = 2 * 1024;

/// What is known of the attempts at a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// The topic it was first read from.
    pub topic: String,
    /// Its partition there.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Its timestamp there, in ms; -1: none.
    pub timestamp_ms: i64,
    /// Attempts made so far.
    pub attempts: u32,
    /// Times it was put into a retry topic.
    pub rounds: u32,
    /// Not to be tried again before.
    pub due: Timestamp,
    /// When it first failed.
    pub first_failed_at: Timestamp,
    /// How it first failed.
    pub first_error: String,
    /// How it last failed.
    pub last_error: String,
}

/// The headers of the record in the retry topic: the original ones, untouched and in order, then the block.
pub fn headers(original: &[Header], tried: &Tried) -> Vec<Header> {
    let mut out = Vec::with_capacity(original.len() + BLOCK.len());
    out.extend_from_slice(original);
    let values = [
        tried.topic.clone(),
        tried.partition.to_string(),
        tried.offset.to_string(),
        tried.timestamp_ms.to_string(),
        tried.attempts.to_string(),
        tried.rounds.to_string(),
        tried.due.to_string(),
        tried.first_failed_at.to_string(),
        cut(&tried.first_error).to_owned(),
        cut(&tried.last_error).to_owned(),
    ];
    out.extend(BLOCK.into_iter().zip(values).map(|(name, value)| Header::text(name, value)));
    out
}

/// The original headers and what is known of the attempts. `None` if the block is not there, or is not readable: whoever
/// wrote that record, it was not [`headers`].
pub fn split(headers: &[Header]) -> Option<(&[Header], Tried)> {
    let (original, block) = headers.split_at_checked(headers.len().checked_sub(BLOCK.len())?)?;
    let mut texts = block.iter().zip(BLOCK).map(|(h, name)| if h.name == name { h.as_str() } else { None });
    let mut text = || texts.next().flatten();
    let tried = Tried {
        topic: text()?.to_owned(),
        partition: text()?.parse().ok().filter(|partition| *partition >= 0)?,
        offset: text()?.parse().ok().filter(|offset| *offset >= 0)?,
        timestamp_ms: text()?.parse().ok()?,
        attempts: text()?.parse().ok()?,
        rounds: text()?.parse().ok()?,
        due: Timestamp::parse(text()?)?,
        first_failed_at: Timestamp::parse(text()?)?,
        first_error: text()?.to_owned(),
        last_error: text()?.to_owned(),
    };
    Some((original, tried))
}

/// As much of an error as is kept.
fn cut(error: &str) -> &str {
    let mut end = error.len().min(MAX_ERROR_BYTES);
    while !error.is_char_boundary(end) {
        end -= 1;
    }
    &error[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried() -> Tried {
        Tried {
            topic: "kyc.tasks.identity".to_owned(),
            partition: 3,
            offset: 17,
            timestamp_ms: 1_700_000_000_123,
            attempts: 2,
            rounds: 1,
            due: Timestamp::from_millis(1_700_000_005_123),
            first_failed_at: Timestamp::from_millis(1_700_000_000_200),
            first_error: "é".repeat(MAX_ERROR_BYTES),
            last_error: "down".to_owned(),
        }
    }

    #[test]
    fn the_original_headers_come_back_as_they_were() {
        let odd = [
            Header { name: "x".into(), value: None },
            Header::text("x", "2"),
            Header::text(ATTEMPTS, "somebody else's"),
        ];
        for original in [&odd[..], &[]] {
            let written = headers(original, &tried());
            let (read, back) = split(&written).unwrap();
            assert_eq!(read, original);
            assert_eq!(back, Tried { first_error: "é".repeat(MAX_ERROR_BYTES / 2), ..tried() });
            let again = headers(read, &Tried { rounds: 2, ..back });
            assert_eq!(again.len(), written.len(), "the block is replaced");
        }
    }

    #[test]
    fn what_others_wrote_is_not_taken_for_a_block() {
        assert_eq!(split(&[]), None);
        for (at, broken) in [(0, None), (1, Some("-1")), (2, Some("many")), (6, Some("soon"))] {
            let mut written = headers(&[], &tried());
            written[at].value = broken.map(|text: &str| text.to_owned().into());
            assert_eq!(split(&written), None, "{at}");
        }
        let mut more = headers(&[], &tried());
        more.push(Header::text("x", "after"));
        assert_eq!(split(&more), None);
    }
}
