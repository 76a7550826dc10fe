//! The JSON that goes over the wire.
//!
//! Reading is lenient: only what is used is read, nulls and missing fields are alike, unknown values are kept as text.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::classify::Refusal;
use super::http::Attempt;
use crate::chat::{ChatRequest, Message, Role, Usage};
use crate::error::ModelError;
use crate::schema::strict;
use crate::validate::{RawAnswer, RawToolCall};

/// The body of `POST /chat/completions`.
pub(super) fn body(request: &ChatRequest, streamed: bool, token_limit_field: &str) -> Value {
    let mut body = Map::new();
    body.insert("model".into(), json!(request.model));
    body.insert("messages".into(), request.messages.iter().map(message).collect());
    let mut optional = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(name.into(), value);
        }
    };
    optional("temperature", request.temperature.map(shortest));
    optional(token_limit_field, request.max_output_tokens.map(|limit| json!(limit)));
    optional("seed", request.seed.map(|seed| json!(seed & (i64::MAX as u64))));
    optional(
        "response_format",
        request.response_schema.as_ref().map(|wanted| {
            let (schema, strict) = strict(&wanted.schema);
            json!({ "type": "json_schema",
                "json_schema": { "name": wanted.name, "schema": schema, "strict": strict } })
        }),
    );
    let tools: Vec<Value> = request.tools.iter().map(tool).collect();
    optional("tools", (!tools.is_empty()).then_some(Value::Array(tools)));
    if streamed {
        body.insert("stream".into(), json!(true));
        body.insert("stream_options".into(), json!({ "include_usage": true }));
    }
    Value::Object(body)
}

/// 0.1 as 0.1 and not as the 0.10000000149011612 that widening makes of it.
fn shortest(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, |value| json!(value))
}

fn message(message: &Message) -> Value {
    let role = match message.role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    };
    let mut out = json!({ "role": role, "content": message.content });
    if !message.tool_calls.is_empty() {
        let calls = message.tool_calls.iter().map(|call| {
            json!({ "id": call.id, "type": "function",
                    "function": { "name": call.name, "arguments": call.arguments.to_string() } })
        });
        out["tool_calls"] = calls.collect();
        if message.content.is_empty() {
            out["content"] = Value::Null;
        }
    }
    if let Some(id) = &message.tool_call_id {
        out["tool_call_id"] = json!(id);
    }
    out
}

fn tool(tool: &crate::chat::ToolSpec) -> Value {
    let (parameters, strict) = strict(&tool.parameters);
    json!({ "type": "function", "function": {
        "name": tool.name, "description": tool.description,
        "parameters": parameters, "strict": strict } })
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
