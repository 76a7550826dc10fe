//! What is written to a journal, as JSON.

use anabranch_protocol::{TaskId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A record of a journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Line {
    /// From here on only this run counts, until the next line of this kind.
    Opened {
        /// The run that has taken over.
        run: String,
    },
    /// A step.
    Step(Step),
    /// Tasks that are done: what is recorded of them is of no use any more.
    Closed {
        /// Who says so.
        run: String,
        /// The tasks.
        tasks: Vec<TaskId>,
    },
}

/// What is recorded of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Who writes: one assignment of a partition to one process.
    pub run: String,
    /// Counts what the run has written. Of two results of one step that one run wrote, the later counts: only that one
    /// can have been used.
    pub seq: u64,
    /// The task.
    pub task: TaskId,
    /// The step's name.
    pub name: String,
    /// Counts calls of the name within an attempt, from 0.
    pub index: u32,
    /// After this the task cannot be worked on any more.
    pub expires: Timestamp,
    /// The result; without one the step was begun.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "present")]
    pub result: Option<Value>,
}

/// A result of `null` is a result.
mod present {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};
    use serde_json::Value;

    #[allow(clippy::ref_option, reason = "serde's signature")]
    pub(super) fn serialize<S: Serializer>(value: &Option<Value>, serializer: S) -> Result<S::Ok, S::Error> {
        value.as_ref().unwrap_or(&Value::Null).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
        Value::deserialize(deserializer).map(Some)
    }
}

/// Why a record of a journal is not used.
#[derive(Debug, thiserror::Error)]
#[error("it is no line of a journal: {0}")]
pub struct Unreadable(#[from] serde_json::Error);

impl Line {
    /// Reads a record's value.
    ///
    /// # Errors
    /// If it is something else.
    pub fn read(value: &[u8]) -> Result<Self, Unreadable> {
        Ok(serde_json::from_slice(value)?)
    }

    /// As it is written.
    ///
    /// # Errors
    /// None that a line of this type can cause; the type is the serializer's.
    pub fn write(&self) -> Result<Vec<u8>, Unreadable> {
        Ok(serde_json::to_vec(self)?)
    }
}
