//! A group under churn: processes join, stop and are killed while records flow. Nothing is lost, a commit never passes
//! what is answered, a partition never has two owners; how long one has none is measured and printed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anabranch_e2e::{App, answers, nap, sleeper};
use anabranch_kafka::{Cluster, Isolation, OutRecord, Record, TopicPartition};
use anabranch_testkit::cluster::{self, Reader};
use anabranch_testkit::harness::wall_clock;
use anabranch_testkit::process::Process;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::Instant;

const SESSION: Duration = Duration::from_secs(6);
/// A takeover may come so long after the session time.
const TAKEOVER_SLACK: Duration = Duration::from_secs(2);
const SETTINGS: &str = "session_timeout: 6s, concurrency: 16, drain_timeout: 5s";
const MOST_PROCESSES: usize = 6;
/// Longest nap; half of it on average.
const NAP_MS: u64 = 40;

/// How much of it.
#[derive(Clone, Copy)]
struct Soak {
    partitions: u32,
    records: u64,
    changes: u32,
    over: Duration,
    seed: u64,
}

/// Record `number` goes to a partition in turn, so that its offset is known.
fn place(soak: Soak, number: u64) -> (i32, i64) {
    let partitions = u64::from(soak.partitions);
    (i32::try_from(number % partitions).unwrap(), i64::try_from(number / partitions).unwrap())
}

