//! The JSON that goes over the wire.
//!
//! Reading is lenient: only what is used is read, nulls and missing fields are alike, unknown values are kept as text.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::classify::Refusal;
use super::http::Attempt;
use crate::chat::{ChatRequest, Message, Role, ToolCall, ToolSpec, Usage};
use crate::error::ModelError;
use crate::validate::{RawAnswer, RawToolCall};

/// The body of `POST /chat/completions`.
#[derive(Serialize)]
pub(super) struct Body<'a> {
    model: &'a str,
    messages: Vec<Turn<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<Format<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
}

#[derive(Serialize)]
struct Turn<'a> {
    role: &'static str,
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Called<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<&'a str>,
}

#[derive(Serialize)]
struct Called<'a> {
    id: &'a str,
    r#type: &'static str,
    function: CalledFunction<'a>,
}

#[derive(Serialize)]
struct CalledFunction<'a> {
    name: &'a str,
    arguments: String,
}

#[derive(Serialize)]
struct Format<'a> {
    r#type: &'static str,
    json_schema: NamedSchema<'a>,
}

#[derive(Serialize)]
struct NamedSchema<'a> {
    name: &'a str,
    schema: &'a RawValue,
    strict: bool,
}

#[derive(Serialize)]
struct Tool<'a> {
    r#type: &'static str,
    function: OfferedFunction<'a>,
}

#[derive(Serialize)]
struct OfferedFunction<'a> {
    name: &'a str,
    description: &'a str,
    parameters: &'a RawValue,
    strict: bool,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

/// How the endpoint calls the limit of an answer's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenLimit {
    MaxTokens,
    MaxCompletionTokens,
}

impl<'a> Body<'a> {
    pub(super) fn of(request: &'a ChatRequest, streamed: bool, token_limit: TokenLimit) -> Self {
        let limit = |field| request.max_output_tokens.filter(|_| field == token_limit);
        Self {
            model: &request.model,
            messages: request.messages.iter().map(Turn::of).collect(),
            temperature: request.temperature.map(shortest),
            max_tokens: limit(TokenLimit::MaxTokens),
            max_completion_tokens: limit(TokenLimit::MaxCompletionTokens),
            seed: request.seed.map(|seed| seed & (i64::MAX as u64)),
            response_format: request.response_schema.as_ref().map(|wanted| {
                let (schema, strict) = wanted.schema.strict();
                Format { r#type: "json_schema", json_schema: NamedSchema { name: &wanted.name, schema, strict } }
            }),
            tools: request.tools.iter().map(Tool::of).collect(),
            stream: streamed.then_some(true),
            stream_options: streamed.then_some(StreamOptions { include_usage: true }),
        }
    }
}

/// 0.1 as 0.1 and not as the 0.10000000149011612 that widening makes of it.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::NAN)
}

impl<'a> Turn<'a> {
    fn of(message: &'a Message) -> Self {
        let role = match message.role {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        };
        let called = |call: &'a ToolCall| {
            let function = CalledFunction { name: &call.name, arguments: call.arguments.to_string() };
            Called { id: &call.id, r#type: "function", function }
        };
        let only_calls = message.content.is_empty() && !message.tool_calls.is_empty();
        Self {
            role,
            content: (!only_calls).then_some(&message.content),
            tool_calls: message.tool_calls.iter().map(called).collect(),
            tool_call_id: message.tool_call_id.as_deref(),
        }
    }
}

impl<'a> Tool<'a> {
    fn of(tool: &'a ToolSpec) -> Self {
        let (parameters, strict) = tool.parameters.strict();
        let function = OfferedFunction { name: &tool.name, description: &tool.description, parameters, strict };
        Self { r#type: "function", function }
    }
}

/// A whole answer.
#[derive(Debug, Deserialize)]
pub(super) struct Completion {
    choices: Option<Vec<Choice>>,
    usage: Option<WireUsage>,
    model: Option<String>,
    error: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    message: Option<Answer>,
    finish_reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Answer {
    content: Option<String>,
    refusal: Option<String>,
    tool_calls: Option<Vec<Call>>,
}

/// A tool call, whole or in pieces.
#[derive(Debug, Deserialize)]
pub(super) struct Call {
    pub(super) index: Option<u32>,
    pub(super) id: Option<String>,
    pub(super) function: Option<Function>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Function {
    pub(super) name: Option<String>,
    pub(super) arguments: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct WireUsage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
}

impl From<WireUsage> for Usage {
    fn from(usage: WireUsage) -> Self {
        Self {
            prompt_tokens: usage.prompt_tokens.unwrap_or(0),
            completion_tokens: usage.completion_tokens.unwrap_or(0),
        }
    }
}

/// An event of a stream.
#[derive(Debug, Deserialize)]
pub(super) struct Chunk {
    pub(super) choices: Option<Vec<ChunkChoice>>,
    pub(super) usage: Option<WireUsage>,
    pub(super) model: Option<String>,
    pub(super) error: Option<Value>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ChunkChoice {
    pub(super) delta: Option<Delta>,
    pub(super) finish_reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Delta {
    pub(super) content: Option<String>,
    pub(super) refusal: Option<String>,
    pub(super) tool_calls: Option<Vec<Call>>,
}

impl Completion {
    /// The error that some endpoints put into a 200.
    pub(super) fn into_error(self) -> Option<Value> {
        self.error.filter(|error| !error.is_null())
    }

    /// The answer, unchecked. Some endpoints put an error into a 200.
    pub(super) fn into_raw(self, attempt: &Attempt, model: &str) -> Result<RawAnswer, ModelError> {
        if let Some(error) = self.error.filter(|error| !error.is_null()) {
            let now = std::time::SystemTime::now();
            return Err(Refusal::embedded(&error).classify(attempt, model, now));
        }
        let first = self.choices.unwrap_or_default().into_iter().next();
        let Some((answer, finish)) = first.and_then(|c| Some((c.message?, c.finish_reason))) else {
            return Err(ModelError::Malformed { message: "it holds no choice".into(), preview: String::new() });
        };
        let calls = answer.tool_calls.unwrap_or_default();
        Ok(RawAnswer {
            content: answer.content.unwrap_or_default(),
            refusal: answer.refusal,
            tool_calls: calls.into_iter().map(Call::into_raw).collect(),
            finish,
            usage: self.usage.unwrap_or_default().into(),
            model: self.model.unwrap_or_else(|| model.to_owned()),
        })
    }
}

impl Call {
    fn into_raw(self) -> RawToolCall {
        let function = self.function.unwrap_or_default();
        RawToolCall {
            id: self.id.unwrap_or_default(),
            name: function.name.unwrap_or_default(),
            arguments: function.arguments.unwrap_or_default(),
        }
    }
}
