//! The journal's layer: outside all others, because an answer that is there costs nothing and needs no leave.

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use serde::Deserialize;

use crate::chat::{ChatEvent, ChatRequest, ChatResponse, ChatStream};
use crate::error::ModelError;
use crate::journal::{self, Entry, Journal, JournalError};
use crate::port::Model;

/// A model as one attempt at one task sees it: what an earlier attempt was answered is used again, and a new answer is
/// journaled before it is used.
///
/// Answers are kept, failures are not. A stream that is replayed comes in one piece.
#[derive(Clone)]
pub struct Journaled {
    model: Arc<dyn Model>,
    journal: Arc<dyn Journal>,
}

impl Journaled {
    /// `model`, with the journal of an attempt.
    pub fn new(model: Arc<dyn Model>, journal: Arc<dyn Journal>) -> Self {
        Self { model, journal }
    }

    async fn open(&self, request: ChatRequest) -> Result<ChatStream<'_>, ModelError> {
        let name = journal::of_model_call(&request);
        let occurrence = self.journal.next(&name);
        if let Some(Entry::Done(value)) = occurrence.recorded {
            let response = ChatResponse::deserialize(value)
                .map_err(|e| JournalError::Undecodable { name: name.clone(), reason: e.to_string() })?;
            let events = [ChatEvent::Content(response.content.clone()), ChatEvent::Done(response)];
            return Ok(stream::iter(events.map(Ok)).boxed());
        }
        self.journal.begin(&name, occurrence.index)?;
        let events = self.model.stream(request).await?;
        let keep = Keep { journal: self.journal.clone(), name, index: occurrence.index };
        Ok(stream::unfold((events, keep), |(mut events, keep)| async move {
            let event = match events.next().await? {
                Ok(ChatEvent::Done(response)) => keep.record(response).await,
                event => event,
            };
            Some((event, (events, keep)))
        })
        .boxed())
    }
}

struct Keep {
    journal: Arc<dyn Journal>,
    name: String,
    index: u32,
}

impl Keep {
    async fn record(&self, response: ChatResponse) -> Result<ChatEvent, ModelError> {
        let value = serde_json::to_value(&response)
            .map_err(|e| JournalError::Unwritable { name: self.name.clone(), reason: e.to_string() })?;
        self.journal.record(&self.name, self.index, Entry::Done(value)).await?;
        Ok(ChatEvent::Done(response))
    }
}

impl Model for Journaled {
    fn chat<'a>(&'a self, request: ChatRequest) -> BoxFuture<'a, Result<ChatResponse, ModelError>> {
        async move {
            let name = journal::of_model_call(&request);
            journal::once(&*self.journal, &name, self.model.chat(request)).await
        }
        .boxed()
    }

    fn stream<'a>(&'a self, request: ChatRequest) -> BoxFuture<'a, Result<ChatStream<'a>, ModelError>> {
        self.open(request).boxed()
    }
}

impl std::fmt::Debug for Journaled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journaled").field("journal", &self.journal).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Message;
    use crate::journal::MemoryJournal;
    use crate::script::ScriptedModel;

    fn ask(words: &str) -> ChatRequest {
        ChatRequest::new("m", vec![Message::user(words)])
    }

    async fn done(model: &Journaled) -> String {
        let events: Vec<_> = model.stream(ask("b")).await.unwrap().collect().await;
        match events.last() {
            Some(Ok(ChatEvent::Done(response))) => response.content.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_second_attempt_is_answered_from_the_journal() {
        let endpoint = Arc::new(ScriptedModel::new().answer("one").answer("two").answer("three"));
        let journal = MemoryJournal::new();
        for attempt in 1..=2 {
            let model = Journaled::new(endpoint.clone(), journal.attempt());
            assert_eq!(model.chat(ask("a")).await.unwrap().content, "one");
            assert_eq!(model.chat(ask("a")).await.unwrap().content, "two", "asked again, it is another question");
            assert_eq!(done(&model).await, "three");
            assert_eq!(endpoint.requests().len(), 3, "attempt {attempt}");
        }
        let model = Journaled::new(endpoint.clone(), journal.attempt());
        assert!(model.chat(ask("new")).await.is_err(), "nothing is scripted for it: it was asked");
        assert_eq!(endpoint.requests().len(), 4);
    }
}
