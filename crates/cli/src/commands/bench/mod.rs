//! `anabranch bench`: workloads, and the raw floor under them. The room is `crates/bench`; here are its arguments.

mod broker;
mod programs;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anabranch_bench::settings::{Scale, legs};
use anabranch_bench::{Bench, BenchError, Peer, Pins, Report, Wishes, Workload};

use crate::console::Console;
use crate::options::{security, time_span};
use crate::output::{Format, OutputArgs, json, line};
use crate::processes::Shutdown;
use crate::usage::usage;

pub(crate) use broker::{Args as BrokerArgs, run as run_broker};

/// Measure the reference application under a workload, beside the raw floor of the same broker.
///
/// Each run starts the KYC agents (a process each), the mock model and, without --brokers, the
/// embedded broker as processes of their own, under topics of its own; sends cases open loop, at
/// a rate whatever becomes of them; and reads outcomes with read_committed. A latency counts from
/// when its case was due, so that a system that falls behind shows it. Then the raw floor is
/// measured: as many records of the same sizes through plain rskafka, without logic.
///
///   w1    10,000 cases, 100 a second; the model thinks 2 s (median) to 15 s (p99), and refuses
///         1 % of its calls
///   w2    10,000 cases at once, and a model that answers at once: cases a second over those of
///         the raw floor
///   w3    w1, and a process is killed (kill -9) every 10 s: what is lost, what is doubled
///   w4    w2, and 1 % of the requests cannot be read
///   w5    100 cases a second, and one agent goes from 1 process to 8 and back
///   w6    1,000 tasks of 2 s in one partition: an agent alone
///   w7    500 cases at once, with requests of 1 KB, 100 KB and 900 KB
///   w8    a million cases that wait for their answers: joined, taken over, and how late
///         deadlines are kept
///   w9    w2 with 1,000 cases; then partitions, processes and cases ten times as many: cost per
///         case
///   idle  one case at a time, beside the round trip of one record
///
/// Figures are the median of all runs, with the least and the most; ratios are taken within each
/// run. Build with --release: a debug build measures the compiler. Ctrl-C ends all processes and
/// prints what was measured so far.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, verbatim_doc_comment)]
pub(crate) struct Args {
    /// What is measured.
    #[arg(value_name = "WORKLOAD", value_parser = workload)]
    workload: Workload,
    #[command(flatten)]
    output: OutputArgs,
    /// Write latency and throughput as SVG files into this directory.
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
    #[command(flatten)]
    load: Load,
    #[command(flatten)]
    place: Place,
}

/// What is done; unset, it is the workload's own.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Load (unset: the workload's own)")]
struct Load {
    /// How many cases a run has.
    #[arg(long, value_name = "N")]
    cases: Option<u64>,
    /// How many are due in a second; 0: all at once.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    rate: Option<f64>,
    /// How often it is measured, each time with new processes and topics.
    #[arg(long, value_name = "N")]
    runs: Option<u32>,
    /// Cases that are sent before, and not measured.
    #[arg(long, value_name = "N")]
    warm_up: Option<u64>,
    /// What think times, refusals and kills are drawn from; run n takes this and n.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Median of the model's think time, in milliseconds.
    #[arg(long, value_name = "MS")]
    think_median_ms: Option<u64>,
    /// 99th percentile of it; at most the median: always the same.
    #[arg(long, value_name = "MS")]
    think_p99_ms: Option<u64>,
    /// Share of the model's calls that it refuses with 429.
    #[arg(long, value_name = "SHARE")]
    refused: Option<f64>,
    /// Share of the requests that cannot be read.
    #[arg(long, value_name = "SHARE")]
    poison: Option<f64>,
    /// Size of a request in bytes; may be given several times, each is a leg of its own.
    #[arg(long = "payload", value_name = "BYTES")]
    payloads: Vec<usize>,
    /// Partitions of each topic.
    #[arg(long, value_name = "N")]
    partitions: Option<u32>,
    /// Processes of each agent.
    #[arg(long, value_name = "N")]
    replicas: Option<u32>,
    /// Tasks that one process of an agent works on at the same time, in the KYC topology that is built in.
    #[arg(long, value_name = "N", conflicts_with_all = ["topology", "peer"])]
    concurrency: Option<u32>,
    /// How often a process is killed; 0s: never.
    #[arg(long, value_name = "TIME", value_parser = time_span)]
    kill_every: Option<Duration>,
    /// This agent goes from one process to so many and back, such as document=8.
    #[arg(long, value_name = "AGENT=N", value_parser = scale)]
    scale: Option<Scale>,
    /// How long cases are waited for after the last one was due, before they count as lost.
    #[arg(long, value_name = "TIME", value_parser = time_span)]
    patience: Option<Duration>,
    /// Most records in a batch of the raw floor.
    #[arg(long, value_name = "N")]
    floor_batch: Option<usize>,
    /// Leave the raw floor out.
    #[arg(long, conflicts_with = "floor_batch")]
    no_floor: bool,
}

