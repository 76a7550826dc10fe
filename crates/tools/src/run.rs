//! The loop between model and tools.
//!
//! The model asks for calls; each is checked by name, by the agent's list and by the tool's schema, done as a step that a
//! redelivery does not repeat, and its result goes back fenced. The loop ends with the model's answer, or at a limit.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anabranch_llm::journal::{self, Journal};
use anabranch_llm::{
    ChatRequest, ChatResponse, FinishReason, Message, ModelError, Repairs, ToolCall, Usage, not_valid,
};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::error::{RunError, ToolClass, ToolError};
use crate::outside::{self, Sign, injection};
use crate::policy::Limits;
use crate::tool::ToolContext;
use crate::toolbox::{Offer, Offered, Toolbox, Unusable};

/// Most calls of one turn that are done; the model is told that the others were not.
const MAX_CALLS_A_TURN: usize = 16;
/// Most calls of one conversation that were no use: unknown, not allowed, wrong arguments.
const MAX_USELESS: usize = 4;
/// Most bytes of a call's arguments.
const MAX_ARGUMENTS: usize = 64 * 1024;

/// Who asks the model.
pub trait Chat: Sync {
    /// One call of the model.
    fn chat(&self, request: ChatRequest) -> BoxFuture<'_, Result<ChatResponse, ModelError>>;
}

/// A conversation to be held.
pub struct Run<'a> {
    /// The tools, and what may be done with them.
    pub toolbox: &'a Toolbox,
    /// The model.
    pub chat: &'a dyn Chat,
    /// The journal of the attempt: a call that is in it is not made again.
    pub journal: &'a dyn Journal,
    /// The case.
    pub correlation_id: &'a str,
    /// The key of a call, by its label: the same at every attempt.
    pub idempotency_key: &'a (dyn Fn(&str) -> String + Sync),
    /// What is left of the case's deadline.
    pub remaining: Option<Duration>,
}

/// How a call of a tool ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It was done.
    Done,
    /// It was done, and the tool said that it cannot do it.
    Told,
    /// It was not done: the agent may not use the tool.
    NotAllowed,
    /// It was not done: there is no such tool.
    Unknown,
    /// It was not done: the arguments are against the tool's schema.
    BadArguments,
    /// It was not done: too many calls in one turn.
    TooMany,
}

/// A call that the model made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Called {
    /// The tool's full name; as the model wrote it, where there is no such tool.
    pub tool: String,
    /// How it ended.
    pub verdict: Verdict,
    /// Instructions in what came back. They were data, and are on record.
    pub signs: Vec<Sign>,
}

/// The model's answer, and how it came about.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The answer's text; JSON where the request had a schema.
    pub content: String,
    /// The calls made, in order.
    pub calls: Vec<Called>,
    /// What all turns cost.
    pub usage: Usage,
}

/// What a step keeps: a tool's own "no" is a result like another.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kept {
    Result(Value),
    Told(String),
}

