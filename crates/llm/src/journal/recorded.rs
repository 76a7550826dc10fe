//! The journal of a task that is over.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};
use serde_json::Value;

use super::{Entry, Journal, JournalError, MODEL_CALL, Occurrence, lock};

/// What was recorded of a task that is over, to do it again from that alone: what is not in it is refused.
#[derive(Debug, Default)]
pub struct Recorded {
    results: BTreeMap<(String, u32), Value>,
    /// Names whose steps are made anew, whatever is recorded of them.
    anew: Option<&'static str>,
    occurrences: Mutex<HashMap<String, u32>>,
    refused: Mutex<Vec<(String, u32)>>,
}

impl Recorded {
    /// Results by name and occurrence.
    pub fn new(results: impl IntoIterator<Item = ((String, u32), Value)>) -> Self {
        Self { results: results.into_iter().collect(), ..Self::default() }
    }

    /// As [`Recorded::new`], but models are asked anew.
    pub fn asking_models(results: impl IntoIterator<Item = ((String, u32), Value)>) -> Self {
        Self { anew: Some(MODEL_CALL), ..Self::new(results) }
    }

    /// What was asked for and is not recorded, in order. A handler that goes on without an answer does not tell.
    pub fn refused(&self) -> Vec<(String, u32)> {
        lock(&self.refused).clone()
    }

    fn is_anew(&self, name: &str) -> bool {
        self.anew.is_some_and(|prefix| name.starts_with(prefix))
    }
}

impl Journal for Recorded {
    fn next(&self, name: &str) -> Occurrence {
        let mut occurrences = lock(&self.occurrences);
        let next = occurrences.entry(name.to_owned()).or_default();
        let index = *next;
        *next += 1;
        let recorded = self.results.get(&(name.to_owned(), index)).filter(|_| !self.is_anew(name));
        Occurrence { index, recorded: recorded.cloned().map(Entry::Done) }
    }

    fn begin(&self, name: &str, index: u32) -> Result<(), JournalError> {
        if self.is_anew(name) {
            return Ok(());
        }
        lock(&self.refused).push((name.to_owned(), index));
        Err(JournalError::NotRecorded { name: name.to_owned(), index })
    }

    fn record<'a>(&'a self, name: &'a str, index: u32, _: Entry) -> BoxFuture<'a, Result<(), JournalError>> {
        ready(self.begin(name, index)).boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::journal::{once, once_or_ask};

    async fn count(journal: &dyn Journal, name: &str, calls: &AtomicU32) -> Result<u32, JournalError> {
        once(journal, name, async { Ok(calls.fetch_add(1, Ordering::Relaxed)) }).await
    }

    #[tokio::test]
    async fn what_is_done_again_does_nothing_that_was_not_recorded() {
        let calls = AtomicU32::new(0);
        let results =
            || [(("a".to_owned(), 0), serde_json::json!(7)), (("model:1".to_owned(), 0), serde_json::json!(8))];
        let journal = Recorded::new(results());
        assert_eq!(count(&journal, "a", &calls).await, Ok(7));
        assert_eq!(count(&journal, "model:1", &calls).await, Ok(8));
        for name in ["a", "b", "model:2"] {
            let refused = count(&journal, name, &calls).await.unwrap_err();
            assert!(matches!(&refused, JournalError::NotRecorded { name: n, .. } if n == name), "{refused}");
        }
        let pay = once_or_ask(&journal, "pay", async { Ok(Some(1)) }, async { Ok::<_, JournalError>(2) });
        assert!(pay.await.is_err(), "nothing is asked of the outside either");
        let refused = [("a", 1), ("b", 0), ("model:2", 0), ("pay", 0)].map(|(name, index)| (name.to_owned(), index));
        assert_eq!(journal.refused(), refused);
        assert_eq!(calls.load(Ordering::Relaxed), 0);
        let live = Recorded::asking_models(results());
        assert_eq!(count(&live, "model:1", &calls).await, Ok(0), "asked anew");
        assert_eq!(count(&live, "a", &calls).await, Ok(7));
    }
}
