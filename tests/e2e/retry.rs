//! Retries block nobody: what failed waits in a retry topic and comes back when it is due, its own key waits for it, others
//! pass, and a crash in between loses nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anabranch_e2e::{App, Given, answers, sleeper};
use anabranch_kafka::{NewTopic, OutRecord, Record};
use anabranch_protocol::retry::{self, Tried};
use anabranch_protocol::{Header, Partial, Timestamp, dead_letter, header};
use anabranch_testkit::cluster::Reader;
use serde_json::{Value, json};

fn now() -> Timestamp {
    anabranch_testkit::harness::wall_clock()
}

/// A task of the sleeper, due within so many seconds.
fn task_within(app: &App, key: &str, number: u64, request: Value, within: Duration) -> OutRecord {
    let topic = app.topology.tasks_topic("sleeper");
    Given { agent: "sleeper", topic: &topic, case: key, number, request, within }.record().unwrap()
}

/// A task of the sleeper that fails so often first.
fn failing(app: &App, key: &str, number: u64, fails: u32) -> OutRecord {
    let request = json!({ "sleep_ms": 5, "number": number, "fails": fails });
    task_within(app, key, number, request, Duration::from_secs(1800))
}

fn results_and(app: &App, others: &[String]) -> Vec<String> {
    [&[app.topology.results_topic()], others].concat()
}

fn retry_topics(app: &App) -> Vec<String> {
    app.topology.retry_topics("sleeper").into_iter().map(|(topic, _)| topic).collect()
}

fn distinct(records: &[Record]) -> usize {
    answers(records).iter().map(|(number, _, _)| *number).collect::<BTreeSet<_>>().len()
}

/// What lies in the retry topics, in log order of each.
fn tried(records: &[Record]) -> Vec<(&Record, Tried)> {
    let retries = records.iter().filter(|record| record.topic.contains(".retry."));
    retries.map(|record| (record, retry::split(&record.headers).unwrap().1)).collect()
}

fn of_topic<'a>(records: &'a [Record], topic: &str) -> Vec<&'a Record> {
    records.iter().filter(|record| *record.topic == *topic).collect()
}

async fn reader(app: &App) -> Reader {
    let dlq = app.topology.dlq_topic(&app.topology.tasks_topic("sleeper"));
    app.reader(&results_and(app, &[retry_topics(app), vec![dlq]].concat())).await.unwrap()
}

const SETTINGS: &str = "session_timeout: 6s, retry: { initial_backoff: 500ms, max_attempts: 4, tiers: [500ms, 1s] }";

