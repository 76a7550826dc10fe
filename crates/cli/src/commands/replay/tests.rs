use anabranch_kafka::Record;
use anabranch_protocol::replay::{Content, Written};
use anabranch_protocol::{
    AgentCard, Completion, CorrelationId, Envelope, EventId, FollowUp, FollowUpKind, Header, NoticeKind, Partial,
    PartialStatus, Plan, PlanId, Step, Task, TaskId, Timestamp, TraceParent, Work, dead_letter, header,
};
use anabranch_topology::TopicRole;
use serde::Serialize;
use serde_json::{Value, json};

use super::again::pairs;
use super::compare::{Difference, contents};
use super::found::{self, Found};
use super::report::{Report, Verdict};
use super::turns::turns;
use crate::masking::Masking;

fn ms(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + millis)
}

fn case() -> CorrelationId {
    CorrelationId::new("case-1")
}

fn envelope(id: &str, kind: &str, source: &str, cause: Option<&str>, at: i64) -> Envelope {
    let id = EventId::new(id);
    Envelope {
        trace: TraceParent::root(&id),
        origin_trace: TraceParent::root(&id),
        id,
        source: source.into(),
        kind: kind.into(),
        subject: None,
        time: ms(at),
        correlation_id: case(),
        causation_id: cause.map(EventId::new),
        deadline: Some(ms(300_000)),
        trace_state: None,
    }
}

fn record(topic: &str, offset: i64, envelope: &Envelope, data: &impl Serialize) -> Record {
    Record {
        topic: topic.into(),
        partition: 0,
        offset,
        timestamp_ms: envelope.time.as_millis(),
        key: Some(b"case-1".to_vec().into()),
        value: Some(serde_json::to_vec(data).unwrap().into()),
        headers: envelope.headers(),
    }
}

fn plan(offset: i64, at: i64) -> Record {
    let step = |agent: &str| Step { agent: agent.into(), required: true, after: vec![], sees: None, version: None };
    let steps = vec![step("identity"), step("fraud")];
    let plan = Plan { plan_id: PlanId::new("plan"), request: json!({}), steps };
    record("kyc.results", offset, &envelope("plan", Plan::TYPE, "/kyc/supervisor", Some("request"), at), &plan)
}

fn partial(offset: i64, agent: &str, status: PartialStatus, at: i64) -> Record {
    let partial = Partial {
        task_id: TaskId::new(format!("t-{agent}")),
        plan_id: PlanId::new("plan"),
        agent: agent.into(),
        agent_version: "1".into(),
        round: 0,
        status,
        work: Work { started_at: ms(at - 5), finished_at: ms(at), attempts: 1 },
    };
    let task = format!("t-{agent}");
    let id = format!("a-{agent}");
    record("kyc.results", offset, &envelope(&id, Partial::TYPE, "/kyc/agent", Some(&task), at), &partial)
}

fn clear() -> PartialStatus {
    PartialStatus::Completed(Completion { output: json!({}), confidence: None, disposition: None })
}

fn task(agent: &str, at: i64) -> Record {
    let task = Task {
        task_id: TaskId::new(format!("t-{agent}")),
        plan_id: PlanId::new("plan"),
        agent: agent.into(),
        round: 0,
        question: None,
        request: json!({}),
        parts: Default::default(),
        outcome: None,
        case: None,
    };
    let id = format!("t-{agent}");
    record(&format!("kyc.tasks.{agent}"), at, &envelope(&id, Task::TYPE, "/kyc/supervisor", Some("plan"), at), &task)
}

fn outcome(id: &str, cause: &str, at: i64) -> Record {
    record("kyc.decisions", at, &envelope(id, "kyc.decision", "/kyc/composer", Some(cause), at), &json!({}))
}

fn found(results: Vec<Record>, reviews: Vec<Record>, written: Vec<Record>) -> Found {
    Found { results, reviews, written, tasks: vec![], answers: vec![], review_partitions: 1 }
}

/// Each turn as its time and the offset of what came.
fn told(found: &Found) -> Vec<(i64, Option<i64>)> {
    let turn = |turn: &anabranch_protocol::replay::Turn| {
        (turn.now.as_millis() - ms(0).as_millis(), turn.record.as_ref().map(|record| record.offset))
    };
    turns(found).iter().map(turn).collect()
}

