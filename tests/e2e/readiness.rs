//! Readiness is truthful, and a shutdown does not hang, with the broker away.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use std::time::{Duration, Instant};

use anabranch_broker::BrokerConfig;
use anabranch_e2e::{App, sleeper};
use anabranch_testkit::cluster::TestCluster;

#[tokio::test(flavor = "multi_thread")]
async fn ready_turns_false_with_the_broker_away_and_a_drain_still_ends() {
    let cluster = TestCluster::embedded(BrokerConfig::default()).await.unwrap();
    let mut app = App::prepare_on(cluster, sleeper(2, "session_timeout: 6s, drain_timeout: 5s")).await.unwrap();
    app.create_topics(&["sleeper"]).await.unwrap();
    app.spawn("sleeper", "sleeper").unwrap();
    app.all_ready().await.unwrap();
    let metrics = app.processes["sleeper"].metrics().await.unwrap();
    assert!(metrics.contains("anabranch_broker_connected{agent=\"sleeper\"} 1"), "{metrics}");

    // The broker goes away, and nobody listens on its port any more.
    let App { cluster, mut processes, .. } = app;
    cluster.stop().await;
    let gone = Instant::now();
    let process = processes.get_mut("sleeper").unwrap();
    while process.is_ready().await {
        assert!(gone.elapsed() < Duration::from_secs(10), "still ready 10 s after the broker went away");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("not ready {:.1} s after the broker went away", gone.elapsed().as_secs_f64());
    let metrics = process.metrics().await.unwrap();
    assert!(metrics.contains("anabranch_broker_connected{agent=\"sleeper\"} 0"), "{metrics}");

    let status = process.stop(Duration::from_secs(30)).await.unwrap();
    assert!(status.success(), "{status}: {}", process.log());
}
