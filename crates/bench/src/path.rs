//! The model's own critical path: how long a case would take if nothing but the model took time.
//!
//! From the mock's own records. Agents work side by side, and each asks one question after the other: a case's path is the
//! largest sum of one agent's calls. A call that was refused counts with the time that its `Retry-After` asks for. What is
//! asked after the outcome is no part of it.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use anabranch_llm::mock::CallRecord;

use crate::requests;
use crate::stats::Latencies;

/// Whose calls come after the outcome.
const AFTER_OUTCOME: &str = "customer";

/// What the model was asked, and how long that takes by itself.
pub(crate) struct Paths {
    /// Calls of measured cases.
    pub(crate) calls: u64,
    /// Of those, refused ones.
    pub(crate) refused: u64,
    /// One for each measured case that asked.
    pub(crate) latencies: Latencies,
}

/// The paths of the measured cases.
pub(crate) fn paths<'a>(calls: impl IntoIterator<Item = &'a CallRecord>) -> Paths {
    let mut by_case: HashMap<u64, BTreeMap<&str, Duration>> = HashMap::new();
    let (mut count, mut refused) = (0, 0);
    for call in calls {
        let Some(case) = requests::number_of(call.correlation_id.as_bytes()) else { continue };
        count += 1;
        refused += u64::from(call.retry_after_ms.is_some());
        if call.agent != AFTER_OUTCOME {
            let took = Duration::from_millis(call.retry_after_ms.unwrap_or(call.latency_ms));
            *by_case.entry(case).or_default().entry(&call.agent).or_default() += took;
        }
    }
    let longest = by_case.values().filter_map(|agents| agents.values().max().copied());
    Paths { calls: count, refused, latencies: Latencies::of(longest) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(case: &str, agent: &str, latency_ms: u64, retry_after_ms: Option<u64>) -> CallRecord {
        CallRecord { correlation_id: case.to_owned(), agent: agent.to_owned(), latency_ms, retry_after_ms }
    }

    #[test]
    fn a_case_takes_as_long_as_its_slowest_agent() {
        let calls = [
            call("case-00000000", "identity", 1_000, None),
            call("case-00000000", "document", 400, None),
            call("case-00000000", "document", 9_999, Some(1_000)),
            call("case-00000000", "document", 300, None),
            call("case-00000000", "customer", 60_000, None),
            call("case-00000001", "identity", 100, None),
            call("warm-00000001", "identity", 70_000, None),
        ];
        let Paths { calls, refused, latencies } = paths(&calls);
        assert_eq!((calls, refused), (6, 1));
        let all = latencies.percentiles().unwrap();
        assert_eq!(all.count, 2);
        assert!((all.max - 1_700.0).abs() < 2.0 && (all.p50 - 100.0).abs() < 1.0, "{all:?}");
    }

    #[test]
    fn without_calls_there_is_no_path() {
        assert_eq!(paths(&[]).latencies.percentiles(), None);
    }
}