#[test]
fn a_turn_is_taken_when_what_it_led_to_says() {
    let results = vec![plan(1, 0), partial(2, "identity", clear(), 100), partial(3, "fraud", clear(), 90)];
    let written = vec![outcome("o", "a-fraud", 140)];
    assert_eq!(told(&found(results, vec![], written)), [(0, Some(1)), (100, Some(2)), (140, Some(3))]);
}

#[test]
fn what_led_to_nothing_stays_where_it_was_in_the_log() {
    // The first agent's host is ahead by a second.
    let results = vec![plan(1, 0), partial(2, "identity", clear(), 1_100), partial(3, "fraud", clear(), 90)];
    let written = vec![outcome("o", "a-fraud", 140)];
    assert_eq!(told(&found(results, vec![], written)), [(0, Some(1)), (140, Some(2)), (140, Some(3))]);
}

#[test]
fn decisions_deadlines_and_reminders_are_turns_of_their_own() {
    let results = vec![plan(1, 0), partial(2, "identity", clear(), 100)];
    let review = envelope("said", "kyc.review", "/people", None, 700_000);
    let reviews =
        vec![record("kyc.review-decisions", 9, &review, &json!({ "decision": "approve", "reviewer": "ada" }))];
    let reminder = NoticeKind::Reminder.event_type();
    let answer = json!({ "to": "said", "partition": 0, "offset": 9, "answer": "accepted", "case": "closed" });
    let answered = envelope("n", anabranch_protocol::ReviewAnswer::TYPE, "/kyc/composer", Some("said"), 700_050);
    let written = vec![
        outcome("parked", "plan", 300_010),
        record("kyc.inbox", 0, &envelope("r", reminder, "/kyc/composer", Some("plan"), 600_000), &json!({})),
        record("kyc.inbox", 1, &answered, &answer),
        outcome("decided", "said", 700_050),
    ];
    let expected = [(0, Some(1)), (100, Some(2)), (300_010, None), (600_000, None), (700_050, Some(9))];
    assert_eq!(told(&found(results, reviews, written)), expected);
}

#[test]
fn a_repeat_and_an_answer_after_a_failure_have_turns_of_their_own() {
    let failed = PartialStatus::Failed { reason: "no".into() };
    let results = vec![plan(1, 0), partial(2, "identity", failed, 100), partial(3, "identity", clear(), 500)];
    let ready = |at| {
        let ask = FollowUp { plan_id: PlanId::new("plan"), kind: FollowUpKind::StepReady, tasks: vec![] };
        let envelope = envelope("f", FollowUp::TYPE, "/kyc/composer", Some("a-identity"), at);
        record("kyc.followups", at, &envelope, &ask)
    };
    let written = vec![ready(110), outcome("o", "a-identity", 520)];
    assert_eq!(told(&found(results, vec![], written)), [(0, Some(1)), (110, Some(2)), (520, Some(3))]);
}

#[test]
fn what_came_too_late_has_led_to_nothing() {
    let (first, again) = (partial(2, "identity", clear(), 100), partial(3, "identity", clear(), 105));
    let mut found = found(vec![plan(1, 0), first, again.clone()], vec![], vec![outcome("o", "a-identity", 110)]);
    let late = Some("repeated".to_owned());
    found.answers = vec![found::Answer { read: found::read(&again).unwrap(), late }];
    assert_eq!(told(&found), [(0, Some(1)), (110, Some(2)), (110, Some(3))]);
}

#[test]
fn an_answer_that_found_the_case_closed_came_after_the_decision() {
    let late = partial(2, "identity", clear(), 100);
    let review = envelope("said", "kyc.review", "/people", None, 101);
    let reviews =
        vec![record("kyc.review-decisions", 9, &review, &json!({ "decision": "approve", "reviewer": "ada" }))];
    let answer = json!({ "to": "said", "partition": 0, "offset": 9, "answer": "accepted", "case": "closed" });
    let answered = envelope("n", anabranch_protocol::ReviewAnswer::TYPE, "/kyc/composer", Some("said"), 105);
    let mut found = found(vec![plan(1, 0), late.clone()], reviews, vec![record("kyc.inbox", 1, &answered, &answer)]);
    found.answers = vec![found::Answer { read: found::read(&late).unwrap(), late: Some("closed".to_owned()) }];
    assert_eq!(told(&found), [(0, Some(1)), (105, Some(9)), (106, Some(2))]);
    found.answers[0].late = Some("parked".to_owned());
    assert_eq!(told(&found), [(0, Some(1)), (100, Some(2)), (105, Some(9))]);
}

