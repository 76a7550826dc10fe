//! A model whose answers are journaled.

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};

use crate::chat::{ChatEvent, ChatRequest, ChatResponse, ChatStream};
use crate::error::ModelError;
use crate::journal::{Entry, Journal, decode, encode, of_model_call, once};
use crate::port::Model;

/// A model whose answers go through a task's journal: a question that was answered before is not asked again. It stands
/// above everything that counts or spends: an answer out of the journal costs nothing.
pub struct Journaled {
    model: Arc<dyn Model>,
    journal: Arc<dyn Journal>,
}

impl Journaled {
    /// `model`, with the journal of one attempt.
    pub fn new(model: Arc<dyn Model>, journal: Arc<dyn Journal>) -> Self {
        Self { model, journal }
    }
}

impl Model for Journaled {
    fn chat<'a>(&'a self, request: ChatRequest) -> BoxFuture<'a, Result<ChatResponse, ModelError>> {
        async move {
            let name = of_model_call(&request);
            once(&*self.journal, &name, self.model.chat(request)).await
        }
        .boxed()
    }

    fn stream<'a>(&'a self, request: ChatRequest) -> BoxFuture<'a, Result<ChatStream<'a>, ModelError>> {
        async move {
            let name = of_model_call(&request);
            let occurrence = self.journal.next(&name);
            if let Some(Entry::Done(value)) = occurrence.recorded {
                let answer: ChatResponse = decode(&name, value)?;
                let content = ChatEvent::Content(answer.content.clone());
                return Ok(stream::iter([Ok(content), Ok(ChatEvent::Done(answer))]).boxed());
            }
            self.journal.begin(&name, occurrence.index);
            let events = self.model.stream(request).await?;
            let journaled = events.then(move |event| {
                let name = name.clone();
                async move {
                    if let Ok(ChatEvent::Done(answer)) = &event {
                        let entry = Entry::Done(encode(&name, answer)?);
                        self.journal.record(&name, occurrence.index, entry).await?;
                    }
                    event
                }
            });
            Ok(journaled.boxed())
        }
        .boxed()
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

    #[tokio::test]
    async fn a_question_is_asked_once_and_the_next_one_as_well() {
        let scripted = Arc::new(ScriptedModel::new().answer("one").answer("two").answer("three"));
        let journal = MemoryJournal::new();
        for _ in 0..2 {
            let model = Journaled::new(scripted.clone(), journal.attempt());
            assert_eq!(model.chat(ask("a")).await.unwrap().content, "one");
            assert_eq!(model.chat(ask("a")).await.unwrap().content, "two", "the same question again is another call");
            assert_eq!(model.chat(ask("b")).await.unwrap().content, "three");
        }
        assert_eq!(scripted.requests().len(), 3);
    }

    #[tokio::test]
    async fn a_stream_is_journaled_when_it_is_done() {
        let scripted = Arc::new(ScriptedModel::new().answer("one"));
        let journal = MemoryJournal::new();
        for _ in 0..2 {
            let model = Journaled::new(scripted.clone(), journal.attempt());
            let events: Vec<_> = model.stream(ask("a")).await.unwrap().collect().await;
            let Some(Ok(ChatEvent::Done(answer))) = events.last() else { panic!("{events:?}") };
            assert_eq!(answer.content, "one");
        }
        assert_eq!(scripted.requests().len(), 1);
    }
}
