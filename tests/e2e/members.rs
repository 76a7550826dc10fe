//! Static members (KIP-345): a process that comes back within its session time causes no rebalance.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::time::Duration;

use anabranch_e2e::{App, answers, nap, sleeper};
use anabranch_kafka::{MemberInfo, TopicPartition};

/// Long enough to start a process on a busy machine.
const SETTINGS: &str = "session_timeout: 20s, concurrency: 4";

fn id(name: &str) -> (String, String) {
    ("ANABRANCH_INSTANCE_ID".to_owned(), name.to_owned())
}

fn spawn(app: &mut App, name: &str, env: &[(String, String)]) {
    let bootstrap = app.cluster.bootstrap().to_owned();
    app.spawn_at(name, "sleeper", &bootstrap, env).unwrap();
}

async fn members(app: &App) -> Vec<MemberInfo> {
    let groups = app.client.admin().describe_groups(&[app.topology.group_of("sleeper")]).await.unwrap();
    let mut members: Vec<MemberInfo> = groups.into_iter().flat_map(|g| g.members).collect();
    // The retry topics' partitions go with those of the tasks: see the tests of groups.
    members.iter_mut().for_each(|m| m.assignment.retain(|tp| !tp.topic.contains(".retry.")));
    members
}

/// What each instance has, once the group has `wanted` members and all six partitions have an owner.
async fn settled(app: &App, wanted: usize, limit: Duration) -> Vec<(Option<String>, Vec<TopicPartition>)> {
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        let members = members(app).await;
        if members.len() == wanted && members.iter().map(|m| m.assignment.len()).sum::<usize>() == 6 {
            let mut owned: Vec<_> = members.into_iter().map(|m| (m.instance_id, m.assignment)).collect();
            owned.sort();
            return owned;
        }
        assert!(tokio::time::Instant::now() < deadline, "not settled within {limit:?}: {members:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Lines of the log that tell of partitions that came or went.
fn moves(app: &App, name: &str) -> usize {
    let log = app.processes[name].log();
    log.lines().filter(|l| l.contains("assigned") || l.contains("revoked") || l.contains("lost")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_member_restarts_without_a_rebalance() {
    let mut app = App::prepare(sleeper(6, SETTINGS)).await.unwrap();
    app.create_topics(&["sleeper"]).await.unwrap();
    spawn(&mut app, "one", &[id("sleeper-1")]);
    spawn(&mut app, "two", &[id("sleeper-2")]);
    app.all_ready().await.unwrap();
    let before = settled(&app, 2, Duration::from_secs(30)).await;
    let moves_before = moves(&app, "one");

    app.process("two").unwrap().kill().await.unwrap();
    spawn(&mut app, "killed", &[id("sleeper-2")]);
    app.all_but("two").await;
    assert_eq!(settled(&app, 2, Duration::from_secs(5)).await, before, "after kill -9");

    let status = app.process("killed").unwrap().stop(Duration::from_secs(20)).await.unwrap();
    assert!(status.success());
    assert_eq!(members(&app).await.len(), 2, "stopped gracefully, its place is kept");
    spawn(&mut app, "stopped", &[id("sleeper-2"), ("ANABRANCH_LEAVE".to_owned(), "true".to_owned())]);
    app.all_but("killed").await;
    assert_eq!(settled(&app, 2, Duration::from_secs(5)).await, before, "after SIGTERM");
    assert_eq!(moves(&app, "one"), moves_before, "the other one heard of nothing: {}", app.processes["one"].log());

    let tasks = app.topology.tasks_topic("sleeper");
    app.send((0..60).map(|n| nap(&tasks, &format!("key-{n}"), n, 1).unwrap()).collect()).await.unwrap();
    let mut reader = app.reader(&[app.topology.results_topic()]).await.unwrap();
    reader.until("every answer", Duration::from_secs(20), |r| answers(r).len() >= 60).await.unwrap();

    // Told to leave, it does, and nobody waits for its session.
    app.process("stopped").unwrap().stop(Duration::from_secs(20)).await.unwrap();
    app.processes.remove("stopped");
    settled(&app, 1, Duration::from_secs(10)).await;
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_older_of_two_with_one_id_steps_down_and_says_why() {
    let mut app = App::prepare(sleeper(6, SETTINGS)).await.unwrap();
    app.create_topics(&["sleeper"]).await.unwrap();
    spawn(&mut app, "old", &[id("sleeper-1")]);
    app.all_ready().await.unwrap();
    spawn(&mut app, "new", &[id("sleeper-1")]);
    let status = app.process("old").unwrap().ended(Duration::from_secs(20)).await.unwrap();
    assert_eq!(status.code(), Some(1));
    let log = app.processes["old"].log();
    assert!(log.contains("another process has joined the group under this instance id"), "{log}");
    app.all_but("old").await;
    settled(&app, 1, Duration::from_secs(10)).await;
    app.stop().await.unwrap();
}

/// Forgetting processes that have ended.
trait AllBut {
    async fn all_but(&mut self, ended: &str);
}

impl AllBut for App {
    async fn all_but(&mut self, ended: &str) {
        self.processes.remove(ended);
        self.all_ready().await.unwrap();
    }
}
