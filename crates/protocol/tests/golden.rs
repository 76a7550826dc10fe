//! The bytes on the wire: a record of each message type, headers and value, against the files in `golden/`.
//!
//! A difference is a change of the wire contract, and old records must stay readable. If it is meant, run with
//! `UPDATE_GOLDEN=1`, and say in the changelog what readers of the old bytes do.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod common;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::PathBuf;

use anabranch_protocol::dead_letter::{self, Failure};
use anabranch_protocol::{
    AgentCard, Answered, CaseContext, Completion, CorrelationId, Envelope, EventId, FollowUp, FollowUpKind, Header,
    InformationProvided, NoticeKind, ParkedNotice, Partial, PartialStatus, Plan, PlanId, ReviewAnswer, ReviewDecision,
    Standing, Step, Task, TaskId, Timestamp, Work,
};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The record as a file: a line for each header, an empty line, the value's bytes.
fn text(headers: &[Header], value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for header in headers {
        let value = header.value.as_ref().map_or("(null)".into(), |value| format!(": {}", value.escape_ascii()));
        out.extend_from_slice(format!("{}{value}\n", header.name).as_bytes());
    }
    out.push(b'\n');
    out.extend_from_slice(value);
    out
}

#[track_caller]
fn same(name: &str, headers: &[Header], value: &[u8]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.txt"));
    let made = text(headers, value);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &made).expect("the file is written");
        return;
    }
    let kept =
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; UPDATE_GOLDEN=1 makes it", path.display()));
    assert_eq!(
        String::from_utf8_lossy(&made),
        String::from_utf8_lossy(&kept),
        "{} differs: the wire contract changed; if that is meant, run with UPDATE_GOLDEN=1",
        path.display()
    );
    assert_eq!(made, kept, "{}", path.display());
}

/// The record is the file, and is read back as what was written.
#[track_caller]
fn message<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, kind: &str, message: &T) {
    let envelope = common::full(kind);
    let value = Bytes::from(serde_json::to_vec(message).expect("JSON"));
    let headers = envelope.headers();
    same(name, &headers, &value);
    let read = Envelope::decode(&common::record(None, Some(&value), &headers)).expect("readable");
    assert_eq!(read.envelope, envelope);
    assert_eq!(&read.json::<T>().expect("readable"), message);
}

/// Members in order of name: whether a map keeps another order is up to a feature of `serde_json` that any crate in
/// the build can turn on.
fn request() -> Value {
    json!({ "amount": 1250.1, "applicant": { "birth_date": "1985-02-14", "name": "Ava Marie Špecimen" }, "notes": null })
}

fn ids() -> (PlanId, TaskId) {
    let plan = PlanId::derive(&common::full("").correlation_id, b"request", b"steps");
    let task = TaskId::derive(&plan, "identity", 0);
    (plan, task)
}

fn completion() -> Completion {
    Completion { output: json!({ "hits": 0, "list": "un" }), confidence: Some(0.97), disposition: Some("clear".into()) }
}

fn task() -> Task {
    let (plan_id, task_id) = ids();
    Task {
        task_id,
        plan_id,
        agent: "identity".into(),
        round: 1,
        question: Some("Is the name variant a match?".into()),
        request: request(),
        parts: BTreeMap::from([("document".into(), completion())]),
        outcome: Some(json!({ "decision": "approved" })),
        case: None,
    }
}

fn partial(status: PartialStatus) -> Partial {
    let (plan_id, task_id) = ids();
    let (started_at, finished_at) =
        (Timestamp::from_millis(1_900_000_001_000), Timestamp::from_millis(1_900_000_002_500));
    let work = Work { started_at, finished_at, attempts: 2 };
    Partial { task_id, plan_id, agent: "identity".into(), agent_version: "0.1.0".into(), round: 1, status, work }
}

#[test]
fn plan() {
    let step = |agent: &str, required, after: &[&str], version: Option<&str>| Step {
        agent: agent.into(),
        required,
        after: after.iter().map(|step| (*step).into()).collect(),
        sees: None,
        version: version.map(Into::into),
    };
    let steps = vec![
        step("identity", true, &[], Some("0.1.0")),
        step("fraud", false, &["identity"], None),
        step("customer", false, &[Step::OUTCOME], None),
    ];
    message("plan", Plan::TYPE, &Plan { plan_id: ids().0, request: request(), steps });
}

#[test]
fn tasks() {
    message("task", Task::TYPE, &task());
    let first = Task { round: 0, question: None, parts: BTreeMap::new(), outcome: None, ..task() };
    message("task-first-round", Task::TYPE, &first);
    let step = Step { agent: "identity".into(), required: true, after: vec![], sees: Some(vec![]), version: None };
    let case = CaseContext { steps: vec![step], sees: vec!["document".into()], hidden: vec!["/applicant/ssn".into()] };
    message("task-with-case", Task::TYPE, &Task { case: Some(case), ..first });
}

