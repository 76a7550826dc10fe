//! Never lost, never twice: every case has exactly one outcome, however often processes are killed. Counted by a client
//! that is not ours.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use anabranch_e2e::{App, KYC_AGENTS, demo_cases, kyc, workspace};
use anabranch_kafka::{OutRecord, Record};
use anabranch_testkit::cluster::{foreign, python};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// The seed of a run, printed, so that it can be repeated: `ANABRANCH_TEST_SEED=…`.
fn seed() -> u64 {
    let given = std::env::var("ANABRANCH_TEST_SEED").ok().and_then(|text| text.parse().ok());
    given.unwrap_or_else(rand::random)
}

/// The clean case under this key, from an address and a device of its own.
fn request(app: &App, number: usize) -> OutRecord {
    let clean = demo_cases().into_iter().find(|c| c.id == "S1").and_then(|c| c.request);
    let mut request = clean.unwrap();
    // A network of its own each: many from one would be a fraud alert.
    let ip = format!("2001:db8:{:x}:{:x}::1", number / 65_536, number % 65_536);
    request["source"] = serde_json::json!({ "ip": ip, "device_id": format!("device-{number}") });
    foreign(app.requests(), Some(key(number).as_bytes()), Some(request.to_string().as_bytes()))
}

fn key(number: usize) -> String {
    format!("case-{number:05}")
}

/// Sends `cases` cases over about `seconds`, kills `kills` processes at random meanwhile, and counts.
async fn run(cases: usize, kills: u32, seconds: u64) {
    let folder = workspace().join("tests/e2e");
    let Some(python) = python(&workspace(), &folder.join("requirements.txt")) else { return };
    let seed = seed();
    println!("{cases} cases, {kills} kill -9, seed {seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    let mut app = App::start(kyc()).await.unwrap();
    let started = Instant::now();
    let (mut sent, mut killed) = (0, 0);
    let mut by_agent: BTreeMap<&str, u32> = BTreeMap::new();
    while sent < cases || killed < kills {
        let share = (started.elapsed().as_secs_f64() / seconds as f64).min(1.0);
        let due = ((cases as f64 * share) as usize).min(cases);
        if due > sent {
            app.send((sent..due).map(|n| request(&app, n)).collect()).await.unwrap();
            sent = due;
        }
        if killed < (f64::from(kills) * share) as u32 {
            let agent = KYC_AGENTS[dice.random_range(0..KYC_AGENTS.len())];
            app.process(agent).unwrap().kill().await.unwrap();
            app.spawn(agent, agent).unwrap();
            killed += 1;
            *by_agent.entry(agent).or_default() += 1;
        }
        tokio::time::sleep(Duration::from_millis(dice.random_range(20..80))).await;
    }
    println!("killed: {by_agent:?}");
    let (decisions, parked) = (app.outbound("decisions"), app.outbound("cases"));
    let mut reader = app.reader(&[decisions.clone(), parked.clone()]).await.unwrap();
    let distinct = |records: &[Record]| {
        let keys: std::collections::BTreeSet<_> = records.iter().filter_map(|r| r.key.clone()).collect();
        keys.len() == cases
    };
    reader.until("an outcome of every case", Duration::from_secs(300), distinct).await.unwrap();
    reader.settle(Duration::from_secs(3)).await.unwrap();
    println!("all decided {:.1} s after the first was sent", started.elapsed().as_secs_f64());

    let output = Command::new(python)
        .arg(folder.join("count_outcomes.py"))
        .args([app.cluster.bootstrap(), &decisions, &parked])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let counted: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let outcomes = counted["outcomes"].as_object().unwrap();
    let wrong: Vec<_> = outcomes.iter().filter(|(_, count)| **count != 1).take(5).collect();
    assert!(wrong.is_empty(), "seed {seed}: cases with more than one outcome: {wrong:?}");
    let missing: Vec<String> = (0..cases).map(key).filter(|k| !outcomes.contains_key(k)).take(5).collect();
    assert!(missing.is_empty(), "seed {seed}: cases without an outcome: {missing:?}");
    assert_eq!(outcomes.len(), cases, "seed {seed}: outcomes without a case");
    println!("librdkafka, read_committed: {} cases, one outcome each", outcomes.len());
    app.all_ready().await.unwrap();
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_outcome_each_under_kill_9() {
    run(400, 20, 40).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "ten minutes: 10,000 cases, 200 kills"]
async fn one_outcome_each_of_ten_thousand_under_two_hundred_kills() {
    run(10_000, 200, 500).await;
}
