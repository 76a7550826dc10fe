//! What is asked of a model and what it answers, in the port's own words.
//!
//! No type of a vendor's client library appears here: an agent compiled against this module does not know, and
//! cannot come to depend on, what carries its requests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::ModelError;
use crate::schema::{self, Schema};

/// Metadata key, and HTTP header, that names the case a call is made for.
pub const CORRELATION_ID: &str = "x-correlation-id";
/// Metadata key, and HTTP header, that names the agent that calls.
pub const AGENT: &str = "x-agent";
/// Metadata key, and HTTP header, that names on whose behalf a call is made: limits are fair between tenants.
pub const TENANT: &str = "x-tenant";

/// Who speaks in a [`Message`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The agent author's instructions. Nothing from outside belongs here.
    System,
    /// What is asked, with whatever came from outside.
    User,
    /// An earlier answer of the model.
    Assistant,
    /// What a tool returned; [`Message::tool_call_id`] names the call it answers.
    Tool,
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// The text; may be empty on an assistant turn that only calls tools.
    pub content: String,
    /// The calls an assistant turn makes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// On a tool turn: the id of the call answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

impl Message {
    fn text(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into(), tool_calls: Vec::new(), tool_call_id: None }
    }

    /// Instructions of the agent's author.
    pub fn system(content: impl Into<String>) -> Self {
        Self::text(Role::System, content)
    }

    /// A question, with whatever came from outside.
    pub fn user(content: impl Into<String>) -> Self {
        Self::text(Role::User, content)
    }

    /// An earlier answer of the model.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::text(Role::Assistant, content)
    }

    /// What the tool returned for the call `tool_call_id`.
    pub fn tool(tool_call_id: impl Into<String>, content: impl Into<String>) -> Self {
        Self { tool_call_id: Some(tool_call_id.into()), ..Self::text(Role::Tool, content) }
    }
}

impl From<&ChatResponse> for Message {
    /// The turn to append to a conversation before the tool results that answer it.
    fn from(response: &ChatResponse) -> Self {
        Self { tool_calls: response.tool_calls.clone(), ..Self::text(Role::Assistant, response.content.clone()) }
    }
}

/// A call of a tool by the model. The arguments were checked against the tool's schema.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The call's id; its answer is a [`Message::tool`] that names it.
    pub id: String,
    /// The tool called; one of the request's [`ChatRequest::tools`].
    pub name: String,
    /// The arguments, parsed.
    pub arguments: Value,
}

/// A tool the model may call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolSpec {
    /// At most 64 of `a-z A-Z 0-9 _ -`.
    pub name: String,
    /// What it does and when to use it: the model reads this.
    pub description: String,
    /// JSON Schema of the arguments: an object.
    pub parameters: Schema,
}

impl ToolSpec {
    /// A tool whose arguments have the shape `T`.
    pub fn of<T: schemars::JsonSchema + 'static>(name: impl Into<String>, description: impl Into<String>) -> Self {
        Self { name: name.into(), description: description.into(), parameters: Schema::of::<T>() }
    }
}

/// The shape an answer must have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResponseSchema {
    /// Names the schema at the endpoint: at most 64 of `a-z A-Z 0-9 _ -`.
    pub name: String,
    /// JSON Schema, as `schemars` or an author writes it. It is sent in the strict dialect (every property required,
    /// nothing additional) and the answer is checked against this original.
    pub schema: Schema,
}

impl ResponseSchema {
    /// A schema under a name of the caller's.
    pub fn new(name: impl Into<String>, schema: impl Into<Schema>) -> Self {
        Self { name: name.into(), schema: schema.into() }
    }

    /// The schema of `T` under `T`'s own name in snake case: `IdentityAssessment` is `identity_assessment`.
    pub fn of<T: schemars::JsonSchema + 'static>() -> Self {
        Self::new(schema::snake_case(&T::schema_name()), Schema::of::<T>())
    }
}