/// The answer's own attempt began when it was due, or later. How much.
fn late(partial: &Partial, due: Timestamp) -> i64 {
    let late = partial.work.started_at.as_millis() - due.as_millis();
    assert!(late >= 0, "{late} ms: never early");
    late
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_waits_for_its_retry_and_others_pass() {
    let app = App::start(sleeper(2, SETTINGS)).await.unwrap();
    let mut reader = reader(&app).await;
    let poison = (0..3).map(|n| failing(&app, "poison", n, if n == 0 { 3 } else { 0 }));
    app.send(poison.collect()).await.unwrap();
    app.send((3..203).map(|n| failing(&app, &format!("key-{n}"), n, 0)).collect()).await.unwrap();
    reader.until("all answers", Duration::from_secs(60), |r| distinct(r) == 203).await.unwrap();

    let answered = answers(reader.records());
    let place = |number| answered.iter().position(|(n, _, _)| *n == number).unwrap();
    assert!(place(0) < place(1) && place(1) < place(2), "the order of a key is kept");
    let others_after = answered.iter().skip(place(0)).filter(|(n, _, _)| *n >= 3).count();
    assert_eq!(others_after, 0, "nobody waited for another's retry");
    let first = &answered[place(0)].2;
    assert_eq!(first.work.attempts, 4);

    let tried = tried(reader.records());
    let rounds: Vec<(&str, u32)> =
        tried.iter().map(|(r, t)| (r.topic.rsplit('.').next().unwrap(), t.attempts)).collect();
    assert_eq!(rounds, [("500ms", 1), ("1s", 2), ("1s", 3)]);
    for (record, tried) in &tried {
        assert_eq!(
            (&*tried.topic, tried.first_error.as_str()),
            (&*app.topology.tasks_topic("sleeper"), "attempt 1 of 3 that fail")
        );
        assert_eq!((tried.partition, record.key.as_deref()), (record.partition, Some(&b"poison"[..])));
    }
    println!("the last attempt began {} ms after it was due", late(first, tried[2].1.due));
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_to_wait_waits_and_what_cannot_work_does_not() {
    let settings = "session_timeout: 6s, retry: { tiers: [2s, 5s], max_attempts: 2 }";
    let app = App::start(sleeper(1, settings)).await.unwrap();
    let mut reader = reader(&app).await;
    let day = Duration::from_secs(86_400);
    let busy = json!({ "sleep_ms": 1, "number": 0, "fails": 1, "retry_after_ms": 7_000 });
    let hopeless = json!({ "sleep_ms": "for ever", "number": 1 });
    let hurried = json!({ "sleep_ms": 1, "number": 2, "fails": 1, "retry_after_ms": 7_000 });
    let odd = Header { name: "x-odd".into(), value: None };
    let mut doomed = failing(&app, "doomed", 3, 9);
    doomed.headers.extend([odd.clone(), odd]);
    let original = doomed.headers.clone();
    let sent = vec![
        task_within(&app, "busy", 0, busy, day),
        task_within(&app, "hopeless", 1, hopeless, day),
        task_within(&app, "hurried", 2, hurried, Duration::from_secs(5)),
        doomed,
    ];
    app.send(sent).await.unwrap();
    let ends = |r: &[Record]| of_topic(r, &app.topology.results_topic()).len();
    reader.until("four answers", Duration::from_secs(60), |r| ends(r) == 4).await.unwrap();

    let answered = answers(reader.records());
    let (_, _, partial) = answered.iter().find(|(n, _, _)| *n == 0).unwrap();
    let in_tier = |(r, _): &(&Record, Tried)| r.key.as_deref() == Some(b"busy") && r.topic.ends_with(".retry.5s");
    let (_, waited) = tried(reader.records()).into_iter().find(in_tier).expect("in the longest tier that is no longer");
    let wait = partial.work.started_at.since(waited.first_failed_at);
    assert!(wait >= Duration::from_secs(7), "{wait:?}");
    println!("Retry-After: 7 waited {wait:?}, {} ms after it was due", late(partial, waited.due));

    let dlq = app.topology.dlq_topic(&app.topology.tasks_topic("sleeper"));
    let letters: BTreeMap<&[u8], &Record> =
        of_topic(reader.records(), &dlq).into_iter().map(|r| (r.key.as_deref().unwrap(), r)).collect();
    let says = |key: &str, name| header::last(&letters[key.as_bytes()].headers, name);
    assert_eq!(letters.len(), 2);
    assert_eq!(
        (says("hopeless", dead_letter::CLASS), says("hopeless", dead_letter::DELIVERY_COUNT)),
        (Some("terminal"), Some("1"))
    );
    assert_eq!(
        (says("doomed", dead_letter::CLASS), says("doomed", dead_letter::DELIVERY_COUNT)),
        (Some("retryable"), Some("2"))
    );
    let tasks = app.topology.tasks_topic("sleeper");
    assert_eq!((says("doomed", dead_letter::TOPIC), says("doomed", dead_letter::OFFSET)), (Some(&*tasks), Some("3")));
    assert_eq!(&letters[&b"doomed"[..]].headers[..original.len()], original, "byte for byte, and nothing of the retry");

    let expired = of_topic(reader.records(), &app.topology.results_topic());
    let expired = expired.iter().find(|r| r.key.as_deref() == Some(b"hurried")).unwrap();
    let expired: Partial = serde_json::from_slice(expired.value.as_deref().unwrap()).unwrap();
    assert!(matches!(expired.status, anabranch_protocol::PartialStatus::Expired), "no time for another");
    assert!(expired.work.finished_at.since(now()) == Duration::ZERO && expired.work.attempts == 1);
    app.stop().await.unwrap();
}

const WAITS: &str =
    "session_timeout: 6s, retry: { initial_backoff: 2s, max_backoff: 2s, max_attempts: 9, tiers: [2s] }";
const STATIC: [(&str, &str); 1] = [("ANABRANCH_INSTANCE_ID", "one")];

fn spawn_static(app: &mut App, name: &str) {
    let bootstrap = app.cluster.bootstrap().to_owned();
    let env = STATIC.map(|(name, value)| (name.to_owned(), value.to_owned()));
    app.spawn_at(name, "sleeper", &bootstrap, &env).unwrap();
}

/// Ten keys of two records each. The first of each fails twice; when all ten wait in a retry topic, something happens.
/// Every record is then answered once, in the order of its key, and the attempts before count.
async fn ten_that_wait_while(happens: impl AsyncFnOnce(&mut App)) {
    let mut app = App::prepare(sleeper(4, WAITS)).await.unwrap();
    app.create_topics(&["sleeper"]).await.unwrap();
    spawn_static(&mut app, "sleeper");
    app.all_ready().await.unwrap();
    let mut reader = reader(&app).await;
    let keys = (0..10).flat_map(|k| (0..2).map(move |n| (k, n)));
    let sent = keys.map(|(k, n)| failing(&app, &format!("key-{k}"), k * 2 + n, u32::from(n == 0) * 2));
    app.send(sent.collect()).await.unwrap();
    reader.until("ten that wait", Duration::from_secs(30), |r| tried(r).len() >= 10).await.unwrap();
    happens(&mut app).await;
    reader.until("all answers", Duration::from_secs(60), |r| distinct(r) == 20).await.unwrap();
    reader.settle(Duration::from_millis(500)).await.unwrap();

    let answered = answers(reader.records());
    let first = |number| answered.iter().position(|(n, _, _)| *n == number).unwrap();
    let rounds = tried(reader.records());
    let lates = (0..10).map(|key| {
        assert!(first(key * 2) < first(key * 2 + 1), "key-{key}: a later record passed its predecessor");
        let partial = &answered[first(key * 2)].2;
        assert_eq!(partial.work.attempts, 3, "the attempts before count");
        let name = format!("key-{key}");
        let last = rounds.iter().filter(|(r, t)| r.key.as_deref() == Some(name.as_bytes()) && t.attempts == 2);
        late(partial, last.map(|(_, t)| t.due).max().unwrap())
    });
    let lates: Vec<i64> = lates.collect();
    let pids: BTreeSet<u64> = answered.iter().map(|(_, pid, _)| *pid).collect();
    println!(
        "{} answers to 20 tasks of {} processes; began {lates:?} ms after they were due",
        answered.len(),
        pids.len()
    );
    assert_eq!(answered.len(), 20, "none was done twice");
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_while_a_record_waits_loses_nothing_and_keeps_its_order() {
    ten_that_wait_while(async |app| {
        app.process("sleeper").unwrap().kill().await.unwrap();
        app.processes.remove("sleeper");
        spawn_static(app, "sleeper-again");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_moves_takes_what_waits_with_it() {
    ten_that_wait_while(async |app| {
        app.spawn("sleeper-2", "sleeper").unwrap();
        app.all_ready().await.unwrap();
    })
    .await;
}

/// A tier that is taken out of the topology: what waits in its topic is still taken out.
#[tokio::test(flavor = "multi_thread")]
async fn a_removed_tier_strands_nothing() {
    let mut app = App::prepare(sleeper(1, SETTINGS)).await.unwrap();
    app.create_topics(&["sleeper"]).await.unwrap();
    let removed = app.topology.retry_topic(&app.topology.tasks_topic("sleeper"), Duration::from_secs(3));
    let topic = NewTopic { name: removed.clone(), partitions: 1, replication_factor: -1, configs: BTreeMap::new() };
    for (_, created) in app.client.admin().create_topics(vec![topic]).await.unwrap() {
        created.unwrap();
    }
    let task = failing(&app, "left", 7, 1);
    let tried = Tried {
        topic: app.topology.tasks_topic("sleeper"),
        partition: 0,
        offset: 40,
        timestamp_ms: now().as_millis(),
        attempts: 1,
        rounds: 1,
        due: now(),
        first_failed_at: now(),
        first_error: "before".to_owned(),
        last_error: "before".to_owned(),
    };
    let headers = retry::headers(&task.headers, &tried);
    let before = now();
    app.send(vec![OutRecord { topic: removed, partition: Some(0), headers, ..task }]).await.unwrap();
    app.spawn("sleeper", "sleeper").unwrap();
    app.all_ready().await.unwrap();
    let mut reader = reader(&app).await;
    reader.until("an answer", Duration::from_secs(30), |r| distinct(r) == 1).await.unwrap();
    let (_, _, partial) = answers(reader.records()).remove(0);
    assert_eq!(partial.work.attempts, 2);
    assert!(partial.work.started_at.since(before) >= Duration::from_secs(3), "its delay is that of its topic");
    app.stop().await.unwrap();
}

/// One process that is asked in phases, with and without a key that fails again and again.
struct Phases {
    app: App,
    reader: Reader,
    /// Tasks of a phase.
    tasks: u64,
    per_second: u64,
    sent: u64,
    answered: usize,
}

impl Phases {
    async fn start(tasks: u64, per_second: u64) -> Self {
        let settings = "session_timeout: 6s, retry: { initial_backoff: 500ms, max_attempts: 50, tiers: [500ms, 1s] }";
        let app = App::start(sleeper(6, settings)).await.unwrap();
        let reader = app.reader(&[app.topology.results_topic()]).await.unwrap();
        Self { app, reader, tasks, per_second, sent: 0, answered: 0 }
    }

    /// Sends the tasks of a phase at a steady rate, each of a key of its own. The time from each record to the end of its
    /// work, in ms.
    async fn phase(&mut self, poison: bool) -> Vec<u64> {
        let (first, batch) = (self.sent, self.per_second / 20);
        self.sent += self.tasks;
        let own = if poison { 20 } else { 0 };
        let fails = u32::try_from(self.tasks / self.per_second).unwrap();
        let name = format!("poison-{first}");
        let one = |n| failing(&self.app, &name, 1_000_000 + first + n, if n == 0 { fails } else { 0 });
        self.app.send((0..own).map(one).collect()).await.unwrap();
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        let mut at = BTreeMap::new();
        for begin in (first..self.sent).step_by(usize::try_from(batch).unwrap()) {
            tick.tick().await;
            let nap = |n| json!({ "sleep_ms": 50, "number": n });
            let numbers = begin..(begin + batch).min(self.sent);
            at.extend(numbers.clone().map(|n| (n, now())));
            let task = |n| task_within(&self.app, &format!("key-{n}"), n, nap(n), Duration::from_secs(1800));
            self.app.send(numbers.map(task).collect()).await.unwrap();
        }
        self.answered += usize::try_from(self.tasks).unwrap() + usize::try_from(own).unwrap();
        let all = self.answered;
        self.reader.until("the answers of a phase", Duration::from_secs(120), |r| r.len() >= all).await.unwrap();
        let ended = answers(self.reader.records());
        let ended = ended.iter().filter_map(|(n, _, partial)| Some((partial.work.finished_at, at.get(n)?)));
        ended.map(|(end, begin)| u64::try_from(end.since(*begin).as_millis()).unwrap()).collect()
    }
}

async fn compare(tasks: u64, per_second: u64, rounds: usize) {
    let mut phases = Phases::start(tasks, per_second).await;
    phases.phase(false).await;
    let (mut without, mut with, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    // In turn, so that what else the machine does meets both alike.
    for _ in 0..rounds {
        let (one, other) = (phases.phase(false).await, phases.phase(true).await);
        ratios.push(percentile(other.clone(), 99) as f64 / percentile(one.clone(), 99) as f64);
        without.extend(one);
        with.extend(other);
    }
    ratios.sort_by(f64::total_cmp);
    let of = |taken: &Vec<u64>, share| percentile(taken.clone(), share);
    println!(
        "{} tasks at {per_second}/s: without a poison key p50 {} ms, p99 {} ms; beside one p50 {} ms, p99 {} ms; \
         p99 beside one to p99 without in {rounds} pairs: median {:.3}, {:.3} to {:.3}",
        without.len() + with.len(),
        of(&without, 50),
        of(&without, 99),
        of(&with, 50),
        of(&with, 99),
        ratios[ratios.len() / 2],
        ratios[0],
        ratios[ratios.len() - 1]
    );
    assert_eq!((without.len(), with.len()), (with.len(), usize::try_from(tasks).unwrap() * rounds));
    // A retry takes half a second, a second one a whole one more: whoever waited for one would show.
    assert!(of(&with, 99) < of(&without, 99) + 400, "others waited for a retry");
    phases.app.stop().await.unwrap();
}

fn percentile(mut taken: Vec<u64>, share: usize) -> u64 {
    taken.sort_unstable();
    taken[(taken.len() - 1) * share / 100]
}

#[tokio::test(flavor = "multi_thread")]
async fn one_poison_key_among_many() {
    compare(200, 200, 1).await;
}

/// The long lane: the figures of the promise. `cargo test --workspace --test retry --release -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "three minutes, and figures mean something on a quiet machine alone"]
async fn one_poison_key_among_ten_thousand() {
    compare(10_000, 500, 4).await;
}
