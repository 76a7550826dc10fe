//! What was done for a task before, so that a redelivery does not do it again.
//!
//! A journal belongs to one attempt at one task. Whatever is dear or has an effect goes through [`once`]: what is journaled
//! is used, else the call is made and its result journaled *before* it is used. The model stack does so for every call
//! under the name [`of_model_call`] gives it, `ctx.step` for an author's own.
//!
//! Between a call's answer and its journaling lies a moment in which a crash makes a redelivery call again. That a call
//! began is noted first, so that such a repeat is known and counted.

mod asked;
mod recorded;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

pub use self::recorded::Recorded;
use crate::chat::ChatRequest;
use crate::error::ErrorClass;

/// Before the names of model calls; no author's step has a `:`.
const MODEL_CALL: &str = "model:";

/// What is recorded of a step.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// It was begun. Whether it happened is not known.
    Begun,
    /// It was done, with this result.
    Done(Value),
}

/// One call of a step's name within an attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Occurrence {
    /// Counts calls of this name within the attempt, from 0.
    pub index: u32,
    /// What an earlier attempt recorded of it.
    pub recorded: Option<Entry>,
}

/// The journal of one attempt at one task.
///
/// A handler must ask for the steps of one name in the same order at every attempt; steps of different names may come in
/// any order, also side by side.
pub trait Journal: Send + Sync + fmt::Debug {
    /// The next occurrence of `name` in this attempt, and what is recorded of it.
    fn next(&self, name: &str) -> Occurrence;

    /// Notes that the step is about to be made. Not waited for: it only has to be in the journal before the result.
    ///
    /// # Errors
    /// If the step must not be made: what is done again is [done from its journal alone](Recorded).
    fn begin(&self, name: &str, index: u32) -> Result<(), JournalError>;

    /// Records, and returns when the broker has acknowledged it: before that a result is not used.
    ///
    /// # Errors
    /// A [`JournalError`]; its [class](JournalError::class) says what to do.
    fn record<'a>(&'a self, name: &'a str, index: u32, entry: Entry) -> BoxFuture<'a, Result<(), JournalError>>;
}

/// How journaling can fail.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// A result does not fit into an entry. Terminal.
    #[error(
        "the result of step `{name}` takes {bytes} bytes in the journal, and {limit_bytes} is the most (journal.max_entry): \
         return less, or a reference to where the rest is kept"
    )]
    TooLarge {
        /// The step.
        name: String,
        /// How large its entry is.
        bytes: usize,
        /// How large it may be.
        limit_bytes: usize,
    },
    /// The task has more steps, or larger ones, than its journal may hold. Terminal.
    #[error("the journal of this task is full ({limit}): do less in one task")]
    TaskFull {
        /// Which limit, in words.
        limit: String,
    },
    /// What is recorded does not have the shape that the step has now. Terminal.
    #[error(
        "what is journaled for step `{name}` does not have the shape this version expects ({reason}): give a step whose \
         result changed another name"
    )]
    Undecodable {
        /// The step.
        name: String,
        /// Where it does not fit.
        reason: String,
    },
    /// A result has no JSON form. Terminal.
    #[error("the result of step `{name}` cannot be written as JSON: {reason}")]
    Unwritable {
        /// The step.
        name: String,
        /// Why.
        reason: String,
    },
    /// What is done again asks for something that was not recorded. Terminal.
    #[error("step `{name}` (occurrence {index}) is not in the journal, and a replay does nothing anew")]
    NotRecorded {
        /// The step.
        name: String,
        /// Which of its occurrences, from 0.
        index: u32,
    },
    /// The broker does not take entries: no right, no such topic. Fatal.
    #[error("the journal cannot be written: {message}")]
    Refused {
        /// What the broker said.
        message: String,
    },
}

impl JournalError {
    /// What this failure asks of the caller.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::TooLarge { .. }
            | Self::TaskFull { .. }
            | Self::Undecodable { .. }
            | Self::Unwritable { .. }
            | Self::NotRecorded { .. } => ErrorClass::Terminal,
            Self::Refused { .. } => ErrorClass::Fatal,
        }
    }
}

