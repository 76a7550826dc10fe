//! Polling never waits for a handler: one that takes many session timeouts causes no rebalance.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use std::time::Duration;

use anabranch_e2e::{App, answers, nap, sleeper};

async fn runs_without_a_rebalance(handler: Duration) {
    let app = App::start(sleeper(2, "session_timeout: 6s, handler_timeout: 20m, concurrency: 4")).await.unwrap();
    let group = app.topology.group_of("sleeper");
    let before = app.client.admin().describe_groups(std::slice::from_ref(&group)).await.unwrap();
    let tasks = app.topology.tasks_topic("sleeper");
    let long = u64::try_from(handler.as_millis()).unwrap();
    app.send(vec![nap(&tasks, "long", 1, long).unwrap()]).await.unwrap();
    let mut reader = app.reader(&[app.topology.results_topic()]).await.unwrap();

    // Others of the same process, and of the same partition, go on meanwhile.
    for number in 2..12 {
        app.send(vec![nap(&tasks, &format!("short-{number}"), number, 5).unwrap()]).await.unwrap();
        let done = |records: &[_]| answers(records).iter().any(|(n, _, _)| *n == number);
        reader.until("a short task beside the long one", Duration::from_secs(10), done).await.unwrap();
    }
    assert!(answers(reader.records()).iter().all(|(n, _, _)| *n != 1), "the long one is still at work");
    let done = |records: &[_]| answers(records).iter().any(|(n, _, _)| *n == 1);
    reader.until("the long task", handler + Duration::from_secs(30), done).await.unwrap();
    reader.settle(Duration::from_secs(1)).await.unwrap();

    let after = app.client.admin().describe_groups(&[group]).await.unwrap();
    assert_eq!(before[0].members, after[0].members, "the same member with the same partitions");
    let numbers: Vec<u64> = answers(reader.records()).iter().map(|(n, _, _)| *n).collect();
    assert_eq!(numbers.iter().filter(|n| **n == 1).count(), 1, "done once");
    let log = app.processes["sleeper"].log();
    assert!(!log.contains("revoked") && !log.contains("lost"), "{log}");
    println!("a handler of {} s under a session timeout of 6 s: no rebalance", handler.as_secs());
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_of_three_session_timeouts_causes_no_rebalance() {
    runs_without_a_rebalance(Duration::from_secs(20)).await;
}

/// The long lane: for real.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "ten minutes"]
async fn a_handler_of_ten_minutes_causes_no_rebalance() {
    runs_without_a_rebalance(Duration::from_secs(600)).await;
}
