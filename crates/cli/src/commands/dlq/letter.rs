//! One dead letter: what it is called, what it says, and what it was.

use std::fmt;
use std::str::FromStr;

use anabranch_kafka::{Record, TopicPartition};
use anabranch_protocol::{CorrelationId, Envelope, Header, RecordView, Timestamp, dead_letter};
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::masking::Masking;
use crate::reading;

/// How the names of dead letter topics end.
const DLQ: &str = ".dlq";

/// What a dead letter is called: its topic, partition and offset, as `kyc.tasks.identity.dlq/2/17`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct LetterId {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) offset: i64,
}

impl LetterId {
    pub(super) fn of(record: &Record) -> Self {
        Self { topic: record.topic.to_string(), partition: record.partition, offset: record.offset }
    }

    pub(super) fn tp(&self) -> TopicPartition {
        TopicPartition::new(self.topic.as_str(), self.partition)
    }

    /// The topic whose dead letters lie beside it.
    pub(super) fn origin(&self) -> &str {
        self.topic.strip_suffix(DLQ).unwrap_or(&self.topic)
    }
}

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.topic, self.partition, self.offset)
    }
}

impl Serialize for LetterId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for LetterId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('/').collect();
        let wrong = || {
            format!(
                "{text:?} is no dead letter's name; write it as `dlq list --each` prints it, TOPIC{DLQ}/PARTITION/OFFSET"
            )
        };
        let [topic, partition, offset] = parts[..] else { return Err(wrong()) };
        let number = |text: &str| text.parse::<u32>().ok();
        let (partition, offset) = (number(partition), offset.parse::<u64>().ok());
        let numbers = partition.and_then(|p| i32::try_from(p).ok()).zip(offset.and_then(|o| i64::try_from(o).ok()));
        let (partition, offset) =
            numbers.filter(|_| topic.len() > DLQ.len() && topic.ends_with(DLQ)).ok_or_else(wrong)?;
        Ok(Self { topic: topic.to_owned(), partition, offset })
    }
}

/// A dead letter that was read. What it says of itself may be anybody's words.
#[derive(Debug, Clone)]
pub(super) struct Letter {
    pub(super) id: LetterId,
    /// When it was written.
    pub(super) at: Timestamp,
    pub(super) case: CorrelationId,
    pub(super) agent: Option<String>,
    pub(super) agent_version: Option<String>,
    pub(super) class: Option<String>,
    pub(super) message: String,
    pub(super) causes: Vec<String>,
    pub(super) attempts: Option<u32>,
    pub(super) group: Option<String>,
    pub(super) first_failure: Option<Timestamp>,
    pub(super) last_failure: Option<Timestamp>,
    /// Where it says that it came from.
    pub(super) from: Option<(String, Option<(i32, i64)>)>,
    /// The record that was given up, in the place of the letter.
    pub(super) original: Record,
    /// How large its value is.
    pub(super) value_bytes: Option<usize>,
}

impl Letter {
    pub(super) fn read(record: Record) -> Self {
        let (id, at) = (LetterId::of(&record), Timestamp::from_millis(record.timestamp_ms));
        let case = reading::case_of(&record);
        let value_bytes = record.value.as_ref().map(bytes::Bytes::len);
        let Some(said) = dead_letter::read(&record.headers) else {
            let message = "it does not say why it is here: no runtime wrote it".to_owned();
            return Self {
                id,
                at,
                case,
                agent: None,
                agent_version: None,
                class: None,
                message,
                causes: Vec::new(),
                attempts: None,
                group: None,
                first_failure: None,
                last_failure: None,
                from: None,
                original: record,
                value_bytes,
            };
        };
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Self {
            id,
            at,
            case,
            agent: owned(said.agent),
            agent_version: owned(said.agent_version),
            class: owned(said.class),
            message: said.message.unwrap_or("it does not say why").to_owned(),
            causes: said.causes.iter().map(|cause| (*cause).to_owned()).collect(),
            attempts: said.attempts,
            group: owned(said.group),
            first_failure: said.first_failure,
            last_failure: said.last_failure,
            from: Some((said.topic.to_owned(), said.place)),
            original: Record { headers: said.original.to_vec(), ..record.clone() },
            value_bytes,
        }
    }