impl Run<'_> {
    /// Holds the conversation that begins with `request`.
    ///
    /// # Errors
    /// A [`RunError`]. A limit and a misuse are terminal, whatever is tried again.
    pub async fn run(&self, request: ChatRequest) -> Result<Answer, RunError> {
        self.run_repaired(request, 0, &|_| Ok(())).await
    }

    /// As [`Run::run`]. A last answer that is not valid for the request's schema, or that `check` does not take, is sent
    /// back with what is wrong with it, up to `repairs` times; the model may call tools once more before it answers anew.
    ///
    /// # Errors
    /// As [`Run::run`]; [`ModelError::InvalidOutput`], which is terminal, once the last repair was of no use either.
    pub async fn run_repaired(
        &self,
        mut request: ChatRequest,
        repairs: u32,
        check: &(dyn Fn(&str) -> Result<(), String> + Sync),
    ) -> Result<Answer, RunError> {
        let limits = self.toolbox.policy().limits;
        let most = self.remaining.map_or(limits.max_time, |left| left.min(limits.max_time));
        let until = Instant::now() + most;
        let offer = self.in_time(until, limits, self.toolbox.offer()).await?;
        let offer = offer.map_err(|(tool, error)| RunError::Tool { tool, error })?;
        request.tools = offer.specs();
        request.unchecked_tool_calls = true;
        let (mut talk, mut repairs) = (Talk::default(), Repairs::at_most(repairs));
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let turn =
                ChatRequest { timeout: request.timeout.min(left.max(Duration::from_millis(1))), ..request.clone() };
            let turn = self.in_time(until, limits, self.chat.chat(turn)).await?;
            match turn.and_then(|response| checked(response, check)) {
                Ok(response) if response.finish == FinishReason::ToolCalls => {
                    talk.usage += response.usage;
                    talk.another_turn(limits, repairs.usage())?;
                    self.calls(&offer, &mut talk, &mut request, &response, until).await?;
                }
                Ok(response) => {
                    talk.usage += response.usage;
                    talk.usage += repairs.usage();
                    return Ok(Answer { content: response.content, calls: talk.calls, usage: talk.usage });
                }
                Err(error) => {
                    repairs.send_back(&mut request.messages, error).map_err(RunError::Model)?;
                    talk.affords(limits, repairs.usage())?;
                }
            }
        }
    }

    /// One turn's calls, and what the model is told of them.
    async fn calls(
        &self,
        offer: &Offer,
        talk: &mut Talk,
        request: &mut ChatRequest,
        response: &ChatResponse,
        until: Instant,
    ) -> Result<(), RunError> {
        let calls = with_ids(response.tool_calls.clone(), talk.steps);
        request.messages.push(Message { tool_calls: calls.clone(), ..Message::from(response) });
        for (at, call) in calls.into_iter().enumerate() {
            let id = call.id.clone();
            let (verdict, name, words) = self.call(offer, talk, at, call, until).await?;
            let (words, signs) = guarded(&name, &words, self.toolbox.policy().limits.max_result_bytes);
            tracing::debug!(tool = name, ?verdict, signs = signs.len(), "the model called a tool");
            talk.calls.push(Called { tool: name, verdict, signs });
            request.messages.push(Message::tool(id, words));
        }
        talk.still_of_use()
    }

    /// One call: how it ended, the tool's name, and what the model is told.
    async fn call(
        &self,
        offer: &Offer,
        talk: &mut Talk,
        at: usize,
        call: ToolCall,
        until: Instant,
    ) -> Result<(Verdict, String, String), RunError> {
        let useless = |talk: &mut Talk, verdict, name: String, words: String| {
            talk.useless.push(format!("`{name}`: {words}"));
            Ok((verdict, name, words))
        };
        if at >= MAX_CALLS_A_TURN {
            let words = format!("not done: at most {MAX_CALLS_A_TURN} calls in one turn");
            return useless(talk, Verdict::TooMany, plain_name(&call.name), words);
        }
        let offered = match offer.find(&call.name) {
            Ok(offered) => offered,
            Err(Unusable::NotAllowed) => {
                let words = "not done: this agent may not use this tool".to_owned();
                return useless(talk, Verdict::NotAllowed, plain_name(&call.name), words);
            }
            Err(Unusable::Unknown) => {
                let words = "not done: there is no tool of this name".to_owned();
                return useless(talk, Verdict::Unknown, plain_name(&call.name), words);
            }
        };
        let name = offered.full_name().to_owned();
        let too_large = call.arguments.to_string().len() > MAX_ARGUMENTS;
        let wrong = too_large.then(|| format!("more than {MAX_ARGUMENTS} bytes"));
        if let Some(wrong) = wrong.or_else(|| offered.violations(&call.arguments)) {
            let words = format!("not done: the arguments are wrong: {wrong}");
            return useless(talk, Verdict::BadArguments, name, words);
        }
        let step = step_name(&name, &call.arguments);
        let label = talk.label(&step);
        match self.done(offered, &step, &label, call.arguments, until).await {
            Ok(Kept::Result(value)) => Ok((Verdict::Done, name, as_text(value))),
            Ok(Kept::Told(words)) => Ok((Verdict::Told, name, words)),
            Err(error) => Err(RunError::Tool { tool: name, error }),
        }
    }

    /// Does a call as a step of the task.
    async fn done(
        &self,
        offered: &Offered,
        step: &str,
        label: &str,
        arguments: Value,
        until: Instant,
    ) -> Result<Kept, ToolError> {
        let key = (self.idempotency_key)(label);
        let correlation_id = self.correlation_id;
        let tool = offered.tool.clone();
        let work = async move {
            let within = until.saturating_duration_since(Instant::now());
            let context = ToolContext { correlation_id, idempotency_key: &key, within };
            match tokio::time::timeout(within, tool.call(context, arguments)).await {
                Ok(Ok(value)) => Ok(Kept::Result(value)),
                Ok(Err(error)) if error.class() == ToolClass::Told => Ok(Kept::Told(error.to_string())),
                Ok(Err(error)) => Err(error),
                Err(_) => {
                    let words = format!("it did not end within {} ms, all the time there is", within.as_millis());
                    Err(ToolError::terminal(words))
                }
            }
        };
        journal::once(self.journal, step, work).await
    }

    async fn in_time<T>(&self, until: Instant, limits: Limits, work: impl Future<Output = T>) -> Result<T, RunError> {
        match tokio::time::timeout_at(until.into(), work).await {
            Ok(value) => Ok(value),
            Err(_) => Err(RunError::Limit(match self.remaining {
                Some(left) if left < limits.max_time => "the case's deadline came before the model's answer".to_owned(),
                _ => format!("model and tools took longer than max_time, {} ms", limits.max_time.as_millis()),
            })),
        }
    }
}

