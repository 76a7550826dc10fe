//! What every call cost: the record on the ledger topic, and the port that puts it there.

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

/// What became of one call at the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was answered, and the answer was valid.
    Answered,
    /// It was answered, and paid for, but the answer was of no use: not valid, refused or withheld.
    Useless,
    /// It failed, and the endpoint cannot have counted anything: refused, limited, no connection.
    Failed,
    /// It broke off, timed out or was abandoned: what the endpoint counted is not known.
    Unknown,
}

/// One call, as the ledger keeps it: what a JSON record on the topic `<name>.ledger` holds.
///
/// Fields are added in the future, never renamed: a reader ignores what it does not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The same for a repeat of this entry, and for no other: the process and a count.
    pub id: String,
    /// The process that made the call: different after each start.
    pub process: String,
    /// When the call ended, in Unix milliseconds.
    pub at_ms: u64,
    /// The agent that called; empty where the request named none.
    pub agent: String,
    /// The case it was for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// On whose behalf, where the case says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The model that was asked, by its name at the endpoint.
    pub model: String,
    /// The model that should have been asked, where this one was its fallback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_for: Option<String>,
    /// Tokens read, as the endpoint counted them.
    pub prompt_tokens: u64,
    /// Tokens written, likewise.
    pub completion_tokens: u64,
    /// The endpoint said nothing, and both counts are estimates that err high: with [`Outcome::Unknown`], and where an
    /// endpoint counts nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub estimated: bool,
    /// What it cost, in millionths of the price list's currency; `None` where no price is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_micros: Option<u64>,
    /// What became of it.
    pub outcome: Outcome,
}

impl Entry {
    /// Tokens read and written.
    pub fn tokens(&self) -> u64 {
        self.prompt_tokens.saturating_add(self.completion_tokens)
    }
}

/// An entry could not be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the ledger takes no entry: {0}")]
pub struct LedgerError(pub String);

/// Where entries go. `Ok` means that the entry is kept.
///
/// It is asked once for each call at the endpoint, before the caller gets the answer. What could not be written is
/// offered again, with the same [`Entry::id`], before the next call is made; until then no call is made.
pub trait Ledger: Send + Sync {
    /// Keeps `entry`.
    fn entry(&self, entry: Entry) -> BoxFuture<'_, Result<(), LedgerError>>;
}
