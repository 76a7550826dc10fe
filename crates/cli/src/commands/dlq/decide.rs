//! What becomes of a dead letter that is to be sent back. Pure.

use std::fmt;

use anabranch_core::join::LOST_CASE;
use anabranch_kafka::OutRecord;
use anabranch_protocol::{CorrelationId, Envelope, Header, Plan, RecordView, Timestamp, dead_letter, header};
use anabranch_topology::Topology;

use super::letter::Letter;

/// Why a letter or a case is left where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Left {
    /// It says nothing of where it came from.
    NoLetter,
    /// It says that it came from elsewhere than the topic beside which it lies.
    Foreign(String),
    /// It is what is left of a case.
    OfCase,
    /// It was sent back this often before.
    Looped(u32),
    /// Its deadline has passed.
    Expired(Timestamp),
    /// Its topic does not exist.
    NoTopic(String),
    /// The case goes on.
    Open,
    /// The case has its outcome.
    Decided,
    /// Nothing says that the case ended as a dead letter.
    NotEnded,
    /// The request is not on the inbound topic any more.
    NoRequest(String),
}

impl Left {
    /// A fixed word.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::NoLetter => "no-letter",
            Self::Foreign(_) => "foreign",
            Self::OfCase => "of-case",
            Self::Looped(_) => "looped",
            Self::Expired(_) => "expired",
            Self::NoTopic(_) => "no-topic",
            Self::Open => "open",
            Self::Decided => "decided",
            Self::NotEnded => "not-ended",
            Self::NoRequest(_) => "no-request",
        }
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLetter => f.write_str("it does not say where it came from: no runtime wrote it"),
            Self::Foreign(topic) => {
                let topic = crate::console::plain(topic);
                write!(f, "it says that it came from {topic:?}, whose dead letters do not lie here")
            }
            Self::OfCase => f.write_str("it is what is left of a whole case; --case begins the case anew"),
            Self::Looped(times) => write!(f, "it was sent back {times} times already; raise --max-redrives to go on"),
            Self::Expired(at) => {
                write!(f, "its deadline passed at {at}: nobody would work on it; --case with --deadline gives it time")
            }
            Self::NoTopic(topic) => write!(f, "topic {topic} does not exist"),
            Self::Open => f.write_str("the case is open and goes on; without --case its task can be sent back"),
            Self::Decided => f.write_str("the case has its outcome, and gets no second one"),
            Self::NotEnded => f.write_str("nothing says that the case ended as a dead letter: it may have its outcome"),
            Self::NoRequest(topic) => write!(f, "its request is not on {topic} any more"),
        }
    }
}

/// What bounds a run.
pub(super) struct Rules<'a> {
    pub(super) topology: &'a Topology,
    pub(super) now: Timestamp,
    pub(super) max_redrives: u32,
    /// Whether a topic exists.
    pub(super) exists: &'a dyn Fn(&str) -> bool,
}

impl Rules<'_> {
    /// The record that goes back to where a letter came from: as it was, with its ids, and how often it was sent back.
    pub(super) fn record(&self, letter: &Letter) -> Result<OutRecord, Left> {
        let (from, _) = letter.from.as_ref().ok_or(Left::NoLetter)?;
        let to = letter.id.origin();
        if from != to && self.topology.retry_delay(to, from).is_none() {
            return Err(Left::Foreign(from.clone()));
        }
        if is_of_case(letter) {
            return Err(Left::OfCase);
        }
        if !(self.exists)(to) {
            return Err(Left::NoTopic(to.to_owned()));
        }
        self.within_bounds(letter.redrives())?;
        // A request whose deadline has passed is planned nevertheless; a task is not worked on.
        let is_request = to == self.topology.inbound.requests.name;
        let deadline = letter.envelope().and_then(|envelope| envelope.deadline).filter(|_| !is_request);
        if let Some(deadline) = deadline.filter(|deadline| *deadline <= self.now) {
            return Err(Left::Expired(deadline));
        }
        Ok(self.sent_back(letter, letter.redrives() + 1))
    }

    /// Whether what was sent back so often may be sent back once more.
    pub(super) fn within_bounds(&self, redrives: u32) -> Result<(), Left> {
        if redrives >= self.max_redrives { Err(Left::Looped(redrives)) } else { Ok(()) }
    }

    /// The original of a letter, to its topic, for the `redrives`-th time.
    pub(super) fn sent_back(&self, letter: &Letter, redrives: u32) -> OutRecord {
        sent_back(letter.id.origin(), &letter.view(), &letter.case, redrives)
    }
}

/// Whether a letter is what is left of a whole case: its plan, or what is known of a case whose plan was lost.
pub(super) fn is_of_case(letter: &Letter) -> bool {
    letter.envelope().is_some_and(|envelope| [Plan::TYPE, LOST_CASE].contains(&envelope.kind.as_str()))
}

