//! A question to a model as text: what a journal knows it by.
//!
//! The fields stand in the order of their names, in every object: so they were written when this text was that of a JSON
//! value. Another order would be another name, and tasks under way would ask again what was answered.

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::chat::{ChatRequest, Message, Role, ToolCall};

#[derive(Serialize)]
struct Asked<'a> {
    max_output_tokens: Option<u32>,
    messages: Vec<Turn<'a>>,
    model: &'a str,
    response_schema: Option<NamedSchema<'a>>,
    seed: Option<u64>,
    temperature: Option<f64>,
    tools: Vec<Tool<'a>>,
}

#[derive(Serialize)]
struct Turn<'a> {
    content: &'a str,
    role: Role,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Called<'a>>,
}

#[derive(Serialize)]
struct Called<'a> {
    arguments: &'a Value,
    id: &'a str,
    name: &'a str,
}

#[derive(Serialize)]
struct NamedSchema<'a> {
    name: &'a str,
    schema: &'a RawValue,
}

#[derive(Serialize)]
struct Tool<'a> {
    description: &'a str,
    name: &'a str,
    parameters: &'a RawValue,
}

/// All of a request that its answer depends on.
pub(super) fn text(request: &ChatRequest) -> Vec<u8> {
    let asked = Asked {
        max_output_tokens: request.max_output_tokens,
        messages: request.messages.iter().map(turn).collect(),
        model: &request.model,
        response_schema: request
            .response_schema
            .as_ref()
            .map(|wanted| NamedSchema { name: &wanted.name, schema: wanted.schema.text() }),
        seed: request.seed,
        temperature: request.temperature.map(f64::from),
        tools: request
            .tools
            .iter()
            .map(|tool| Tool { description: &tool.description, name: &tool.name, parameters: tool.parameters.text() })
            .collect(),
    };
    // Texts, numbers and JSON values always have a JSON text. If they had not, another question were another text still.
    serde_json::to_vec(&asked).unwrap_or_else(|_| format!("{request:?}").into_bytes())
}

fn turn(message: &Message) -> Turn<'_> {
    Turn {
        content: &message.content,
        role: message.role,
        tool_call_id: message.tool_call_id.as_deref(),
        tool_calls: message.tool_calls.iter().map(called).collect(),
    }
}

fn called(call: &ToolCall) -> Called<'_> {
    Called { arguments: &call.arguments, id: &call.id, name: &call.name }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::chat::{ResponseSchema, ToolSpec};

    #[derive(schemars::JsonSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    struct Answer {
        /// Zed comes before what follows.
        zed: Option<String>,
        alpha: f64,
    }

    #[test]
    fn it_is_the_text_of_the_same_json_value() {
        let call = ToolCall { id: "1".into(), name: "look".into(), arguments: json!({ "z": 1, "a": [0.5, "é\n"] }) };
        let calling = Message { tool_calls: vec![call], ..Message::assistant("") };
        let turns = vec![Message::system("Be \"brief\"."), Message::user("é"), calling, Message::tool("1", "found")];
        let bare = ChatRequest::new("m", turns);
        let full = ChatRequest {
            temperature: Some(0.1),
            max_output_tokens: Some(7),
            response_schema: Some(ResponseSchema::of::<Answer>()),
            tools: vec![ToolSpec::of::<Answer>("look", "Looks.")],
            seed: Some(u64::MAX),
            ..bare.clone()
        };
        for request in [bare, full] {
            let value = json!({
                "model": request.model, "messages": request.messages, "temperature": request.temperature,
                "max_output_tokens": request.max_output_tokens, "response_schema": request.response_schema,
                "tools": request.tools, "seed": request.seed,
            });
            assert_eq!(String::from_utf8(text(&request)).unwrap(), value.to_string());
        }
    }
}
