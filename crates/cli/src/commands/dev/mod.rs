//! `anabranch dev`: the whole line on one machine, with nothing installed but cargo.
//!
//! | room | what is in it |
//! |---|---|
//! | `demo` | the demo's cases |
//! | `traffic` | sends them, and reads what becomes of them |
//! | `board` | what was seen of each case, and whether it is as expected |
//! | `view` | how that is shown |

mod board;
#[cfg(test)]
mod board_tests;
pub(crate) mod demo;
mod traffic;
mod view;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anabranch_kafka::{Cluster, ClusterConfig};
use anabranch_protocol::CorrelationId;
use anabranch_topology::Topology;
use anyhow::anyhow;

use self::board::{Row, Seen};
use self::demo::DemoCase;
use self::traffic::Traffic;
use self::view::View;
use super::up::{self, ProgramArgs};
use crate::agents::Program;
use crate::backing::{Backing, Wanted};
use crate::console::Console;
use crate::options::TopologyFile;
use crate::output::OutputArgs;
use crate::processes::{Fleet, Shutdown};

/// Longest time until all agents are ready: the broker is here, groups are small.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Between two looks at the clock, while nothing comes.
const TICK: Duration = Duration::from_millis(250);
/// How long what must not come (a second decision) is waited for.
const SETTLE: Duration = Duration::from_secs(1);

/// Run everything on this machine: a development broker, a mock model, one process per agent, and demo traffic.
///
/// Ends by itself when all demo cases are decided, with 0 if each came out as expected and with 1 if not. The broker
/// is embedded unless ANABRANCH_KAFKA or --brokers names a cluster; it is for development, on loopback, and not for
/// production. The model is a mock unless OPENAI_API_KEY (or OPENAI_BASE_URL) is set.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Use this cluster instead of the embedded broker.
    #[arg(long, env = "ANABRANCH_KAFKA", value_name = "HOST:PORT,…", value_delimiter = ',')]
    brokers: Vec<String>,
    #[command(flatten)]
    topology: TopologyFile,
    #[command(flatten)]
    programs: ProgramArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Send nothing; run until Ctrl-C.
    #[arg(long, conflicts_with_all = ["keep", "cases"])]
    no_demo: bool,
    /// Stay up after the demo, until Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// Send the cases of this directory instead of those built in.
    #[arg(long, value_name = "DIR")]
    cases: Option<PathBuf>,
    /// Script of the mock model, instead of the one built in.
    #[arg(long, value_name = "FILE")]
    mock_script: Option<PathBuf>,
    /// Keep the embedded broker's data in this directory. Without it, it is in memory and gone at the end.
    #[arg(long, value_name = "DIR", conflicts_with = "brokers")]
    data_dir: Option<PathBuf>,
    /// Port of the embedded broker; without it, a free one.
    #[arg(long, value_name = "PORT", conflicts_with = "brokers")]
    port: Option<u16>,
}

const EXAMPLES: &str = "\
Examples:
  anabranch dev                                     the demo, then the end
  anabranch dev --keep --port 9092                  the demo, then time to look around
  anabranch dev --no-demo --data-dir .anabranch     develop against a broker that remembers
  ANABRANCH_KAFKA=localhost:9092 anabranch dev      the same on Redpanda or Kafka
  OPENAI_API_KEY=… anabranch dev                    the same with a real model

Logs of agents show warnings only; RUST_LOG=info shows more.";

/// Runs it.
pub(crate) async fn run(mut args: Args) -> anyhow::Result<ExitCode> {
    args.brokers.retain(|broker| !broker.trim().is_empty());
    let console = Console::stderr();
    let cases = if args.no_demo { Vec::new() } else { demo::cases(args.cases.as_deref())? };
    let (chosen, names) = args.programs.choose()?;
    let checked = args.topology.check(Some(&names))?;
    checked.warnings.iter().for_each(|warning| console.line(&warning.to_string()));
    let shutdown = Shutdown::of_agents(&console)?;
    let Some(programs) = shutdown.unless(chosen.programs()).await else { return Ok(ExitCode::FAILURE) };
    let programs = programs?;
    let backing = Backing::start(&args.wanted()).await?;
    let stage =
        Stage { args: &args, topology: &checked.topology, console: &console, shutdown: &shutdown, backing: &backing };
    let result = stage.run(programs, cases).await;
    backing.stop().await;
    result
}

impl Args {
    fn wanted(&self) -> Wanted {
        Wanted {
            brokers: self.brokers.clone(),
            data_dir: self.data_dir.clone(),
            port: self.port,
            mock_script: self.mock_script.clone(),
            always_mock: false,
        }
    }
}

/// All that one run has at hand.
struct Stage<'a> {
    args: &'a Args,
    topology: &'a Topology,
    console: &'a Console,
    shutdown: &'a Shutdown,
    backing: &'a Backing,
}