/// A record as it was in its place, to be written again. Its ids stay: where they came from its place, they are written
/// down.
pub(super) fn sent_back(to: &str, original: &RecordView<'_>, case: &CorrelationId, redrives: u32) -> OutRecord {
    let elsewhere = RecordView { partition: -1, offset: -1, ..*original };
    let mut headers: Vec<Header> = original.headers.to_vec();
    match (Envelope::decode(original), Envelope::decode(&elsewhere)) {
        (Ok(before), Ok(after)) => {
            let (before, after) = (before.envelope, after.envelope);
            if before.id != after.id {
                headers.push(Header::text(header::ID, before.id.as_str()));
            }
            if before.correlation_id != after.correlation_id {
                headers.push(Header::text(header::CORRELATION_ID, before.correlation_id.as_str()));
            }
        }
        // What cannot be read has a case all the same.
        _ if header::last(original.headers, header::CORRELATION_ID) != Some(case.as_str()) => {
            headers.push(Header::text(header::CORRELATION_ID, case.as_str()));
        }
        _ => {}
    }
    OutRecord {
        topic: to.to_owned(),
        partition: None,
        key: original.key.map(bytes::Bytes::copy_from_slice),
        value: original.value.cloned(),
        headers: dead_letter::redriven(&headers, redrives),
        timestamp_ms: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::dlq::letter::example;

    const TASKS: &str = "kyc.tasks.identity";

    fn decide(letter: &Letter) -> Result<OutRecord, Left> {
        let topology = crate::reading::example();
        let exists = |topic: &str| topic != "kyc.tasks.gone";
        let now = Timestamp::from_millis(1_000_000);
        Rules { topology: &topology, now, max_redrives: 3, exists: &exists }.record(letter)
    }

    #[test]
    fn a_task_goes_back_as_it_was() {
        let null = Header { name: "x".into(), value: None };
        let headers = [null, Header::text(header::ID, "e-1"), Header::text(header::CORRELATION_ID, "case-1")];
        let sent = decide(&example(TASKS, 4, &headers, b"{\"a\": 1.10}", "boom")).unwrap();
        assert_eq!((sent.topic.as_str(), sent.partition), (TASKS, None));
        assert_eq!((sent.key.as_deref(), sent.value.as_deref()), (Some(&b"case-1"[..]), Some(&b"{\"a\": 1.10}"[..])));
        assert_eq!(sent.headers, dead_letter::redriven(&headers, 1));
    }

    #[test]
    fn a_request_without_ids_keeps_those_it_was_given() {
        let letter = Letter {
            original: anabranch_kafka::Record { key: None, ..example("kyc.requests", 4, &[], b"{}", "boom").original },
            ..example("kyc.requests", 4, &[], b"{}", "boom")
        };
        let before = letter.envelope().unwrap();
        let sent = decide(&letter).unwrap();
        let place = RecordView {
            topic: "kyc.requests",
            partition: 5,
            offset: 99,
            timestamp_ms: 0,
            key: None,
            value: sent.value.as_ref(),
            headers: &sent.headers,
        };
        let after = Envelope::decode(&place).unwrap().envelope;
        assert_eq!((&before.id, &before.correlation_id), (&after.id, &after.correlation_id));
        assert_eq!((before.trace, before.origin_trace), (after.trace, after.origin_trace));
    }

    #[test]
    fn what_cannot_be_read_keeps_its_case() {
        let letter = example("kyc.requests", 4, &[Header::text(header::EXPIRY_TIME, "soon")], b"{", "boom");
        assert_eq!(letter.envelope(), None);
        let sent = decide(&letter).unwrap();
        assert_eq!(header::last(&sent.headers, header::CORRELATION_ID), Some("case-1"));
        assert_eq!(sent.value.as_deref(), Some(&b"{"[..]));
    }

    #[test]
    fn what_is_left_says_why() {
        let text = |name: &'static str, value: &str| Header::text(name, value);
        let left = |topic: &str, headers: &[Header]| decide(&example(topic, 4, headers, b"{}", "boom")).unwrap_err();
        assert_eq!(left(TASKS, &[text(dead_letter::REDRIVES, "3")]), Left::Looped(3));
        let past = "1970-01-01T00:00:10.000Z";
        let expired = left(TASKS, &[text(header::EXPIRY_TIME, past)]);
        assert_eq!(expired, Left::Expired(Timestamp::from_millis(10_000)));
        assert!(expired.to_string().contains(past) && expired.to_string().contains("--case"));
        assert!(decide(&example("kyc.requests", 4, &[text(header::EXPIRY_TIME, past)], b"{}", "boom")).is_ok());
        assert_eq!(left("kyc.tasks.gone", &[]), Left::NoTopic("kyc.tasks.gone".into()));
        assert_eq!(left("kyc.results", &[text(header::TYPE, anabranch_protocol::Plan::TYPE)]), Left::OfCase);
        let elsewhere = Letter { from: Some(("payments".into(), None)), ..example(TASKS, 4, &[], b"{}", "boom") };
        assert_eq!(decide(&elsewhere), Err(Left::Foreign("payments".into())));
        let retried = Letter { from: Some((format!("{TASKS}.retry.30s"), None)), ..elsewhere.clone() };
        assert_eq!(decide(&retried).unwrap().topic, TASKS);
        assert_eq!(decide(&Letter { from: None, ..elsewhere }), Err(Left::NoLetter));
    }
}
