//! A chat request as the endpoint reads it: what is wrong with it is said in OpenAI's words, with a 400.

use axum::http::HeaderMap;
use serde_json::Value;

use super::known::Known;
use super::refusal::Refusal;
use super::seeded;
use crate::chat::{AGENT, CORRELATION_ID};
use crate::schema::{Schema, is_name};

/// What an answer has to look like.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Format {
    Text,
    JsonObject,
    Schema { name: String, schema: Schema },
}

/// Whether tools are to be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Choice {
    None,
    Auto,
    Required,
    Tool(String),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tool {
    pub(super) name: String,
    pub(super) parameters: Schema,
}

/// A request that can be answered.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) model: String,
    pub(super) last_user: String,
    pub(super) after_tool: bool,
    pub(super) format: Format,
    pub(super) tools: Vec<Tool>,
    pub(super) choice: Choice,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    pub(super) max_tokens: Option<u64>,
    pub(super) prompt_tokens: u64,
    pub(super) agent: String,
    pub(super) correlation_id: String,
    /// Stands for this request of this case and agent.
    pub(super) key: u64,
}

impl Call {
    /// Reads headers and body.
    pub(super) fn read(headers: &HeaderMap, body: &[u8], schemas: &Known) -> Result<Self, Refusal> {
        let (agent, correlation_id) = (header(headers, AGENT), header(headers, CORRELATION_ID));
        let body = parse(body)?;
        let model = match body.get("model") {
            Some(Value::String(model)) if !model.is_empty() => model.clone(),
            _ => return Err(Refusal::bad("model", "you must provide a model parameter")),
        };
        let talk = conversation(&body)?;
        let tools = tools(&body, schemas)?;
        let stream = flag(&body, "stream")?;
        Ok(Self {
            model,
            last_user: talk.last_user,
            after_tool: talk.after_tool,
            format: format(&body, schemas)?,
            choice: choice(&body, &tools)?,
            tools,
            stream,
            include_usage: include_usage(&body, stream)?,
            max_tokens: limits(&body)?,
            key: key(&agent, &correlation_id, body),
            prompt_tokens: talk.tokens,
            agent,
            correlation_id,
        })
    }

    pub(super) fn schema_name(&self) -> Option<&str> {
        match &self.format {
            Format::Schema { name, .. } => Some(name),
            Format::Text | Format::JsonObject => None,
        }
    }
}

fn parse(body: &[u8]) -> Result<Value, Refusal> {
    match serde_json::from_slice(body) {
        Ok(body @ Value::Object(_)) => Ok(body),
        Ok(_) => Err(Refusal::bad("", "The body must be a JSON object.")),
        Err(error) => Err(Refusal::bad("", format!("We could not parse the JSON body of your request: {error}"))),
    }
}

/// Streamed or not, it is the same request.
fn key(agent: &str, correlation_id: &str, mut asked: Value) -> u64 {
    for how in ["stream", "stream_options"] {
        asked.as_object_mut().map(|fields| fields.remove(how));
    }
    seeded::key(0, &[agent.as_bytes(), correlation_id.as_bytes(), asked.to_string().as_bytes()])
}

/// Tokens of a text, as many as a tokenizer would count more or less: four bytes each.
pub(super) fn tokens(text: &str) -> u64 {
    u64::try_from(text.len().div_ceil(4)).unwrap_or(u64::MAX)
}

fn header(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).unwrap_or_default()
}

#[derive(Default)]
struct Conversation {
    last_user: String,
    after_tool: bool,
    tokens: u64,
}

fn conversation(body: &Value) -> Result<Conversation, Refusal> {
    let turns = match body.get("messages").and_then(Value::as_array) {
        Some(turns) if !turns.is_empty() => turns,
        _ => return Err(Refusal::bad("messages", "'messages' must be an array of at least one message.")),
    };
    let mut talk = Conversation::default();
    for (i, turn) in turns.iter().enumerate() {
        let text = content(turn, i)?;
        talk.tokens = talk.tokens.saturating_add(tokens(&text));
        match turn.get("role").and_then(Value::as_str) {
            Some("system" | "developer" | "assistant") => {}
            Some("user") => (talk.last_user, talk.after_tool) = (text, false),
            Some("tool") if turn.get("tool_call_id").is_some_and(Value::is_string) => talk.after_tool = true,
            Some("tool") => {
                let at = format!("messages[{i}].tool_call_id");
                return Err(Refusal::bad(&at, format!("Missing required parameter: '{at}'.")));
            }
            _ => {
                let at = format!("messages[{i}].role");
                let supported = "'system', 'developer', 'assistant', 'user', 'tool'";
                return Err(Refusal::bad(&at, format!("Invalid value at '{at}'. Supported values are: {supported}.")));
            }
        }
    }
    Ok(talk)
}

/// A turn's text: a string, a list of parts, or nothing where the turn calls tools.
fn content(turn: &Value, i: usize) -> Result<String, Refusal> {
    let at = format!("messages[{i}].content");
    match turn.get("content") {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Array(parts)) => {
            let texts: Option<Vec<&str>> = parts.iter().map(|part| part.get("text")?.as_str()).collect();
            texts.map(|texts| texts.concat()).ok_or_else(|| Refusal::bad(&at, "The mock reads text parts only."))
        }
        None | Some(Value::Null) if turn.get("tool_calls").is_some_and(Value::is_array) => Ok(String::new()),
        _ => Err(Refusal::bad(&at, format!("Invalid value for '{at}': expected a string."))),
    }
}

