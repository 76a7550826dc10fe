use std::time::{Duration, Instant};

use anabranch_protocol::{CorrelationId, EventId, ReviewDecision};

use super::board::{Outcome, Row, Seen};
use super::demo::DemoCase;

fn case(json: &serde_json::Value) -> DemoCase {
    let mut whole = serde_json::json!({"id": "s1", "about": "clean", "request": {}});
    whole.as_object_mut().unwrap().extend(json.as_object().unwrap().clone());
    serde_json::from_value(whole).unwrap()
}

#[allow(clippy::needless_pass_by_value, reason = "for `json!` at the call")]
fn row(json: serde_json::Value) -> (Row, Instant) {
    let sent = Instant::now();
    (Row::new(case(&json), CorrelationId::new("s1"), sent), sent)
}

fn outcome(id: &str, state: &str, codes: &[&str]) -> Seen {
    let codes = codes.iter().map(|c| (*c).to_owned()).collect();
    let outcome = Outcome { state: state.to_owned(), confidence: Some(0.97), codes, reviewer: None };
    Seen::Outcome(EventId::new(id), outcome)
}

#[test]
fn a_case_comes_along() {
    let (mut row, sent) = row(serde_json::json!({"expect": {"state": "approved", "fraud_alert": false}}));
    let later = sent + Duration::from_millis(1_500);
    assert_eq!(row.state(), "sent");
    row.take(Seen::Planned(4), sent);
    row.take(Seen::Answered(EventId::new("a")), sent);
    row.take(Seen::Answered(EventId::new("a")), sent);
    assert_eq!(row.state(), "working 1/4");
    row.take(Seen::Round(EventId::new("r")), sent);
    assert_eq!(row.state(), "round 1");
    assert_eq!(row.problems(), ["not decided"]);
    assert!(!row.is_complete());
    row.take(outcome("o", "approved", &[]), later);
    assert_eq!((row.state().as_str(), row.confidence()), ("approved", Some(0.97)));
    assert_eq!(row.elapsed(sent + Duration::from_secs(60)), Duration::from_millis(1_500));
    assert!(row.is_complete() && row.problems().is_empty());
}

#[test]
fn the_same_outcome_twice_is_one_and_another_one_is_a_problem() {
    let (mut row, sent) = row(serde_json::json!({"expect": {"state": "approved"}, "copies": 2}));
    row.take(outcome("o", "approved", &[]), sent);
    row.take(outcome("o", "approved", &[]), sent);
    assert!(row.problems().is_empty());
    row.take(outcome("p", "approved", &[]), sent);
    assert_eq!(row.problems(), ["decided 2 times"]);
}

#[test]
fn what_is_not_as_expected_is_said() {
    let (mut row, sent) =
        row(serde_json::json!({"expect": {"state": "human", "codes": ["DOC_EXPIRED"], "fraud_alert": true}}));
    row.take(outcome("o", "approved", &["OTHER"]), sent);
    assert!(!row.is_complete(), "the alert may still come");
    assert!(!row.is_overdue(sent));
    assert!(row.is_overdue(sent + Duration::from_secs(3_600)));
    assert_eq!(row.problems(), ["expected human, came out approved", "without DOC_EXPIRED", "no fraud alert"]);
    row.take(Seen::Alert, sent);
    assert!(row.is_complete());
}

#[test]
fn a_review_is_due_once_and_must_be_named() {
    let review = serde_json::json!({"decision": "approve", "reviewer": "r.fine"});
    let (mut row, sent) =
        row(serde_json::json!({"expect": {"state": "human", "codes": ["DOC_EXPIRED"]}, "review": review}));
    assert_eq!(
        row.case.review,
        Some(ReviewDecision { decision: "approve".into(), reviewer: "r.fine".into(), ..Default::default() })
    );
    assert!(!row.wants_review());
    row.take(outcome("o", "human", &["DOC_EXPIRED"]), sent);
    assert!(row.wants_review() && !row.is_complete());
    assert_eq!(row.problems(), ["not decided after the review"]);
    let decided = |reviewer: &str| Outcome {
        state: "approved".to_owned(),
        confidence: None,
        codes: Vec::new(),
        reviewer: Some(reviewer.to_owned()),
    };
    row.take(Seen::Outcome(EventId::new("p"), decided("r.fine")), sent);
    assert!(row.is_complete() && row.problems().is_empty() && !row.wants_review());
    assert_eq!((row.state().as_str(), row.reviewer()), ("approved", Some("r.fine")));
    assert_eq!(row.codes(), ["DOC_EXPIRED"], "what was found stays found");
}

#[test]
fn a_dead_letter_is_an_end_too() {
    let (mut row, sent) = row(serde_json::json!({"expect": {"state": "dead_letter"}}));
    row.take(Seen::DeadLetter(EventId::new("d"), "unreadable".to_owned()), sent);
    assert!(row.is_complete() && row.problems().is_empty());
    let json = serde_json::to_value(row.result(sent)).unwrap();
    assert_eq!(json["states"], serde_json::json!(["dead_letter"]));
    assert_eq!(json["as_expected"], true);
}
