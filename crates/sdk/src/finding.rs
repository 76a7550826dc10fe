//! What an agent found, in a shape that a composer can weigh without knowing the agent.
//!
//! An agent may answer in any shape. One whose answer has a member `findings` of this type is heard by composers that
//! were written before it: an agent that is dropped in needs no edit of the composer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One thing an agent found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// A reason code in capitals, such as `DOC_EXPIRED`; stable, for people's statistics and rules.
    pub code: String,
    /// What it does to the decision.
    pub effect: Effect,
    /// What was found, for the person who reads it.
    pub detail: String,
    /// What it rests on.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub evidence: Value,
}

/// What a finding does to the decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Nothing: it is on record.
    Note,
    /// A hard gate: no automatic approval, whatever the confidence.
    Gate,
}

impl Finding {
    /// A finding that is on record.
    pub fn note(code: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { code: code.into(), effect: Effect::Note, detail: detail.into(), evidence: Value::Null }
    }

    /// A finding that forbids automatic approval.
    pub fn gate(code: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { effect: Effect::Gate, ..Self::note(code, detail) }
    }

    /// Adds what it rests on.
    #[must_use]
    pub fn with(mut self, evidence: Value) -> Self {
        self.evidence = evidence;
        self
    }
}