#[test]
fn a_second_plan_that_asks_again_is_no_deadline() {
    let ask = FollowUp { plan_id: PlanId::new("plan"), kind: FollowUpKind::Replan, tasks: vec![] };
    let again = record("kyc.followups", 0, &envelope("f", FollowUp::TYPE, "/kyc/composer", Some("plan"), 60), &ask);
    let results = vec![plan(1, 0), plan(2, 50)];
    assert_eq!(told(&found(results, vec![], vec![again])), [(0, Some(1)), (60, Some(2))]);
}

#[test]
fn a_case_that_was_given_up_is_given_up_then() {
    let results = vec![plan(1, 0), partial(2, "identity", clear(), 100)];
    let (case, causes) = (case(), ["no answer".to_owned()]);
    let failure = dead_letter::Failure {
        topic: "kyc.results",
        partition: 0,
        offset: 1,
        group: "kyc.composer",
        attempts: 1,
        class: "terminal",
        message: "no answer",
        causes: &causes,
        agent: "composer",
        agent_version: "1",
        correlation_id: &case,
        first_failure: ms(300_020),
        last_failure: ms(300_020),
    };
    let headers = dead_letter::headers(&results[0].headers, &failure);
    let letter = Record { topic: "kyc.results.dlq".into(), headers, ..results[0].clone() };
    // Whether the answer or the deadline led to it is not told: the deadline comes last, and finds nothing to do then.
    let expected = [(0, Some(1)), (300_020, Some(2)), (300_020, None)];
    assert_eq!(told(&found(results, vec![], vec![letter])), expected);
}

fn written(record: &Record) -> Written {
    Written { topic: record.topic.to_string(), content: found::content(record) }
}

#[test]
fn records_are_compared_by_topic_and_id_and_none_is_overlooked() {
    let (one, two, three) = (outcome("one", "c", 1), outcome("two", "c", 2), outcome("three", "c", 3));
    let other = Record { value: Some(b"{\"x\":1}".to_vec().into()), ..two.clone() };
    let items = pairs(
        &[one.clone(), two, one.clone()],
        &[written(&one), written(&other), written(&three)],
        &Masking::default(),
    );
    let told: Vec<(Verdict, &str, usize)> = items.iter().map(|i| (i.verdict, &*i.id, i.differences.len())).collect();
    let expected = [
        (Verdict::Same, "one", 0),
        (Verdict::Differs, "two", 1),
        (Verdict::Differs, "one", 0),
        (Verdict::Differs, "three", 0),
    ];
    assert_eq!(told, expected);
    let report = Report::new(case(), None, items);
    assert_eq!((report.verdict, report.same, report.differs), (Verdict::Differs, 1, 3));
    let drawn = report.drawn();
    assert!(drawn.contains("\n   /x: nothing -> 1\n"), "{drawn}");
    assert!(drawn.contains("it would be written to kyc.decisions, and is not there"), "{drawn}");
    assert!(drawn.ends_with("\n case case-1: 1 the same, 3 differ; no model was asked"), "{drawn}");
}

fn content(value: &Value, headers: Vec<Header>) -> Content {
    Content::new(None, Some(serde_json::to_vec(value).unwrap().into()), headers)
}

