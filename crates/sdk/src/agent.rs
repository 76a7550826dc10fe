//! The agent role: one task in, one answer out.

use std::future::Future;

use serde::de::DeserializeOwned;

use crate::context::Context;
use crate::error::{AgentError, ConfigError};
use crate::message::Message;
use crate::tools::ToolSet;

/// An agent: does one kind of task. One crate, one process, one consumer group.
///
/// The handler runs **at least once** per task: after a crash it may run again with the same task id. Tools that
/// accept an idempotency key get one from [`Context::idempotency_key`].
#[diagnostic::on_unimplemented(message = "`{Self}` is not an agent", note = "implement `anabranch_sdk::Agent` for it")]
pub trait Agent: Sized + Send + Sync + 'static {
    /// Identity of group, topic and metrics: lower-case letters, digits and `-`.
    const NAME: &'static str;
    /// What it does; a planning model reads this.
    const DESCRIPTION: &'static str;
    /// Version that results carry; `env!("CARGO_PKG_VERSION")` is a good one.
    const VERSION: &'static str = "0.1.0";
    /// CEL over `request`: whether a case needs this agent, e.g. `request.product == "loan"`. `None`: always.
    const WHEN: Option<&'static str> = None;
    /// Agents whose answers it needs; `"outcome"` to run once the case is decided or parked.
    const AFTER: &'static [&'static str] = &[];
    /// Agents whose answers it may see, `"outcome"` for the outcome, `"*"` for all; what has not answered when its task is
    /// made is not there. Its own earlier answer it always sees. Default: those it waits for. `topics.yaml` may say otherwise.
    const SEES: &'static [&'static str] = Self::AFTER;
    /// Whether a case may not be approved without it. `topics.yaml` may say otherwise.
    const REQUIRED: bool = false;
    /// Whether [`Agent::observe`] is to see the tasks of all cases.
    const OBSERVES: bool = false;

    /// `agents.<name>.config` in `topics.yaml`.
    type Config: DeserializeOwned;
    /// What it reads from the request; unknown members are ignored.
    type Input: Message;
    /// What it answers.
    type Output: Message;

    /// Builds the agent. No network, no spawning; reading files named in the config is fine.
    ///
    /// # Errors
    /// A [`ConfigError`] that says which field is wrong and what to write instead; the process does not start.
    fn new(config: Self::Config) -> Result<Self, ConfigError>;

    /// Does a task.
    ///
    /// # Errors
    /// An [`AgentError`], whose class decides what becomes of the task.
    fn handle(
        &self,
        ctx: &Context<'_>,
        input: Self::Input,
    ) -> impl Future<Output = Result<Outcome<Self::Output>, AgentError>> + Send;

    /// The tools that it brings for its model, beside those of MCP servers; see [`Context::tools`]. Called once, at the
    /// start. Which of them may be used is up to `agents.<name>.tools.allow`; unset, all of these.
    fn tools(&self) -> ToolSet {
        ToolSet::new()
    }

    /// Sees every task record of this agent on every partition, in every process, in log order per partition: from
    /// the start of the topic's retention, then as they come, and a task before it is handled here. For detection
    /// across cases. A task that was delivered twice is seen twice. Called only if [`Agent::OBSERVES`].
    fn observe(&self, seen: Observed<'_, Self::Input>) {
        let _ = seen;
    }
}

/// A task of some case, as [`Agent::observe`] sees it.
#[derive(Debug)]
pub struct Observed<'a, I> {
    /// The case.
    pub correlation_id: &'a anabranch_protocol::CorrelationId,
    /// When the task was written.
    pub at: anabranch_protocol::Timestamp,
    /// What the handler will be given.
    pub input: I,
}

/// What a handler answers. Returning it publishes it; there is no other way to publish.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "an outcome that is not returned is lost"]
pub struct Outcome<T> {
    output: T,
    confidence: Option<f64>,
    disposition: Option<String>,
}

impl<T> Outcome<T> {
    /// An answer without a vote; see [`Outcome::confidence`].
    pub fn new(output: T) -> Self {
        Self { output, confidence: None, disposition: None }
    }

    /// How sure the agent is, 0 to 1; clamped, and `NaN` counts as 0: doubt never raises a case's confidence.
    pub fn confidence(mut self, confidence: f64) -> Self {
        self.confidence = Some(if confidence.is_nan() { 0.0 } else { confidence.clamp(0.0, 1.0) });
        self
    }

    /// What the agent would do, which is not the same as how sure it is.
    pub fn disposition(mut self, disposition: impl Into<String>) -> Self {
        self.disposition = Some(disposition.into());
        self
    }

    /// Takes it apart: output, confidence, disposition. For the runtime and for tests.
    pub fn into_parts(self) -> (T, Option<f64>, Option<String>) {
        (self.output, self.confidence, self.disposition)
    }

    /// The answer. For tests.
    pub fn output(&self) -> &T {
        &self.output
    }
}
