//! One partition, 1,000 tasks of 2 s each: concurrency does not depend on the number of partitions.
//!
//! `cargo bench -p anabranch-e2e --bench one_partition`; with `ANABRANCH_TEST_KAFKA=host:port` on any cluster. Prints
//! its figure and its environment; asserts only what must hold: all done, and order by key.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anabranch_e2e::{App, answers, nap, sleeper};

const TASKS: u64 = 1_000;
const SLEEP_MS: u64 = 2_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // `cargo test --benches` runs this too; only `cargo bench` passes --bench.
    if !std::env::args().any(|a| a == "--bench") {
        return Ok(());
    }
    let app = App::start(sleeper(1, "concurrency: 1000, handler_timeout: 1m")).await?;
    let broker = if app.cluster.broker().is_some() { "embedded, in memory" } else { app.cluster.bootstrap() };
    let tasks = app.topology.tasks_topic("sleeper");
    let mut reader = app.reader(&[app.topology.results_topic()]).await?;
    let distinct: Result<Vec<_>, _> = (0..TASKS).map(|n| nap(&tasks, &format!("key-{n}"), n, SLEEP_MS)).collect();
    let started = Instant::now();
    app.send(distinct?).await?;
    let all = |records: &[_]| answers(records).len() >= usize::try_from(TASKS).unwrap_or(usize::MAX);
    reader.until("all answers", Duration::from_secs(120), all).await?;
    let took = started.elapsed();

    // Ten keys of twenty tasks each: within a key, one after the other and in log order.
    let mut ordered = app.reader(&[app.topology.results_topic()]).await?;
    let same_key: Result<Vec<_>, _> =
        (0..200).map(|n| nap(&tasks, &format!("order-{}", n % 10), 10_000 + n, 20)).collect();
    app.send(same_key?).await?;
    let all = |records: &[_]| answers(records).iter().filter(|(n, _, _)| *n >= 10_000).count() >= 200;
    ordered.until("all ordered answers", Duration::from_secs(60), all).await?;
    let mut ends: HashMap<u64, (u64, i64)> = HashMap::new();
    for (number, _, partial) in answers(ordered.records()).into_iter().filter(|(n, _, _)| *n >= 10_000) {
        let (start, end) = (partial.work.started_at.as_millis(), partial.work.finished_at.as_millis());
        if let Some((before, ended)) = ends.insert(number % 10, (number, end)) {
            assert!(before < number, "task {number} of a key was done before {before}");
            assert!(start >= ended, "task {number} started before {before} of its key had ended");
        }
    }
    println!("environment: {} cores, {} profile, broker: {broker}", std::thread::available_parallelism()?, profile());
    println!(
        "one partition, {TASKS} tasks of {SLEEP_MS} ms in one process: all answered after {:.2} s",
        took.as_secs_f64()
    );
    println!("200 tasks over 10 keys: each key in order, one at a time");
    app.stop().await?;
    Ok(())
}

fn profile() -> &'static str {
    if cfg!(debug_assertions) { "debug" } else { "release" }
}
