//! Transactions of one transactional producer, without I/O: who it is, what it may write, and how a transaction ended.
//!
//! Two things are easy to get wrong, and are decided here alone:
//!
//! * **A commit whose answer was lost.** It may have happened. Nothing else is asked of the machine until that is known:
//!   the same end is asked for again until the coordinator answers definitely; a producer that is fenced meanwhile is told
//!   to look into the log, which keeps the markers. [`Last`] is never a guess.
//! * **Requests that arrive late.** Under transaction version 1 an end, or a batch, that was given up may still be on its way
//!   and would hit the next transaction, which has the same epoch. So after anything unclear the epoch is raised before
//!   the next transaction begins (KIP-360). Version 2 (KIP-890) raises it at every end.
//!
//! A shell performs what [`Machine::next_request`] asks for and reports back. Nothing here depends on time; the shell has the
//! deadlines.

mod codes;
mod machine;

pub use codes::{Asked, Verdict};
pub use machine::Machine;

/// A producer's identity. A higher epoch fences the lower ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Producer {
    /// The id the coordinator gave.
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
}

/// How the cluster does transactions: its feature `transaction.version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    /// Partitions and groups are added before they are written to; the end leaves the epoch. Redpanda, Kafka before 4.
    #[default]
    One,
    /// KIP-890: writing adds, and every end raises the epoch.
    Two,
}

/// What the shell is to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// InitProducerId: as this producer (KIP-360), or as a new instance, which fences earlier ones; then
    /// [`Machine::initialised`].
    Init(Option<Producer>),
    /// EndTxn; then [`Machine::ended`].
    End {
        /// Who asks.
        producer: Producer,
        /// Commit or abort.
        commit: bool,
    },
    /// Look at the [witnesses](Machine::witnesses) in the log; then [`Machine::looked`].
    Look,
}

/// How a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// The broker's error code; `None`: no answer came.
    pub code: Option<i16>,
    /// Whether the broker may have done it nevertheless.
    pub may_have_happened: bool,
}

/// What the log says about a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// A record of it can be read by those who read committed ones.
    Committed,
    /// A record of it is there, but not for them.
    Aborted,
    /// It is still open, or the log could not be read.
    NotYet,
    /// None of its records is there any more.
    Gone,
}

/// How the last commit ended, until the caller has [heard](Machine::hear) of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Last {
    /// Nothing was asked, or all was told.
    #[default]
    Nothing,
    /// It may have happened; the machine is not done.
    Pending,
    /// It is committed.
    Committed,
    /// It is not committed and never will be.
    Aborted,
    /// Nobody can tell any more. Only after fencing or lost rights.
    Unknown,
}

/// Why a producer is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// Another instance has taken its place, or its transaction ran out of time.
    Fenced,
    /// Only a human can help: rights, versions, settings.
    Fatal,
}

#[cfg(test)]
mod machine_tests;
#[cfg(test)]
mod model_tests;
