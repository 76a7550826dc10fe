//! The cases that are sent: the same application each, by another applicant.
//!
//! Nothing that cases share is suspicious (addresses and devices differ, and so do documents and dates of birth), the
//! machine-readable zone has its check digits, and the name is near one on the sanctions lists, so that the model is asked
//! for an assessment, beside one of the document's text.

use std::net::Ipv6Addr;

use anabranch_kafka::OutRecord;
use anabranch_protocol::{CorrelationId, Envelope, EventId, PlanId, Task, TaskId, Timestamp, TraceParent};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::schedule::is_poison;

/// The request that all others are made from.
pub(crate) const TEMPLATE: &str = include_str!("../kyc/request.json");
/// A name that is on no list.
const PLAIN_NAME: (&str, &str) = ("Ava Marie Specimen", "P<UTOSPECIMEN<<AVA<MARIE<<<<<<<<<<<<<<<<<<<<");
/// How long a task of W6 may take, in milliseconds.
const NAP_WITHIN_MS: i64 = 30 * 60 * 1000;

/// What is sent.
#[derive(Debug, Clone)]
pub(crate) enum Requests {
    /// Applications, on the inbound topic.
    Kyc {
        /// The inbound topic.
        topic: String,
        template: Value,
        /// Whether model and registry have something to do.
        asks: bool,
        /// Size of the value; 0: as it is.
        bytes: usize,
        poison: f64,
        seed: u64,
    },
    /// Tasks of the agent that waits, on its own topic.
    Nap { topic: String, sleep_ms: u64 },
}

/// The key of case `number`.
pub(crate) fn key(number: u64) -> String {
    format!("case-{number:08}")
}

/// The key of a case that is not measured.
pub(crate) fn warm_up_key(number: u64) -> String {
    format!("warm-{number:08}")
}

/// The number in a key of a case that is measured; `None` of any other.
pub(crate) fn number_of(key: &[u8]) -> Option<u64> {
    std::str::from_utf8(key).ok()?.strip_prefix("case-")?.parse().ok()
}

impl Requests {
    /// Applications for this topic.
    ///
    /// # Errors
    /// If the template is no JSON.
    pub(crate) fn kyc(topic: &str, asks: bool, bytes: usize, poison: f64, seed: u64) -> serde_json::Result<Self> {
        let template = serde_json::from_str(TEMPLATE)?;
        Ok(Self::Kyc { topic: topic.to_owned(), template, asks, bytes, poison, seed })
    }

    /// The record of case `number` under `key`.
    pub(crate) fn record(&self, number: u64, key: &str, now: Timestamp) -> OutRecord {
        match self {
            Self::Kyc { topic, template, asks, bytes, poison, seed } => {
                let is_poison = key.starts_with("case-") && is_poison(*seed, number, *poison);
                let value = if is_poison {
                    Bytes::from_static(b"{\"applicant\": {\"name\": \"Dorian Quiller\"")
                } else {
                    Bytes::from(application(template, number, *asks, *bytes))
                };
                OutRecord {
                    topic: topic.clone(),
                    key: Some(key.to_owned().into()),
                    value: Some(value),
                    ..Default::default()
                }
            }
            Self::Nap { topic, sleep_ms } => nap(topic, number, key, *sleep_ms, now),
        }
    }
}

/// An application as JSON, with as many bytes as are wanted.
fn application(template: &Value, number: u64, asks: bool, bytes: usize) -> String {
    let mut request = template.clone();
    let person = Person::new(number);
    let first_line = match asks {
        true => request["document"]["mrz"][0].as_str().unwrap_or_default().to_owned(),
        false => PLAIN_NAME.1.to_owned(),
    };
    if !asks {
        request["applicant"]["name"] = json!(PLAIN_NAME.0);
        request["document"].as_object_mut().map(|document| document.remove("text"));
    }
    request["applicant"]["birth_date"] = json!(person.birth_date());
    request["document"]["number"] = json!(person.document());
    request["document"]["mrz"] = json!([first_line, person.second_line()]);
    request["source"] = json!({ "ip": address(number).to_string(), "device_id": format!("device-{number}") });
    let text = request.to_string();
    // `,"attachment":""`: what the member itself takes.
    let missing = bytes.saturating_sub(text.len() + 16);
    if missing == 0 {
        return text;
    }
    request["attachment"] = json!("x".repeat(missing));
    request.to_string()
}

