//! How many dead letters of an agent are too many: the line as it is written, and the settings that follow from it.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::unit::Span;

/// How many dead letters of an agent are too many. Past either limit the agent pauses. Each process counts its own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DeadLetterSettings {
    /// Largest share of the last `over` records, 0 to 1.
    pub max_share: f64,
    /// Over how many records the share is taken.
    pub over: usize,
    /// Most in a row.
    pub max_in_a_row: u32,
    /// So long after it paused one record is tried, and again after each that fails.
    pub resume_after: Duration,
}

impl Default for DeadLetterSettings {
    fn default() -> Self {
        Self { max_share: 0.2, over: 200, max_in_a_row: 20, resume_after: Duration::from_secs(60) }
    }
}

/// As written: how many dead letters of an agent are too many. Past either limit the agent pauses and says so: what
/// would be the next dead letter is held, and tried again now and then. Each process counts its own.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
pub(crate) struct DeadLettersLine {
    /// Largest share of the last `over` records that may become dead letters; 1 for no such limit. Default: 0.2.
    #[schemars(range(min = 0, max = 1), example = 0.2)]
    pub(crate) max_share: Option<f64>,
    /// Over how many records the share is taken. Default: 200.
    #[schemars(range(min = 1, max = 1_000_000), example = 200)]
    pub(crate) over: Option<usize>,
    /// Most dead letters in a row. Default: 20.
    #[schemars(range(min = 1, max = 1_000_000_000), example = 20)]
    pub(crate) max_in_a_row: Option<u32>,
    /// So long after it paused one record is tried, and again after each that fails; it goes on with the first that
    /// succeeds. Default: 60s.
    #[schemars(example = &"60s")]
    pub(crate) resume_after: Option<Span>,
}

/// Fills in what the line does not say.
pub(crate) fn fill(base: DeadLetterSettings, line: Option<&DeadLettersLine>) -> DeadLetterSettings {
    let Some(line) = line else { return base };
    DeadLetterSettings {
        max_share: line.max_share.unwrap_or(base.max_share),
        over: line.over.unwrap_or(base.over),
        max_in_a_row: line.max_in_a_row.unwrap_or(base.max_in_a_row),
        resume_after: line.resume_after.map_or(base.resume_after, |span| span.0),
    }
}