    /// As it may be shown: without the personal data that agents' cards mark.
    pub(super) fn masked(mut self, masking: &Masking) -> Self {
        let value = self.original.value.as_deref();
        self.message = masking.words(value, &self.message);
        self.causes = self.causes.iter().map(|cause| masking.words(value, cause)).collect();
        if let Some(read) = value.and_then(|value| serde_json::from_slice::<Value>(value).ok()) {
            let masked = masking.value(&read);
            // One that holds nothing personal is shown as it was written.
            if masked != read {
                self.original.value = Some(masked.to_string().into());
            }
        }
        self
    }

    /// How often the record was sent back before.
    pub(super) fn redrives(&self) -> u32 {
        dead_letter::redrives(&self.original.headers)
    }

    /// The original as it lay in its topic, as far as that is known.
    pub(super) fn view(&self) -> RecordView<'_> {
        let view = self.original.view();
        match &self.from {
            Some((topic, place)) => {
                let (partition, offset) = place.unwrap_or((view.partition, view.offset));
                RecordView { topic, partition, offset, ..view }
            }
            None => view,
        }
    }

    /// The original's envelope, if it can be read.
    pub(super) fn envelope(&self) -> Option<Envelope> {
        Envelope::decode(&self.view()).ok().map(|decoded| decoded.envelope)
    }

    /// The original's headers.
    pub(super) fn headers(&self) -> &[Header] {
        &self.original.headers
    }
}

/// A letter for tests: of this topic, at this offset, with these headers and these words.
#[cfg(test)]
pub(super) fn example(topic: &str, offset: i64, headers: &[Header], value: &[u8], message: &str) -> Letter {
    let case = CorrelationId::new("case-1");
    let failure = dead_letter::Failure {
        topic,
        partition: 1,
        offset: 7,
        group: "kyc.identity",
        attempts: 3,
        class: "terminal",
        message,
        causes: &[],
        agent: "identity",
        agent_version: "0.1.0",
        correlation_id: &case,
        first_failure: Timestamp::from_millis(1_000),
        last_failure: Timestamp::from_millis(2_000),
    };
    Letter::read(Record {
        topic: format!("{topic}.dlq").into(),
        partition: 0,
        offset,
        timestamp_ms: 2_000 + offset,
        key: Some(bytes::Bytes::from_static(b"case-1")),
        value: Some(bytes::Bytes::copy_from_slice(value)),
        headers: dead_letter::headers(headers, &failure),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_as_it_is_written() {
        let id = LetterId { topic: "kyc.tasks.identity.dlq".into(), partition: 2, offset: 17 };
        assert_eq!(id.to_string().parse(), Ok(id.clone()));
        assert_eq!(id.origin(), "kyc.tasks.identity");
        for wrong in [
            "",
            "kyc.tasks.identity.dlq",
            "kyc.tasks.identity/0/1",
            ".dlq/0/1",
            "a.dlq/-1/1",
            "a.dlq/0/x",
            "a.dlq/0/1/2",
        ] {
            let refused = wrong.parse::<LetterId>().unwrap_err();
            assert!(refused.contains("PARTITION/OFFSET"), "{wrong}: {refused}");
        }
    }

    #[test]
    fn a_letter_is_what_it_says_and_the_record_that_it_was() {
        let headers = [Header::text("x", "1"), Header::text("x", "1")];
        let letter = example("kyc.tasks.identity", 4, &headers, b"{\xff", "boom");
        assert_eq!(letter.id.to_string(), "kyc.tasks.identity.dlq/0/4");
        assert_eq!((letter.headers(), letter.original.value.as_deref()), (&headers[..], Some(&b"{\xff"[..])));
        assert_eq!((letter.view().topic, letter.view().offset), ("kyc.tasks.identity", 7));
        assert_eq!(
            (letter.agent.as_deref(), letter.attempts, letter.case.as_str()),
            (Some("identity"), Some(3), "case-1")
        );
        let foreign = Letter::read(Record { headers: headers.to_vec(), ..letter.original });
        assert_eq!((foreign.from, foreign.class), (None, None));
    }
}
