use anabranch_kafka::Record;
use anabranch_protocol::{Header, dead_letter, header};
use anabranch_topology::TopicRole;
use bytes::Bytes;
use serde_json::json;

use super::{Hop, Kind};
use crate::masking::Masking;

fn record(value: &str, headers: &[(&str, &str)]) -> Record {
    Record {
        topic: "kyc.some".into(),
        partition: 2,
        offset: 5,
        timestamp_ms: 1_700_000_000_000,
        key: Some(Bytes::from_static(b"case-1")),
        value: Some(Bytes::from(value.to_owned())),
        headers: headers.iter().map(|(name, value)| Header::text((*name).to_owned(), *value)).collect(),
    }
}

fn read(role: TopicRole, value: &str, headers: &[(&str, &str)]) -> (Kind, Option<String>, String) {
    let hop = Hop::read(role, &record(value, headers), &Masking::default());
    assert_eq!(hop.case.as_str(), "case-1");
    (hop.kind, hop.agent, hop.what)
}

fn partial(status: &serde_json::Value) -> String {
    let mut value = json!({
        "task_id": "t", "plan_id": "p", "agent": "identity", "agent_version": "1", "round": 1,
        "work": { "started_at": "2026-01-01T00:00:00Z", "finished_at": "2026-01-01T00:00:01Z", "attempts": 2 },
    });
    value.as_object_mut().unwrap().extend(status.as_object().unwrap().clone());
    value.to_string()
}

#[test]
fn each_kind_says_what_a_person_wants_to_know() {
    let plan = json!({ "plan_id": "p", "request": {}, "steps": [
        { "agent": "identity", "required": true }, { "agent": "fraud", "required": true, "after": ["identity"] }] });
    let written =
        [(header::TYPE, "anabranch.plan.v1"), (header::SOURCE, "/kyc/supervisor"), (header::CAUSATION_ID, "r")];
    assert_eq!(
        read(TopicRole::Results, &plan.to_string(), &written),
        (Kind::Plan, Some("supervisor".to_owned()), "identity, fraud after identity".to_owned())
    );
    let answered = json!({ "status": "completed", "output": {}, "confidence": 0.971, "disposition": "clear" });
    assert_eq!(
        read(TopicRole::Results, &partial(&answered), &[(header::TYPE, "anabranch.partial.v1")]),
        (Kind::Partial, Some("identity".to_owned()), "clear, confidence 0.97, round 1, 2 attempts".to_owned())
    );
    let failed = json!({ "status": "failed", "reason": "the list is gone" });
    assert_eq!(
        read(TopicRole::Late, &partial(&failed), &[("anabranch_late_reason", "closed")]).2,
        "closed",
        "of a late record the reason counts"
    );
    assert_eq!(
        read(TopicRole::Review, r#"{"decision":"approve","reviewer":"ada","reason":"seen"}"#, &[]),
        (Kind::Review, None, "approve by ada: seen".to_owned())
    );
    assert_eq!(
        read(TopicRole::Outbound, r#"{"a":1}"#, &[(header::TYPE, "kyc.decision")]),
        (Kind::Outcome, None, r#"kyc.decision {"a":1}"#.to_owned())
    );
}

#[test]
fn a_dead_letter_is_read_from_its_headers() {
    let headers = [
        (dead_letter::CORRELATION_ID, "case-1"),
        (dead_letter::TOPIC, "kyc.requests"),
        (dead_letter::MESSAGE, "not JSON"),
        (dead_letter::CLASS, "unreadable"),
        (dead_letter::AGENT, "supervisor"),
        (dead_letter::DELIVERY_COUNT, "3"),
        (header::EXPIRY_TIME, "soon"),
    ];
    let hop = Hop::read(TopicRole::DeadLetters, &record("{", &headers), &Masking::default());
    assert_eq!((hop.kind, hop.agent.as_deref()), (Kind::DeadLetter, Some("supervisor")));
    assert_eq!(hop.what, "unreadable: not JSON (after 3 attempts)");
    let letter = record("{", &headers);
    assert!(crate::reading::ends_case(&letter, "kyc.requests") && !crate::reading::ends_case(&letter, "kyc.review"));
}

#[test]
fn what_cannot_be_read_is_shown_as_such() {
    let (kind, _, what) = read(TopicRole::Tasks, "{\"task_id\":", &[]);
    assert_eq!(kind, Kind::Unreadable);
    assert!(what.contains("EOF"), "{what}");
    let tombstone = Record { value: None, ..record("", &[]) };
    assert_eq!(Hop::read(TopicRole::Requests, &tombstone, &Masking::default()).kind, Kind::Unreadable);
    assert_eq!(Hop::read(TopicRole::State, &tombstone, &Masking::default()).what, "forgotten");
    let removed = Hop::read(TopicRole::Directory, &tombstone, &Masking::default());
    assert_eq!((removed.kind, removed.what.as_str()), (Kind::Card, "removed"));
}

#[test]
fn hostile_text_is_short_and_steers_no_terminal() {
    let long = format!("\"\u{1b}]0;title\u{7}{}\"", "x".repeat(100_000))
        .replace('\u{1b}', "\\u001b")
        .replace('\u{7}', "\\u0007");
    let (_, _, what) = read(TopicRole::Requests, &long, &[]);
    assert!(what.chars().count() <= super::SHOWN + 1, "{}", what.len());
    assert!(!what.chars().any(char::is_control));
    let reviewer = r#"{"decision":"\u001b[2J","reviewer":"a\nb"}"#;
    assert!(!read(TopicRole::Review, reviewer, &[]).2.chars().any(char::is_control));
}

#[test]
fn what_people_are_told_of_a_parked_case_is_shown_in_words() {
    let answer = json!({ "to": "d", "partition": 0, "offset": 1, "reviewer": "bob", "decision": "reject",
        "answer": "already-decided", "by": "ada", "was": "approve", "decided_at": "2026-01-01T00:00:00Z" });
    let told = read(TopicRole::Inbox, &answer.to_string(), &[(header::TYPE, "anabranch.review-answer.v1")]);
    let words = "reject by bob: already decided by ada at 2026-01-01T00:00:00.000Z: approve";
    assert_eq!((told.0, told.2.as_str()), (Kind::Notice, words));
    let reminder = json!({ "notice": "reminder", "parked_since": "2026-01-01T00:00:00Z", "parking": 1, "reason": "r" });
    let told = read(TopicRole::Inbox, &reminder.to_string(), &[(header::TYPE, "anabranch.parked-reminder.v1")]);
    assert_eq!(told.2, "reminder: nobody has decided since 2026-01-01T00:00:00.000Z");
    let given = json!({ "fields": { "documents_provided": [] }, "provided_by": "portal" });
    let given = read(TopicRole::Review, &given.to_string(), &[(header::TYPE, "anabranch.information-provided.v1")]);
    assert_eq!((given.0, given.2.as_str()), (Kind::Review, "information by portal: documents_provided"));
}
