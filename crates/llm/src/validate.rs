//! Checks what a model answered against what was asked, the same way for every implementation of the port.

use std::sync::Arc;

use jsonschema::Validator;
use serde_json::Value;

use crate::chat::{ChatRequest, ChatResponse, FinishReason, ToolCall, ToolSpec, Usage};
use crate::error::{ModelError, preview};
use crate::schema::{self, Schema};

/// Most schema violations an error names.
const MAX_VIOLATIONS: usize = 5;

/// An answer as it came, unchecked.
#[derive(Debug, Default, Clone)]
pub(crate) struct RawAnswer {
    pub(crate) content: String,
    pub(crate) refusal: Option<String>,
    pub(crate) tool_calls: Vec<RawToolCall>,
    pub(crate) finish: Option<String>,
    pub(crate) usage: Usage,
    pub(crate) model: String,
}

/// A tool call as it came: the arguments are a string that ought to be JSON.
#[derive(Debug, Default, Clone)]
pub(crate) struct RawToolCall {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) arguments: String,
}

impl RawToolCall {
    /// No arguments at all are no arguments.
    fn arguments_text(&self) -> &str {
        if self.arguments.trim().is_empty() { "{}" } else { &self.arguments }
    }

    fn unchecked(&self) -> ToolCall {
        let arguments = serde_json::from_str(self.arguments_text());
        let arguments = arguments.unwrap_or_else(|_| Value::String(self.arguments.clone()));
        ToolCall { id: self.id.clone(), name: self.name.clone(), arguments }
    }
}

/// What the answers to one request are checked against, compiled before the request is sent: a schema that cannot be
/// used costs no call.
pub(crate) struct Expectation {
    response: Option<Arc<Validator>>,
    /// `None`: calls are not checked.
    tools: Option<Vec<(String, Arc<Validator>)>>,
}

impl Expectation {
    pub(crate) fn of(request: &ChatRequest) -> Result<Self, ModelError> {
        let response = match &request.response_schema {
            Some(wanted) => Some(compile("response schema", &wanted.name, &wanted.schema)?),
            None => None,
        };
        let tools = match request.unchecked_tool_calls {
            true => None,
            false => Some(checked(&request.tools)?),
        };
        Ok(Self { response, tools })
    }

    /// The checked answer.
    pub(crate) fn check(&self, raw: RawAnswer) -> Result<ChatResponse, ModelError> {
        if let Some(refusal) = raw.refusal.as_deref().filter(|text| !text.is_empty()) {
            return Err(ModelError::Refusal { message: preview(refusal), usage: raw.usage });
        }
        if raw.finish.as_deref() == Some("content_filter") {
            return Err(ModelError::ContentFilter { message: "the answer was withheld".into(), usage: raw.usage });
        }
        let tool_calls =
            raw.tool_calls.iter().map(|call| self.check_call(call, raw.usage)).collect::<Result<Vec<_>, _>>()?;
        let finish = match raw.finish.as_deref() {
            _ if !tool_calls.is_empty() => FinishReason::ToolCalls,
            Some("length") => FinishReason::Length,
            _ => FinishReason::Stop,
        };
        if finish != FinishReason::ToolCalls {
            self.check_content(&raw, finish)?;
        }
        Ok(ChatResponse {
            content: raw.content,
            tool_calls,
            usage: raw.usage,
            model: raw.model,
            finish,
            fallback_for: None,
        })
    }

    fn check_content(&self, raw: &RawAnswer, finish: FinishReason) -> Result<(), ModelError> {
        let invalid = |reason: String| invalid(reason, &raw.content, raw.usage);
        let Some(validator) = &self.response else {
            return if raw.content.is_empty() { Err(invalid("the answer is empty".into())) } else { Ok(()) };
        };
        if finish == FinishReason::Length {
            return Err(invalid("it was cut at the limit of output tokens".into()));
        }
        let value = serde_json::from_str(&raw.content).map_err(|error| invalid(format!("it is not JSON: {error}")))?;
        violations(validator, &value).map_or(Ok(()), |found| Err(invalid(found)))
    }

    fn check_call(&self, call: &RawToolCall, usage: Usage) -> Result<ToolCall, ModelError> {
        let Some(tools) = &self.tools else {
            return Ok(call.unchecked());
        };
        let Some((_, validator)) = tools.iter().find(|(name, _)| *name == call.name) else {
            let reason = format!("it calls a tool that was not offered: `{}`", preview(&call.name));
            return Err(invalid(reason, &call.arguments, usage));
        };
        let arguments: Value = serde_json::from_str(call.arguments_text()).map_err(|error| {
            let reason = format!("the arguments of `{}` are not JSON: {error}", call.name);
            invalid(reason, &call.arguments, usage)
        })?;
        if let Some(found) = violations(validator, &arguments) {
            let reason = format!("the arguments of `{}`: {found}", call.name);
            return Err(invalid(reason, &call.arguments, usage));
        }
        Ok(ToolCall { id: call.id.clone(), name: call.name.clone(), arguments })
    }
}

fn checked(tools: &[ToolSpec]) -> Result<Vec<(String, Arc<Validator>)>, ModelError> {
    tools.iter().map(|tool| Ok((tool.name.clone(), compile("tool", &tool.name, &tool.parameters)?))).collect()
}

fn invalid(reason: String, text: &str, usage: Usage) -> ModelError {
    ModelError::InvalidOutput { reason, preview: preview(text), usage }
}

fn compile(what: &str, name: &str, schema: &Schema) -> Result<Arc<Validator>, ModelError> {
    if !schema::is_name(name) {
        let message = format!("the name of {what} `{}` must be 1 to 64 of a-z A-Z 0-9 _ -", preview(name));
        return Err(ModelError::Misconfigured { message });
    }
    schema
        .validator()
        .map_err(|error| ModelError::Misconfigured { message: format!("{what} `{name}` is no JSON Schema: {error}") })
}

/// What in `value` is against the schema, with the place; `None` if nothing is.
fn violations(validator: &Validator, value: &Value) -> Option<String> {
    if validator.is_valid(value) {
        return None;
    }
    let found: Vec<String> = validator
        .iter_errors(value)
        .take(MAX_VIOLATIONS)
        .map(|error| {
            let at = error.instance_path().to_string();
            let at = if at.is_empty() { "the root".to_owned() } else { preview(&at) };
            format!("{at}: {}", preview(&error.to_string()))
        })
        .collect();
    (!found.is_empty()).then(|| found.join("; "))
}