#[test]
fn partials() {
    message("partial-completed", Partial::TYPE, &partial(PartialStatus::Completed(completion())));
    let silent = Completion { confidence: None, disposition: None, ..completion() };
    message("partial-without-vote", Partial::TYPE, &partial(PartialStatus::Completed(silent)));
    let failed = PartialStatus::Failed { reason: "the registry answered 422: unknown issuer".into() };
    message("partial-failed", Partial::TYPE, &partial(failed));
    message("partial-expired", Partial::TYPE, &partial(PartialStatus::Expired));
}

#[test]
fn follow_ups() {
    for (name, kind) in [
        ("follow-up-step-ready", FollowUpKind::StepReady),
        ("follow-up-round", FollowUpKind::Round),
        ("follow-up-outcome", FollowUpKind::Outcome),
        ("follow-up-replan", FollowUpKind::Replan),
    ] {
        message(name, FollowUp::TYPE, &FollowUp { plan_id: ids().0, kind, tasks: vec![task()] });
    }
}

#[test]
fn agent_card() {
    let card = AgentCard {
        name: "fraud".into(),
        description: "Repeated addresses and devices across cases.".into(),
        version: "0.1.0".into(),
        when: Some("request.amount > 1000.0".into()),
        after: vec!["identity".into()],
        sees: None,
        required: true,
        input_schema: json!({ "type": "object" }),
        output_schema: json!({ "type": "object" }),
        announced_at: Timestamp::from_millis(1_900_000_000_000),
    };
    message("agent-card", AgentCard::TYPE, &card);
}

#[test]
fn review_decision() {
    let (decision, reviewer) = ("approve".into(), "m.novak".into());
    let decision = ReviewDecision { decision, reviewer, reason: Some("Seen.".into()), ..ReviewDecision::default() };
    message("review-decision", "kyc.review-decision", &decision);
    let asks = ReviewDecision { needs: vec!["proof_of_address".into()], parking: Some(1), ..decision };
    message("review-decision-asks", "kyc.review-decision", &asks);
}

#[test]
fn what_people_are_told() {
    let fields = BTreeMap::from([("documents_provided".to_owned(), json!(["passport", "utility_bill"]))]);
    let information = InformationProvided { fields, provided_by: Some("portal".into()) };
    message("information-provided", InformationProvided::TYPE, &information);
    let answer = ReviewAnswer {
        to: EventId::new("d-1"),
        partition: 2,
        offset: 17,
        reviewer: Some("m.novak".into()),
        decision: Some("approve".into()),
        answer: Answered::Accepted { case: Standing::Closed },
    };
    message("review-answer", ReviewAnswer::TYPE, &answer);
    let notice = ParkedNotice {
        notice: NoticeKind::Reminder,
        parked_since: Timestamp::from_millis(1_900_000_000_000),
        parking: 1,
        reason: "DOC_EXPIRED".into(),
        codes: vec!["DOC_EXPIRED".into()],
        needs: vec![],
    };
    message("parked-reminder", NoticeKind::Reminder.event_type(), &notice);
}

#[test]
fn bare_envelope() {
    let envelope = common::bare("kyc.request");
    same("envelope-bare", &envelope.headers(), b"{}");
}

#[test]
fn structured_mode() {
    let envelope = common::full(Task::TYPE);
    let (headers, value) = envelope.structured(br#"{ "b": 1.10, "a": 2 }"#).expect("it is written");
    same("structured", &headers, &value);
    let (headers, value) = envelope.structured(&[0xff, 0x00]).expect("it is written");
    same("structured-binary-data", &headers, &value);
}

#[test]
fn dead_letter() {
    let original = vec![
        Header { name: "from-outside".into(), value: None },
        Header { name: "from-outside".into(), value: Some(Bytes::from_static(&[0xff, b'\n', 0x00])) },
        Header::text("ce_id", "e-1"),
    ];
    let failure = Failure {
        topic: "kyc.tasks.identity",
        partition: 2,
        offset: 17,
        group: "kyc.identity",
        attempts: 3,
        class: "terminal",
        message: "the value is not valid JSON for Task: expected value at line 1 column 1",
        causes: &["the value is not valid JSON for Task".into(), "expected value at line 1 column 1".into()],
        agent: "identity",
        agent_version: "0.1.0",
        correlation_id: &CorrelationId::new("case-7"),
        first_failure: Timestamp::from_millis(1_900_000_000_000),
        last_failure: Timestamp::from_millis(1_900_000_007_000),
    };
    same("dead-letter", &dead_letter::headers(&original, &failure), b"not JSON");
}