impl Stage<'_> {
    /// Starts the agents, plays, and drains the agents, whatever came of the play.
    async fn run(&self, programs: Vec<Program>, cases: Vec<DemoCase>) -> anyhow::Result<ExitCode> {
        self.backing.about.iter().for_each(|line| self.console.line(line));
        let mut common = up::common(&self.args.topology, &self.backing.brokers);
        common.environment.extend(self.backing.environment.iter().cloned());
        if !self.args.no_demo && std::env::var_os("RUST_LOG").is_none() {
            common.environment.push(("RUST_LOG".into(), "warn".into()));
        }
        let launches = up::launches(programs, 1, false, self.topology);
        let fleet = Fleet::start(launches, common, self.console, self.shutdown);
        let played = tokio::select! {
            biased;
            played = self.play(&fleet, cases) => played,
            _ = fleet.ended() => match self.shutdown.drain.is_cancelled() {
                true => Ok(self.args.no_demo),
                false => Err(anyhow!("all agents have ended; each has said why")),
            },
        };
        self.shutdown.drain.cancel();
        fleet.ended().await;
        played.map(|as_expected| if as_expected { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Waits for the agents, plays the demo, and stays up if it is to. Says whether all came out as expected.
    async fn play(&self, fleet: &Fleet, cases: Vec<DemoCase>) -> anyhow::Result<bool> {
        let Some(ready) = self.shutdown.unless(fleet.ready(READY_WITHIN)).await else { return Ok(self.args.no_demo) };
        ready?;
        self.console.line(&format!("agents   {} ready", fleet.labels().collect::<Vec<_>>().join(", ")));
        self.console.line(&format!("look     ANABRANCH_KAFKA={} anabranch watch", self.backing.brokers.join(",")));
        if self.args.no_demo {
            self.console.line("ready    Ctrl-C drains");
            self.shutdown.drain.cancelled().await;
            return Ok(true);
        }
        let Some(rows) = self.shutdown.unless(self.demo(cases)).await else { return Ok(false) };
        let rows = rows?;
        view::results(&rows, self.args.output.format)?;
        let missed = rows.iter().filter(|row| !row.problems().is_empty()).count();
        self.console.line(&match missed {
            0 => format!("all {} cases came out as expected", rows.len()),
            _ => format!("{missed} of {} cases did not come out as expected", rows.len()),
        });
        if self.args.keep {
            self.console.line("ready    Ctrl-C drains");
            self.shutdown.drain.cancelled().await;
        }
        Ok(missed == 0)
    }

    async fn demo(&self, cases: Vec<DemoCase>) -> anyhow::Result<Vec<Row>> {
        let cluster = Cluster::new(
            ClusterConfig::new(self.backing.brokers.clone(), "anabranch-dev").with_security(self.backing.security()?),
        );
        let mut traffic = Traffic::open(&cluster, self.topology).await?;
        self.console.line(&format!("demo     {} cases", cases.len()));
        let run = self.run_number();
        let mut rows = Vec::with_capacity(cases.len());
        for case in cases {
            let name = case.key.as_deref().unwrap_or(&case.id);
            let (correlation_id, case) = match run {
                None => (CorrelationId::new(name), case),
                Some(run) => (CorrelationId::new(format!("{name}-{run:x}")), case.of_run(run)),
            };
            let sent = Instant::now();
            traffic.send(&case, &correlation_id).await?;
            rows.push(Row::new(case, correlation_id, sent));
        }
        let mut view = View::new(self.console, &rows);
        follow(&mut traffic, &mut rows, &mut view).await?;
        Ok(rows)
    }

    /// A cluster that remembers may have decided these cases before: this run's have names of their own.
    fn run_number(&self) -> Option<u64> {
        (!self.backing.is_new).then(|| crate::reading::now().as_millis().unsigned_abs() / 1_000)
    }
}

/// Follows the cases until each has what is expected of it, or none of the others can be hoped for any more.
async fn follow(traffic: &mut Traffic, rows: &mut [Row], view: &mut View<'_>) -> anyhow::Result<()> {
    let mut settled_at: Option<Instant> = None;
    let mut reviewed = vec![false; rows.len()];
    loop {
        let news = tokio::time::timeout(TICK, traffic.next()).await;
        let now = Instant::now();
        for (case, seen) in news.ok().transpose()?.unwrap_or_default() {
            take(rows, &case, seen, now);
        }
        for (row, reviewed) in rows.iter().zip(&mut reviewed) {
            if let (Some(decision), true, false) = (&row.case.review, row.wants_review(), *reviewed) {
                traffic.review(&row.correlation_id, decision).await?;
                *reviewed = true;
            }
        }
        view.update(rows);
        let over = rows.iter().all(|row| row.is_complete() || row.is_overdue(now));
        settled_at = if over { settled_at.or(Some(now)) } else { None };
        if settled_at.is_some_and(|at| now.duration_since(at) >= SETTLE) {
            return Ok(());
        }
    }
}

fn take(rows: &mut [Row], case: &CorrelationId, seen: Seen, now: Instant) {
    if let Some(row) = rows.iter_mut().find(|row| row.correlation_id == *case) {
        row.take(seen, now);
    }
}
