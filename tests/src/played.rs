//! A case whose supervisor and agents the test plays: it writes plan and answers itself, in the order it wants.

use anabranch_kafka::OutRecord;
use anabranch_protocol::{
    Completion, CorrelationId, Envelope, EventId, Partial, PartialStatus, Plan, PlanId, Step, Task, TaskId, Timestamp,
    TraceParent, Work,
};
use serde::Serialize;
use serde_json::{Value, json};

/// A case in the making.
#[derive(Debug, Clone)]
pub struct Played {
    plan: Plan,
    envelope: Envelope,
}

/// A step side by side with others.
pub fn step(agent: &str, required: bool) -> Step {
    Step { agent: agent.to_owned(), required, after: Vec::new(), sees: None, version: None }
}

/// An answer that is as sure as this.
pub fn sure(confidence: f64) -> PartialStatus {
    let output = json!({ "findings": [] });
    PartialStatus::Completed(Completion { output, confidence: Some(confidence), disposition: Some("clear".into()) })
}

impl Played {
    /// A case with these steps, to be decided by `due`.
    pub fn new(case: &str, request: Value, steps: Vec<Step>, due: Timestamp) -> Self {
        let case = CorrelationId::new(case);
        let plan_id = PlanId::derive(&case, request.to_string().as_bytes(), b"played");
        let id = EventId::from(&plan_id);
        let envelope = Envelope {
            trace: TraceParent::root(&id),
            origin_trace: TraceParent::root(&id),
            id,
            source: "/e2e/supervisor".to_owned(),
            kind: Plan::TYPE.to_owned(),
            subject: None,
            time: anabranch_testkit::harness::wall_clock(),
            correlation_id: case,
            causation_id: Some(EventId::new("request")),
            deadline: Some(due),
            trace_state: None,
        };
        Self { plan: Plan { plan_id, request, steps }, envelope }
    }

    /// Its key.
    pub fn key(&self) -> &str {
        self.envelope.correlation_id.as_str()
    }

    /// The plan's record.
    ///
    /// # Errors
    /// If it has no JSON form.
    pub fn planned(&self, results: &str) -> serde_json::Result<OutRecord> {
        record(results, &self.envelope, &self.plan)
    }

    /// An agent's answer to the plan's own task.
    ///
    /// # Errors
    /// If it has no JSON form.
    pub fn answered(&self, results: &str, agent: &str, status: PartialStatus) -> serde_json::Result<OutRecord> {
        self.answered_in_round(results, agent, 0, status)
    }

    /// An agent's answer to a task of this round.
    ///
    /// # Errors
    /// If it has no JSON form.
    pub fn answered_in_round(
        &self,
        results: &str,
        agent: &str,
        round: u32,
        status: PartialStatus,
    ) -> serde_json::Result<OutRecord> {
        let task_id = TaskId::derive(&self.plan.plan_id, agent, round);
        let now = anabranch_testkit::harness::wall_clock();
        let task = self.envelope.caused(EventId::from(&task_id), "/e2e/supervisor", Task::TYPE, now);
        let answer = EventId::derive(&task.id, agent, Partial::TYPE, 0);
        let envelope = task.caused(answer, &format!("/e2e/{agent}"), Partial::TYPE, now);
        let partial = Partial {
            task_id,
            plan_id: self.plan.plan_id.clone(),
            agent: agent.to_owned(),
            agent_version: "1".to_owned(),
            round,
            status,
            work: Work { started_at: now, finished_at: now, attempts: 1 },
        };
        record(results, &envelope, &partial)
    }
}

fn record(topic: &str, envelope: &Envelope, data: &impl Serialize) -> serde_json::Result<OutRecord> {
    Ok(OutRecord::message(topic, envelope, serde_json::to_vec(data)?))
}
