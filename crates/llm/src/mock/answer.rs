//! What the mock answers: what a rule says, else something made up.

use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Map, Value, json};

use super::refusal::Refusal;
use super::request::{Call, Choice, Format, Tool, tokens};
use super::script::{Answer, Rule, ScriptedCall};
use super::template::{self, Source};
use super::{fill, generate};
use crate::chat::Usage;

/// An answer, before it takes the shape of a completion or of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) content: String,
    pub(super) refusal: Option<String>,
    pub(super) tool_calls: Vec<ReplyCall>,
    pub(super) finish: &'static str,
    pub(super) usage: Usage,
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ReplyCall {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) arguments: String,
}

impl Reply {
    pub(super) fn text(content: impl Into<String>) -> Self {
        Self { content: content.into(), finish: "stop", ..Self::default() }
    }

    fn calls(calls: impl IntoIterator<Item = (String, Value)>, rng: &mut StdRng) -> Self {
        let tool_calls = calls
            .into_iter()
            .map(|(name, arguments)| ReplyCall {
                id: format!("call_{:016x}", rng.random::<u64>()),
                name,
                arguments: arguments.to_string(),
            })
            .collect();
        Self { tool_calls, finish: "tool_calls", ..Self::default() }
    }

    /// Counts the tokens, and cuts the text at the caller's limit of them.
    pub(super) fn counted(mut self, call: &Call) -> Self {
        let most = call.max_tokens.and_then(|limit| usize::try_from(limit).ok()?.checked_mul(4));
        if let Some(most) = most.filter(|most| self.content.len() > *most) {
            let end = (0..=most).rev().find(|end| self.content.is_char_boundary(*end)).unwrap_or(0);
            self.content.truncate(end);
            self.finish = "length";
        }
        let calls: u64 = self.tool_calls.iter().map(|c| tokens(&c.name) + tokens(&c.arguments)).sum();
        let refusal = self.refusal.as_deref().map_or(0, tokens);
        let completion_tokens = tokens(&self.content) + calls + refusal;
        self.usage = Usage { prompt_tokens: call.prompt_tokens, completion_tokens };
        self
    }
}

/// What `answer` of `rule` says to `call`.
pub(super) fn scripted(rule: &Rule, answer: &Answer, call: &Call, source: &Source<'_>, rng: &mut StdRng) -> Reply {
    match answer {
        Answer::Text(text) => Reply::text(template::text(text, source)),
        Answer::Json(value) => Reply::text(filled(rule, template::json(value, source), call, rng)),
        Answer::Echo(names) => Reply::text(filled(rule, echo(names, source.object()), call, rng)),
        Answer::ToolCalls(calls) => {
            let calls: Vec<_> = calls.iter().map(|scripted| tool_call(rule, scripted, call, source, rng)).collect();
            Reply::calls(calls, rng)
        }
    }
}

fn tool_call(
    rule: &Rule,
    scripted: &ScriptedCall,
    call: &Call,
    source: &Source<'_>,
    rng: &mut StdRng,
) -> (String, Value) {
    let arguments = template::json(&scripted.arguments, source);
    let offered = call.tools.iter().find(|tool| rule.fill && tool.name == scripted.name);
    let arguments = match offered {
        Some(tool) => fill::missing(&tool.parameters, arguments, rng),
        None => arguments,
    };
    (scripted.name.clone(), arguments)
}

/// The value as text, with what it lacks. A script may mean to be wrong, so one that is, is only noted.
fn filled(rule: &Rule, value: Value, call: &Call, rng: &mut StdRng) -> String {
    let Format::Schema { name, schema } = &call.format else { return value.to_string() };
    let value = if rule.fill { fill::missing(schema, value, rng) } else { value };
    if !schema.validator().is_ok_and(|validator| validator.is_valid(&value)) {
        tracing::warn!(rule = rule.name, schema = name, "a scripted answer is not valid for the schema");
    }
    value.to_string()
}

fn echo(names: &[String], object: &Value) -> Value {
    let Value::Object(fields) = object else { return json!({}) };
    let kept: Map<_, _> = fields
        .iter()
        .filter(|(name, _)| names.is_empty() || names.contains(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    Value::Object(kept)
}

/// An answer nobody scripted. Offered tools are called once, one of them, before the answer; a call that the schema
/// makes impossible to make up is refused with what to do about it.
pub(super) fn made_up(call: &Call, rng: &mut StdRng) -> Result<Reply, Refusal> {
    if let Some(tool) = wanted_tool(call, rng) {
        let Some(arguments) = generate::instance(&tool.parameters, rng) else {
            return Err(unscripted("tools", &format!("arguments for the tool '{}'", tool.name)));
        };
        return Ok(Reply::calls([(tool.name.clone(), arguments)], rng));
    }
    let token: u32 = rng.random();
    match &call.format {
        Format::Text => Ok(Reply::text(format!("This answer was made up by the mock model ({token:08x})."))),
        Format::JsonObject => Ok(Reply::text(json!({ "mock": format!("{token:08x}") }).to_string())),
        Format::Schema { name, schema } => match generate::instance(schema, rng) {
            Some(value) => Ok(Reply::text(value.to_string())),
            None => Err(unscripted("response_format", &format!("an answer for the schema '{name}'"))),
        },
    }
}

fn wanted_tool<'a>(call: &'a Call, rng: &mut StdRng) -> Option<&'a Tool> {
    match &call.choice {
        Choice::Tool(name) => call.tools.iter().find(|tool| tool.name == *name),
        Choice::None => None,
        Choice::Auto if call.after_tool => None,
        Choice::Auto | Choice::Required if call.tools.is_empty() => None,
        Choice::Auto | Choice::Required => call.tools.get(rng.random_range(0..call.tools.len())),
    }
}

fn unscripted(param: &str, what: &str) -> Refusal {
    Refusal::bad(param, format!("The mock cannot make up {what}; script one with a rule.")).code("mock_not_scripted")
}
