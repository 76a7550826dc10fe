//! An agent's handler, run as the runtime runs it.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_llm::script::ScriptedModel;
use anabranch_protocol::{Completion, CorrelationId, PlanId, Task, TaskId, Timestamp};
use anabranch_sdk::agent::{Agent, Observed, Outcome};
use anabranch_sdk::context::Context;
use anabranch_sdk::error::{AgentError, ConfigError};
use anabranch_sdk::model::{ModelHandle, ModelSettings};
use serde::Deserialize as _;
use serde_json::Value;

/// An agent, ready to be given tasks.
pub struct AgentHarness<A> {
    agent: A,
    model: Arc<ScriptedModel>,
    now: fn() -> Timestamp,
}

impl<A: Agent> AgentHarness<A> {
    /// Builds the agent from its config, with a model that answers nothing.
    ///
    /// # Errors
    /// The agent's own [`ConfigError`], or one that says why `config` does not have the shape of `A::Config`.
    pub fn new(config: Value) -> Result<Self, ConfigError> {
        let agent = A::new(super::config_of(config)?)?;
        Ok(Self { agent, model: Arc::new(ScriptedModel::new()), now: super::wall_clock })
    }

    /// Uses this model.
    #[must_use]
    pub fn model(mut self, model: ScriptedModel) -> Self {
        self.model = Arc::new(model);
        self
    }

    /// Uses this clock.
    #[must_use]
    pub fn clock(mut self, now: fn() -> Timestamp) -> Self {
        self.now = now;
        self
    }

    /// The agent itself.
    pub fn agent(&self) -> &A {
        &self.agent
    }

    /// The model, to look at what it was asked.
    pub fn asked(&self) -> &ScriptedModel {
        &self.model
    }

    /// A task with this request, to be adjusted and run.
    pub fn task(&self, request: Value) -> TaskRun<'_, A> {
        let task = Task {
            task_id: TaskId::new(""),
            plan_id: PlanId::new("plan"),
            agent: A::NAME.to_owned(),
            round: 0,
            question: None,
            request,
            parts: BTreeMap::new(),
            outcome: None,
        };
        TaskRun { harness: self, task, case: CorrelationId::new("case-1"), attempt: 1, deadline: None }
    }

    /// Shows the agent a task of some case, as [`Agent::observe`] sees it.
    ///
    /// # Panics
    /// If the request does not fit the agent's input: a fault of the test.
    #[allow(clippy::expect_used, reason = "for tests: a request that does not fit is a fault of the test")]
    pub fn observe(&self, case: &str, at: Timestamp, request: Value) {
        let input = A::Input::deserialize(request).expect("the request fits the agent's input");
        self.agent.observe(Observed { correlation_id: &CorrelationId::new(case), at, input });
    }
}

/// A task, about to be run.
#[must_use = "a task that is not run shows nothing"]
pub struct TaskRun<'a, A> {
    harness: &'a AgentHarness<A>,
    task: Task,
    case: CorrelationId,
    attempt: u32,
    deadline: Option<Timestamp>,
}

impl<A: Agent> TaskRun<'_, A> {
    /// Of this case.
    pub fn case(mut self, case: &str) -> Self {
        self.case = CorrelationId::new(case);
        self
    }

    /// As this attempt, from 1.
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }

    /// In this follow-up round, with this question.
    pub fn round(mut self, round: u32, question: &str) -> Self {
        self.task.round = round;
        self.task.question = Some(question.to_owned());
        self
    }

    /// With this deadline.
    pub fn deadline(mut self, deadline: Timestamp) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// With the answer of an earlier step.
    pub fn part(mut self, agent: &str, output: Value, confidence: Option<f64>) -> Self {
        let part = Completion { output, confidence, disposition: None };
        self.task.parts.insert(agent.to_owned(), part);
        self
    }

    /// After this outcome.
    pub fn outcome(mut self, outcome: Value) -> Self {
        self.task.outcome = Some(outcome);
        self
    }

    /// Runs the handler once.
    ///
    /// # Errors
    /// What the handler returned; terminal, as in the runtime, if the request does not fit the agent's input.
    pub async fn run(mut self) -> Result<Outcome<A::Output>, AgentError> {
        self.task.task_id = TaskId::derive(&PlanId::new(self.case.as_str()), A::NAME, self.task.round);
        let input = A::Input::deserialize(&self.task.request)
            .map_err(|e| AgentError::terminal("the request does not fit this agent").with_source(e))?;
        let envelope = super::envelope(&self.case, Task::TYPE, (self.harness.now)(), self.deadline);
        let model =
            ModelHandle::new(self.harness.model.clone(), ModelSettings::default(), A::NAME).for_case(&self.case);
        let context = Context::new(&envelope, &self.task, self.attempt, self.harness.now, &model);
        self.harness.agent.handle(&context, input).await
    }
}
