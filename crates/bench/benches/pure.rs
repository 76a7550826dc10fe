//! What one record costs where there is no I/O: the envelope, the frontier, the join, order by key.
//!
//! `cargo bench -p anabranch-bench --bench pure`. Throughput is in records (`elem`): its inverse is the cost of one.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that cannot run says so by a panic")]

use std::hint::black_box;
use std::time::Duration;

use anabranch_core::frontier::Frontier;
use anabranch_core::join::{Decision, Join, JoinPolicy, Place};
use anabranch_core::lanes::Lanes;
use anabranch_protocol::{
    Completion, CorrelationId, Envelope, EventId, Partial, PartialStatus, Plan, PlanId, RecordView, Step, Task, TaskId,
    Timestamp, TraceParent, Work,
};
use anabranch_topology::{ParkingSettings, WaitFor, WhenDeadlinePasses};
use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use serde_json::{Value, json};

/// Records in one measured turn.
const RECORDS: u64 = 1_000;
/// The agents of a case.
const AGENTS: [&str; 4] = ["identity", "document", "fraud", "compliance"];

fn request() -> Value {
    serde_json::from_str(include_str!("../kyc/request.json")).unwrap()
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(1_764_000_000_000 + ms)
}

fn envelope(case: &str, kind: &str) -> Envelope {
    let id = EventId::new(format!("request-{case}"));
    Envelope {
        trace: TraceParent::root(&id),
        origin_trace: TraceParent::root(&id),
        id,
        source: "/kyc/supervisor".into(),
        kind: kind.into(),
        subject: None,
        time: at(0),
        correlation_id: CorrelationId::new(case),
        causation_id: Some(EventId::new("cause")),
        deadline: Some(at(300_000)),
        trace_state: None,
    }
}

fn task() -> Task {
    let plan_id = PlanId::new("plan");
    Task {
        task_id: TaskId::derive(&plan_id, "identity", 0),
        plan_id,
        agent: "identity".into(),
        round: 0,
        question: None,
        request: request(),
        parts: Default::default(),
        outcome: None,
        case: None,
    }
}

/// A task as it is written and read: headers, and JSON of about 1 KB.
fn codec(c: &mut Criterion) {
    let mut group = c.benchmark_group("envelope");
    group.throughput(Throughput::Elements(1));
    let (envelope, task) = (envelope("case-1", Task::TYPE), task());
    let headers = envelope.headers();
    let value = Bytes::from(serde_json::to_vec(&task).unwrap());
    let view = || RecordView {
        topic: "kyc.tasks.identity",
        partition: 0,
        offset: 7,
        timestamp_ms: 0,
        key: Some(b"case-1"),
        value: Some(&value),
        headers: &headers,
    };
    group.bench_function("headers written", |b| b.iter(|| black_box(&envelope).headers()));
    group.bench_function("headers read", |b| b.iter(|| Envelope::decode(black_box(&view())).unwrap()));
    group.bench_function("task written", |b| b.iter(|| serde_json::to_vec(black_box(&task)).unwrap()));
    group.bench_function("task read", |b| b.iter(|| Envelope::decode(&view()).unwrap().json::<Task>().unwrap()));
    let id = EventId::new("cause");
    group.bench_function("id derived", |b| b.iter(|| EventId::derive(black_box(&id), "identity", Partial::TYPE, 0)));
    group.finish();
}

fn frontier(c: &mut Criterion) {
    let mut group = c.benchmark_group("frontier");
    group.throughput(Throughput::Elements(RECORDS));
    let offsets = || 0..i64::try_from(RECORDS).unwrap();
    group.bench_function("received and done in order", |b| {
        b.iter(|| {
            let mut frontier = Frontier::new(0, None);
            for offset in offsets() {
                frontier.receive(offset);
                frontier.done(offset);
            }
            black_box(frontier.offset())
        });
    });
    group.bench_function("received, then done in reverse, each asked for room", |b| {
        b.iter(|| {
            let mut frontier = Frontier::new(0, None);
            offsets().for_each(|offset| {
                frontier.receive(offset);
            });
            offsets().rev().for_each(|offset| {
                frontier.done(offset);
                black_box(frontier.is_full(4096));
            });
            black_box(frontier.offset())
        });
    });
    let mut ragged = Frontier::new(0, None);
    for offset in offsets() {
        ragged.receive(offset);
    }
    for offset in offsets().filter(|offset| offset % 3 != 0) {
        ragged.done(offset);
    }
    group.bench_function("a commit of a ragged thousand", |b| b.iter(|| black_box(&ragged).to_commit(4096)));
    group.finish();
}