/// Uses what is journaled for the next occurrence of `name`, or makes the call and journals its result before it is used.
/// Errors are not journaled.
///
/// # Errors
/// Those of the call, and those of journaling.
pub async fn once<T, E>(journal: &dyn Journal, name: &str, call: impl Future<Output = Result<T, E>>) -> Result<T, E>
where
    T: Serialize + DeserializeOwned,
    E: From<JournalError>,
{
    let occurrence = journal.next(name);
    if let Some(Entry::Done(value)) = occurrence.recorded {
        return Ok(decode(name, value)?);
    }
    journal.begin(name, occurrence.index)?;
    let result = call.await?;
    journal.record(name, occurrence.index, Entry::Done(encode(name, &result)?)).await?;
    Ok(result)
}

/// As [`once`], for a call that must not be made twice without asking: that it begins is journaled, and acknowledged,
/// before it is made. Where it was begun and its result is not known, `ask` finds out first: `Some` is what came of it,
/// `None` says that it did not happen.
///
/// # Errors
/// Those of the call, of `ask`, and of journaling.
pub async fn once_or_ask<T, E, A, F>(journal: &dyn Journal, name: &str, ask: A, call: F) -> Result<T, E>
where
    T: Serialize + DeserializeOwned,
    E: From<JournalError>,
    A: Future<Output = Result<Option<T>, E>>,
    F: Future<Output = Result<T, E>>,
{
    let occurrence = journal.next(name);
    let result = match occurrence.recorded {
        Some(Entry::Done(value)) => return Ok(decode(name, value)?),
        Some(Entry::Begun) => match ask.await? {
            Some(found) => found,
            None => call.await?,
        },
        None => {
            journal.record(name, occurrence.index, Entry::Begun).await?;
            call.await?
        }
    };
    journal.record(name, occurrence.index, Entry::Done(encode(name, &result)?)).await?;
    Ok(result)
}

fn decode<T: DeserializeOwned>(name: &str, value: Value) -> Result<T, JournalError> {
    T::deserialize(value).map_err(|e| JournalError::Undecodable { name: name.to_owned(), reason: e.to_string() })
}

fn encode<T: Serialize>(name: &str, result: &T) -> Result<Value, JournalError> {
    serde_json::to_value(result).map_err(|e| JournalError::Unwritable { name: name.to_owned(), reason: e.to_string() })
}

/// The name that a model call is journaled under: the same for the same question, whatever the order of calls. What does
/// not change the answer (metadata, timeout) is not part of it. A handler that asks something else than before gets no
/// answer to an earlier question.
pub fn of_model_call(request: &ChatRequest) -> String {
    let digest = Sha256::digest(asked::text(request));
    let start = digest.iter().take(16).fold(0, |start: u128, byte| start << 8 | u128::from(*byte));
    format!("{MODEL_CALL}{start:032x}")
}

/// No journal: nothing is recorded, everything is done anew.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoJournal;

impl Journal for NoJournal {
    fn next(&self, _: &str) -> Occurrence {
        Occurrence { index: 0, recorded: None }
    }

    fn begin(&self, _: &str, _: u32) -> Result<(), JournalError> {
        Ok(())
    }

    fn record<'a>(&'a self, _: &'a str, _: u32, _: Entry) -> BoxFuture<'a, Result<(), JournalError>> {
        ready(Ok(())).boxed()
    }
}

/// A journal in memory, for tests: attempts at one task share what is recorded.
#[derive(Debug, Clone, Default)]
pub struct MemoryJournal {
    entries: Arc<Mutex<BTreeMap<(String, u32), Entry>>>,
}

impl MemoryJournal {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// The journal of the next attempt.
    pub fn attempt(&self) -> Arc<dyn Journal> {
        Arc::new(MemoryAttempt { journal: self.clone(), occurrences: Mutex::default() })
    }

    /// What is recorded, by name and index.
    pub fn entries(&self) -> BTreeMap<(String, u32), Entry> {
        lock(&self.entries).clone()
    }

    /// Forgets the result of a step that was begun, as a crash between the two leaves it.
    pub fn lose_result(&self, name: &str, index: u32) {
        lock(&self.entries).insert((name.to_owned(), index), Entry::Begun);
    }
}

