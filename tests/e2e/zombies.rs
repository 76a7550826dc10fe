//! The composer at its weakest moments: killed at each step of a transaction, an answer lost, stopped in the middle and
//! woken after another has taken over. On the embedded broker, whose faults hold it at the step.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::time::Duration;

use anabranch_broker::{Action, ApiKey, BrokerConfig, Fault, TransactionVersion};
use anabranch_e2e::{App, demo_cases, kyc};
use anabranch_kafka::{OutRecord, Record};
use anabranch_testkit::cluster::{TestCluster, foreign};
use nix::sys::signal::Signal;

const WITHIN: Duration = Duration::from_secs(60);
/// Cases in flight at each step.
const CASES: usize = 4;

async fn start(version: TransactionVersion) -> App {
    let cluster =
        TestCluster::embedded(BrokerConfig { transaction_version: version, ..BrokerConfig::default() }).await.unwrap();
    let spec = kyc();
    let agents = spec.agents.clone();
    let mut app = App::prepare_on(cluster, spec).await.unwrap();
    app.create_topics(&agents).await.unwrap();
    for agent in agents {
        app.spawn(agent, agent).unwrap();
    }
    app.all_ready().await.unwrap();
    app
}

fn requests(app: &App, round: usize) -> Vec<OutRecord> {
    let clean = demo_cases().into_iter().find(|c| c.id == "S1").and_then(|c| c.request).unwrap();
    let request = |number: usize| {
        let mut request = clean.clone();
        request["source"] = serde_json::json!({
            "ip": format!("2001:db8:{round}:{number}::1"), "device_id": format!("device-{round}-{number}"),
        });
        foreign(app.requests(), Some(format!("{round}-{number}").as_bytes()), Some(request.to_string().as_bytes()))
    };
    (0..CASES).map(request).collect()
}

/// Waits for the decisions of all rounds up to this one, and that each case has one.
async fn one_decision_each(app: &App, rounds: usize, what: &str) {
    let mut reader = app.reader(&[app.outbound("decisions"), app.outbound("cases")]).await.unwrap();
    let counts = |records: &[Record]| {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for record in records {
            *counts.entry(String::from_utf8_lossy(record.key.as_deref().unwrap()).into_owned()).or_default() += 1;
        }
        counts
    };
    let all = |records: &[Record]| counts(records).len() >= rounds * CASES;
    if let Err(error) = reader.until(what, WITHIN, all).await {
        panic!("{error}\n{}", app.processes["composer"].log());
    }
    reader.settle(Duration::from_secs(1)).await.unwrap();
    let counts = counts(reader.records());
    assert!(counts.values().all(|count| *count == 1), "{what}: {counts:?}");
    assert_eq!(counts.len(), rounds * CASES, "{what}");
}

async fn killed_at_each_step(version: TransactionVersion, steps: &[ApiKey]) {
    let mut app = start(version).await;
    let decisions = app.outbound("decisions");
    for (round, step) in steps.iter().enumerate() {
        let fault = Fault::new(*step, Action::Delay(Duration::from_secs(5))).times(1);
        // The composer is one of several producers, but the only one that writes decisions.
        let fault = if *step == ApiKey::Produce { fault.topic(&decisions) } else { fault };
        let held = app.cluster.broker().unwrap().faults().inject(fault);
        app.send(requests(&app, round)).await.unwrap();
        let deadline = tokio::time::Instant::now() + WITHIN;
        while held.hits() == 0 {
            assert!(tokio::time::Instant::now() < deadline, "{step:?} was never sent");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        app.process("composer").unwrap().kill().await.unwrap();
        held.remove();
        app.spawn("composer", "composer").unwrap();
        one_decision_each(&app, round + 1, &format!("killed while {step:?} was under way")).await;
    }
    // An answer that is lost after it was applied: the outcome is asked for, not guessed.
    let round = steps.len();
    let lost = Fault::new(ApiKey::EndTxn, Action::LoseAnswer).times(2);
    let lost = app.cluster.broker().unwrap().faults().inject(lost);
    app.send(requests(&app, round)).await.unwrap();
    one_decision_each(&app, round + 1, "two answers to EndTxn lost").await;
    assert_eq!(lost.hits(), 2);
    app.all_ready().await.unwrap();
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_each_step_of_a_transaction_version_1() {
    use ApiKey::{AddOffsetsToTxn, AddPartitionsToTxn, EndTxn, Produce, TxnOffsetCommit};
    killed_at_each_step(
        TransactionVersion::One,
        &[AddPartitionsToTxn, Produce, AddOffsetsToTxn, TxnOffsetCommit, EndTxn],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_each_step_of_a_transaction_version_2() {
    killed_at_each_step(TransactionVersion::Two, &[ApiKey::Produce, ApiKey::TxnOffsetCommit, ApiKey::EndTxn]).await;
}

/// A composer that stops between produce and commit, loses its partitions, and is woken: nothing it still wants to write
/// becomes visible, and it steps down.
#[tokio::test(flavor = "multi_thread")]
async fn a_composer_that_slept_through_a_takeover_changes_nothing() {
    let mut app = start(TransactionVersion::One).await;
    let held = Fault::new(ApiKey::TxnOffsetCommit, Action::Delay(Duration::from_secs(2))).times(1);
    let held = app.cluster.broker().unwrap().faults().inject(held);
    app.send(requests(&app, 0)).await.unwrap();
    let deadline = tokio::time::Instant::now() + WITHIN;
    while held.hits() == 0 {
        assert!(tokio::time::Instant::now() < deadline, "nothing was committed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    app.process("composer").unwrap().signal(Signal::SIGSTOP).unwrap();
    held.remove();
    app.spawn("composer-2", "composer").unwrap();
    one_decision_each(&app, 1, "taken over").await;
    app.process("composer").unwrap().signal(Signal::SIGCONT).unwrap();
    app.send(requests(&app, 1)).await.unwrap();
    one_decision_each(&app, 2, "after the first one woke").await;
    app.all_ready().await.unwrap();
    let log = app.processes["composer"].log();
    assert!(log.contains("stepping down") || log.contains("lost"), "{log}");
    app.stop().await.unwrap();
}
