//! How much the journal of an agent's steps may hold: the line as it is written, and the settings that follow from it.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::unit::{Size, Span};

/// How much the journal of an agent's steps may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalSettings {
    /// Most bytes of one entry.
    pub max_entry_bytes: usize,
    /// Most entries of one task; each step has up to two.
    pub max_entries: usize,
    /// Most bytes of one task's entries.
    pub max_task_bytes: usize,
    /// Most bytes of results that one process holds of tasks that it is not working on; what is beyond is read back when
    /// their turn comes.
    pub max_memory_bytes: usize,
    /// How long entries of tasks that are done stay on the broker, to be looked at and replayed.
    pub keep: Duration,
}

impl Default for JournalSettings {
    fn default() -> Self {
        Self {
            max_entry_bytes: 256 * 1024,
            max_entries: 1_000,
            max_task_bytes: 4 * 1024 * 1024,
            max_memory_bytes: 64 * 1024 * 1024,
            keep: Duration::from_secs(24 * 3600),
        }
    }
}

/// As written: how much the journal of an agent's steps may hold.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
pub(crate) struct JournalLine {
    /// Most bytes of one step's result, as JSON. Default: 256KiB.
    #[schemars(example = &"256KiB")]
    pub(crate) max_entry: Option<Size>,
    /// Most entries of one task; each step has up to two. Default: 1000.
    #[schemars(range(min = 1, max = 1_000_000), example = 1000)]
    pub(crate) max_entries: Option<usize>,
    /// Most bytes of all entries of one task. Default: 4MiB.
    #[schemars(example = &"4MiB")]
    pub(crate) max_task: Option<Size>,
    /// Most bytes of results that one process holds of tasks it is not working on. Default: 64MiB.
    #[schemars(example = &"64MiB")]
    pub(crate) max_memory: Option<Size>,
    /// How long entries of tasks that are done stay on the broker. Default: 24h.
    #[schemars(example = &"24h")]
    pub(crate) keep: Option<Span>,
}

/// Fills in what the line does not say.
pub(crate) fn fill(base: &JournalSettings, line: Option<&JournalLine>) -> JournalSettings {
    let Some(line) = line else { return base.clone() };
    let bytes = |size: Option<Size>, base| size.map_or(base, |s| usize::try_from(s.0).unwrap_or(usize::MAX));
    JournalSettings {
        max_entry_bytes: bytes(line.max_entry, base.max_entry_bytes),
        max_entries: line.max_entries.unwrap_or(base.max_entries),
        max_task_bytes: bytes(line.max_task, base.max_task_bytes),
        max_memory_bytes: bytes(line.max_memory, base.max_memory_bytes),
        keep: line.keep.map_or(base.keep, |span| span.0),
    }
}