fn policy() -> JoinPolicy {
    JoinPolicy {
        deadline: Duration::from_secs(300),
        closed_memory: Duration::from_secs(3600),
        max_follow_up_rounds: 2,
        wait_for: WaitFor::All,
        when_deadline_passes: WhenDeadlinePasses::Compose,
        parking: ParkingSettings::default(),
    }
}

fn answer(plan_id: &PlanId, agent: &str) -> Partial {
    Partial {
        task_id: TaskId::derive(plan_id, agent, 0),
        plan_id: plan_id.clone(),
        agent: agent.into(),
        agent_version: "1".into(),
        round: 0,
        status: PartialStatus::Completed(Completion {
            output: json!({ "findings": [] }),
            confidence: Some(0.99),
            disposition: Some("clear".into()),
        }),
        work: Work { started_at: at(0), finished_at: at(1), attempts: 1 },
    }
}

/// One case: its plan, and its answers.
type Case = (Envelope, PlanId, Vec<Partial>);

/// Cases of four agents: a plan and four answers each, all cases open before the first one is decided.
fn join(c: &mut Criterion) {
    let mut group = c.benchmark_group("join");
    let cases = RECORDS / 5;
    group.throughput(Throughput::Elements(cases * 5));
    let step = |agent: &str| Step { agent: agent.into(), required: true, after: Vec::new(), sees: None, version: None };
    let steps: Vec<Step> = AGENTS.iter().map(|agent| step(agent)).collect();
    let case = |number: u64| -> Case {
        let (envelope, plan_id) = (envelope(&format!("case-{number}"), Plan::TYPE), PlanId::new(format!("p-{number}")));
        let answers = AGENTS.iter().map(|agent| answer(&plan_id, agent)).collect();
        (envelope, plan_id, answers)
    };
    let all: Vec<Case> = (0..cases).map(case).collect();
    let played = |mut join: Join| {
        let mut offset = 0;
        let mut next = || {
            offset += 1;
            Place::results(offset, 1_000)
        };
        for (envelope, plan_id, _) in &all {
            drop(black_box(join.plan(envelope, plan_id, &steps, next())));
        }
        for index in 0..AGENTS.len() {
            for (envelope, _, answers) in &all {
                let effects = join.partial(&envelope.correlation_id, &answers[index], next());
                if effects.compose.is_some() {
                    drop(black_box(join.decide(&envelope.correlation_id, Decision::Close, at(10)).unwrap()));
                }
            }
        }
        join
    };
    let decided = played(Join::new(policy()));
    assert_eq!(decided.phases().0, 0, "all cases are decided");
    group.bench_function("plan and four answers, decided", |b| {
        b.iter_batched(|| Join::new(policy()), played, BatchSize::LargeInput);
    });
    group.bench_function("and each change saved", |b| {
        b.iter_batched(
            || Join::new(policy()),
            |mut join| {
                for (number, (envelope, plan_id, _)) in all.iter().enumerate() {
                    let at = Place::results(i64::try_from(number).unwrap(), 1_000);
                    drop(black_box(join.plan(envelope, plan_id, &steps, at)));
                    for _ in 0..5 {
                        let saved = join.save(&envelope.correlation_id);
                        black_box(saved.map(|saved| serde_json::to_vec(&saved).unwrap()));
                    }
                }
                join
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

fn key_order(c: &mut Criterion) {
    let mut group = c.benchmark_group("order by key");
    group.throughput(Throughput::Elements(RECORDS));
    for keys in [1, 10, RECORDS] {
        let names: Vec<String> = (0..RECORDS).map(|number| format!("case-{}", number % keys)).collect();
        group.bench_function(format!("offered and finished, {keys} keys"), |b| {
            b.iter(|| {
                let mut lanes: Lanes<&str, u64> = Lanes::default();
                let mut running: Vec<&str> = Vec::new();
                for (number, key) in names.iter().enumerate() {
                    if lanes.offer(Some(key.as_str()), number as u64).is_some() {
                        running.push(key);
                    }
                }
                let mut done = 0;
                while let Some(key) = running.pop() {
                    done += 1;
                    if lanes.finish(&key).is_some() {
                        running.push(key);
                    }
                }
                black_box(done)
            });
        });
    }
    group.finish();
}

criterion_group!(pure, codec, frontier, join, key_order);
criterion_main!(pure);
