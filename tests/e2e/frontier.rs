//! What is done above the frontier goes into the commit: a crash repeats at most what was in flight and what was done
//! since the last commit, and what somebody else wrote there is never believed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::time::Duration;

use anabranch_broker::{Action, ApiKey, BrokerConfig, Fault, ResponseError};
use anabranch_e2e::{App, answers, nap, sleeper};
use anabranch_kafka::{CommittedOffset, Event, GroupConfig, GroupConsumer, OffsetToCommit, OutRecord, Record};
use anabranch_testkit::cluster::TestCluster;

const IN_FLIGHT: usize = 16;
const SETTINGS: &str = "session_timeout: 6s, concurrency: 16, handler_timeout: 5m";
const OTHERS: u64 = 10_000;
/// A commit is made every 200 ms, and may take as long again on a busy machine to be acknowledged.
const COMMITTED_WITHIN_MS: i64 = 500;

/// Held by the tests with tens of thousands of records: side by side on a small machine they would outlast the slow record
/// that they are about.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// What the sleeper's group has committed for the only partition of its tasks.
async fn committed(app: &App) -> Option<CommittedOffset> {
    let offsets = app.client.admin().committed_offsets(&app.topology.group_of("sleeper")).await.unwrap();
    let tasks = app.topology.tasks_topic("sleeper");
    offsets.into_iter().find(|(tp, _)| *tp.topic == *tasks && tp.partition == 0).map(|(_, committed)| committed)
}

fn distinct(records: &[Record]) -> usize {
    answers(records).iter().map(|(number, _, _)| *number).collect::<BTreeSet<_>>().len()
}

fn naps(app: &App, numbers: std::ops::RangeInclusive<u64>, sleep_ms: u64) -> Vec<OutRecord> {
    let tasks = app.topology.tasks_topic("sleeper");
    numbers.map(|n| nap(&tasks, &format!("key-{n}"), n, sleep_ms).unwrap()).collect()
}

