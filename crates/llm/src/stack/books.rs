//! Keeps the ledger: every call is entered, and no call is made while earlier ones cannot be.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::ledger::{Entry, Ledger, LedgerError};
use crate::error::{ModelError, OpenCause};

/// How long a ledger that took no entry is left alone.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The ledger as the stack sees it.
pub(crate) struct Books {
    ledger: Option<Arc<dyn Ledger>>,
    process: String,
    entries: AtomicU64,
    /// What the ledger has not taken yet.
    owed: Mutex<VecDeque<Entry>>,
    /// Held by who settles what is owed: when the ledger last took nothing.
    refused: tokio::sync::Mutex<Option<(Instant, LedgerError)>>,
}

impl Books {
    pub(crate) fn new(ledger: Option<Arc<dyn Ledger>>, process: String) -> Self {
        Self { ledger, process, entries: AtomicU64::new(0), owed: Mutex::default(), refused: Default::default() }
    }

    pub(crate) fn process(&self) -> &str {
        &self.process
    }

    /// An entry's id: the same at every offer of it.
    pub(crate) fn next_id(&self) -> String {
        format!("{}-{}", self.process, self.entries.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Enters it. What the ledger does not take, or what is not waited for to the end, is owed.
    pub(crate) async fn enter(&self, entry: Entry) {
        let Some(ledger) = &self.ledger else { return };
        let mut owed = Owed { books: self, entry: Some(entry.clone()) };
        match ledger.entry(entry).await {
            Ok(()) => owed.entry = None,
            Err(error) => tracing::warn!(%error, "no call is made until the ledger takes what this one cost"),
        }
    }

    /// Enters it later: before the next call.
    pub(crate) fn owe(&self, entry: Entry) {
        if self.ledger.is_some() {
            self.owed().push_back(entry);
        }
    }

    /// Enters what is owed.
    ///
    /// # Errors
    /// [`ModelError::BreakerOpen`] while the ledger does not take it.
    pub(crate) async fn settle(&self) -> Result<(), ModelError> {
        let Some(ledger) = self.ledger.as_ref().filter(|_| !self.owed().is_empty()) else { return Ok(()) };
        let mut refused = self.refused.lock().await;
        if let Some((at, error)) = refused.as_ref().filter(|(at, _)| at.elapsed() < RETRY_AFTER) {
            return Err(unsettled(RETRY_AFTER.saturating_sub(at.elapsed()), error));
        }
        loop {
            let Some(entry) = self.owed().front().cloned() else { return Ok(()) };
            let id = entry.id.clone();
            if let Err(error) = ledger.entry(entry).await {
                let unsettled = unsettled(RETRY_AFTER, &error);
                *refused = Some((Instant::now(), error));
                return Err(unsettled);
            }
            self.owed().retain(|entry| entry.id != id);
        }
    }

    fn owed(&self) -> MutexGuard<'_, VecDeque<Entry>> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unsettled(after: Duration, error: &LedgerError) -> ModelError {
    ModelError::BreakerOpen { cause: OpenCause::Ledger, after, message: error.to_string() }
}

/// An entry under way to the ledger.
struct Owed<'a> {
    books: &'a Books,
    entry: Option<Entry>,
}

impl Drop for Owed<'_> {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            self.books.owe(entry);
        }
    }
}
