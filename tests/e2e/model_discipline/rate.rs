//! One limit, several processes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anabranch_e2e::{App, answers, asker, asking, question};
use anabranch_kafka::Record;
use anabranch_llm::mock::{Latency, MockConfig, RateLimit, Stats};
use anabranch_protocol::Timestamp;
use serde_json::json;

const WITHIN: Duration = Duration::from_secs(60);
const PROCESSES: usize = 4;
/// The limit, in requests a second.
const RATE: u32 = 100;
/// As much where tenants share it: ten times of it must be no matter for processes built for tests.
const SHARED_RATE: u32 = 40;

async fn start(rate: u32, latency: Latency, lines: &str) -> App {
    let lines = format!("models:\n  default: {{ requests_per_minute: {} }}\n{lines}", rate * 60);
    let limit = Some(RateLimit { requests_per_second: f64::from(rate), burst: rate });
    let mut app = App::start(asker(8, &lines, MockConfig { latency, limit, ..MockConfig::default() })).await.unwrap();
    for number in 2..=PROCESSES {
        app.spawn(&format!("asker-{number}"), "asker").unwrap();
    }
    app.all_ready().await.unwrap();
    app
}

fn refused(stats: &Stats) -> u64 {
    stats.by_outcome.get("rate_limited").copied().unwrap_or(0)
}

/// Runs four processes at the limit for about `time`, and prints how much of it they use: at least `least`.
async fn at_the_limit(time: Duration, least: f64) {
    let latency = Latency::Lognormal { median_ms: 40, p99_ms: 200 };
    let app = start(RATE, latency, "agents:\n  asker: { concurrency: 512 }").await;
    let tasks = app.topology.tasks_topic("asker");
    let count = u64::from(RATE) * (time.as_secs() + 2);
    app.send((0..count).map(|n| question(&tasks, &format!("case-{n}"), n, 1).unwrap()).collect()).await.unwrap();
    let mut reader = app.reader(&[app.topology.results_topic()]).await.unwrap();
    // Each begins small; what is measured begins when they have agreed.
    let some = |share: f64| {
        let share = (count as f64 * share) as usize;
        move |records: &[Record]| answers(records).len() >= share
    };
    reader.until("the beginning", WITHIN, some(0.15)).await.unwrap();
    let (began, before) = (Instant::now(), app.mock.stats());
    reader.until("most answers", time * 3 + WITHIN, some(0.75)).await.unwrap();
    let (took, after) = (began.elapsed(), app.mock.stats());
    let asked = after.calls - before.calls;
    let used = asked as f64 / (took.as_secs_f64() * f64::from(RATE));
    reader.until("all answers", WITHIN, some(1.0)).await.unwrap();
    let (stats, limited) = (app.mock.stats(), refused(&app.mock.stats()));
    let share = limited as f64 / stats.calls as f64;
    println!(
        "{PROCESSES} processes under {RATE} requests/s for {:.1} s: {asked} requests, {:.1} % used, {limited} of {} got a 429 ({:.3} %)",
        took.as_secs_f64(),
        used * 100.0,
        stats.calls,
        share * 100.0
    );
    let mut pids = BTreeMap::new();
    answers(reader.records()).iter().for_each(|(_, pid, _)| *pids.entry(*pid).or_insert(0) += 1);
    println!("answers by process: {:?}", pids.values().collect::<Vec<_>>());
    assert!(share < 0.001, "{limited} of {} got a 429", stats.calls);
    assert!(used >= least, "{:.1} % used", used * 100.0);
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn four_processes_share_a_limit() {
    // On a machine that has other things to do, timers are late, and late calls are not made up for.
    at_the_limit(Duration::from_secs(10), 0.7).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a minute, needs a quiet machine: cargo test -p anabranch-e2e --test model_discipline -- --ignored --nocapture for_a_minute"]
async fn four_processes_share_a_limit_for_a_minute() {
    at_the_limit(Duration::from_secs(60), 0.95).await;
}

/// From the task's record to its answer's, in ms, the 99th percentile of those of `tenant`, which has the even numbers.
fn p99(records: &[Record], sent: &BTreeMap<u64, Timestamp>, even: bool) -> f64 {
    let took =
        answers(records).into_iter().filter(|(n, _, _)| n.is_multiple_of(2) == even).filter_map(|(n, _, partial)| {
            let sent = sent.get(&n)?;
            Some(partial.work.finished_at.as_millis() - sent.as_millis())
        });
    let mut took: Vec<i64> = took.collect();
    took.sort_unstable();
    took[(took.len() - 1) * 99 / 100] as f64
}

/// A tenant that asks for half of its half of the limit, beside another that asks for `other`/s, of a model that takes
/// three seconds. At ten calls a second in each process, a turn at the limit is a tenth of a second.
async fn beside(other: f64, time: Duration) -> f64 {
    // What waits must be held by the processes: only there is it fair, not in the topic.
    let lines = "tenant: /tenant\nagents:\n  asker: { concurrency: 10000 }";
    let app = start(SHARED_RATE, Latency::Fixed { ms: 3000 }, lines).await;
    let tasks = app.topology.tasks_topic("asker");
    let mut reader = app.reader(&[app.topology.results_topic()]).await.unwrap();
    let mut sent = BTreeMap::new();
    let (began, mut counts) = (Instant::now(), [0_u64, 0]);
    while began.elapsed() < time {
        let mut new = Vec::new();
        for (tenant, rate) in [(0, f64::from(SHARED_RATE) / 4.0), (1, other)] {
            let due = (began.elapsed().as_secs_f64() * rate) as u64;
            for i in counts[tenant]..due {
                let number = i * 2 + tenant as u64;
                let request = json!({ "text": "q", "number": number, "times": 1, "tenant": format!("t-{tenant}") });
                new.push(asking(&tasks, &format!("case-{number}"), number, request).unwrap());
                sent.insert(number, anabranch_testkit::harness::wall_clock());
            }
            counts[tenant] = due;
        }
        app.send(new).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let of_the_first = |records: &[Record]| {
        let done = answers(records).iter().filter(|(n, _, _)| n.is_multiple_of(2)).count() as u64;
        done >= counts[0]
    };
    reader.until("the answers of the first tenant", WITHIN, of_the_first).await.unwrap();
    // What was sent while the processes agreed is left out.
    let agreed = began.elapsed().min(time) / 3;
    let first = sent.values().copied().min().unwrap();
    let agreed = Timestamp::from_millis(first.as_millis() + i64::try_from(agreed.as_millis()).unwrap());
    sent.retain(|_, at| *at >= agreed);
    p99(reader.records(), &sent, true)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a minute, needs a quiet machine: cargo test -p anabranch-e2e --test model_discipline -- --ignored --nocapture tenant"]
async fn a_tenant_at_ten_times_its_share_does_not_slow_another() {
    let time = Duration::from_secs(15);
    let share = f64::from(SHARED_RATE) / 2.0;
    let alone = beside(share / 2.0, time).await;
    let crowded = beside(share * 10.0, time).await;
    let moved = (crowded / alone - 1.0) * 100.0;
    println!(
        "99th percentile of a tenant at half its share: {alone:.0} ms, beside one at ten times its share: {crowded:.0} ms ({moved:+.0} %)"
    );
    assert!(moved < 20.0, "{moved}");
}
