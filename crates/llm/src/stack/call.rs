//! One call at an endpoint: what it is charged to, and what is written about it however it ends.

use std::sync::Arc;

use super::books::Books;
use super::breaker::{Ended, Ticket};
use super::budget::{Amount, Reservation};
use super::context::CallContext;
use super::lane::{Lane, ended};
use super::ledger::{Entry, Outcome};
use crate::chat::{ChatResponse, Usage};
use crate::error::ModelError;
use crate::prices::Prices;

/// What the calls for one request have in common.
pub(crate) struct Call {
    pub(crate) context: CallContext,
    pub(crate) reservation: Reservation,
    pub(crate) estimate: Usage,
}

/// Where calls are written down.
pub(crate) struct Desk {
    pub(crate) books: Books,
    pub(crate) prices: Prices,
    /// Unix time in milliseconds.
    pub(crate) now_ms: fn() -> u64,
}

/// A call that is under way. One that is dropped before it ended is written down as [`Outcome::Unknown`].
pub(crate) struct Attempt<'a> {
    desk: &'a Desk,
    lane: &'a Lane,
    call: Arc<Call>,
    model: String,
    ticket: Option<Ticket>,
}

impl<'a> Attempt<'a> {
    pub(crate) fn begin(desk: &'a Desk, lane: &'a Lane, call: Arc<Call>, model: &str) -> Result<Self, ModelError> {
        let ticket = Some(lane.admit()?);
        Ok(Self { desk, lane, call, model: model.to_owned(), ticket })
    }

    /// Writes down how it ended. Returns the tokens that it took.
    pub(crate) async fn end(mut self, result: Result<&ChatResponse, &ModelError>) -> u64 {
        let Some(ticket) = self.ticket.take() else { return 0 };
        let (outcome, usage) = seen(result);
        self.lane.report(ticket, result.map_or_else(ended, |_| Ended::Well));
        let entry = self.entry(outcome, usage);
        let tokens = entry.tokens();
        self.desk.books.enter(entry).await;
        tokens
    }

    /// The entry, charged to the budget.
    fn entry(&self, outcome: Outcome, usage: Option<Usage>) -> Entry {
        // An endpoint that counts nothing is not free.
        let counted = usage.filter(|usage| usage.total_tokens() > 0 || outcome == Outcome::Failed);
        let usage = counted.unwrap_or(self.call.estimate);
        let context = &self.call.context;
        let entry = Entry {
            id: self.desk.books.next_id(),
            process: self.desk.books.process().to_owned(),
            at_ms: (self.desk.now_ms)(),
            agent: context.agent.clone(),
            correlation_id: context.case.clone(),
            tenant: context.tenant.clone(),
            model: self.model.clone(),
            fallback_for: self.lane.stands_in_for.clone(),
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            estimated: counted.is_none(),
            cost_micros: self.desk.prices.of(&self.model).map(|price| price.cost_micros(usage)),
            outcome,
        };
        self.call.reservation.spend(Amount::of(&entry));
        entry
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.lane.report(ticket, Ended::Unseen);
            let entry = self.entry(Outcome::Unknown, None);
            self.desk.books.owe(entry);
        }
    }
}

/// What became of a call and what it took, where that is known.
fn seen(result: Result<&ChatResponse, &ModelError>) -> (Outcome, Option<Usage>) {
    match result {
        Ok(response) => (Outcome::Answered, Some(response.usage)),
        Err(
            ModelError::Timeout { .. }
            | ModelError::Cut { .. }
            | ModelError::Malformed { .. }
            | ModelError::TooLarge { .. }
            | ModelError::Connection { sent: true, .. },
        ) => (Outcome::Unknown, None),
        // A filter that stopped the question counted nothing.
        Err(error) => match error.usage().filter(|usage| usage.total_tokens() > 0) {
            Some(usage) => (Outcome::Useless, Some(usage)),
            None if matches!(error, ModelError::InvalidOutput { .. } | ModelError::Refusal { .. }) => {
                (Outcome::Useless, None)
            }
            None => (Outcome::Failed, Some(Usage::default())),
        },
    }
}
