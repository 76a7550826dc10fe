//! One million open joins: how long a fresh composer takes to have them all, how much memory they take, and how late overdue
//! deadlines are decided while they stay open.
//!
//! `cargo bench -p anabranch-e2e --bench million_joins`. `ANABRANCH_BENCH_CASES` and `ANABRANCH_BENCH_DUE` set how many cases
//! stay open and how many fall due in each of the two runs. The broker is the embedded one, as a process of its own, on disk.
//! Prints its figures and its environment; asserts only what must hold: all are joined, all are taken over, each that falls
//! due is decided once.

use std::collections::HashMap;
use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use anabranch_e2e::{Played, step, workspace};
use anabranch_kafka::{
    Cluster, ClusterConfig, FetchConfig, Isolation, NewTopic, OutRecord, Position, Producer, ProducerConfig,
    TopicPartition,
};
use anabranch_protocol::{Step, Timestamp};
use anabranch_testkit::harness::wall_clock;
use anabranch_testkit::process::{self, Process};
use anabranch_topology::Topology;
use serde_json::json;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const TOPOLOGY: &str = "
name: joins
partitions: 12
inbound: { requests: joins.requests, review: joins.reviews }
outbound:
  decisions: joins.decisions
  cases: joins.cases
  fraud-alerts: joins.fraud-alerts
  customer-messages: joins.customer-messages
join: { deadline: 24h, closed_memory: 24h }
";
/// Records that are on their way at once.
const AT_ONCE: usize = 20_000;
/// Deadlines a second in the steady run.
const RATE: i64 = 1_000;
/// From writing plans to the first deadline: time enough to join them.
const LEAD_MS: i64 = 10_000;
const LIMIT: Duration = Duration::from_secs(1_800);

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What the benchmark runs on.
struct Bench {
    folder: tempfile::TempDir,
    binaries: std::path::PathBuf,
    bootstrap: String,
    cluster: Cluster,
    topology: Topology,
    /// Ends with the benchmark.
    _broker: Process,
}

