use anabranch_protocol::{CorrelationId, EventId, Timestamp, Work};

use super::draw::{draw, time};
use super::waterfall::Waterfall;
use crate::hop::{Hop, Kind};

const T0: i64 = 1_700_000_000_000;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(T0 + millis)
}

fn hop(kind: Kind, id: &str, cause: Option<&str>, millis: i64) -> Hop {
    Hop {
        time: at(millis),
        topic: format!("kyc.{kind}"),
        partition: 0,
        offset: millis,
        kind,
        case: CorrelationId::new("case-1"),
        id: EventId::new(id),
        causation_id: cause.map(EventId::new),
        agent: None,
        what: String::new(),
        deadline: None,
        work: None,
    }
}

fn of(agent: &str, hop: Hop) -> Hop {
    Hop { agent: Some(agent.to_owned()), ..hop }
}

fn says(what: &str, hop: Hop) -> Hop {
    Hop { what: what.to_owned(), ..hop }
}

fn partial(agent: &str, task: &str, (started, finished): (i64, i64), attempts: u32) -> Hop {
    let work = Work { started_at: at(started), finished_at: at(finished), attempts };
    let hop = of(agent, hop(Kind::Partial, &format!("{task}-answer"), Some(task), finished + 2));
    says("clear, confidence 0.98", Hop { work: Some(work), ..hop })
}

/// A request, a plan, two tasks side by side, one after both.
fn running() -> Vec<Hop> {
    let plan =
        Hop { deadline: Some(at(300_000)), ..says("identity, document", hop(Kind::Plan, "plan", Some("req"), 12)) };
    vec![
        says("{\"name\":\"AVA\"}", hop(Kind::Request, "req", None, 0)),
        of("supervisor", plan),
        of("identity", hop(Kind::Task, "t1", Some("plan"), 14)),
        of("document", hop(Kind::Task, "t2", Some("plan"), 14)),
        partial("identity", "t1", (20, 120), 1),
        says("joining, 1 of 2 answered", hop(Kind::State, "s1", None, 130)),
    ]
}

fn finished() -> Vec<Hop> {
    let mut hops = running();
    hops.extend([
        partial("document", "t2", (100, 900), 2),
        of(
            "composer",
            says("kyc.decision {\"decision\":\"approve\"}", hop(Kind::Outcome, "out", Some("t2-answer"), 910)),
        ),
        says("closed", hop(Kind::State, "s2", None, 911)),
    ]);
    hops
}

fn build(hops: Vec<Hop>, now: i64) -> Waterfall {
    Waterfall::build(CorrelationId::new("case-1"), hops, at(now))
}

#[test]
fn a_finished_case() {
    let waterfall = build(finished(), 60_000);
    assert!(!waterfall.open);
    assert_eq!(waterfall.duration_ms, 910, "the state is not a hop");
    let document = waterfall.hops.iter().find(|r| r.hop.agent.as_deref() == Some("document")).unwrap();
    assert_eq!((document.queue_ms, document.work_ms, document.attempts), (Some(86), Some(800), Some(2)));
    let outcome = waterfall.hops.iter().find(|r| r.hop.kind == Kind::Outcome).unwrap();
    assert_eq!((outcome.depth, outcome.after_ms), (3, Some(8)), "below the task whose answer caused it");
    insta::assert_snapshot!(draw(&waterfall, 140));
}

#[test]
fn a_case_that_runs() {
    let waterfall = build(running(), 1_012);
    assert!(waterfall.open);
    let document = waterfall.hops.iter().find(|r| r.hop.agent.as_deref() == Some("document")).unwrap();
    assert!(document.waiting);
    assert_eq!((document.queue_ms, document.work_ms), (Some(998), None));
    insta::assert_snapshot!(draw(&waterfall, 100));
}

#[test]
fn json_has_it_all() {
    insta::assert_snapshot!(serde_json::to_string_pretty(&build(finished(), 60_000)).unwrap());
}

#[test]
fn what_was_written_twice_is_one_hop() {
    let mut hops = finished();
    let again: Vec<Hop> =
        hops.iter().filter(|h| h.kind == Kind::Task).cloned().map(|h| Hop { offset: 99, time: at(50), ..h }).collect();
    hops.extend(again);
    let waterfall = build(hops, 60_000);
    let tasks: Vec<u32> = waterfall.hops.iter().filter(|r| r.hop.kind == Kind::Task).map(|r| r.repeats).collect();
    assert_eq!(tasks, [1, 1]);
    assert!(draw(&waterfall, 160).contains("(written 2 times)"));
}

#[test]
fn copies_hang_below_their_original() {
    let mut hops = running();
    let dead = hop(Kind::DeadLetter, "t2", Some("plan"), 500);
    hops.push(says("terminal: cannot read it", of("document", dead)));
    let waterfall = build(hops, 60_000);
    let at = |kind| {
        waterfall.hops.iter().position(|r| r.hop.kind == kind && r.hop.agent.as_deref() == Some("document")).unwrap()
    };
    let (task, dead) = (at(Kind::Task), at(Kind::DeadLetter));
    assert_eq!(dead, task + 1);
    assert_eq!(waterfall.hops[dead].depth, waterfall.hops[task].depth + 1);
}

#[test]
fn an_answer_without_its_task_stands_for_itself() {
    let waterfall = build(vec![partial("identity", "t1", (20, 120), 1)], 60_000);
    assert_eq!(waterfall.hops.len(), 1);
    assert_eq!((waterfall.hops[0].queue_ms, waterfall.hops[0].work_ms), (None, Some(100)));
    assert!(draw(&waterfall, 140).contains("clear, confidence 0.98"));
}

#[test]
fn causes_may_be_missing_or_go_in_circles() {
    let hops = vec![
        hop(Kind::Task, "a", Some("b"), 1),
        hop(Kind::Plan, "b", Some("a"), 2),
        hop(Kind::Outcome, "self", Some("self"), 3),
        hop(Kind::FollowUp, "orphan", Some("nobody"), 4),
    ];
    let waterfall = build(hops, 10);
    assert_eq!(waterfall.hops.len(), 4, "each is shown once");
    draw(&waterfall, 0);
}

#[test]
fn clocks_that_disagree_break_nothing() {
    let mut hops = finished();
    hops.iter_mut().filter(|h| h.kind == Kind::Outcome).for_each(|h| h.time = at(-5_000));
    hops.push(partial("identity", "t1", (i64::MAX / 2, i64::MIN / 2), 1));
    let waterfall = build(hops, -10_000);
    draw(&waterfall, 80);
}

#[test]
fn a_request_that_nobody_has_planned_is_open() {
    assert!(build(vec![hop(Kind::Request, "req", None, 0)], 5_000).open);
    let dead = vec![hop(Kind::Request, "req", None, 0), hop(Kind::DeadLetter, "req", None, 5)];
    assert!(!build(dead, 5_000).open);
}

#[test]
fn times_are_short() {
    let shown: Vec<String> = [0, 999, 1_000, 59_999, 61_000, 3_600_000, 90_000_000].map(time).into();
    assert_eq!(shown, ["0ms", "999ms", "1.00s", "59.99s", "1m01s", "1h00m", "1d01h"]);
}