#[test]
fn differences_name_their_place_and_show_no_personal_data() {
    let card: AgentCard = serde_json::from_value(json!({
        "name": "identity", "description": "", "version": "1", "after": [], "required": true,
        "input_schema": { "properties": { "name": { "x-pii": true } } }, "output_schema": {},
        "announced_at": "2026-11-24T12:00:00Z",
    }))
    .unwrap();
    let masking = Masking::of([&card]);
    let id = |id: &str| vec![Header::text(header::ID, id)];
    let was = content(&json!({ "name": "Ava Specimen", "hits": [1, 2], "a/b": true }), id("1"));
    let is = content(&json!({ "name": "Leo Other", "hits": [1, 3], "a/b": null }), id("2"));
    let found = contents(&was, &is, &masking);
    let expected = [
        Difference::new("header ce_id", Some("1"), Some("2")),
        Difference::new("/a~1b", Some("true"), Some("null")),
        Difference::new("/hits/1", Some("2"), Some("3")),
        Difference::new("/name", Some("\"[masked]\""), Some("\"[masked]\"")),
    ];
    assert_eq!(found, expected);
    assert_eq!(contents(&was, &was, &masking), []);
    let other_bytes = Content::new(None, Some(b"{\"x\": 1}".to_vec().into()), vec![]);
    let found = contents(&content(&json!({ "x": 1 }), vec![]), &other_bytes, &masking);
    assert_eq!(found, [Difference::new("value", Some("this JSON"), Some("the same JSON in other bytes"))]);
    let no_json = Content::new(None, Some(b"\xff{".to_vec().into()), vec![]);
    let found = contents(&no_json, &other_bytes, &masking);
    assert_eq!(found, [Difference::new("value", Some("2 bytes"), Some("8 bytes"))], "what is no JSON is not shown");
}

fn sorted(records: &[(TopicRole, Record)]) -> Result<Found, String> {
    found::sorted(&crate::reading::example(), &case(), 6, records).map_err(|error| error.to_string())
}

fn of_case(more: Vec<(TopicRole, Record)>) -> Vec<(TopicRole, Record)> {
    let mut records = vec![
        (TopicRole::Results, plan(1, 0)),
        (TopicRole::Results, partial(2, "identity", clear(), 100)),
        (TopicRole::Tasks, task("identity", 10)),
        (TopicRole::Outbound, outcome("o", "a-identity", 140)),
    ];
    records.extend(more);
    records
}

fn state(value: Option<Value>) -> (TopicRole, Record) {
    let key = Some(b"case/case-1".to_vec().into());
    let value = value.map(|value| value.to_string().into_bytes().into());
    (TopicRole::State, Record { key, value, headers: vec![], topic: "kyc.composer-state".into(), ..plan(0, 0) })
}

#[test]
fn only_a_finished_case_with_all_its_records_is_done_again() {
    let found = sorted(&of_case(vec![])).unwrap();
    assert_eq!((found.results.len(), found.tasks.len(), found.answers.len(), found.written.len()), (2, 1, 1, 1));
    assert!(found.unanswered().is_empty());
    assert!(sorted(&of_case(vec![state(None)])).is_ok(), "forgotten");
    let joining = json!({ "phase": "joining", "plan_id": "plan", "opened_ms": 0, "deadline_ms": 1 });
    let refused = sorted(&of_case(vec![state(Some(joining))])).unwrap_err();
    assert!(refused.starts_with("case case-1 is not finished: answers are coming in"), "{refused}");
    let parked = json!({ "phase": "parked", "since_ms": 5, "reason": "x", "plan_id": "plan" });
    let refused = sorted(&of_case(vec![state(Some(parked))])).unwrap_err();
    assert!(refused.starts_with("case case-1 is not finished: it waits for a person"), "{refused}");
    let mut no_task = of_case(vec![]);
    no_task.remove(2);
    let found = sorted(&no_task).unwrap();
    assert!(found.task_of(&found.answers[0]).is_none(), "what cannot be done again need not be");
    let refused = sorted(&of_case(vec![])[2..]).unwrap_err();
    assert!(refused.contains("its plan is not on kyc.results"), "{refused}");
    let refused = sorted(&[(TopicRole::Tasks, task("identity", 10))]).unwrap_err();
    assert!(refused.contains("its composer has not seen it yet"), "{refused}");
}

#[test]
fn an_answer_that_did_not_count_is_known_by_its_copy() {
    let again = partial(3, "identity", clear(), 200);
    let mut headers = again.headers.clone();
    headers.push(Header::text(header::LATE_REASON, "repeated"));
    let late = Record { topic: "kyc.late".into(), headers, ..again.clone() };
    let found = sorted(&of_case(vec![(TopicRole::Results, again), (TopicRole::Late, late)])).unwrap();
    let late: Vec<Option<&str>> = found.answers.iter().map(|answer| answer.late.as_deref()).collect();
    assert_eq!(late, [None, Some("repeated")]);
}
