//! One limit, several processes: what each wants, and so what each may use.
//!
//! Every process tells the others what it wants ([`Announcement`]) and hears what they want. All compute the same
//! division of the limit from it. Two rules keep the sum under the limit while views differ: a share shrinks at once
//! and grows only when the larger share has been due for [`SETTLE`], and a process uses nothing before its own
//! announcement has come back to it and is that old. A process that is not heard of for [`LAPSE`] is gone; one that does
//! not hear *itself* knows that the line is down, and keeps the share it had.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How often a process says what it wants, at most.
pub const ANNOUNCE_EVERY: Duration = Duration::from_millis(250);
/// How long a larger share must have been due before it is used: longer than an announcement is under way.
pub const SETTLE: Duration = Duration::from_secs(2);
/// How long a process is counted after it was last heard of.
pub const LAPSE: Duration = Duration::from_secs(6);

/// What a process wants of one model, per window of the limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demand {
    /// Calls.
    pub requests: u64,
    /// Tokens.
    pub tokens: u64,
}

/// What one process tells the others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// The process: different after each start.
    pub process: String,
    /// What it wants, by model.
    pub demand: BTreeMap<String, Demand>,
    /// It ends, and wants nothing more.
    #[serde(default)]
    pub leaving: bool,
}

/// The latest announcement of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// What it said.
    pub announcement: Announcement,
    /// How long ago it arrived here, by this process's own clock.
    pub age: Duration,
}

/// The line to the agent's other processes. Neither method waits.
pub trait Sharing: Send + Sync {
    /// Tells the others. It may be dropped on the way: the next one says it all again.
    fn announce(&self, announcement: Announcement);

    /// The latest announcement of every process, this one's own included once it came back.
    fn heard(&self) -> Vec<Heard>;
}
