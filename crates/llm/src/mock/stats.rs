//! What happened: for tests that count calls, and for `GET /mock/stats`.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::bounded::{OTHER, Tally};
use super::request::Call;
use crate::chat::Usage;

/// Most agents, schemas or rules that are counted by name.
const MAX_NAMES: usize = 1_000;
/// Most cases that are counted by correlation id.
const MAX_CASES: usize = 10_000;

/// What a mock server was asked, since it started. Names beyond a bound (1,000 agents, 10,000 correlation ids, 10,000
/// document numbers) are counted together as `(other)`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// Chat requests, failed ones included.
    pub calls: u64,
    /// By the `x-agent` header; empty where there was none.
    pub by_agent: BTreeMap<String, u64>,
    /// By the response schema's name; empty where none was asked for.
    pub by_schema: BTreeMap<String, u64>,
    /// By what became of it: `answered`, `bad_request`, or the kind of its fault.
    pub by_outcome: BTreeMap<String, u64>,
    /// By the name of the rule that took it.
    pub by_rule: BTreeMap<String, u64>,
    /// By the `x-correlation-id` header.
    pub by_correlation_id: BTreeMap<String, u64>,
    /// Tokens of all that was answered.
    pub tokens: Usage,
    /// The same by the `x-correlation-id` header.
    pub tokens_by_correlation_id: BTreeMap<String, Usage>,
    /// The document registry.
    pub registry: RegistryStats,
}

/// What the document registry was asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RegistryStats {
    /// Requests, failed and repeated ones included.
    pub calls: u64,
    /// Checks really done: once for each idempotency key.
    pub done: u64,
    /// By document number.
    pub documents: BTreeMap<String, DocumentStats>,
}

/// What the document registry was asked of one document number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DocumentStats {
    /// As [`RegistryStats::calls`].
    pub calls: u64,
    /// As [`RegistryStats::done`].
    pub done: u64,
}

/// One call, for whoever wants to know how long the model takes by itself: what `GET /mock/calls` lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallRecord {
    /// The `x-correlation-id` header.
    pub correlation_id: String,
    /// The `x-agent` header.
    pub agent: String,
    /// How long the answer was held back, in milliseconds, as drawn; 0 where it was refused.
    pub latency_ms: u64,
    /// What `Retry-After` said, in milliseconds, where the call was refused with one.
    pub retry_after_ms: Option<u64>,
}

/// The latest calls, as many as are wanted.
#[derive(Debug)]
pub(super) struct Calls {
    limit: usize,
    latest: VecDeque<CallRecord>,
}

impl Calls {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, latest: VecDeque::new() }
    }

    /// A call that is answered after `latency`, or was refused for `retry_after` seconds.
    pub(super) fn add(&mut self, call: &Call, latency: Duration, retry_after: Option<&str>) {
        if self.limit == 0 {
            return;
        }
        if self.latest.len() == self.limit {
            self.latest.pop_front();
        }
        let retry_after = retry_after.and_then(|seconds| seconds.parse::<u64>().ok());
        self.latest.push_back(CallRecord {
            correlation_id: call.correlation_id.clone(),
            agent: call.agent.clone(),
            latency_ms: u64::try_from(latency.as_millis()).unwrap_or(u64::MAX),
            retry_after_ms: retry_after.map(|seconds| seconds.saturating_mul(1000)),
        });
    }

    pub(super) fn latest(&self) -> Vec<CallRecord> {
        self.latest.iter().cloned().collect()
    }
}

/// The counts as they are kept.
#[derive(Debug)]
pub(super) struct Counts {
    calls: u64,
    by_agent: Tally,
    by_schema: Tally,
    by_outcome: Tally,
    by_rule: Tally,
    by_correlation_id: Tally,
    tokens: Usage,
    tokens_by_correlation_id: BTreeMap<String, Usage>,
}

impl Default for Counts {
    fn default() -> Self {
        let names = || Tally::new(MAX_NAMES);
        Self {
            calls: 0,
            by_agent: names(),
            by_schema: names(),
            by_outcome: names(),
            by_rule: names(),
            by_correlation_id: Tally::new(MAX_CASES),
            tokens: Usage::default(),
            tokens_by_correlation_id: BTreeMap::new(),
        }
    }
}

impl Counts {
    /// A request that could not be read, or was refused before it was looked at.
    pub(super) fn unread(&mut self, outcome: &str) {
        self.calls += 1;
        self.by_outcome.add(outcome);
    }

    pub(super) fn call(&mut self, call: &Call, rule: Option<&str>, outcome: &str, usage: Usage) {
        self.calls += 1;
        self.by_agent.add(&call.agent);
        self.by_schema.add(call.schema_name().unwrap_or_default());
        self.by_outcome.add(outcome);
        if let Some(rule) = rule {
            self.by_rule.add(rule);
        }
        if !call.correlation_id.is_empty() {
            self.by_correlation_id.add(&call.correlation_id);
            self.spent(&call.correlation_id, usage);
        }
        self.tokens += usage;
    }

    fn spent(&mut self, case: &str, usage: Usage) {
        let known = self.tokens_by_correlation_id.contains_key(case);
        let case = if known || self.tokens_by_correlation_id.len() < MAX_CASES { case } else { OTHER };
        *self.tokens_by_correlation_id.entry(case.to_owned()).or_default() += usage;
    }

    pub(super) fn stats(&self, registry: RegistryStats) -> Stats {
        Stats {
            calls: self.calls,
            by_agent: self.by_agent.counts().clone(),
            by_schema: self.by_schema.counts().clone(),
            by_outcome: self.by_outcome.counts().clone(),
            by_rule: self.by_rule.counts().clone(),
            by_correlation_id: self.by_correlation_id.counts().clone(),
            tokens: self.tokens,
            tokens_by_correlation_id: self.tokens_by_correlation_id.clone(),
            registry,
        }
    }
}
