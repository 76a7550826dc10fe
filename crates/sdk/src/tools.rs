//! Tools that an agent's model may call: typed ones in Rust, and those of MCP servers.
//!
//! An agent names its own in [`crate::Agent::tools`]; which of them, and which of a server's, its model may call is said by
//! `agents.<name>.tools` in `topics.yaml`, and so is how much. A call is checked, done once (it is journaled), and its result
//! goes back to the model as data.

use std::sync::LazyLock;

use anabranch_llm::{ChatRequest, ChatResponse, ModelError, ResponseSchema, Schema};
use futures::FutureExt as _;
use futures::future::BoxFuture;

pub use anabranch_tools::{
    Allow, Answer, AnyTool, Called, Limits, Policy, RunError, Tool, ToolClass, ToolContext, ToolError, ToolSet,
    ToolSource, Toolbox, ToolboxError, Verdict, mcp,
};

use crate::context::Context;
use crate::error::AgentError;
use crate::message::Message;
use crate::model::ModelHandle;
use crate::prompt::Prompt;

/// An agent without tools.
pub(crate) static NONE: LazyLock<Toolbox> = LazyLock::new(Toolbox::default);

/// The tools of one task: `ctx.tools()`.
#[derive(Debug)]
pub struct Tools<'a> {
    ctx: &'a Context<'a>,
}

impl<'a> Context<'a> {
    /// The tools that `topics.yaml` lets this agent's model call.
    pub fn tools(&'a self) -> Tools<'a> {
        Tools { ctx: self }
    }
}

impl Tools<'_> {
    /// Asks, lets the model call tools until it answers, and gives the answer in its own words, with the calls it made.
    ///
    /// # Errors
    /// Already classified: `?` in a handler does what the class asks for. A limit (`max_steps`, `max_tokens`, `max_time`)
    /// is terminal and says which.
    pub async fn run(&self, prompt: &Prompt) -> Result<Answer, AgentError> {
        self.converse(self.ctx.model().request_of(prompt), 0, &|_| Ok(())).await
    }

    /// As [`Tools::run`], for an answer of the shape `T`. `name` names the schema at the endpoint. An answer that does not
    /// have the shape is sent back with what is wrong with it, [`crate::model::ModelSettings::max_repairs`] times, as that
    /// of [`ModelHandle::ask`]; the model may call tools once more before it answers anew.
    ///
    /// # Errors
    /// As [`Tools::run`]; terminal, if the answer does not have the shape after the last repair either.
    pub async fn ask<T: Message>(&self, name: &str, prompt: &Prompt) -> Result<(T, Vec<Called>), AgentError> {
        let mut request = self.ctx.model().request_of(prompt);
        request.response_schema = Some(ResponseSchema::new(name, Schema::of::<T>()));
        let check = |content: &str| {
            let read: Result<T, _> = serde_json::from_str(content);
            read.map(drop).map_err(|error| format!("not the expected type: {error}"))
        };
        let answer = self.converse(request, self.ctx.model().max_repairs(), &check).await?;
        let read = serde_json::from_str(&answer.content)
            .map_err(|e| AgentError::terminal("the model's answer does not have the shape asked for").with_source(e))?;
        Ok((read, answer.calls))
    }

    async fn converse(
        &self,
        request: ChatRequest,
        repairs: u32,
        check: &(dyn Fn(&str) -> Result<(), String> + Sync),
    ) -> Result<Answer, AgentError> {
        let ctx = self.ctx;
        let key = |label: &str| ctx.idempotency_key(label);
        let run = anabranch_tools::Run {
            toolbox: ctx.toolbox(),
            chat: &Asks(ctx.model()),
            journal: &*ctx.journal,
            correlation_id: ctx.correlation_id().as_str(),
            idempotency_key: &key,
            remaining: ctx.remaining(),
        };
        // Large, and held across every wait of the handler.
        Box::pin(run.run_repaired(request, repairs, check)).await.map_err(as_agent_error)
    }
}

struct Asks<'a>(&'a ModelHandle);

impl anabranch_tools::Chat for Asks<'_> {
    fn chat(&self, request: ChatRequest) -> BoxFuture<'_, Result<ChatResponse, ModelError>> {
        self.0.chat(request).boxed()
    }
}

fn as_agent_error(error: RunError) -> AgentError {
    match error {
        RunError::Model(error) => error.into(),
        RunError::Limit(words) | RunError::Misuse(words) => AgentError::terminal(words),
        RunError::Tool { tool, error } => {
            let words = format!("the tool `{tool}`: {error}");
            match error.class() {
                ToolClass::Retryable { after: Some(after) } => AgentError::retry_after(words, after),
                ToolClass::Retryable { after: None } => AgentError::retryable(words),
                ToolClass::Fatal => AgentError::fatal(words),
                // A tool's "no" is told to the model, and ends nothing; it does not come here.
                ToolClass::Terminal | ToolClass::Told => AgentError::terminal(words),
            }
        }
    }
}