/// Kills the process once so many of the others are done, after `wait`.
async fn kill_with_one_slow_record(slow: Duration, done_before: usize, wait: Duration) {
    let _alone = ALONE.lock().await;
    let mut app = App::start(sleeper(1, SETTINGS)).await.unwrap();
    app.send(naps(&app, 0..=0, u64::try_from(slow.as_millis()).unwrap())).await.unwrap();
    app.send(naps(&app, 1..=OTHERS, 5)).await.unwrap();
    let mut reader = app.reader(&[app.topology.results_topic()]).await.unwrap();
    reader.until("work under way", Duration::from_secs(120), |r| r.len() >= done_before).await.unwrap();
    reader.settle(wait).await.unwrap();
    let killed_at = anabranch_testkit::harness::wall_clock().as_millis();
    app.process("sleeper").unwrap().kill().await.unwrap();
    let metadata = committed(&app).await.unwrap();
    assert_eq!(metadata.offset, 0, "the slow one is the first");
    assert!(metadata.metadata.starts_with("anabranch-done:1:"), "{metadata:?}");
    assert!(metadata.metadata.len() < 4096);

    app.spawn("sleeper-again", "sleeper").unwrap();
    let all = usize::try_from(OTHERS).unwrap() + 1;
    let limit = slow + Duration::from_secs(120);
    reader.until("an answer to each", limit, |r| distinct(r) == all).await.unwrap();
    reader.settle(Duration::from_secs(1)).await.unwrap();
    let answered = answers(reader.records());
    let first_pid = answered.first().unwrap().1;
    let since = |(_, pid, partial): &&(u64, u64, anabranch_protocol::Partial)| {
        *pid == first_pid && partial.work.finished_at.as_millis() > killed_at - COMMITTED_WITHIN_MS
    };
    let (repeated, last) = (answered.len() - all, answered.iter().filter(since).count());
    println!(
        "{repeated} of {all} repeated after kill -9; {last} done in the last {COMMITTED_WITHIN_MS} ms, {IN_FLIGHT} at once; \
         metadata {} bytes",
        metadata.metadata.len()
    );
    assert!(repeated <= last + IN_FLIGHT, "{repeated} repeated, {last} since the last commit");
    app.processes.remove("sleeper");
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_behind_a_slow_record_repeats_only_what_was_not_committed() {
    kill_with_one_slow_record(Duration::from_secs(20), 5_000, Duration::ZERO).await;
}

/// The long lane: the figures of the promise.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "two minutes"]
async fn a_crash_behind_a_record_of_a_minute() {
    kill_with_one_slow_record(Duration::from_secs(60), 1, Duration::from_secs(29)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_of_others_is_a_warning_and_a_replay() {
    let mut app = App::prepare(sleeper(3, SETTINGS)).await.unwrap();
    app.create_topics(&["sleeper"]).await.unwrap();
    let tasks = app.topology.tasks_topic("sleeper");
    let placed = |n: u64| {
        let record = nap(&tasks, &format!("key-{n}"), n, 1).unwrap();
        OutRecord { partition: i32::try_from(n % 3).ok(), ..record }
    };
    app.send((0..30).map(placed).collect()).await.unwrap();

    let texts = ["written by hand", "anabranch-done:1:AAAAAAAA", "anabranch-done:9:AAAAAAAA"];
    let mut by_hand =
        GroupConsumer::start(&app.client, GroupConfig::new(app.topology.group_of("sleeper"), vec![tasks]));
    let partitions = loop {
        match by_hand.next().await {
            Event::Assigned { partitions, .. } => break partitions,
            Event::Fatal(error) => panic!("{error}"),
            _ => {}
        }
    };
    let offsets = partitions.into_iter().map(|p| {
        let metadata = texts[usize::try_from(p.tp.partition).unwrap()].to_owned();
        (p.tp, OffsetToCommit { offset: 4, metadata })
    });
    by_hand.committer().commit(offsets.collect()).await.unwrap();
    by_hand.leave().await.unwrap();

    app.spawn("sleeper", "sleeper").unwrap();
    app.all_ready().await.unwrap();
    let mut reader = app.reader(&[app.topology.results_topic()]).await.unwrap();
    reader.until("the rest", Duration::from_secs(30), |r| distinct(r) == 18).await.unwrap();
    reader.settle(Duration::from_secs(1)).await.unwrap();
    let numbers: Vec<u64> = answers(reader.records()).iter().map(|(n, _, _)| *n).collect();
    assert_eq!(numbers.len(), 18, "from offset 4 of each partition, once");
    assert!(numbers.iter().all(|n| *n >= 12));
    let log = app.processes["sleeper"].log();
    assert_eq!(log.matches("the committed metadata is not used").count(), 3, "{log}");
    for why in ["not written by this runtime", "damaged or belongs to another offset", "it has version 9"] {
        assert!(log.contains(why), "{why}: {log}");
    }
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_takes_less_metadata_is_committed_to_without() {
    let cluster = TestCluster::embedded(BrokerConfig::default()).await.unwrap();
    let mut app = App::prepare_on(cluster, sleeper(1, SETTINGS)).await.unwrap();
    app.create_topics(&["sleeper"]).await.unwrap();
    app.spawn("sleeper", "sleeper").unwrap();
    app.all_ready().await.unwrap();
    app.send(naps(&app, 0..=0, 4_000)).await.unwrap();
    let refuse = Fault::new(ApiKey::OffsetCommit, Action::Fail(ResponseError::OffsetMetadataTooLarge)).times(1);
    let refused = app.cluster.broker().unwrap().faults().inject(refuse);
    app.send(naps(&app, 1..=50, 1)).await.unwrap();
    let mut reader = app.reader(&[app.topology.results_topic()]).await.unwrap();
    reader.until("an answer to each", Duration::from_secs(30), |r| distinct(r) == 51).await.unwrap();
    assert_eq!(refused.hits(), 1);
    let log = app.processes["sleeper"].log();
    assert_eq!(log.matches("the broker takes less metadata").count(), 1, "{log}");
    assert!(!log.contains("could not commit"), "{log}");
    app.process("sleeper").unwrap().stop(Duration::from_secs(20)).await.unwrap();
    assert_eq!(committed(&app).await.map(|c| (c.offset, c.metadata)), Some((51, String::new())));
}

/// A few slow keys among others leave a pattern that no run length shortens. Past three quarters of the room in the
/// commit's metadata, new work stops until the frontier moves; nothing is lost, and a crash still repeats little.
#[tokio::test(flavor = "multi_thread")]
async fn new_work_stops_before_the_metadata_has_no_room() {
    use rand::{RngExt as _, SeedableRng as _};
    const SLOW_KEYS: u64 = 32;
    const MANY: u64 = 26_000;
    let _alone = ALONE.lock().await;
    let app = App::start(sleeper(1, "session_timeout: 6s, concurrency: 256, handler_timeout: 5m")).await.unwrap();
    let tasks = app.topology.tasks_topic("sleeper");
    let mut dice = rand::rngs::StdRng::seed_from_u64(7);
    let slow = (0..SLOW_KEYS).map(|n| nap(&tasks, &format!("slow-{n}"), n, 45_000).unwrap()).collect();
    app.send(slow).await.unwrap();
    let rest = (SLOW_KEYS..SLOW_KEYS + MANY).map(|n| {
        let key = if dice.random_bool(0.5) { format!("slow-{}", n % SLOW_KEYS) } else { format!("key-{n}") };
        nap(&tasks, &key, n, 0).unwrap()
    });
    app.send(rest.collect()).await.unwrap();
    let mut reader = app.reader(&[app.topology.results_topic()]).await.unwrap();
    reader.until("work under way", Duration::from_secs(60), |r| r.len() > 1_000).await.unwrap();
    // Quiet: everything that may run has run.
    let mut before = 0;
    while reader.records().len() > before {
        before = reader.records().len();
        reader.settle(Duration::from_secs(2)).await.unwrap();
    }
    let committed = committed(&app).await.unwrap();
    println!("{before} of {MANY} done behind {SLOW_KEYS} slow keys; metadata {} bytes", committed.metadata.len());
    assert_eq!(committed.offset, 0, "the slow ones are the first");
    assert!((3_072..4_096).contains(&committed.metadata.len()), "{} bytes", committed.metadata.len());
    assert!(before < 12_000, "{before} done: work went on");

    let all = usize::try_from(SLOW_KEYS + MANY).unwrap();
    reader.until("an answer to each", Duration::from_secs(180), |r| r.len() >= all).await.unwrap();
    let records = reader.settle(Duration::from_secs(1)).await.unwrap();
    assert_eq!((records.len(), distinct(records)), (all, all), "once each");
    app.stop().await.unwrap();
}
