//! What a handler is given besides its input.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use anabranch_claims::ClaimCheck;
use anabranch_llm::Journal;
use anabranch_llm::journal::NoJournal;
use anabranch_protocol::{CorrelationId, Envelope, Task, TaskId, Timestamp};
use serde::de::DeserializeOwned;

use crate::error::AgentError;
use crate::model::ModelHandle;
use crate::tools::{self, Toolbox};

/// Where a handler's time comes from.
pub trait Clock: Debug + Send + Sync {
    /// The time.
    fn now(&self) -> Timestamp;
}

/// A clock, at hand.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Time<'a> {
    Told(fn() -> Timestamp),
    By(&'a dyn Clock),
}

impl Time<'_> {
    pub(crate) fn now(self) -> Timestamp {
        match self {
            Self::Told(now) => now(),
            Self::By(clock) => clock.now(),
        }
    }
}

/// What a handler is given besides its input: the case, the attempt, the deadline, the model.
///
/// Borrowed for one call, so that it cannot outlive the task.
#[derive(Debug)]
pub struct Context<'a> {
    envelope: &'a Envelope,
    task: &'a Task,
    attempt: u32,
    time: Time<'a>,
    model: &'a ModelHandle,
    claims: Option<&'a ClaimCheck>,
    pub(crate) journal: Arc<dyn Journal>,
    toolbox: &'a Toolbox,
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
        let (time, journal) = (Time::Told(now), Arc::new(NoJournal));
        Self { envelope, task, attempt, time, model, claims: None, journal, toolbox: &tools::NONE }
    }

    /// With another clock, for the runtime.
    #[must_use]
    pub fn with_clock(mut self, clock: &'a dyn Clock) -> Self {
        self.time = Time::By(clock);
        self
    }

    pub(crate) fn time(&self) -> Time<'a> {
        self.time
    }

    /// With a claim store, for the runtime and the test harness.
    #[must_use]
    pub fn with_claims(mut self, claims: Option<&'a ClaimCheck>) -> Self {
        self.claims = claims;
        self
    }

    /// With this attempt's journal, for the runtime and the test harness. Without one nothing is journaled.
    #[must_use]
    pub fn with_journal(mut self, journal: Arc<dyn Journal>) -> Self {
        self.journal = journal;
        self
    }

    /// With the agent's tools, for the runtime and the test harness. Without it there are none.
    #[must_use]
    pub fn with_tools(mut self, toolbox: &'a Toolbox) -> Self {
        self.toolbox = toolbox;
        self
    }

    pub(crate) fn toolbox(&self) -> &'a Toolbox {
        self.toolbox
    }

    pub(crate) fn envelope(&self) -> &'a Envelope {
        self.envelope
    }

    pub(crate) fn task(&self) -> &'a Task {
        self.task
    }

    pub(crate) fn claims(&self) -> Option<&'a ClaimCheck> {
        self.claims
    }

    /// The case.
    pub fn correlation_id(&self) -> &CorrelationId {
        &self.envelope.correlation_id
    }

    /// The task: the same at every redelivery.
    pub fn task_id(&self) -> &TaskId {
        &self.task.task_id
    }

    /// Which attempt at this task this is, from 1. Those before a wait in a retry topic count; after a crash the count may
    /// be of the last one that was put there.
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
        self.envelope.deadline.map(|d| d.since(self.now()))
    }

    /// The time. What a handler reads of it is kept with its answer, so that a replay reads the same.
    pub fn now(&self) -> Timestamp {
        self.time.now()
    }

    /// The answer of an earlier step that this agent may see ([`crate::Agent::SEES`]), or of itself in an earlier round.
    ///
    /// # Errors
    /// Terminal, if it may not see it, or the answer does not have the shape of `T`.
    pub fn part<T: DeserializeOwned>(&self, agent: &str) -> Result<Option<T>, AgentError> {
        self.case().part(agent)
    }

    /// The outcome so far, for a step after the outcome.
    ///
    /// # Errors
    /// Terminal, if the outcome does not have the shape of `T`.
    pub fn outcome<T: DeserializeOwned>(&self) -> Result<Option<T>, AgentError> {
        self.case().outcome()
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