/// Sends all records, evenly over the time.
async fn produce(client: Cluster, tasks: String, soak: Soak) {
    let (began, mut sent) = (Instant::now(), 0);
    let mut rng = StdRng::seed_from_u64(soak.seed);
    while sent < soak.records {
        let due = (began.elapsed().as_secs_f64() / soak.over.as_secs_f64() * soak.records as f64) as u64;
        let batch: Vec<OutRecord> = (sent..due.min(soak.records))
            .map(|n| {
                let record = nap(&tasks, &format!("key-{n}"), n, rng.random_range(0..NAP_MS)).unwrap();
                OutRecord { partition: Some(place(soak, n).0), ..record }
            })
            .collect();
        let count = batch.len() as u64;
        let delivered = cluster::send(&client, batch).await.unwrap();
        for (n, at) in (sent..).zip(&delivered) {
            assert_eq!((at.partition, at.offset), place(soak, n), "the test knows where each record is");
        }
        sent += count;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A record that was committed and had no answer.
#[derive(Debug)]
#[allow(dead_code, reason = "shown by Debug")]
struct Violation {
    partition: i32,
    offset: i64,
    /// The commit that says it was done.
    committed: i64,
    /// Whether the answer came later.
    later: bool,
}

impl Violation {
    /// What the processes said of the record and of its partition.
    fn told_by(&self, processes: &[&Process]) -> String {
        let record = format!("partition={} offset={}", self.partition, self.offset);
        let names = format!("tasks.sleeper-{}", self.partition);
        let told = |line: &&str| {
            let of_partition = line.split([' ', '"']).any(|word| word.ends_with(&names));
            line.contains(&record) || line.contains(" WARN ") || line.contains("ERROR") || of_partition
        };
        let lines = processes.iter().flat_map(|process| {
            let log = process.log();
            log.lines().filter(told).map(|line| format!("{}: {line}", process.name())).collect::<Vec<_>>()
        });
        let mut lines: Vec<String> = lines.collect();
        lines.sort_by_key(|line| line.split_once(": ").map(|(_, rest)| rest.to_owned()));
        lines.join("\n")
    }
}

/// What is looked at all the time.
struct Monitor {
    client: Cluster,
    group: String,
    results: String,
    soak: Soak,
    reader: Reader,
    answered: BTreeSet<u64>,
    read: usize,
    checked: BTreeMap<i32, i64>,
    progress: Mutex<Progress>,
}

/// How far the results are read.
#[derive(Default)]
struct Progress {
    seen: usize,
    next: BTreeMap<i32, i64>,
}

impl Monitor {
    /// Looks until told to stop; returns how often, and everything that was read. Or the first record that was committed
    /// without an answer.
    async fn run(mut self, stop: Arc<AtomicBool>) -> Result<(usize, Reader), Violation> {
        let mut looks = 0;
        while !stop.load(Ordering::Acquire) {
            self.one_owner_each().await;
            self.commits_below_answers().await?;
            looks += 1;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok((looks, self.reader))
    }

    async fn one_owner_each(&self) {
        let groups = self.client.admin().describe_groups(std::slice::from_ref(&self.group)).await.unwrap();
        let owned: Vec<_> = groups.iter().flat_map(|g| &g.members).flat_map(|m| &m.assignment).collect();
        let distinct: BTreeSet<_> = owned.iter().collect();
        assert_eq!(owned.len(), distinct.len(), "a partition with two owners: {groups:?}");
    }

    /// First what is committed, then all answers there are by then: each record below must have one.
    async fn commits_below_answers(&mut self) -> Result<(), Violation> {
        let committed = self.client.admin().committed_offsets(&self.group).await.unwrap();
        self.read_all().await;
        // Retry topics and journals are committed as well.
        let of_tasks = committed.into_iter().filter(|(tp, _)| tp.topic.ends_with(".tasks.sleeper"));
        for (tp, committed) in of_tasks {
            let from = self.checked.insert(tp.partition, committed.offset).unwrap_or(0);
            assert!(committed.offset >= from, "{tp}: the commit went back from {from} to {}", committed.offset);
            for offset in from..committed.offset {
                let number = u64::try_from(offset).unwrap() * u64::from(self.soak.partitions)
                    + u64::try_from(tp.partition).unwrap();
                if !self.answered.contains(&number) {
                    self.reader.settle(Duration::from_secs(3)).await.unwrap();
                    let later = answers(self.reader.records()).iter().any(|(n, _, _)| *n == number);
                    return Err(Violation { partition: tp.partition, offset, committed: committed.offset, later });
                }
            }
        }
        Ok(())
    }

    async fn read_all(&mut self) {
        let partitions = i32::try_from(self.soak.partitions).unwrap();
        let tps: Vec<_> = (0..partitions).map(|p| TopicPartition::new(self.results.as_str(), p)).collect();
        let ends = self.client.admin().end_offsets(&tps, Isolation::ReadUncommitted).await.unwrap();
        let progress = &self.progress;
        let all = |records: &[Record]| {
            let mut progress = progress.lock().unwrap();
            let Progress { seen, next } = &mut *progress;
            for record in &records[*seen..] {
                let at = next.entry(record.partition).or_default();
                assert_eq!(record.offset, *at, "results-{}: read in order, each record once", record.partition);
                *at += 1;
            }
            *seen = records.len();
            ends.iter().all(|(tp, end)| next.get(&tp.partition).copied().unwrap_or(0) >= *end)
        };
        self.reader.until("the answers there are", Duration::from_secs(20), all).await.unwrap();
        let new = answers(&self.reader.records()[self.read..]);
        self.answered.extend(new.iter().map(|(number, _, _)| *number));
        self.read = self.reader.records().len();
    }
}

/// How a process ended, and when.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Stopped(i64),
    Killed(i64),
}

impl End {
    fn at(self) -> i64 {
        match self {
            Self::Stopped(at) | Self::Killed(at) => at,
        }
    }
}

/// Joins, stops and kills. Returns how each process ended, by its id, and what is left of them.
async fn churn(app: &mut App, soak: Soak) -> (BTreeMap<u64, End>, Vec<Process>) {
    let mut rng = StdRng::seed_from_u64(soak.seed);
    let (mut ends, mut gone, mut started) = (BTreeMap::new(), Vec::new(), app.processes.len());
    let mut tick = tokio::time::interval(soak.over / soak.changes);
    tick.tick().await;
    for _ in 0..soak.changes {
        tick.tick().await;
        let running = app.processes.len();
        let join = running <= 2 || (running < MOST_PROCESSES && rng.random_bool(0.5));
        if join {
            started += 1;
            app.spawn(&format!("sleeper-{started}"), "sleeper").unwrap();
            continue;
        }
        let names: Vec<String> = app.processes.keys().cloned().collect();
        let name = &names[rng.random_range(0..names.len())];
        let mut process = app.processes.remove(name).unwrap();
        let pid = u64::from(process.pid().unwrap());
        if rng.random_bool(0.5) {
            ends.insert(pid, End::Killed(wall_clock().as_millis()));
            process.kill().await.unwrap();
        } else {
            ends.insert(pid, End::Stopped(wall_clock().as_millis()));
            let status = process.stop(Duration::from_secs(20)).await.unwrap();
            assert!(status.success(), "{name}: {status}\n{}", process.log());
        }
        gone.push(process);
    }
    (ends, gone)
}

/// One answered delivery: when it was worked on, and by whom.
struct Delivery {
    started: i64,
    finished: i64,
    pid: u64,
}

/// How long partitions had nobody working on them when they changed hands.
#[derive(Default)]
struct Gaps {
    /// After a graceful stop, with no kill within a session time.
    stopped: Vec<i64>,
    /// After a kill, with no other within a session time.
    killed: Vec<i64>,
    /// With a kill within a session time: a rebalance waits for every member that does not answer.
    crowded: Vec<i64>,
}

fn gaps(soak: Soak, reader: &Reader, ends: &BTreeMap<u64, End>) -> Gaps {
    let mut deliveries: BTreeMap<i32, Vec<Delivery>> = BTreeMap::new();
    for (number, pid, partial) in answers(reader.records()) {
        let (started, finished) = (partial.work.started_at.as_millis(), partial.work.finished_at.as_millis());
        deliveries.entry(place(soak, number).0).or_default().push(Delivery { started, finished, pid });
    }
    let kills: Vec<i64> =
        ends.values().filter_map(|end| if let End::Killed(at) = end { Some(*at) } else { None }).collect();
    let session = i64::try_from(SESSION.as_millis()).unwrap();
    let alone = |at: i64| kills.iter().all(|other| *other == at || (other - at).abs() > session);
    let mut gaps = Gaps::default();
    for (partition, mut deliveries) in deliveries {
        deliveries.sort_by_key(|d| d.started);
        let mut last = (0, i64::MIN);
        for next in deliveries {
            let (pid, finished) = last;
            if next.pid != pid && finished > i64::MIN {
                assert!(next.started >= finished, "partition {partition} was worked on by two processes at once");
                // What moved before its owner's end moved by another rebalance.
                match ends.get(&pid).filter(|end| next.started >= end.at()) {
                    Some(End::Stopped(at)) if alone(*at) => gaps.stopped.push(next.started - finished),
                    Some(End::Killed(at)) if alone(*at) => gaps.killed.push(next.started - at),
                    Some(End::Stopped(at) | End::Killed(at)) => gaps.crowded.push(next.started - at),
                    None => {}
                }
            }
            last = (next.pid, if next.pid == pid { finished.max(next.finished) } else { next.finished });
        }
    }
    gaps
}

fn distribution(what: &str, mut times_ms: Vec<i64>) {
    times_ms.sort_unstable();
    let Some(last) = times_ms.len().checked_sub(1) else { return println!("{what}: none") };
    let at = |part: usize| times_ms[last * part / 100];
    let (p50, p90, p99) = (at(50), at(90), at(99));
    println!("{what}: {} partitions, p50 {p50} ms, p90 {p90} ms, p99 {p99} ms, most {} ms", last + 1, times_ms[last]);
}

async fn soak(soak: Soak) {
    println!("seed {}", soak.seed);
    let mut app = App::start(sleeper(soak.partitions, SETTINGS)).await.unwrap();
    for name in ["sleeper-2", "sleeper-3"] {
        app.spawn(name, "sleeper").unwrap();
    }
    app.all_ready().await.unwrap();
    let results = app.topology.results_topic();
    let monitor = Monitor {
        client: app.client.clone(),
        group: app.topology.group_of("sleeper"),
        reader: app.reader(std::slice::from_ref(&results)).await.unwrap(),
        results,
        soak,
        answered: BTreeSet::new(),
        read: 0,
        checked: BTreeMap::new(),
        progress: Mutex::default(),
    };
    let stop = Arc::new(AtomicBool::new(false));
    let monitor = tokio::spawn(monitor.run(stop.clone()));
    let producer = tokio::spawn(produce(app.client.clone(), app.topology.tasks_topic("sleeper"), soak));
    let (ends, gone) = churn(&mut app, soak).await;
    producer.await.unwrap();
    app.all_ready().await.unwrap();
    stop.store(true, Ordering::Release);
    let (looks, mut reader) = monitor.await.unwrap().unwrap_or_else(|violation| {
        let processes: Vec<&Process> = gone.iter().chain(app.processes.values()).collect();
        panic!("{violation:?}\n{}", violation.told_by(&processes));
    });

    let distinct = |records: &[_]| answers(records).iter().map(|(n, _, _)| *n).collect::<BTreeSet<_>>().len() as u64;
    let all = |records: &[_]| distinct(records) == soak.records;
    reader.until("an answer to every record", Duration::from_secs(120), all).await.unwrap();
    reader.settle(Duration::from_secs(1)).await.unwrap();
    let repeated = answers(reader.records()).len() as u64 - soak.records;
    let kills = ends.values().filter(|end| matches!(end, End::Killed(_))).count();
    println!(
        "{} records, {} changes ({kills} kills), {looks} looks: nothing lost, {repeated} repeated",
        soak.records, soak.changes
    );
    let gaps = gaps(soak, &reader, &ends);
    let late =
        gaps.killed.iter().filter(|ms| **ms > i64::try_from((SESSION + TAKEOVER_SLACK).as_millis()).unwrap()).count();
    distribution("handover at a graceful stop", gaps.stopped);
    let session = SESSION.as_secs();
    distribution(&format!("takeover after one kill -9 (session {session} s)"), gaps.killed);
    distribution("either, with another kill within a session time", gaps.crowded);
    assert_eq!(late, 0, "taken over later than the session time and {TAKEOVER_SLACK:?}");
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_under_churn_loses_nothing() {
    let over = Duration::from_secs(60);
    soak(Soak { partitions: 12, records: 5_000, changes: 20, over, seed: rand::random() }).await;
}

/// The long lane: the figures of the promise.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "six minutes"]
async fn a_large_group_under_churn_loses_nothing() {
    let over = Duration::from_secs(300);
    soak(Soak { partitions: 36, records: 100_000, changes: 60, over, seed: rand::random() }).await;
}
