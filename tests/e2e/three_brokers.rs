//! Three Apache Kafka brokers, three replicas, two of them in sync: rolling restarts, clean ones and kill -9 in turn, and
//! leaders that move, every five seconds. Nothing is lost, and every case has one outcome.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use std::time::{Duration, Instant};

use anabranch_e2e::{App, Kafka, Load, Watch, counter, ends_well, kyc, outcome_topics, workspace};
use anabranch_testkit::cluster::TestCluster;

const WITHIN: Duration = Duration::from_secs(240);
const EVERY: Duration = Duration::from_secs(5);
/// Restarts at least, however slow the machine is.
const LEAST: u32 = 2;

/// One node after the other: clean and kill -9 in turn.
async fn roll(kafka: &Kafka, until: Instant) -> u32 {
    let mut rounds = 0;
    while Instant::now() < until || rounds < LEAST {
        let node = rounds % kafka.nodes() + 1;
        if rounds % 2 == 0 {
            kafka.stop(node).await.unwrap();
        } else {
            kafka.kill(node).unwrap();
        }
        let took = kafka.restart(node).await.unwrap();
        let how = if rounds % 2 == 0 { "stopped" } else { "killed" };
        println!("node {node} {how}; serves again {:.1} s after its start", took.as_secs_f64());
        rounds += 1;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    rounds
}

/// Moves the leaders of all partitions, at the pace of [`EVERY`]. How many moved at each turn.
async fn lead(kafka: &Kafka, time: Duration) -> Vec<usize> {
    let program = workspace().join("tests/kafka/MoveLeaders.java").display().to_string();
    let millis = [EVERY, time].map(|span| span.as_millis().to_string());
    let said = kafka.tool(&program, &[&millis[0], &millis[1]]).await.unwrap();
    println!("{said}");
    let counts = said.lines().filter_map(|line| line.strip_prefix("moved ")?.split(':').next()?.parse().ok());
    counts.collect()
}

async fn storm(cases: usize, time: Duration) {
    let Some(python) = counter() else { return };
    let Some(kafka) = Kafka::start(3).await.unwrap() else { return };
    let app = App::start_on(TestCluster::at(kafka.bootstrap().to_owned()), kyc()).await.unwrap();
    let watch = Watch::start(&app.client, &outcome_topics(&app)).await.unwrap();
    let mut load = Load::new(cases, time);
    let until = Instant::now() + time;
    let mut longest = Duration::ZERO;
    let sending = async {
        while load.keep_up(&app).await.unwrap() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    // The longest time without an outcome.
    let watching = async {
        let mut last = Instant::now();
        while Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if let Some(at) = watch.first_after(last) {
                longest = longest.max(at - last);
                last = at;
            }
        }
    };
    let ((), rounds, turns, ()) = tokio::join!(sending, roll(&kafka, until), lead(&kafka, time), watching);
    let (moves, moved) = (turns.iter().filter(|moved| **moved > 0).count(), turns.iter().sum::<usize>());
    println!("{rounds} restarts; at {moves} of {} turns leaders moved, {moved} in all", turns.len());
    // At a turn whose controller is away nothing moves; that must be the exception.
    assert!(moves * 4 >= turns.len() * 3, "leaders moved at {moves} of {} turns", turns.len());
    println!("at most {:.1} s without an outcome", longest.as_secs_f64());
    ends_well(app, &watch, &load, WITHIN, &python).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn three_brokers_in_turmoil_lose_nothing() {
    storm(200, Duration::from_secs(30)).await;
}

/// The long lane: the figures of the promise.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "three minutes"]
async fn three_brokers_in_turmoil_for_two_minutes_lose_nothing() {
    storm(800, Duration::from_secs(120)).await;
}
