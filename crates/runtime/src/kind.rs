//! An agent without its types: what surrounds it is compiled once, and not once more for every agent.

use std::sync::Arc;

use anabranch_claims::ClaimCheck;
use anabranch_kafka::Record;
use anabranch_protocol::{AgentCard, Completion, Envelope, Task, Timestamp};
use anabranch_sdk::agent::{Agent, Observed};
use anabranch_sdk::context::Context;
use anabranch_sdk::error::AgentError;
use anabranch_sdk::schemars::{JsonSchema, schema_for};
use anabranch_sdk::tools::ToolSet;
use anabranch_topology::AgentSettings;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde::Deserialize as _;
use serde_json::Value;

use crate::boot::{Usage, config_of};
use crate::claims;

/// What an agent's type says of itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    pub(crate) observes: bool,
    build: fn(&AgentSettings) -> anyhow::Result<Arc<dyn Handler>>,
    card: fn(&AgentSettings) -> AgentCard,
}

impl Kind {
    pub(crate) fn of<A: Agent>() -> Self {
        Self { name: A::NAME, version: A::VERSION, observes: A::OBSERVES, build: build::<A>, card: card::<A> }
    }

    /// The agent, with its config.
    ///
    /// # Errors
    /// [`Usage`], if its config cannot be used.
    pub(crate) fn build(&self, settings: &AgentSettings) -> anyhow::Result<Arc<dyn Handler>> {
        (self.build)(settings)
    }

    /// What it announces.
    pub(crate) fn card(&self, settings: &AgentSettings) -> AgentCard {
        (self.card)(settings)
    }

    /// Schemas of what it reads and answers.
    pub(crate) fn schemas(&self) -> [Value; 2] {
        let card = self.card(&AgentSettings::default());
        [card.input_schema, card.output_schema]
    }
}

/// A running agent.
pub(crate) trait Handler: Send + Sync {
    /// Has the agent do a task. What of its answer is too large for a record is put into the claim store.
    ///
    /// # Errors
    /// The handler's, and that the answer cannot be written.
    fn handle<'a>(
        &'a self,
        context: &'a Context<'a>,
        claims: Option<&'a ClaimCheck>,
    ) -> BoxFuture<'a, Result<Completion, AgentError>>;

    /// The tools that it brings.
    fn tools(&self) -> ToolSet;

    /// Has the agent see the record of a task.
    ///
    /// # Errors
    /// Why the record is none that it can see.
    fn observe(&self, record: &Record) -> Result<(), String>;
}

struct Typed<A>(A);

impl<A: Agent> Handler for Typed<A> {
    fn handle<'a>(
        &'a self,
        context: &'a Context<'a>,
        claims: Option<&'a ClaimCheck>,
    ) -> BoxFuture<'a, Result<Completion, AgentError>> {
        async move {
            let input = context.case().request::<A::Input>();
            let input = input.map_err(|e| e.context("the request does not fit this agent"))?;
            let (output, confidence, disposition) = self.0.handle(context, input).await?.into_parts();
            let output = serde_json::to_value(output)
                .map_err(|e| AgentError::terminal("the answer cannot be written as JSON").with_source(e))?;
            let output = claims::check_in(claims, output).await?;
            Ok(Completion { output, confidence, disposition })
        }
        .boxed()
    }

    fn tools(&self) -> ToolSet {
        self.0.tools()
    }

    fn observe(&self, record: &Record) -> Result<(), String> {
        let decoded = Envelope::decode(&record.view()).map_err(|e| e.to_string())?;
        let task: Task = decoded.json().map_err(|e| e.to_string())?;
        let input = A::Input::deserialize(task.request).map_err(|e| e.to_string())?;
        let at = Timestamp::from_millis(record.timestamp_ms);
        self.0.observe(Observed { correlation_id: &decoded.envelope.correlation_id, at, input });
        Ok(())
    }
}

fn build<A: Agent>(settings: &AgentSettings) -> anyhow::Result<Arc<dyn Handler>> {
    let config = config_of::<A::Config>(A::NAME, settings)?;
    let agent = A::new(config).map_err(|e| Usage(format!("agents.{}.config: {e}", A::NAME)))?;
    Ok(Arc::new(Typed(agent)))
}

fn card<A: Agent>(settings: &AgentSettings) -> AgentCard {
    AgentCard {
        name: A::NAME.to_owned(),
        description: A::DESCRIPTION.to_owned(),
        version: A::VERSION.to_owned(),
        when: settings.when.clone().or_else(|| A::WHEN.map(str::to_owned)),
        after: settings.after.clone().unwrap_or_else(|| A::AFTER.iter().map(|a| (*a).to_owned()).collect()),
        sees: settings.sees.clone().or_else(own_sight::<A>),
        required: settings.required.unwrap_or(A::REQUIRED),
        input_schema: schema_of::<A::Input>(),
        output_schema: schema_of::<A::Output>(),
        announced_at: Timestamp::from_millis(0),
    }
}

pub(crate) fn schema_of<T: JsonSchema>() -> Value {
    schema_for!(T).to_value()
}

/// Whose answers the agent says it may see; `None`: those it waits for, whatever the topology makes of that.
fn own_sight<A: Agent>() -> Option<Vec<String>> {
    (A::SEES != A::AFTER).then(|| A::SEES.iter().map(|agent| (*agent).to_owned()).collect())
}