/// Where it runs.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Where")]
struct Place {
    /// Use this cluster instead of the embedded broker. For TLS and SASL see `anabranch --help`.
    #[arg(long, env = "ANABRANCH_KAFKA", value_name = "HOST:PORT,…", value_delimiter = ',')]
    brokers: Vec<String>,
    /// What the broker is called in the report: none tells its own version.
    #[arg(long, value_name = "TEXT")]
    broker_name: Option<String>,
    /// Process of a broker on this machine, so that its memory and its processor time are measured too.
    #[arg(long, value_name = "PID")]
    broker_pid: Option<u32>,
    /// Where the embedded broker keeps its data; without it, in memory.
    #[arg(long, value_name = "DIR", conflicts_with = "brokers")]
    data_dir: Option<PathBuf>,
    /// Measure this KYC topology instead of the one that is built in.
    #[arg(long, value_name = "FILE")]
    topology: Option<PathBuf>,
    /// Measure another system in the place of ours: its start script, such as crates/bench/peers/faststream/start.sh. Its
    /// settings are taken from the environment.
    #[arg(long, value_name = "SCRIPT", conflicts_with_all = ["topology", "bin_dir"])]
    peer: Option<PathBuf>,
    /// Where the peer builds itself and works.
    #[arg(long, value_name = "DIR", default_value = "target/peer", requires = "peer")]
    peer_folder: PathBuf,
    /// Pin processes: agents, broker, mock or bench, such as agents=0-5; may be given several times.
    #[arg(long, value_name = "GROUP=CPUS")]
    pin: Vec<String>,
    /// Build nothing: run the agents' binaries in this directory.
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  cargo run --release -- bench w2                              five runs on the embedded broker
  anabranch bench w2 --brokers localhost:9092 --broker-name 'Apache Kafka 4.1.1'
  anabranch bench w1 --rate 500 --pin agents=0-5 --pin broker=6,7 --plots plots
  anabranch bench w3 --cases 200 --rate 20 --kill-every 3s --runs 1    the small form
  anabranch bench idle -o json | jq '.legs[].summary'

What the figures are called and what they do not say: crates/bench/BENCHMARKS.md.
Exit codes: 0 done, 1 failed or interrupted, 64 wrong usage.";

fn workload(text: &str) -> Result<Workload, String> {
    text.parse()
}

fn scale(text: &str) -> Result<Scale, String> {
    let wrong = || "write an agent and how many processes it goes to, such as document=8".to_owned();
    let (agent, processes) = text.split_once('=').ok_or_else(wrong)?;
    match processes.parse() {
        Ok(processes) if (2..=64).contains(&processes) && !agent.is_empty() => {
            Ok(Scale { agent: agent.to_owned(), processes })
        }
        _ => Err(wrong()),
    }
}

impl Load {
    fn wishes(&self) -> Wishes {
        Wishes {
            cases: self.cases,
            rate: self.rate,
            warm_up: self.warm_up,
            runs: self.runs,
            seed: self.seed,
            think_median_ms: self.think_median_ms,
            think_p99_ms: self.think_p99_ms,
            refused: self.refused,
            poison: self.poison,
            payloads: self.payloads.clone(),
            partitions: self.partitions,
            replicas: self.replicas,
            concurrency: self.concurrency,
            kill_every: self.kill_every,
            scale: self.scale.clone(),
            patience: self.patience,
            floor_batch: self.floor_batch,
            no_floor: self.no_floor,
        }
    }
}

/// Runs it.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let console = Console::stderr();
    let Place { brokers, broker_name, broker_pid, data_dir, topology, peer, peer_folder, pin, bin_dir } = args.place;
    let legs = legs(args.workload, &args.load.wishes()).map_err(mendable)?;
    let pins = Pins::parse(&pin).map_err(usage)?;
    let read = |file: PathBuf| {
        std::fs::read_to_string(&file).map_err(|error| usage(format!("cannot read {}: {error}", file.display())))
    };
    let topology = topology.map(read).transpose()?;
    let told = console.clone();
    let shutdown = Shutdown::install(move || told.line("interrupted: ending all processes; once more ends at once"))?;
    let programs = programs::find(args.workload, bin_dir.as_deref(), peer.is_some());
    let Some(programs) = shutdown.unless(programs).await else {
        return Ok(ExitCode::FAILURE);
    };
    if cfg!(debug_assertions) {
        console
            .line("warning: this is a debug build, and so are the agents; figures are those of `cargo run --release`");
    }
    let bench = Bench {
        workload: args.workload,
        legs,
        programs: programs?,
        brokers: brokers.into_iter().filter(|broker| !broker.trim().is_empty()).collect(),
        security: security()?,
        broker_name,
        broker_pid,
        data_dir,
        topology,
        peer: peer.map(|script| Peer { script, folder: peer_folder }),
        pins,
    };
    let say = |text: String| console.line(&text);
    let report = tokio::select! {
        report = bench.run(&shutdown.drain, &say) => report.map_err(mendable)?,
        () = shutdown.now.cancelled() => return Ok(ExitCode::FAILURE),
    };
    print(&report, args.output.format)?;
    if let Some(folder) = &args.plots {
        report.plot(folder)?.iter().for_each(|file| console.line(&format!("plot {}", file.display())));
    }
    Ok(if report.interrupted { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn print(report: &Report, format: Format) -> anyhow::Result<()> {
    match format {
        Format::Json => json(report),
        Format::Table => line(report.to_string().trim_end()),
    }
}

/// What the user can mend ends with another exit code.
fn mendable(error: BenchError) -> anyhow::Error {
    match error {
        BenchError::Usage(text) => usage(text),
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_is_scaled_has_a_name_and_a_number() {
        assert_eq!(scale("document=8"), Ok(Scale { agent: "document".to_owned(), processes: 8 }));
        for bad in ["document", "=8", "document=1", "document=x", "document=1000"] {
            assert!(scale(bad).is_err_and(|said| said.contains("document=8")), "{bad}");
        }
    }
}
