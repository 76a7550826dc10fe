//! What is said between `anabranch replay` and an agent's binary: a task or a case that is done, to be done again.
//!
//! One JSON document each way, on stdin and stdout, between programs of one build: no topic ever holds it. The exception is
//! [`CLOCK`], a header of answers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::envelope::RecordView;
use crate::header::{self, Header};
use crate::time::Timestamp;

/// On an answer: what its handler read of the clock, in milliseconds since the Unix epoch, in order, separated by commas. Not
/// there if it read nothing. It is what a replay gives the handler to read.
pub const CLOCK: &str = "anabranch_clock";

/// Most readings of the clock that an answer keeps; a replay that reads more is given the last one again.
pub const MOST_READINGS: usize = 200;

/// The header that keeps these readings; `None` if there are none.
pub fn clock_header(readings: &[Timestamp]) -> Option<Header> {
    let kept: Vec<String> = readings.iter().take(MOST_READINGS).map(|at| at.as_millis().to_string()).collect();
    (!kept.is_empty()).then(|| Header::text(CLOCK, kept.join(",")))
}

/// The readings that an answer keeps; what is no number is left out.
pub fn clock_readings(headers: &[Header]) -> Vec<Timestamp> {
    let kept = header::last(headers, CLOCK).unwrap_or_default();
    kept.split(',').filter_map(|text| text.parse().ok()).map(Timestamp::from_millis).collect()
}

/// Bytes, which JSON has as base64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base64(pub Bytes);

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        STANDARD.encode(&self.0).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(|bytes| Self(bytes.into())).map_err(serde::de::Error::custom)
    }
}

/// Key, value and headers of a record, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    key: Option<Base64>,
    value: Option<Base64>,
    headers: Vec<(String, Option<Base64>)>,
}

impl Content {
    /// Of these.
    pub fn new(key: Option<Bytes>, value: Option<Bytes>, headers: Vec<Header>) -> Self {
        let headers = headers.into_iter().map(|h| (h.name.into_owned(), h.value.map(Base64))).collect();
        Self { key: key.map(Base64), value: value.map(Base64), headers }
    }

    /// The key.
    pub fn key(&self) -> Option<&Bytes> {
        self.key.as_ref().map(|bytes| &bytes.0)
    }

    /// The value.
    pub fn value(&self) -> Option<&Bytes> {
        self.value.as_ref().map(|bytes| &bytes.0)
    }

    /// The headers, in order.
    pub fn headers(&self) -> Vec<Header> {
        let header = |(name, value): &(String, Option<Base64>)| Header {
            name: header::name(name.as_bytes()),
            value: value.as_ref().map(|bytes| bytes.0.clone()),
        };
        self.headers.iter().map(header).collect()
    }
}

/// A record as it lies in a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// Its timestamp, in milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// What it holds.
    pub content: Content,
}

impl Kept {
    /// Looks at it as a record that was read; `headers` are its own.
    pub fn view<'a>(&'a self, headers: &'a [Header]) -> RecordView<'a> {
        RecordView {
            topic: &self.topic,
            partition: self.partition,
            offset: self.offset,
            timestamp_ms: self.timestamp_ms,
            key: self.content.key().map(|key| &key[..]),
            value: self.content.value(),
            headers,
        }
    }
}

/// A record that a replay would have written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// The topic.
    pub topic: String,
    /// What it holds.
    pub content: Content,
}

/// A step's result, as the journal has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// Which step.
    #[serde(flatten)]
    pub step: StepName,
    /// What came of it.
    pub result: Value,
}

/// A step of a task.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StepName {
    /// The name.
    pub name: String,
    /// Which of its occurrences, from 0.
    pub index: u32,
}

/// A task that an agent has answered, to be done again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskAgain {
    /// The task.
    pub task: Kept,
    /// What was answered. Times and the number of attempts are taken from it; nothing else is.
    pub answer: Kept,
    /// What its journal held.
    pub journal: Vec<Recorded>,
    /// Whether models are asked anew.
    pub live: bool,
}

/// What doing a task again came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskDone {
    /// The version of the agent that did it.
    pub version: String,
    /// How it ended.
    pub end: TaskEnd,
    /// Steps that it wanted to do and that its journal did not hold, in order.
    pub not_recorded: Vec<StepName>,
}

/// How doing a task again ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskEnd {
    /// With this answer.
    Answered(Written),
    /// With an error, which is said with its causes.
    Failed(String),
}

/// A case that a composer has decided, to be decided again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaseAgain {
    /// The partition of the results topic that the case lies in.
    pub partition: i32,
    /// How many partitions the review topic has.
    pub review_partitions: i32,
    /// What the composer did, in order.
    pub turns: Vec<Turn>,
}

/// One thing that a composer did for a case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    /// When.
    pub now: Timestamp,
    /// What came; `None`: what was due by then.
    pub record: Option<Kept>,
}

/// What deciding a case again came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaseDone {
    /// The version of the composer that did it.
    pub version: String,
    /// What would have been written, in order.
    pub written: Vec<Written>,
    /// Why it went no further, if it did not.
    pub stopped: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_pass_byte_for_byte() {
        let headers = vec![
            Header::text("ce_id", "a"),
            Header { name: "odd".into(), value: None },
            Header { name: "odd".into(), value: Some(Bytes::from_static(b"\xff\x00")) },
        ];
        let content = Content::new(None, Some(Bytes::from_static(b"\xfe{")), headers.clone());
        let kept = Kept { topic: "t".into(), partition: 2, offset: 7, timestamp_ms: -1, content };
        let text = serde_json::to_string(&kept).unwrap();
        let read: Kept = serde_json::from_str(&text).unwrap();
        assert_eq!(read, kept);
        assert_eq!(read.content.headers(), headers);
        assert_eq!((read.view(&headers).key, read.view(&headers).value), (None, kept.content.value()));
    }

    #[test]
    fn readings_of_the_clock_are_kept_in_order_and_bounded() {
        let at = |ms| Timestamp::from_millis(ms);
        assert_eq!(clock_header(&[]), None);
        let kept = clock_header(&[at(7), at(3)]).unwrap();
        assert_eq!(kept.as_str(), Some("7,3"));
        assert_eq!(clock_readings(&[kept]), [at(7), at(3)]);
        let many: Vec<Timestamp> = (0..1_000).map(at).collect();
        assert_eq!(clock_readings(&[clock_header(&many).unwrap()]), many[..MOST_READINGS]);
        assert_eq!(clock_readings(&[Header::text(CLOCK, "x,5")]), [at(5)]);
    }
}
