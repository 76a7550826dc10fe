//! An agent's handler, run as the runtime runs it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anabranch_claims::{ClaimCheck, ClaimError, Limits, Location};
use anabranch_llm::journal::MemoryJournal;
use anabranch_llm::script::ScriptedModel;
use anabranch_protocol::{CaseContext, Claim, Completion, CorrelationId, PlanId, Step, Task, TaskId, Timestamp};
use anabranch_sdk::agent::{Agent, Observed, Outcome};
use anabranch_sdk::context::Context;
use anabranch_sdk::error::{AgentError, ConfigError};
use anabranch_sdk::model::{ModelHandle, ModelSettings};
use anabranch_sdk::tools::{Policy, Toolbox};
use serde::Deserialize as _;
use serde_json::Value;

/// An agent, ready to be given tasks.
pub struct AgentHarness<A> {
    agent: A,
    model: Arc<ScriptedModel>,
    now: fn() -> Timestamp,
    claims: Option<ClaimCheck>,
    toolbox: Toolbox,
}

impl<A: Agent> AgentHarness<A> {
    /// Builds the agent from its config, with a model that answers nothing.
    ///
    /// # Errors
    /// The agent's own [`ConfigError`], or one that says why `config` does not have the shape of `A::Config`.
    pub fn new(config: Value) -> Result<Self, ConfigError> {
        let agent = A::new(super::config_of(config)?)?;
        let toolbox = Toolbox::new(agent.tools(), Vec::new(), Policy::default());
        let toolbox = toolbox.map_err(|e| ConfigError::new(e.to_string()))?;
        Ok(Self { agent, model: Arc::new(ScriptedModel::new()), now: super::wall_clock, claims: None, toolbox })
    }

    /// Uses this model.
    #[must_use]
    pub fn model(mut self, model: ScriptedModel) -> Self {
        self.model = Arc::new(model);
        self
    }

    /// Lets the agent's own tools be used as `agents.<name>.tools` would say.
    ///
    /// # Errors
    /// If the list names a tool that the agent does not have.
    pub fn tools(mut self, policy: Policy) -> Result<Self, ConfigError> {
        let toolbox = Toolbox::new(self.agent.tools(), Vec::new(), policy);
        self.toolbox = toolbox.map_err(|e| ConfigError::new(e.to_string()))?;
        Ok(self)
    }

    /// Uses this clock.
    #[must_use]
    pub fn clock(mut self, now: fn() -> Timestamp) -> Self {
        self.now = now;
        self
    }

    /// Puts content into a claim store in memory, which the agent then has; its claim, to be a field of a request.
    ///
    /// # Errors
    /// If it is larger than 64 MiB.
    pub async fn claim(&mut self, content: impl Into<Vec<u8>>, content_type: &str) -> Result<Claim, ClaimError> {
        let claims = match &self.claims {
            Some(claims) => claims,
            None => {
                let limits = Limits { over: 256 * 1024, most: 64 * 1024 * 1024, timeout: Duration::from_secs(30) };
                let store = anabranch_claims::open(&Location::Memory, limits)?;
                self.claims.insert(ClaimCheck::new(store, limits))
            }
        };
        claims.put(content.into().into(), content_type).await
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
            case: Some(CaseContext {
                steps: vec![step(A::NAME, A::REQUIRED, A::AFTER)],
                sees: A::SEES.iter().map(|agent| (*agent).to_owned()).collect(),
                hidden: Vec::new(),
            }),
        };
        TaskRun {
            harness: self,
            task,
            case: CorrelationId::new("case-1"),
            attempt: 1,
            deadline: None,
            journal: MemoryJournal::new(),
        }
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

fn step(agent: &str, required: bool, after: &[&str]) -> Step {
    let after = after.iter().map(|agent| (*agent).to_owned()).collect();
    Step { agent: agent.to_owned(), required, after, sees: None, version: None }
}

/// A task, about to be run.
#[must_use = "a task that is not run shows nothing"]
pub struct TaskRun<'a, A> {
    harness: &'a AgentHarness<A>,
    task: Task,
    case: CorrelationId,
    attempt: u32,
    deadline: Option<Timestamp>,
    journal: MemoryJournal,
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

    /// With the answer of an earlier step, which the agent may then see.
    pub fn part(mut self, agent: &str, output: Value, confidence: Option<f64>) -> Self {
        let part = Completion { output, confidence, disposition: None };
        self.task.parts.insert(agent.to_owned(), part);
        if let Some(case) = self.task.case.as_mut().filter(|_| agent != A::NAME) {
            case.sees.push(agent.to_owned());
            case.steps.push(step(agent, false, &[]));
        }
        self
    }

    /// After this outcome.
    pub fn outcome(mut self, outcome: Value) -> Self {
        self.task.outcome = Some(outcome);
        self
    }

    /// With this journal, which earlier runs of the same task have written: what a redelivery finds. Of its own it has an
    /// empty one.
    pub fn journal(mut self, journal: &MemoryJournal) -> Self {
        self.journal = journal.clone();
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
        let journal = self.journal.attempt();
        let model = model.with_journal(journal.clone());
        let context = Context::new(&envelope, &self.task, self.attempt, self.harness.now, &model)
            .with_journal(journal)
            .with_claims(self.harness.claims.as_ref())
            .with_tools(&self.harness.toolbox);
        self.harness.agent.handle(&context, input).await
    }
}