/// What has happened so far.
#[derive(Default)]
struct Talk {
    steps: u32,
    labels: BTreeMap<String, u32>,
    usage: Usage,
    calls: Vec<Called>,
    useless: Vec<String>,
}

impl Talk {
    /// Names one call among those of its step.
    fn label(&mut self, step: &str) -> String {
        let number = self.labels.entry(step.to_owned()).or_default();
        *number += 1;
        format!("{step}#{number}")
    }

    /// The model wants tools called once more.
    fn another_turn(&mut self, limits: Limits, besides: Usage) -> Result<(), RunError> {
        self.affords(limits, besides)?;
        if self.steps >= limits.max_steps {
            let words = format!("the model still calls tools after max_steps, {}", limits.max_steps);
            return Err(RunError::Limit(words));
        }
        self.steps += 1;
        Ok(())
    }

    /// Whether there may be another turn after what was spent, and so much besides.
    fn affords(&self, limits: Limits, besides: Usage) -> Result<(), RunError> {
        let spent = self.usage.total_tokens().saturating_add(besides.total_tokens());
        if spent > limits.max_tokens {
            let words = format!("the conversation took {spent} tokens, more than max_tokens, {}", limits.max_tokens);
            return Err(RunError::Limit(words));
        }
        Ok(())
    }

    fn still_of_use(&self) -> Result<(), RunError> {
        match self.useless.last() {
            Some(last) if self.useless.len() > MAX_USELESS => {
                let count = self.useless.len();
                Err(RunError::Misuse(format!("the model made {count} calls that were no use; the last: {last}")))
            }
            _ => Ok(()),
        }
    }
}

/// A last answer that `check` takes, or calls.
fn checked(
    response: ChatResponse,
    check: &(dyn Fn(&str) -> Result<(), String> + Sync),
) -> Result<ChatResponse, ModelError> {
    if response.finish == FinishReason::ToolCalls {
        return Ok(response);
    }
    match check(&response.content) {
        Ok(()) => Ok(response),
        Err(reason) => Err(not_valid(&response, reason)),
    }
}

/// The name that a call is journaled under: the same for the same call, so that one with other arguments is made.
fn step_name(tool: &str, arguments: &Value) -> String {
    let digest = Sha256::digest(arguments.to_string().as_bytes());
    let hex: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("tool:{tool}:{hex}")
}

/// Every call has an id of its own, also where the endpoint gives none.
fn with_ids(calls: Vec<ToolCall>, turn: u32) -> Vec<ToolCall> {
    let mut seen = BTreeSet::new();
    let named = calls.into_iter().enumerate().map(|(at, mut call)| {
        if call.id.is_empty() || !seen.insert(call.id.clone()) {
            call.id = format!("call_{turn}_{at}");
        }
        call
    });
    named.collect()
}

/// What a tool gave back, for the model: bounded, searched for instructions, fenced.
fn guarded(tool: &str, words: &str, max_bytes: usize) -> (String, Vec<Sign>) {
    let kept = cut(words, max_bytes);
    let signs = injection::scan(kept);
    let note = match kept.len() < words.len() {
        true => format!("\n(cut: {} of {} bytes are shown)", kept.len(), words.len()),
        false => String::new(),
    };
    let fenced = outside::fence(&format!("result of {tool}"), kept, tool);
    (format!("{fenced}{note}"), signs)
}

fn cut(text: &str, max_bytes: usize) -> &str {
    let mut end = max_bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn as_text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// A name that the model wrote: bounded, and of plain characters.
fn plain_name(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')).take(64).collect()
}

#[cfg(test)]
mod tests;