impl Bench {
    async fn start() -> Result<Self> {
        let names = ["anabranch-broker", "anabranch-agent-composer"].map(str::to_owned);
        let binaries = process::built(&workspace(), &names)?;
        let folder = tempfile::tempdir()?;
        let bootstrap = format!("127.0.0.1:{}", process::free_port()?);
        let mut command = tokio::process::Command::new(binaries.join("anabranch-broker"));
        command.args(["--listen", &bootstrap, "--data-dir"]).arg(folder.path().join("broker")).env("RUST_LOG", "warn");
        let broker = Process::start("broker", folder.path(), command)?;
        std::fs::write(folder.path().join("topics.yaml"), TOPOLOGY)?;
        let topology = anabranch_topology::parse("topics.yaml", TOPOLOGY, None).map_err(|e| e.to_string())?.topology;
        let cluster = Cluster::new(ClusterConfig::new(vec![bootstrap.clone()], "bench"));
        while cluster.ping(Duration::from_secs(1)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let topics = topology.topics(&[]).into_iter().map(|spec| NewTopic {
            name: spec.name,
            partitions: spec.partitions,
            replication_factor: spec.replication_factor,
            configs: spec.configs,
        });
        for (_, created) in cluster.admin().create_topics(topics.collect()).await? {
            created?;
        }
        Ok(Self { folder, binaries, bootstrap, cluster, topology, _broker: broker })
    }

    /// A composer process, and how long it took to be ready.
    async fn composer(&self, name: &str) -> Result<(Process, Duration)> {
        let started = Instant::now();
        let binary = self.binaries.join("anabranch-agent-composer");
        let topology = self.folder.path().join("topics.yaml");
        let env = [("RUST_LOG".to_owned(), "info".to_owned())];
        let mut process = Process::agent(name, self.folder.path(), &binary, &self.bootstrap, &topology, &env)?;
        process.ready(LIMIT).await?;
        Ok((process, started.elapsed()))
    }

    /// Writes plans as a supervisor would.
    async fn plan(&self, producer: &Producer, cases: impl Iterator<Item = (String, Timestamp)>) -> Result<()> {
        let results = self.topology.results_topic();
        let mut records: Vec<OutRecord> = Vec::with_capacity(AT_ONCE);
        for (key, due) in cases {
            records.push(case(&key, due).planned(&results)?);
            if records.len() == AT_ONCE {
                producer.send_all(std::mem::take(&mut records)).await?;
            }
        }
        producer.send_all(records).await?;
        Ok(())
    }

    /// Mean size of a state record, of the first ones there are.
    async fn state_bytes(&self) -> Result<usize> {
        let mut fetcher = self.cluster.fetcher(FetchConfig::default());
        fetcher.add(TopicPartition::new(self.topology.state_topic(), 0), Position::Earliest);
        loop {
            let fetched = fetcher.next().await?;
            let sizes: Vec<usize> = fetched.records.iter().filter_map(|r| Some(r.value.as_ref()?.len())).collect();
            if !sizes.is_empty() {
                return Ok(sizes.iter().sum::<usize>() / sizes.len());
            }
        }
    }

    /// How late each of these was decided, as a reader of committed records sees it, in milliseconds.
    async fn lateness(&self, mut due: HashMap<String, i64>, producer: &Producer) -> Result<Vec<i64>> {
        let cases = self.topology.outbound.get("cases").map(|t| t.name.clone()).ok_or("no outbound topic")?;
        let config = FetchConfig { isolation: Isolation::ReadCommitted, ..FetchConfig::default() };
        let mut fetcher = self.cluster.fetcher(config);
        let tps: Vec<_> = (0..self.topology.partitions).map(|p| TopicPartition::new(cases.as_str(), p)).collect();
        let ends = self.cluster.admin().end_offsets(&tps, Isolation::ReadUncommitted).await?;
        ends.iter().for_each(|(tp, end)| fetcher.add(tp.clone(), Position::Offset(*end)));
        let plans: Vec<_> = due.iter().map(|(key, at)| (key.clone(), Timestamp::from_millis(*at))).collect();
        self.plan(producer, plans.into_iter()).await?;
        let mut late = Vec::with_capacity(due.len());
        while !due.is_empty() {
            let fetched = tokio::time::timeout(LIMIT, fetcher.next()).await??;
            let now = wall_clock().as_millis();
            for record in fetched.records {
                let key = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned();
                let at = due.remove(&key).ok_or_else(|| format!("{key} was decided twice, or was not due"))?;
                late.push(now - at);
            }
        }
        late.sort_unstable();
        Ok(late)
    }
}

/// A case as the reference application plans it.
fn case(key: &str, due: Timestamp) -> Played {
    let request = json!({
        "applicant": { "name": "AVA MARIE SPECIMEN", "birth_date": "1985-02-14", "nationality": "UTO",
            "email": "ava@example.test", "address": { "street": "1 Harbour Road", "city": "Port Example", "country": "UTO" } },
        "document": { "type": "passport", "number": "UT0000001", "mrz": [
            "P<UTOSPECIMEN<<AVA<MARIE<<<<<<<<<<<<<<<<<<<<", "UT00000018UTO8502142F3402133<<<<<<<<<<<<<<<6"] },
        "product": "current-account", "source": { "ip": "192.0.2.1", "device_id": key },
    });
    let after = Step { after: vec![Step::OUTCOME.to_owned()], ..step("customer", false) };
    let mut steps = ["identity", "document", "fraud", "compliance"].map(|agent| step(agent, true)).to_vec();
    steps.push(after);
    Played::new(key, request, steps, due)
}

/// A line of `/proc/<pid>/status`, in kB.
fn memory_kb(process: &Process, line: &str) -> Result<usize> {
    let pid = process.pid().ok_or("the composer has ended")?;
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"))?;
    let value = status.lines().find_map(|l| l.strip_prefix(line)).ok_or("no such line")?;
    Ok(value.trim().trim_end_matches(" kB").parse()?)
}

async fn joining(process: &Process) -> Result<usize> {
    let metrics = process.metrics().await?;
    let line = metrics.lines().find(|l| l.starts_with("anabranch_cases{") && l.contains("\"joining\""));
    Ok(line.and_then(|l| l.rsplit(' ').next()).and_then(|n| n.parse().ok()).unwrap_or(0))
}

async fn all_joined(process: &Process, cases: usize) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    while joining(process).await? != cases {
        if Instant::now() >= deadline {
            return Err(format!("{} of {cases} joined:\n{}", joining(process).await?, process.log()).into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

fn show(what: &str, late: &[i64]) {
    let at = |share: f64| late[((late.len() - 1) as f64 * share) as usize];
    println!(
        "{what}: {} decided, each once; outcome read after its deadline by median {} ms, p99 {} ms, max {} ms",
        late.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

#[tokio::main]
async fn main() -> Result<()> {
    // `cargo test --benches` runs this too; only `cargo bench` passes --bench.
    if !std::env::args().any(|a| a == "--bench") {
        return Ok(());
    }
    let (cases, due) = (number("ANABRANCH_BENCH_CASES", 1_000_000), number("ANABRANCH_BENCH_DUE", 20_000));
    let bench = Bench::start().await?;
    let cores = std::thread::available_parallelism()?;
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    println!("environment: {cores} cores for broker, composer and benchmark together, {profile} profile");
    println!("broker: embedded, a process of its own, on disk without fsync; 12 partitions; cases of 5 steps");

    let (mut first, _) = bench.composer("first").await?;
    let empty_kb = memory_kb(&first, "VmRSS:")?;
    let producer = bench.cluster.producer(ProducerConfig::default());
    let tomorrow = Timestamp::from_millis(wall_clock().as_millis() + 20 * 3_600_000);
    let began = Instant::now();
    bench.plan(&producer, (0..cases).map(|n| (format!("open-{n:08}-0000-4000-8000-{n:012}"), tomorrow))).await?;
    let written = began.elapsed();
    all_joined(&first, cases).await?;
    let (joined, rate) = (began.elapsed(), cases as f64 / began.elapsed().as_secs_f64());
    println!(
        "fill: {cases} plans written in {:.1} s, joined after {:.1} s ({rate:.0}/s)",
        written.as_secs_f64(),
        joined.as_secs_f64()
    );
    println!("state record of an open join: {} bytes of JSON", bench.state_bytes().await?);
    first.stop(LIMIT).await?;

    let (mut second, took) = bench.composer("second").await?;
    assert_eq!(joining_soon(&second, cases).await?, cases, "all are taken over");
    let (resident, peak) = (memory_kb(&second, "VmRSS:")?, memory_kb(&second, "VmHWM:")?);
    println!(
        "takeover: a fresh process has all 12 partitions and is ready {:.2} s after its start",
        took.as_secs_f64()
    );
    println!(
        "memory: {} MB resident ({} MB at its peak, {} MB without cases): {} bytes an open join",
        resident / 1024,
        peak / 1024,
        empty_kb / 1024,
        (resident.saturating_sub(empty_kb) * 1024) / cases.max(1)
    );

    let start = wall_clock().as_millis() + LEAD_MS;
    let steady = (0_i64..).take(due).map(|n| (format!("steady-{n}"), start + n * 1_000 / RATE)).collect();
    show(&format!("deadlines at {RATE} a second"), &bench.lateness(steady, &producer).await?);
    let start = wall_clock().as_millis() + LEAD_MS;
    let storm = (0..due).map(|n| (format!("storm-{n}"), start)).collect();
    show("deadlines all at once", &bench.lateness(storm, &producer).await?);
    assert_eq!(joining_soon(&second, cases).await?, cases, "the others stay open");
    println!("memory after that: {} MB resident", memory_kb(&second, "VmRSS:")? / 1024);
    second.stop(LIMIT).await?;
    Ok(())
}

/// The gauge is set with the next tick.
async fn joining_soon(process: &Process, cases: usize) -> Result<usize> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while joining(process).await? != cases && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    joining(process).await
}