/// What differs between applicants.
struct Person {
    number: u64,
    year: u64,
    month: u64,
    day: u64,
}

impl Person {
    /// Born between 1985 and 1999: the listed namesake is older, so that every match is cleared.
    fn new(number: u64) -> Self {
        Self { number, year: 1985 + number % 15, month: 1 + number / 15 % 12, day: 1 + number / 180 % 28 }
    }

    fn birth_date(&self) -> String {
        format!("{}-{:02}-{:02}", self.year, self.month, self.day)
    }

    /// Nine characters that no rule of the registry is about.
    fn document(&self) -> String {
        format!("UB{:07}", self.number % 10_000_000)
    }

    /// The second line of a TD3 zone (ICAO 9303), good until 2033.
    fn second_line(&self) -> String {
        let number = self.document();
        let birth = format!("{:02}{:02}{:02}", self.year % 100, self.month, self.day);
        let (expiry, optional) = ("330929", "<".repeat(14));
        let number = format!("{number}{}", check_digit(&number));
        let birth = format!("{birth}{}", check_digit(&birth));
        let expiry = format!("{expiry}{}", check_digit(expiry));
        let optional = format!("{optional}<");
        let composite = check_digit(&format!("{number}{birth}{expiry}{optional}"));
        format!("{number}UTO{birth}M{expiry}{optional}{composite}")
    }
}

/// Weights 7, 3, 1; digits as they are, A is 10, `<` is 0.
fn check_digit(text: &str) -> u32 {
    let value = |c: char| c.to_digit(36).unwrap_or(0);
    text.chars().zip([7, 3, 1].into_iter().cycle()).map(|(c, weight)| value(c) * weight).sum::<u32>() % 10
}

/// An address in a network of its own, among those for documentation.
fn address(n: u64) -> Ipv6Addr {
    let [.., a, b, c, d] = n.to_be_bytes();
    Ipv6Addr::new(0x2001, 0xdb8, u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]), 0, 0, 0, 1)
}

