//! Tasks as a supervisor would write them, for tests of one agent alone.

use std::time::Duration;

use anabranch_kafka::OutRecord;
use anabranch_protocol::{CorrelationId, Envelope, EventId, PlanId, Task, TaskId, Timestamp, TraceParent};
use serde_json::Value;

/// A task of `agent` on its topic: case, number within the test, what is asked, and how long it may take from now.
#[derive(Debug, Clone)]
pub struct Given<'a> {
    /// The agent.
    pub agent: &'a str,
    /// Its tasks' topic.
    pub topic: &'a str,
    /// The case: the record's key.
    pub case: &'a str,
    /// Makes the task's id.
    pub number: u64,
    /// The request.
    pub request: Value,
    /// From now to the deadline.
    pub within: Duration,
}

impl Given<'_> {
    /// The record.
    ///
    /// # Errors
    /// If it has no JSON form.
    pub fn record(self) -> serde_json::Result<OutRecord> {
        let plan_id = PlanId::new(format!("plan-{}", self.number));
        let task_id = TaskId::derive(&plan_id, self.agent, 0);
        let id = EventId::from(&task_id);
        let task = Task {
            task_id,
            plan_id,
            agent: self.agent.to_owned(),
            round: 0,
            question: None,
            request: self.request,
            parts: Default::default(),
            outcome: None,
            case: None,
        };
        let now = anabranch_testkit::harness::wall_clock();
        let within = i64::try_from(self.within.as_millis()).unwrap_or(i64::MAX);
        let envelope = Envelope {
            trace: TraceParent::root(&id),
            origin_trace: TraceParent::root(&id),
            id,
            source: "/e2e".to_owned(),
            kind: Task::TYPE.to_owned(),
            subject: None,
            time: now,
            correlation_id: CorrelationId::new(self.case),
            causation_id: None,
            deadline: Some(Timestamp::from_millis(now.as_millis().saturating_add(within))),
            trace_state: None,
        };
        Ok(OutRecord::message(self.topic, &envelope, serde_json::to_vec(&task)?))
    }
}
