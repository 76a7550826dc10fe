//! The supervisor role: one request in, one plan out. It plans; it does not restart processes.

use std::future::Future;

use anabranch_protocol::{CorrelationId, Envelope, Step, Timestamp};
use serde::de::DeserializeOwned;

use crate::error::{AgentError, ConfigError};
use crate::message::Message;
use crate::model::ModelHandle;

/// Plans a case: which agents, in which order, by when. Stateless; may run again for the same request.
pub trait Supervisor: Sized + Send + Sync + 'static {
    /// Identity of group and metrics.
    const NAME: &'static str = "supervisor";
    /// Version that plans carry.
    const VERSION: &'static str = "0.1.0";
    /// `agents.<name>.config` in `topics.yaml`.
    type Config: DeserializeOwned;
    /// What it reads from the request. A request that does not fit becomes a dead letter.
    type Request: Message;

    /// Builds it. No network, no spawning.
    ///
    /// # Errors
    /// A [`ConfigError`]; the process does not start.
    fn new(config: Self::Config) -> Result<Self, ConfigError>;

    /// Plans the case.
    ///
    /// # Errors
    /// An [`AgentError`], whose class decides what becomes of the request.
    fn plan(
        &self,
        ctx: &PlanContext<'_>,
        request: Self::Request,
        directory: &Directory,
    ) -> impl Future<Output = Result<PlanDraft, AgentError>> + Send;
}

/// What planning is given besides the request.
#[derive(Debug)]
pub struct PlanContext<'a> {
    envelope: &'a Envelope,
    now: fn() -> Timestamp,
    model: &'a ModelHandle,
}

impl<'a> PlanContext<'a> {
    /// For the runtime and the test harness.
    pub fn new(envelope: &'a Envelope, now: fn() -> Timestamp, model: &'a ModelHandle) -> Self {
        Self { envelope, now, model }
    }

    /// The case.
    pub fn correlation_id(&self) -> &CorrelationId {
        &self.envelope.correlation_id
    }

    /// The case's deadline.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.envelope.deadline
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        (self.now)()
    }

    /// The model that `topics.yaml` gives the supervisor.
    pub fn model(&self) -> &ModelHandle {
        self.model
    }
}

/// An agent that could be planned with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub agent: String,
    /// What it does.
    pub description: String,
    /// Its version, if it has announced itself.
    pub version: Option<String>,
    /// Whether a case needs its answer.
    pub required: bool,
    /// What it waits for.
    pub after: Vec<String>,
    /// Whose answers it may see; `None`: those it waits for.
    pub sees: Option<Vec<String>>,
    /// Whether its `when` holds for this request.
    pub applies: bool,
}

/// The agents there are, as of now: those declared in `topics.yaml` and those that announced themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directory {
    candidates: Vec<Candidate>,
}

impl Directory {
    /// For the runtime and the test harness.
    pub fn new(candidates: Vec<Candidate>) -> Self {
        Self { candidates }
    }

    /// All agents, in order of name.
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// The plan that asks every agent whose `when` holds.
    pub fn plan(&self) -> PlanDraft {
        let steps = self.candidates.iter().filter(|c| c.applies).map(|c| Step {
            agent: c.agent.clone(),
            required: c.required,
            after: c.after.clone(),
            sees: c.sees.clone(),
            version: c.version.clone(),
        });
        PlanDraft { steps: steps.collect(), deadline: None }
    }
}

/// A plan before the runtime has checked it and given it its id.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "a plan that is not returned is lost"]
pub struct PlanDraft {
    steps: Vec<Step>,
    deadline: Option<Timestamp>,
}

impl PlanDraft {
    /// Leaves an agent out.
    pub fn without(mut self, agent: &str) -> Self {
        self.steps.retain(|s| s.agent != agent);
        self
    }

    /// Adds a step, or replaces the one of the same agent.
    pub fn with(mut self, step: Step) -> Self {
        self.steps.retain(|s| s.agent != step.agent);
        self.steps.push(step);
        self
    }

    /// Brings the deadline forward. A deadline later than the case's own has no effect.
    pub fn due(mut self, deadline: Timestamp) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Takes it apart. For the runtime and tests.
    pub fn into_parts(self) -> (Vec<Step>, Option<Timestamp>) {
        (self.steps, self.deadline)
    }
}
