//! The application that is about models alone: one agent that asks one.

use std::time::Duration;

use anabranch_kafka::OutRecord;
use anabranch_llm::mock::MockConfig;
use serde_json::{Value, json};

use crate::app::Spec;
use crate::tasks::Given;

/// One asker, with these lines at the top level of the topology.
pub fn asker(partitions: u32, lines: &str, mock: MockConfig) -> Spec {
    let topology = format!(
        "name: ask\npartitions: {partitions}\ninbound:\n  requests: ask.requests\noutbound:\n  done: ask.done\n\
         join:\n  deadline: 30m\n{lines}\n"
    );
    Spec { topology, agents: vec!["asker"], mock, env: Vec::new() }
}

/// A task for the asker: ask so often.
///
/// # Errors
/// If it has no JSON form.
pub fn question(topic: &str, case: &str, number: u64, times: u32) -> serde_json::Result<OutRecord> {
    asking(topic, case, number, json!({ "text": "question", "number": number, "times": times }))
}

/// As [`question`], with a request of the test's own.
///
/// # Errors
/// If it has no JSON form.
pub fn asking(topic: &str, case: &str, number: u64, request: Value) -> serde_json::Result<OutRecord> {
    Given { agent: "asker", topic, case, number, request, within: Duration::from_secs(1800) }.record()
}
