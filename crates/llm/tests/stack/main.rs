//! The layers between an agent and an endpoint, each against a simulated clock or the mock server.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod breaker;
mod budget;
mod fallback;
mod ledger;
mod sharing;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anabranch_llm::stack::{CallContext, Entry, Ledger, LedgerError};
use anabranch_llm::{ChatRequest, ChatResponse, ChatStream, FinishReason, Message, Model, ModelError, Usage};
use futures::FutureExt;
use futures::future::{BoxFuture, ready};

type Behave = Box<dyn Fn(u64, &ChatRequest) -> Result<(), ModelError> + Send + Sync>;

/// An endpoint in memory: it takes its time, answers with 10 tokens for 20, and fails as it is told to.
struct Endpoint {
    calls: AtomicU64,
    takes: Duration,
    behave: Behave,
}

impl Endpoint {
    fn new(
        takes: Duration,
        behave: impl Fn(u64, &ChatRequest) -> Result<(), ModelError> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { calls: AtomicU64::new(0), takes, behave: Box::new(behave) })
    }

    fn well(takes: Duration) -> Arc<Self> {
        Self::new(takes, |_, _| Ok(()))
    }

    fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }
}

impl Model for Endpoint {
    fn chat<'a>(&'a self, request: ChatRequest) -> BoxFuture<'a, Result<ChatResponse, ModelError>> {
        async move {
            let number = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
            tokio::time::sleep(self.takes).await;
            (self.behave)(number, &request)?;
            Ok(ChatResponse {
                content: "fine".into(),
                tool_calls: Vec::new(),
                usage: Usage { prompt_tokens: 20, completion_tokens: 10 },
                model: request.model,
                finish: FinishReason::Stop,
                fallback_for: None,
            })
        }
        .boxed()
    }

    fn stream<'a>(&'a self, _: ChatRequest) -> BoxFuture<'a, Result<ChatStream<'a>, ModelError>> {
        ready(Err(ModelError::Misconfigured { message: "it does not stream".into() })).boxed()
    }
}

/// A ledger in memory, which can be told to take nothing.
#[derive(Default)]
struct MemoryLedger {
    entries: Mutex<Vec<Entry>>,
    broken: Mutex<Option<LedgerError>>,
}

impl MemoryLedger {
    fn entries(&self) -> Vec<Entry> {
        self.entries.lock().unwrap().clone()
    }

    fn set_broken(&self, why: Option<&str>) {
        *self.broken.lock().unwrap() = why.map(|why| LedgerError(why.to_owned()));
    }
}

impl Ledger for MemoryLedger {
    fn entry(&self, entry: Entry) -> BoxFuture<'_, Result<(), LedgerError>> {
        let taken = match self.broken.lock().unwrap().clone() {
            Some(error) => Err(error),
            None => {
                self.entries.lock().unwrap().push(entry);
                Ok(())
            }
        };
        ready(taken).boxed()
    }
}

/// A request of 100 tokens at most, or nearly.
fn ask(case: &str) -> ChatRequest {
    let mut request = ChatRequest::new("m", vec![Message::user("x".repeat(150))]);
    request.max_output_tokens = Some(46);
    CallContext { agent: "a".into(), case: Some(case.into()), tenant: None }.put(&mut request);
    request
}

fn unavailable() -> ModelError {
    ModelError::Unavailable { status: 503, after: None, message: "busy".into() }
}