/// A task as a supervisor would write it.
fn nap(topic: &str, number: u64, key: &str, sleep_ms: u64, now: Timestamp) -> OutRecord {
    let plan_id = PlanId::new(format!("plan-{key}"));
    let task_id = TaskId::derive(&plan_id, "napper", 0);
    let id = EventId::from(&task_id);
    let task = Task {
        task_id,
        plan_id,
        agent: "napper".to_owned(),
        round: 0,
        question: None,
        request: json!({ "sleep_ms": sleep_ms, "number": number }),
        parts: Default::default(),
        outcome: None,
        case: None,
    };
    let envelope = Envelope {
        trace: TraceParent::root(&id),
        origin_trace: TraceParent::root(&id),
        id,
        source: "/anabranch/bench".to_owned(),
        kind: Task::TYPE.to_owned(),
        subject: None,
        time: now,
        correlation_id: CorrelationId::new(key),
        causation_id: None,
        deadline: Some(Timestamp::from_millis(now.as_millis().saturating_add(NAP_WITHIN_MS))),
        trace_state: None,
    };
    OutRecord {
        topic: topic.to_owned(),
        key: Some(key.to_owned().into()),
        // A task is plain data: it always has a JSON form.
        value: serde_json::to_vec(&task).ok().map(Bytes::from),
        headers: envelope.headers(),
        ..OutRecord::default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn kyc(asks: bool, bytes: usize, poison: f64) -> Requests {
        Requests::kyc("kyc.requests", asks, bytes, poison, 1).unwrap()
    }

    fn value(requests: &Requests, number: u64) -> Value {
        let record = requests.record(number, &key(number), Timestamp::from_millis(0));
        serde_json::from_slice(record.value.as_deref().unwrap()).unwrap()
    }

    #[test]
    fn keys_tell_their_number() {
        assert_eq!(number_of(key(7).as_bytes()), Some(7));
        assert_eq!(number_of(key(123_456_789).as_bytes()), Some(123_456_789));
        assert_eq!(number_of(warm_up_key(7).as_bytes()), None);
        assert_eq!(number_of(b"\xff"), None);
    }

    /// The zone of the demo's case 06, whose digits are right.
    #[test]
    fn check_digits_are_those_of_icao_9303() {
        let line = "UT00000074UTO9103306M3309298<<<<<<<<<<<<<<<2";
        assert_eq!(check_digit("UT0000007"), 4);
        assert_eq!(check_digit("910330"), 6);
        let ours = Person { number: 7, year: 1991, month: 3, day: 30 }.second_line();
        assert_eq!(ours.len(), 44);
        assert_eq!(&ours[10..43], &line[10..43], "all but the number and the composite digit");
        assert_eq!(check_digit(&format!("{}{}{}", &line[0..10], &line[13..20], &line[21..43])), 2);
    }

    #[test]
    fn applicants_share_nothing_that_is_searched_for() {
        let requests = kyc(true, 0, 0.0);
        let (mut seen, mut born) = (HashSet::new(), HashSet::new());
        for number in 0..5_000 {
            let request = value(&requests, number);
            for shared in ["/source/ip", "/source/device_id", "/document/number", "/document/mrz/1"] {
                assert!(seen.insert(request.pointer(shared).unwrap().to_string()), "{shared} of {number}");
            }
            born.insert(request["applicant"]["birth_date"].to_string());
        }
        assert!(born.len() > 4_000, "{}", born.len());
    }

    #[test]
    fn a_request_has_the_size_that_is_wanted() {
        for bytes in [1_000, 100_000, 900_000] {
            let record = kyc(true, bytes, 0.0).record(1, &key(1), Timestamp::from_millis(0));
            assert_eq!(record.value.unwrap().len(), bytes);
        }
        assert!(value(&kyc(true, 10, 0.0), 1).get("attachment").is_none(), "it is larger as it is");
    }

    #[test]
    fn without_questions_there_is_no_text_and_no_namesake() {
        let request = value(&kyc(false, 0, 0.0), 3);
        assert!(request["document"].get("text").is_none());
        assert_eq!(request["applicant"]["name"], PLAIN_NAME.0);
        assert!(value(&kyc(true, 0, 0.0), 3)["document"]["text"].is_string());
    }

    #[test]
    fn poison_cannot_be_read_and_is_never_a_warm_up() {
        let requests = kyc(true, 0, 0.5);
        let unreadable = |key: &str, number| {
            let record = requests.record(number, key, Timestamp::from_millis(0));
            serde_json::from_slice::<Value>(&record.value.unwrap()).is_err()
        };
        let count = (0..1000).filter(|number| unreadable(&key(*number), *number)).count();
        assert!((400..600).contains(&count), "{count}");
        assert!((0..1000).all(|number| !unreadable(&warm_up_key(number), number)));
    }

    #[test]
    fn a_nap_is_a_task() {
        let requests = Requests::Nap { topic: "nap.tasks.napper".to_owned(), sleep_ms: 2_000 };
        let record = requests.record(4, &key(4), Timestamp::from_millis(1));
        let task: Task = serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
        assert_eq!((task.agent.as_str(), &task.request["sleep_ms"]), ("napper", &json!(2_000)));
        assert!(record.headers.iter().any(|header| header.name == "ce_expirytime"));
    }
}