/// A request to a model.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatRequest {
    /// The model's name at its endpoint.
    pub model: String,
    /// The conversation so far, oldest first.
    pub messages: Vec<Message>,
    /// Sampling temperature; `None` leaves it to the endpoint.
    pub temperature: Option<f32>,
    /// Most tokens of the answer; `None` leaves it to the endpoint.
    pub max_output_tokens: Option<u32>,
    /// The shape the answer must have; `None` for free text.
    pub response_schema: Option<ResponseSchema>,
    /// Tools the model may call.
    pub tools: Vec<ToolSpec>,
    /// Tool calls come as the model made them, whatever their name and arguments: who asked checks them, and can tell the
    /// model what is wrong. Arguments that are no JSON come as a string. Without it such an answer is an error.
    pub unchecked_tool_calls: bool,
    /// The longest the whole call may take, a stream to its end included.
    pub timeout: Duration,
    /// For endpoints that sample reproducibly.
    pub seed: Option<u64>,
    /// Texts that are data of persons, in every form in which they may stand in the messages: a recording of the call
    /// holds none of them ([`crate::cassette`]). Not sent, and no part of what is asked.
    pub personal: Arc<[String]>,
    /// Sent as HTTP headers: [`CORRELATION_ID`], [`AGENT`] and others starting with `x-`. Anything else is not sent.
    pub metadata: BTreeMap<String, String>,
}

impl ChatRequest {
    /// A plain request: no schema, no tools, 60 s.
    pub fn new(model: impl Into<String>, messages: Vec<Message>) -> Self {
        Self {
            model: model.into(),
            messages,
            temperature: None,
            max_output_tokens: None,
            response_schema: None,
            tools: Vec::new(),
            unchecked_tool_calls: false,
            timeout: Duration::from_secs(60),
            seed: None,
            personal: Arc::default(),
            metadata: BTreeMap::new(),
        }
    }

    /// The text of the last user turn, where what came from outside is.
    pub fn last_user(&self) -> Option<&str> {
        self.messages.iter().rev().find(|m| m.role == Role::User).map(|m| m.content.as_str())
    }
}

/// What a call cost, as the endpoint counted it. An endpoint that counts nothing leaves zeros.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens read.
    pub prompt_tokens: u64,
    /// Tokens written.
    pub completion_tokens: u64,
}

impl Usage {
    /// Both together.
    pub fn total_tokens(&self) -> u64 {
        self.prompt_tokens.saturating_add(self.completion_tokens)
    }
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.prompt_tokens = self.prompt_tokens.saturating_add(other.prompt_tokens);
        self.completion_tokens = self.completion_tokens.saturating_add(other.completion_tokens);
    }
}

/// Why the model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// It was done.
    Stop,
    /// It ran into [`ChatRequest::max_output_tokens`] or the endpoint's own limit: the text is cut.
    Length,
    /// It wants tools called.
    ToolCalls,
}

/// A model's answer. Serializable, so that a journaled step can keep it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChatResponse {
    /// The text; where the request had a schema, JSON that is valid for it.
    pub content: String,
    /// The tools to call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// What it cost.
    pub usage: Usage,
    /// The model that answered, as the endpoint names it.
    pub model: String,
    /// Why it stopped.
    pub finish: FinishReason,
    /// The model that should have answered, where another one stood in for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_for: Option<String>,
}

/// What a stream yields. The last item of a stream that ended well is [`ChatEvent::Done`]; one that ends otherwise
/// ends with an error. There is no third way.
#[derive(Debug, Clone, PartialEq)]
pub enum ChatEvent {
    /// The next piece of text. Not yet checked against anything.
    Content(String),
    /// The whole answer, checked as [`Model::chat`](crate::Model::chat) checks it.
    Done(ChatResponse),
}

/// A stream of an answer in the making.
pub type ChatStream<'a> = futures::stream::BoxStream<'a, Result<ChatEvent, ModelError>>;
