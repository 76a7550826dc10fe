//! The join: what counts, what comes too late, and that no case ever has two outcomes.

mod cases;
mod letters;
mod people;
mod policies;
mod random;

use std::time::Duration;

use anabranch_protocol::{
    Answered, Completion, CorrelationId, Envelope, EventId, Partial, PartialStatus, Plan, PlanId, ReviewDecision,
    Standing, Step, TaskId, Timestamp, TraceParent, Work,
};
use anabranch_topology::{ParkingSettings, WaitFor, WhenDeadlinePasses};
use serde_json::json;

use super::*;

const DEADLINE: Duration = Duration::from_secs(60);
const MEMORY: Duration = Duration::from_secs(600);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

fn policy() -> JoinPolicy {
    JoinPolicy {
        deadline: DEADLINE,
        closed_memory: MEMORY,
        max_follow_up_rounds: 2,
        wait_for: WaitFor::All,
        when_deadline_passes: WhenDeadlinePasses::Compose,
        parking: ParkingSettings::default(),
    }
}

fn join() -> Join {
    Join::new(policy())
}

fn id() -> CorrelationId {
    CorrelationId::new("case")
}

fn envelope(case: &CorrelationId) -> Envelope {
    let id = EventId::new("request");
    Envelope {
        trace: TraceParent::root(&id),
        origin_trace: TraceParent::root(&id),
        id,
        source: "/test".into(),
        kind: Plan::TYPE.into(),
        subject: None,
        time: at(0),
        correlation_id: case.clone(),
        causation_id: None,
        deadline: None,
        trace_state: None,
    }
}

fn step(agent: &str, after: &[&str]) -> Step {
    let after = after.iter().map(|a| (*a).to_owned()).collect();
    Step { agent: agent.into(), required: true, after, sees: None, version: None }
}

/// A plan of the case came.
fn open(join: &mut Join, plan: &str, steps: &[Step], offset: i64) -> Effects {
    join.plan(&envelope(&id()), &PlanId::new(plan), steps, place(offset))
}

fn answer(plan: &str, agent: &str, round: u32, status: PartialStatus) -> Partial {
    let plan_id = PlanId::new(plan);
    Partial {
        task_id: TaskId::derive(&plan_id, agent, round),
        plan_id,
        agent: agent.into(),
        agent_version: "1".into(),
        round,
        status,
        work: Work { started_at: at(0), finished_at: at(1), attempts: 1 },
    }
}

fn yes() -> PartialStatus {
    PartialStatus::Completed(Completion { output: json!("yes"), confidence: Some(1.0), disposition: None })
}

fn no() -> PartialStatus {
    PartialStatus::Failed { reason: "no".into() }
}

fn place(offset: i64) -> Place {
    Place::results(offset, 100)
}

/// A case planned at 0.
fn planned(mut join: Join, steps: &[Step]) -> Join {
    assert!(open(&mut join, "p", steps, 0).changed);
    join
}

/// A case of two steps side by side, planned at 0.
fn two_steps() -> Join {
    planned(join(), &[step("a", &[]), step("b", &[])])
}

fn park() -> Decision {
    Decision::Park(Parking { reason: "r".into(), ..Parking::default() })
}

/// What a person decides, without an id of its own.
fn says(reviewer: &str, decision: &str) -> ReviewDecision {
    ReviewDecision { decision: decision.into(), reviewer: reviewer.into(), ..ReviewDecision::default() }
}

/// What a person who decides is told; `None`: the composer is to be asked.
fn review(join: &Join) -> Option<Answered> {
    join.review(&id(), &EventId::new("d"), &says("ada", "approve"))
}

/// The agents that are asked, with round and question.
fn asked(join: &Join, asks: &Asks) -> Vec<(String, u32, Option<String>)> {
    let case = join.case(&id()).unwrap();
    asks.tasks.iter().map(|ask| (case.steps()[ask.step].agent.clone(), ask.round, ask.question.clone())).collect()
}

fn agents(join: &Join, asks: &Asks) -> Vec<String> {
    asked(join, asks).into_iter().map(|(agent, _, _)| agent).collect()
}

/// The case as it is saved, in JSON.
fn saved(join: &mut Join, id: &CorrelationId) -> Option<Vec<u8>> {
    join.save(id).map(|saved| serde_json::to_vec(&saved).unwrap())
}