#[derive(Debug)]
struct MemoryAttempt {
    journal: MemoryJournal,
    occurrences: Mutex<HashMap<String, u32>>,
}

impl Journal for MemoryAttempt {
    fn next(&self, name: &str) -> Occurrence {
        let mut occurrences = lock(&self.occurrences);
        let next = occurrences.entry(name.to_owned()).or_default();
        let index = *next;
        *next += 1;
        Occurrence { index, recorded: lock(&self.journal.entries).get(&(name.to_owned(), index)).cloned() }
    }

    fn begin(&self, name: &str, index: u32) -> Result<(), JournalError> {
        lock(&self.journal.entries).entry((name.to_owned(), index)).or_insert(Entry::Begun);
        Ok(())
    }

    fn record<'a>(&'a self, name: &'a str, index: u32, entry: Entry) -> BoxFuture<'a, Result<(), JournalError>> {
        lock(&self.journal.entries).insert((name.to_owned(), index), entry);
        ready(Ok(())).boxed()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::chat::Message;

    async fn count(journal: &dyn Journal, name: &str, calls: &AtomicU32) -> Result<u32, JournalError> {
        once(journal, name, async { Ok(calls.fetch_add(1, Ordering::Relaxed)) }).await
    }

    #[tokio::test]
    async fn what_is_journaled_is_not_done_again_and_what_failed_is() {
        let (journal, calls) = (MemoryJournal::new(), AtomicU32::new(0));
        let first = journal.attempt();
        assert_eq!(count(&*first, "a", &calls).await, Ok(0));
        assert_eq!(count(&*first, "a", &calls).await, Ok(1), "the same name again is another occurrence");
        let failed = once::<u32, _>(&*first, "b", async { Err(JournalError::Refused { message: "no".into() }) });
        assert!(failed.await.is_err());
        let second = journal.attempt();
        assert_eq!(count(&*second, "a", &calls).await, Ok(0));
        assert_eq!(count(&*second, "a", &calls).await, Ok(1));
        assert_eq!(count(&*second, "b", &calls).await, Ok(2), "an error is not journaled");
    }

    #[tokio::test]
    async fn a_result_of_another_shape_is_said_to_be_so() {
        let journal = MemoryJournal::new();
        let first = journal.attempt();
        let text = once::<_, JournalError>(&*first, "a", async { Ok("text".to_owned()) });
        assert_eq!(text.await, Ok("text".to_owned()));
        let calls = AtomicU32::new(0);
        let error = count(&*journal.attempt(), "a", &calls).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Terminal);
        assert!(error.to_string().starts_with("what is journaled for step `a` does not have the shape"), "{error}");
    }

    #[tokio::test]
    async fn the_outside_is_asked_only_where_a_call_may_have_been_made() {
        let (journal, asked) = (MemoryJournal::new(), AtomicU32::new(0));
        let pay = async |found: Option<u32>, made: u32| {
            let ask = async {
                asked.fetch_add(1, Ordering::Relaxed);
                Ok(found)
            };
            once_or_ask::<_, JournalError, _, _>(&*journal.attempt(), "pay", ask, async { Ok(made) }).await
        };
        assert_eq!(pay(Some(9), 1).await, Ok(1));
        assert_eq!(pay(Some(9), 2).await, Ok(1));
        assert_eq!(asked.load(Ordering::Relaxed), 0);
        journal.lose_result("pay", 0);
        assert_eq!(pay(Some(9), 3).await, Ok(9), "it had happened");
        journal.lose_result("pay", 0);
        assert_eq!(pay(None, 4).await, Ok(4), "it had not");
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_model_call_is_named_after_what_is_asked() {
        let ask = |words: &str| ChatRequest::new("m", vec![Message::user(words)]);
        let mut traced = ask("a");
        traced.metadata.insert("x-attempt".into(), "2".into());
        assert_eq!(of_model_call(&ask("a")), of_model_call(&traced));
        assert_ne!(of_model_call(&ask("a")), of_model_call(&ask("b")));
    }
}