fn format(body: &Value, schemas: &Known) -> Result<Format, Refusal> {
    let Some(wanted) = body.get("response_format").filter(|wanted| !wanted.is_null()) else {
        return Ok(Format::Text);
    };
    match wanted.get("type").and_then(Value::as_str) {
        Some("text") => return Ok(Format::Text),
        Some("json_object") => return Ok(Format::JsonObject),
        Some("json_schema") => {}
        _ => {
            let message = "Supported values are: 'text', 'json_object', 'json_schema'.";
            return Err(Refusal::bad("response_format.type", message));
        }
    }
    let wanted = wanted.get("json_schema").unwrap_or(&Value::Null);
    let name = name(wanted, "response_format.json_schema.name")?;
    let Some(schema) = wanted.get("schema").filter(|schema| schema.is_object()) else {
        let at = "response_format.json_schema.schema";
        return Err(Refusal::bad(at, format!("Missing required parameter: '{at}'.")));
    };
    let checked = schemas.checked(schema, flag(wanted, "strict")?);
    let schema =
        checked.map_err(|reason| no_schema(&reason, "response_format", &format!("response_format '{name}'")))?;
    Ok(Format::Schema { name, schema })
}

fn no_schema(reason: &str, param: &str, of: &str) -> Refusal {
    Refusal::bad(param, format!("Invalid schema for {of}: {reason}")).code("invalid_json_schema")
}

fn name(object: &Value, at: &str) -> Result<String, Refusal> {
    match object.get("name").and_then(Value::as_str) {
        Some(name) if is_name(name) => Ok(name.to_owned()),
        _ => Err(Refusal::bad(at, format!("'{at}' must be 1 to 64 of a-z A-Z 0-9 _ -."))),
    }
}

fn tools(body: &Value, schemas: &Known) -> Result<Vec<Tool>, Refusal> {
    let tools = match body.get("tools") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(tools)) if !tools.is_empty() => tools,
        Some(_) => return Err(Refusal::bad("tools", "'tools' must be an array of at least one tool.")),
    };
    tools.iter().enumerate().map(|(i, tool)| read_tool(tool, i, schemas)).collect()
}

fn read_tool(tool: &Value, i: usize, schemas: &Known) -> Result<Tool, Refusal> {
    if tool.get("type").and_then(Value::as_str) != Some("function") {
        let at = format!("tools[{i}].type");
        return Err(Refusal::bad(&at, format!("Invalid value at '{at}'. Supported values are: 'function'.")));
    }
    let function = tool.get("function").unwrap_or(&Value::Null);
    let name = name(function, &format!("tools[{i}].function.name"))?;
    let nothing = serde_json::json!({ "type": "object", "properties": {} });
    let parameters = function.get("parameters").unwrap_or(&nothing);
    let at = format!("tools[{i}].function.parameters");
    let checked = schemas.checked(parameters, flag(function, "strict")?);
    let parameters = checked.map_err(|reason| no_schema(&reason, &at, &format!("function '{name}'")))?;
    Ok(Tool { name, parameters })
}

fn choice(body: &Value, tools: &[Tool]) -> Result<Choice, Refusal> {
    let bad = |message: &str| Err(Refusal::bad("tool_choice", message));
    let choice = match body.get("tool_choice") {
        None | Some(Value::Null) if tools.is_empty() => return Ok(Choice::None),
        None | Some(Value::Null) => return Ok(Choice::Auto),
        Some(_) if tools.is_empty() => return bad("'tool_choice' is only allowed when 'tools' are specified."),
        Some(choice) => choice,
    };
    match choice.as_str() {
        Some("none") => Ok(Choice::None),
        Some("auto") => Ok(Choice::Auto),
        Some("required") => Ok(Choice::Required),
        Some(_) => bad("Supported values are: 'none', 'auto', 'required', or a function."),
        None => match choice.pointer("/function/name").and_then(Value::as_str) {
            Some(name) if tools.iter().any(|tool| tool.name == name) => Ok(Choice::Tool(name.to_owned())),
            _ => bad("'tool_choice' must name one of 'tools'."),
        },
    }
}

fn flag(object: &Value, field: &str) -> Result<bool, Refusal> {
    match object.get(field) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => Err(Refusal::bad(field, format!("Invalid type for '{field}': expected a boolean."))),
    }
}

fn include_usage(body: &Value, stream: bool) -> Result<bool, Refusal> {
    match body.get("stream_options").filter(|options| !options.is_null()) {
        None => Ok(false),
        Some(_) if !stream => Err(Refusal::bad(
            "stream_options",
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
        )),
        Some(options) => flag(options, "include_usage"),
    }
}

/// Checks the numbers; the most tokens of an answer.
fn limits(body: &Value) -> Result<Option<u64>, Refusal> {
    let number = |field: &str, least: f64, most: f64| match body.get(field) {
        None | Some(Value::Null) => Ok(()),
        Some(value) if value.as_f64().is_some_and(|value| (least..=most).contains(&value)) => Ok(()),
        Some(value) => {
            let message = format!("Invalid value for '{field}': expected {least} to {most}, got {value}.");
            Err(Refusal::bad(field, message))
        }
    };
    number("temperature", 0.0, 2.0)?;
    number("top_p", 0.0, 1.0)?;
    number("n", 1.0, 1.0)?;
    let most = |field: &str| match body.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64() {
            Some(limit) if limit > 0 => Ok(Some(limit)),
            _ => Err(Refusal::bad(field, format!("Invalid value for '{field}': expected an integer above 0."))),
        },
    };
    Ok(most("max_completion_tokens")?.or(most("max_tokens")?))
}
