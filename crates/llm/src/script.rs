//! A model in memory, for unit tests of agents: no socket, no latency, exact answers.
//!
//! What it is told to answer goes through the same checks as an endpoint's answer, so a test cannot pass with an
//! answer that production would refuse.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use serde_json::Value;

use crate::chat::{ChatEvent, ChatRequest, ChatResponse, ChatStream, ToolCall, Usage};
use crate::error::ModelError;
use crate::port::Model;
use crate::validate::{Expectation, RawAnswer, RawToolCall};

/// What a [`ScriptedModel`] does with a request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// Answers with this text.
    Text(String),
    /// Answers with this JSON as text.
    Json(Value),
    /// Calls these tools.
    Calls(Vec<ToolCall>),
    /// Fails so.
    Fail(ModelError),
}

type Matcher = Box<dyn Fn(&ChatRequest) -> bool + Send + Sync>;

/// A [`Model`] that answers what it was told to.
///
/// First the rules, in the order given, each for any number of calls; then the queue, each entry once; then a
/// [`ModelError::Misconfigured`] that says what was not scripted.
#[derive(Default)]
pub struct ScriptedModel {
    rules: Vec<(Matcher, Reply)>,
    queue: Mutex<VecDeque<Reply>>,
    requests: Mutex<Vec<ChatRequest>>,
}

impl ScriptedModel {
    /// A model with no answers yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Queues a reply for one call.
    #[must_use]
    pub fn then(self, reply: Reply) -> Self {
        lock(&self.queue).push_back(reply);
        self
    }

    /// Queues an answer in text.
    #[must_use]
    pub fn answer(self, text: impl Into<String>) -> Self {
        self.then(Reply::Text(text.into()))
    }

    /// Queues an answer in JSON.
    #[must_use]
    pub fn answer_json(self, value: Value) -> Self {
        self.then(Reply::Json(value))
    }

    /// Queues a failure.
    #[must_use]
    pub fn fail(self, error: ModelError) -> Self {
        self.then(Reply::Fail(error))
    }

    /// Replies so to every request that `matcher` takes.
    #[must_use]
    pub fn when(mut self, matcher: impl Fn(&ChatRequest) -> bool + Send + Sync + 'static, reply: Reply) -> Self {
        self.rules.push((Box::new(matcher), reply));
        self
    }

    /// Answers every request for the response schema `name` with this JSON.
    #[must_use]
    pub fn for_schema(self, name: impl Into<String>, value: Value) -> Self {
        let name = name.into();
        self.when(move |request| request.response_schema.as_ref().is_some_and(|s| s.name == name), Reply::Json(value))
    }

    /// The requests so far, oldest first.
    pub fn requests(&self) -> Vec<ChatRequest> {
        lock(&self.requests).clone()
    }

    fn reply(&self, request: &ChatRequest) -> Result<ChatResponse, ModelError> {
        let expectation = Expectation::of(request)?;
        lock(&self.requests).push(request.clone());
        let ruled = self.rules.iter().find(|(matches, _)| matches(request));
        let reply = match ruled {
            Some((_, reply)) => Some(reply.clone()),
            None => lock(&self.queue).pop_front(),
        };
        let mut raw = RawAnswer { model: request.model.clone(), ..RawAnswer::default() };
        match reply {
            Some(Reply::Text(text)) => raw.content = text,
            Some(Reply::Json(value)) => raw.content = value.to_string(),
            Some(Reply::Calls(calls)) => raw.tool_calls = calls.into_iter().map(as_raw).collect(),
            Some(Reply::Fail(error)) => return Err(error),
            None => return Err(unscripted(request)),
        }
        raw.usage = Usage {
            prompt_tokens: request.messages.iter().map(|m| tokens(&m.content)).sum(),
            completion_tokens: tokens(&raw.content),
        };
        expectation.check(raw)
    }
}

impl Model for ScriptedModel {
    fn chat<'a>(&'a self, request: ChatRequest) -> BoxFuture<'a, Result<ChatResponse, ModelError>> {
        async move { self.reply(&request) }.boxed()
    }

    fn stream<'a>(&'a self, request: ChatRequest) -> BoxFuture<'a, Result<ChatStream<'a>, ModelError>> {
        async move {
            let response = self.reply(&request)?;
            let words: Vec<_> =
                response.content.split_inclusive(' ').map(|word| Ok(ChatEvent::Content(word.to_owned()))).collect();
            let done = stream::iter([Ok(ChatEvent::Done(response))]);
            Ok(stream::iter(words).chain(done).boxed())
        }
        .boxed()
    }
}

impl std::fmt::Debug for ScriptedModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScriptedModel")
            .field("rules", &self.rules.len())
            .field("queued", &lock(&self.queue).len())
            .field("requests", &lock(&self.requests).len())
            .finish()
    }
}

fn as_raw(call: ToolCall) -> RawToolCall {
    RawToolCall { id: call.id, name: call.name, arguments: call.arguments.to_string() }
}

fn unscripted(request: &ChatRequest) -> ModelError {
    let schema = request.response_schema.as_ref().map_or("none", |s| s.name.as_str());
    let asked = crate::error::preview(request.last_user().unwrap_or_default());
    ModelError::Misconfigured { message: format!("nothing scripted for schema {schema}, question: {asked}") }
}

/// A count of the size a tokenizer's would have: four characters a token.
fn tokens(text: &str) -> u64 {
    u64::try_from(text.len().div_ceil(4)).unwrap_or(u64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
