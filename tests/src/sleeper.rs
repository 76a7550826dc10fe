//! The application that is about the runtime alone: one agent that sleeps.

use std::time::Duration;

use anabranch_kafka::{OutRecord, Record};
use anabranch_llm::mock::MockConfig;
use anabranch_protocol::Partial;
use serde_json::json;

use crate::app::Spec;
use crate::tasks::Given;

/// One sleeper, with these lines for its entry in the topology.
pub fn sleeper(partitions: u32, settings: &str) -> Spec {
    let topology = format!(
        "name: nap\npartitions: {partitions}\ninbound:\n  requests: nap.requests\noutbound:\n  done: nap.done\n\
         join:\n  deadline: 30m\nagents:\n  sleeper: {{ {settings} }}\n"
    );
    Spec { topology, agents: vec!["sleeper"], mock: MockConfig::default(), env: Vec::new() }
}

/// A task for the sleeper, as a supervisor would write it.
///
/// # Errors
/// If it has no JSON form.
pub fn nap(topic: &str, key: &str, number: u64, sleep_ms: u64) -> serde_json::Result<OutRecord> {
    let request = json!({ "sleep_ms": sleep_ms, "number": number });
    let within = Duration::from_secs(1800);
    Given { agent: "sleeper", topic, case: key, number, request, within }.record()
}

/// The sleeper's answers among these records: number, process and partial, in log order.
pub fn answers(records: &[Record]) -> Vec<(u64, u64, Partial)> {
    let read = |record: &Record| {
        let partial: Partial = serde_json::from_slice(record.value.as_deref()?).ok()?;
        let anabranch_protocol::PartialStatus::Completed(completion) = &partial.status else { return None };
        let number = completion.output.get("number")?.as_u64()?;
        let pid = completion.output.get("pid")?.as_u64()?;
        Some((number, pid, partial))
    };
    records.iter().filter_map(read).collect()
}
