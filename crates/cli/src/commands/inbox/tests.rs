use std::collections::BTreeMap;
use std::time::Duration;

use anabranch_core::join::{Case, Piece, Saved};
use anabranch_kafka::Record;
use anabranch_protocol::{CorrelationId, Timestamp};
use bytes::Bytes;
use serde_json::{Value, json};

use super::cases::Stored;
use super::list::{draw, rows};
use super::provide::named;
use super::show::Shown;

const T0: i64 = 1_700_000_000_000;
const HOUR: i64 = 3_600_000;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(T0 + millis)
}

/// A case parked so many hours before [`at`] 100 hours, with what concerns people.
fn parked(hours: i64, reason: &str, people: Value) -> Case {
    let mut value = json!({
        "phase": "parked", "since_ms": T0 + (100 - hours) * HOUR, "reason": reason, "plan_id": "p",
        "plan": { "bytes": 100 }, "opened_ms": T0, "deadline_ms": T0 + HOUR, "outcomes": 1, "steps": [
            { "agent": "identity", "asked": 0, "answered": 0, "how": "completed", "bytes": 10 },
            { "agent": "fraud", "optional": true, "asked": 0, "answered": 0, "how": "failed", "bytes": 10 },
        ],
    });
    if !people.is_null() {
        value["people"] = people;
    }
    Saved::read(value.to_string().as_bytes()).unwrap().whole().unwrap().unwrap()
}

fn inbox() -> BTreeMap<CorrelationId, Case> {
    let escalated = json!({ "codes": ["DOC_EXPIRED"], "remind": { "rang_ms": T0 }, "escalate": { "rang_ms": T0 } });
    let asked = json!({ "awaited": { "needs": ["documents_provided"], "asks": [["identity", "?"]],
        "until": { "at_ms": T0 + 200 * HOUR } }, "requests": 1 });
    let reminded =
        json!({ "codes": ["SHARED_IP"], "remind": { "rang_ms": T0 }, "escalate": { "at_ms": T0 + 200 * HOUR } });
    [
        ("young", parked(1, "confidence 0.60 after 2 follow-up rounds is not enough", Value::Null)),
        ("old", parked(80, "DOC_EXPIRED", escalated)),
        ("asked", parked(2, "information requested by ada", asked)),
        ("reminded\u{1b}[2J", parked(30, "SHARED_IP", reminded)),
    ]
    .into_iter()
    .map(|(id, case)| (CorrelationId::new(id), case))
    .collect()
}

#[test]
fn the_oldest_comes_first() {
    let rows = rows(&inbox(), at(100 * HOUR), None, None);
    let shown: Vec<String> = draw(&rows).lines().map(|line| line.trim_end().to_owned()).collect();
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn filters_keep_what_is_old_and_what_has_the_reason() {
    let ids = |older: Option<Duration>, reason: Option<&str>| {
        let rows = rows(&inbox(), at(100 * HOUR), older, reason);
        rows.into_iter().map(|row| row.correlation_id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(ids(Some(Duration::from_secs(30 * 3600)), None), ["old", "reminded\u{1b}[2J"]);
    assert_eq!(ids(None, Some("doc_expired")), ["old"]);
    assert_eq!(ids(None, Some("confidence")), ["young"]);
    assert_eq!(ids(Some(Duration::from_secs(90 * 3600)), None), [""; 0]);
}

fn kept(value: &Value) -> Record {
    Record {
        topic: "kyc.composer-state".into(),
        partition: 0,
        offset: 0,
        timestamp_ms: 0,
        key: None,
        value: Some(Bytes::from(value.to_string())),
        headers: vec![],
    }
}

fn stored(case: Case) -> Stored {
    let work = json!({ "started_at": "2026-01-01T00:00:00Z", "finished_at": "2026-01-01T00:00:01Z", "attempts": 1 });
    let plan = json!({ "plan_id": "p", "request": { "name": "AVA" }, "steps": [] });
    let partial = |agent: &str, status: Value| {
        let mut partial =
            json!({ "task_id": "t", "plan_id": "p", "agent": agent, "agent_version": "1", "round": 0, "work": work });
        partial.as_object_mut().unwrap().extend(status.as_object().unwrap().clone());
        kept(&partial)
    };
    let answered = json!({ "status": "completed", "output": { "hits": 0 }, "confidence": 0.6, "disposition": "clear" });
    let failed = json!({ "status": "failed", "reason": "503" });
    let kept = BTreeMap::from([
        (Piece::Plan, kept(&plan)),
        (Piece::Answer(0), partial("identity", answered)),
        (Piece::Answer(1), partial("fraud", failed)),
    ]);
    Stored { case: Some(case), fault: None, kept }
}

#[test]
fn one_case_is_shown_with_all_there_is() {
    let id = CorrelationId::new("asked");
    let shown = Shown::of(&id, &stored(inbox().remove(&id).unwrap()), at(100 * HOUR)).unwrap();
    let lines: Vec<String> = shown.draw().lines().map(|line| line.trim_end().to_owned()).collect();
    insta::assert_snapshot!(lines.join("\n"));
    let json = serde_json::to_value(&shown).unwrap();
    assert_eq!((&json["standing"], &json["request"]["name"]), (&json!("waits-for-information"), &json!("AVA")));
    assert_eq!(json["parts"]["identity"]["output"]["hits"], 0);
    assert_eq!(
        json["steps"][1],
        json!({ "agent": "fraud", "required": false, "asked": 0, "answer": "failed", "why": "503" })
    );
}

#[test]
fn what_was_not_kept_is_not_made_up() {
    let id = CorrelationId::new("young");
    let case = inbox().remove(&id).unwrap();
    let shown = Shown::of(&id, &Stored { case: Some(case), ..Stored::default() }, at(100 * HOUR)).unwrap();
    assert!(shown.draw().contains("request      cannot be read"), "{}", shown.draw());
    assert!(Shown::of(&id, &Stored::default(), at(0)).is_none(), "a closed case does not wait");
}

#[test]
fn a_field_is_a_name_and_json() {
    assert_eq!(named("a=[1]").unwrap(), ("a".to_owned(), json!([1])));
    assert_eq!(named("a=\"b=c\"").unwrap(), ("a".to_owned(), json!("b=c")));
    assert!(named("a=b").unwrap_err().to_string().contains("a text needs its quotes"));
    for bad in ["a", "=1", ""] {
        assert!(named(bad).unwrap_err().to_string().contains("is no field"), "{bad:?}");
    }
}
