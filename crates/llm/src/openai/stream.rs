//! A stream's events put together into an answer.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use async_openai::error::OpenAIError;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, stream};
use tokio::time::Instant;

use super::classify::Refusal;
use super::http::Attempt;
use super::wire::{Chunk, ChunkChoice};
use crate::chat::{ChatEvent, ChatRequest, ChatStream};
use crate::error::ModelError;
use crate::validate::{Expectation, RawAnswer, RawToolCall};

type Events = BoxStream<'static, Result<Chunk, OpenAIError>>;

/// The events of one answer, up to `Done` or an error.
pub(super) fn answer(
    events: impl Stream<Item = Result<Chunk, OpenAIError>> + Send + 'static,
    attempt: Attempt,
    expectation: Expectation,
    request: &ChatRequest,
    deadline: Instant,
) -> ChatStream<'static> {
    let reading = Reading {
        events: events.boxed(),
        attempt,
        expectation,
        deadline,
        limit: request.timeout,
        model: request.model.clone(),
        raw: RawAnswer { model: request.model.clone(), ..RawAnswer::default() },
        calls: BTreeMap::new(),
    };
    stream::unfold(Some(reading), |reading| async move {
        let mut reading = reading?;
        let event = reading.next().await;
        let goes_on = matches!(event, Ok(ChatEvent::Content(_)));
        Some((event, goes_on.then_some(reading)))
    })
    .boxed()
}

struct Reading {
    events: Events,
    attempt: Attempt,
    expectation: Expectation,
    deadline: Instant,
    limit: Duration,
    model: String,
    raw: RawAnswer,
    calls: BTreeMap<u32, RawToolCall>,
}

impl Reading {
    async fn next(&mut self) -> Result<ChatEvent, ModelError> {
        loop {
            let Ok(event) = tokio::time::timeout_at(self.deadline, self.events.next()).await else {
                return Err(ModelError::Timeout { limit: self.limit });
            };
            match event {
                Some(Ok(chunk)) => {
                    if let Some(text) = self.take(chunk)? {
                        return Ok(ChatEvent::Content(text));
                    }
                }
                Some(Err(error)) => return Err(self.attempt.failure(&error)),
                None => return self.finish(),
            }
        }
    }

    /// Adds a chunk; the text in it, if any.
    fn take(&mut self, chunk: Chunk) -> Result<Option<String>, ModelError> {
        if let Some(error) = chunk.error.filter(|error| !error.is_null()) {
            let refusal = Refusal::embedded(&error);
            return Err(refusal.classify(&self.attempt, &self.model, SystemTime::now()));
        }
        if let Some(usage) = chunk.usage {
            self.raw.usage = usage.into();
        }
        if let Some(model) = chunk.model.filter(|model| !model.is_empty()) {
            self.raw.model = model;
        }
        let first = chunk.choices.unwrap_or_default().into_iter().next();
        Ok(first.and_then(|choice| self.take_choice(choice)))
    }

    fn take_choice(&mut self, choice: ChunkChoice) -> Option<String> {
        if choice.finish_reason.is_some() {
            self.raw.finish = choice.finish_reason;
        }
        let delta = choice.delta?;
        if let Some(refusal) = delta.refusal {
            self.raw.refusal.get_or_insert_default().push_str(&refusal);
        }
        for (position, piece) in (0..).zip(delta.tool_calls.unwrap_or_default()) {
            let call = self.calls.entry(piece.index.unwrap_or(position)).or_default();
            let function = piece.function.unwrap_or_default();
            // Some endpoints repeat id and name with every piece.
            set_once(&mut call.id, piece.id);
            set_once(&mut call.name, function.name);
            call.arguments.push_str(&function.arguments.unwrap_or_default());
        }
        let text = delta.content.filter(|text| !text.is_empty())?;
        self.raw.content.push_str(&text);
        Some(text)
    }

    fn finish(&mut self) -> Result<ChatEvent, ModelError> {
        let mut raw = std::mem::take(&mut self.raw);
        if raw.finish.is_none() {
            let message = "the stream ended before the model was done".into();
            return Err(ModelError::Cut { message });
        }
        raw.tool_calls = std::mem::take(&mut self.calls).into_values().collect();
        self.expectation.check(raw).map(ChatEvent::Done)
    }
}

fn set_once(field: &mut String, value: Option<String>) {
    if field.is_empty() {
        *field = value.unwrap_or_default();
    }
}
