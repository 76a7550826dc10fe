//! Never lost, never twice: every case has exactly one outcome, however often processes are killed. Counted by a client
//! that is not ours.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::time::Duration;

use anabranch_e2e::{App, KYC_AGENTS, Load, Watch, counter, kyc, one_outcome_each, outcome_topics, seed};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// Sends `cases` cases over about `seconds`, kills `kills` processes at random meanwhile, and counts.
async fn run(cases: usize, kills: u32, seconds: u64) {
    let Some(python) = counter() else { return };
    let seed = seed();
    println!("{cases} cases, {kills} kill -9, seed {seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    let mut app = App::start(kyc()).await.unwrap();
    let watch = Watch::start(&app.client, &outcome_topics(&app)).await.unwrap();
    let mut load = Load::new(cases, Duration::from_secs(seconds));
    let mut killed = 0;
    let mut by_agent: BTreeMap<&str, u32> = BTreeMap::new();
    while load.keep_up(&app).await.unwrap() || killed < kills {
        if killed < (f64::from(kills) * load.share()) as u32 {
            let agent = KYC_AGENTS[dice.random_range(0..KYC_AGENTS.len())];
            app.process(agent).unwrap().kill().await.unwrap();
            app.spawn(agent, agent).unwrap();
            killed += 1;
            *by_agent.entry(agent).or_default() += 1;
        }
        tokio::time::sleep(Duration::from_millis(dice.random_range(20..80))).await;
    }
    println!("killed: {by_agent:?}");
    let decided = |w: &Watch| (w.distinct() == cases).then_some(());
    watch.until("an outcome of every case", Duration::from_secs(300), decided).await.unwrap();
    println!("all decided {:.1} s after the first was sent", load.started().elapsed().as_secs_f64());
    tokio::time::sleep(Duration::from_secs(3)).await;
    let counted = one_outcome_each(&python, app.cluster.bootstrap(), &outcome_topics(&app), cases);
    counted.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
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
