//! Groups: shown to Kafka's own tools, shared between processes, taken over after kill -9.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::{Duration, Instant};

use anabranch_e2e::{App, answers, nap, sleeper, workspace};
use anabranch_kafka::MemberInfo;

const SESSION: Duration = Duration::from_secs(6);
const SETTINGS: &str = "session_timeout: 6s, concurrency: 16";

async fn members(app: &App) -> Vec<MemberInfo> {
    let groups = app.client.admin().describe_groups(&[app.topology.group_of("sleeper")]).await.unwrap();
    groups.into_iter().flat_map(|g| g.members).collect()
}

/// Whoever has a partition of the tasks has that of the same number of every retry topic.
fn together(members: &[MemberInfo]) {
    for member in members {
        let mut numbers: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        member.assignment.iter().for_each(|tp| numbers.entry(&tp.topic).or_default().push(tp.partition));
        numbers.values_mut().for_each(|of_topic| of_topic.sort_unstable());
        let of_tasks = numbers.values().next();
        assert!(numbers.values().all(|of_topic| Some(of_topic) == of_tasks), "{numbers:?}");
    }
}

/// Waits until the group has so many members, and every partition of the tasks topic has exactly one owner.
async fn settled(app: &App, wanted: usize, limit: Duration) -> Vec<MemberInfo> {
    let deadline = Instant::now() + limit;
    loop {
        let members = members(app).await;
        let owned: Vec<_> = members.iter().flat_map(|m| &m.assignment).collect();
        let distinct: BTreeSet<_> = owned.iter().collect();
        assert_eq!(owned.len(), distinct.len(), "a partition with two owners: {members:?}");
        if members.len() == wanted && owned.len() == 6 * (1 + app.topology.retry_topics("sleeper").len()) {
            together(&members);
            return members;
        }
        assert!(Instant::now() < deadline, "not settled within {limit:?}: {members:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_share_partitions_and_one_takes_over_after_kill_9() {
    let mut app = App::start(sleeper(6, SETTINGS)).await.unwrap();
    app.spawn("sleeper-2", "sleeper").unwrap();
    app.all_ready().await.unwrap();
    let shared = settled(&app, 2, Duration::from_secs(30)).await;
    assert!(shared.iter().all(|m| m.assignment.len() == 9), "three each, of each topic: {shared:?}");

    let tasks = app.topology.tasks_topic("sleeper");
    let batch = |from: u64| (from..from + 200).map(|n| nap(&tasks, &format!("key-{n}"), n, 200).unwrap()).collect();
    app.send(batch(0)).await.unwrap();
    let mut reader = app.reader(&[app.topology.results_topic()]).await.unwrap();
    reader.until("work under way", Duration::from_secs(20), |r| answers(r).len() > 20).await.unwrap();
    app.process("sleeper-2").unwrap().kill().await.unwrap();
    let killed = Instant::now();
    app.send(batch(200)).await.unwrap();
    settled(&app, 1, SESSION + Duration::from_secs(2)).await;
    println!("takeover {:.2} s after kill -9, session timeout {} s", killed.elapsed().as_secs_f64(), SESSION.as_secs());

    let every = |records: &[_]| answers(records).iter().map(|(n, _, _)| *n).collect::<BTreeSet<_>>().len() == 400;
    reader.until("an answer to every task", Duration::from_secs(60), every).await.unwrap();
    let pids: BTreeSet<u64> = answers(reader.records()).iter().map(|(_, pid, _)| *pid).collect();
    assert_eq!(pids.len(), 2, "both processes worked");
    app.processes.remove("sleeper-2");
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graceful_stop_hands_over_at_once_and_repeats_nothing() {
    let mut app = App::start(sleeper(6, SETTINGS)).await.unwrap();
    app.spawn("sleeper-2", "sleeper").unwrap();
    app.all_ready().await.unwrap();
    settled(&app, 2, Duration::from_secs(30)).await;
    let tasks = app.topology.tasks_topic("sleeper");
    app.send((0..100).map(|n| nap(&tasks, &format!("key-{n}"), n, 100).unwrap()).collect()).await.unwrap();
    let mut reader = app.reader(&[app.topology.results_topic()]).await.unwrap();
    reader.until("work under way", Duration::from_secs(20), |r| answers(r).len() > 10).await.unwrap();
    let status = app.process("sleeper-2").unwrap().stop(Duration::from_secs(30)).await.unwrap();
    assert!(status.success(), "{status}");
    app.processes.remove("sleeper-2");
    settled(&app, 1, Duration::from_secs(4)).await;
    let every = |records: &[_]| answers(records).iter().map(|(n, _, _)| *n).collect::<BTreeSet<_>>().len() == 100;
    reader.until("an answer to every task", Duration::from_secs(60), every).await.unwrap();
    reader.settle(Duration::from_secs(1)).await.unwrap();
    assert_eq!(answers(reader.records()).len(), 100, "drained work is not repeated");
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn kafkas_own_tool_shows_members_and_lag() {
    let has = |program: &str| Command::new(program).arg("-version").output().is_ok_and(|o| o.status.success());
    if !has("java") {
        println!("skipped: no java on the PATH");
        return;
    }
    let app = App::start(sleeper(6, SETTINGS)).await.unwrap();
    let group = app.topology.group_of("sleeper");
    let tasks = app.topology.tasks_topic("sleeper");
    // One partition gets a long task and five behind it: a lag that a person would look for.
    app.send((0..6).map(|n| nap(&tasks, "one-key", n, 8_000).unwrap()).collect()).await.unwrap();
    let mut shown = String::new();
    for _ in 0..10 {
        let tool = workspace().join("tests/kafka/tool.sh");
        let bootstrap = app.cluster.bootstrap().to_owned();
        let named = group.clone();
        let output = tokio::task::spawn_blocking(move || {
            let arguments = ["ConsumerGroupCommand", "--bootstrap-server", &bootstrap, "--describe", "--group", &named];
            Command::new(tool).args(arguments).output()
        });
        let output = output.await.unwrap().unwrap();
        shown = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if lags(&shown, &group, &tasks).len() == 6 {
            break;
        }
    }
    let lags = lags(&shown, &group, &tasks);
    assert_eq!(lags.len(), 6, "a line for each partition, with a member:\n{shown}");
    assert_eq!(lags.iter().sum::<i64>(), 6, "{shown}");
    println!("{shown}");
    app.stop().await.unwrap();
}

/// GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG CONSUMER-ID HOST CLIENT-ID, of lines that name a member.
fn lags(shown: &str, group: &str, topic: &str) -> Vec<i64> {
    let line = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let ours = columns.len() >= 9 && columns[0] == group && columns[1] == topic && columns[6] != "-";
        ours.then(|| columns[5].parse().ok())?
    };
    shown.lines().filter_map(line).collect()
}
