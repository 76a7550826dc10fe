//! The ledger, and the mock's own count.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Duration;

use anabranch_e2e::{App, binaries};
use anabranch_kafka::Isolation;
use anabranch_llm::Usage;
use anabranch_llm::mock::Stats;
use anabranch_llm::stack::Entry;
use anabranch_testkit::cluster::Reader;
use serde_json::Value;

/// All entries of the ledger, each once.
pub(crate) async fn ledger(app: &App) -> Vec<Entry> {
    let topic = app.topology.ledger_topic();
    let mut reader = Reader::new(&app.client, &[topic], Isolation::ReadUncommitted).await.unwrap();
    let records = reader.settle(Duration::from_millis(700)).await.unwrap();
    let entries = records.iter().map(|r| serde_json::from_slice::<Entry>(r.value.as_deref().unwrap()).unwrap());
    let mut seen = BTreeSet::new();
    entries.filter(|entry| seen.insert(entry.id.clone())).collect()
}

/// Calls and tokens by case.
pub(crate) fn by_case(entries: &[Entry]) -> BTreeMap<String, (u64, Usage)> {
    let mut cases: BTreeMap<String, (u64, Usage)> = BTreeMap::new();
    for entry in entries {
        let (calls, usage) = cases.entry(entry.correlation_id.clone().unwrap_or_default()).or_default();
        *calls += 1;
        *usage += Usage { prompt_tokens: entry.prompt_tokens, completion_tokens: entry.completion_tokens };
    }
    cases
}

/// Tokens of all entries.
pub(crate) fn tokens(entries: &[Entry]) -> Usage {
    let mut sum = Usage::default();
    for (_, usage) in by_case(entries).values() {
        sum += *usage;
    }
    sum
}

/// How many calls the mock took for a case.
pub(crate) fn calls_of(stats: &Stats, case: &str) -> u64 {
    stats.by_correlation_id.get(case).copied().unwrap_or(0)
}

/// What `anabranch cost -o json` says with these arguments.
pub(crate) fn cost(app: &App, arguments: &[&str]) -> Value {
    let mut command = Command::new(binaries(&["asker"]).unwrap().join("anabranch"));
    command.args(["cost", "-o", "json", "--brokers", app.cluster.bootstrap()]);
    let output = command.arg("--topology").arg(&app.topology_file).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Waits until the mock is asked nothing more, and everything it was asked before is settled.
pub(crate) async fn quiet(app: &App) {
    let mut last = (u64::MAX, 0);
    for _ in 0..120 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let calls = app.mock.stats().calls;
        last = if calls == last.0 { (calls, last.1 + 1) } else { (calls, 0) };
        if last.1 == 3 {
            return;
        }
    }
    panic!("the model is asked again and again: {:?}", app.mock.stats());
}
