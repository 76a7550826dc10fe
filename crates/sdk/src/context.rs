//! What a handler is given besides its input.

use std::time::Duration;

use anabranch_protocol::{CorrelationId, Envelope, Task, TaskId, Timestamp};
use serde::de::DeserializeOwned;

use crate::error::AgentError;
use crate::model::ModelHandle;

/// What a handler is given besides its input: the case, the attempt, the deadline, the model.
///
/// Borrowed for one call, so that it cannot outlive the task.
#[derive(Debug)]
pub struct Context<'a> {
    envelope: &'a Envelope,
    task: &'a Task,
    attempt: u32,
    now: fn() -> Timestamp,
    model: &'a ModelHandle,
}

impl<'a> Context<'a> {
    /// For the runtime and the test harness. `attempt` counts from 1; `now` is the clock.
    pub fn new(
        envelope: &'a Envelope,
        task: &'a Task,
        attempt: u32,
        now: fn() -> Timestamp,
        model: &'a ModelHandle,
    ) -> Self {
        Self { envelope, task, attempt, now, model }
    }

    /// The case.
    pub fn correlation_id(&self) -> &CorrelationId {
        &self.envelope.correlation_id
    }

    /// The task: the same at every redelivery.
    pub fn task_id(&self) -> &TaskId {
        &self.task.task_id
    }

    /// Which attempt of this delivery this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// 0 for the first time this agent is asked, then the number of the follow-up round.
    pub fn round(&self) -> u32 {
        self.task.round
    }

    /// What the follow-up round asks.
    pub fn question(&self) -> Option<&str> {
        self.task.question.as_deref()
    }

    /// The case's deadline, absolute.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.envelope.deadline
    }

    /// What is left of the deadline; `None` if the case has none.
    pub fn remaining(&self) -> Option<Duration> {
        self.envelope.deadline.map(|d| d.since((self.now)()))
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        (self.now)()
    }

    /// The answer of an earlier step named in [`crate::Agent::AFTER`], or of this agent itself in an earlier round.
    ///
    /// # Errors
    /// Terminal, if the answer does not have the shape of `T`.
    pub fn part<T: DeserializeOwned>(&self, agent: &str) -> Result<Option<T>, AgentError> {
        let Some(part) = self.task.parts.get(agent) else {
            return Ok(None);
        };
        T::deserialize(&part.output)
            .map(Some)
            .map_err(|e| AgentError::terminal(format!("the answer of {agent} cannot be read")).with_source(e))
    }

    /// The outcome so far, for a step after the outcome.
    ///
    /// # Errors
    /// Terminal, if the outcome does not have the shape of `T`.
    pub fn outcome<T: DeserializeOwned>(&self) -> Result<Option<T>, AgentError> {
        let Some(outcome) = &self.task.outcome else {
            return Ok(None);
        };
        T::deserialize(outcome).map(Some).map_err(|e| AgentError::terminal("the outcome cannot be read").with_source(e))
    }

    /// A key for an outside tool that accepts one: the same at every attempt and redelivery of this task, different
    /// for every `label`.
    pub fn idempotency_key(&self, label: &str) -> String {
        self.task.task_id.idempotency_key(label)
    }

    /// The model that `topics.yaml` gives this agent.
    pub fn model(&self) -> &ModelHandle {
        self.model
    }
}
