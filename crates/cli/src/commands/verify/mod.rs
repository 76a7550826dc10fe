//! `anabranch verify`: the promise of one outcome for each case, checked on the user's own cluster.
//!
//! | room | what is in it |
//! |---|---|
//! | `ledger` | what was acknowledged, and what the topics hold against it; pure |
//! | `schedule` | which faults happen when, drawn from the seed; pure |
//! | `requests` | the requests that are sent |
//! | `plan` | what the options come to |
//! | `site` | the topology under a name of its own: topics, agents, and the network between them and the brokers |
//! | `traffic` | sending cases, and reading what becomes of them |
//! | `strikes` | the faults, done |
//! | `trial` | one run from its first case to its verdict |
//! | `progress` | what is seen meanwhile |
//! | `report` | what is said at the end |

mod ledger;
mod plan;
mod progress;
mod report;
mod requests;
mod schedule;
mod site;
mod strikes;
mod traffic;
mod trial;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anabranch_topology::Topology;

use self::plan::Plan;
use self::requests::Templates;
use self::site::{Site, Wishes};
use self::trial::{Trial, Verdict};
use super::up::ProgramArgs;
use crate::backing::{Backing, Wanted};
use crate::console::Console;
use crate::options::{TopologyFile, time_span};
use crate::output::OutputArgs;
use crate::processes::Shutdown;
use crate::usage::usage;

/// Check on a cluster that no case is lost and none is decided twice, while processes and connections fail.
///
/// Runs the topology under a name of its own (NAME-verify-SUFFIX), so that it shares no topic and no group with what runs
/// on the cluster already: creates its topics, starts its agents, sends cases, and meanwhile kills processes (kill -9),
/// stops them (SIGSTOP, now and then for longer than their session time) and cuts their connections to the brokers, at
/// times and on targets drawn from a seed. Then it holds the outbound topics, read with read_committed, against a ledger of
/// the cases that the brokers acknowledged:
///
///   1. every acknowledged case has exactly one outcome, or one dead letter
///   2. there is no outcome without a case, and no outbound record twice
///   3. everything still moves: after the faults all agents are ready, cases are decided, nothing lags, no
///      transaction hangs
///
/// The first violation ends the run and is printed with all records of its case. An outcome is a record on the topics that
/// --outcome names; by default, all outbound topics whose alias has neither "alert" nor "message" in it. The composer must
/// send one record there for a case, published or parked: nobody decides parked cases during the run.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, verbatim_doc_comment)]
pub(crate) struct Args {
    /// Use this cluster instead of the embedded broker. For TLS and SASL see `anabranch --help`.
    #[arg(long, env = "ANABRANCH_KAFKA", value_name = "HOST:PORT,…", value_delimiter = ',')]
    brokers: Vec<String>,
    #[command(flatten)]
    topology: TopologyFile,
    #[command(flatten)]
    programs: ProgramArgs,
    /// Processes of each agent.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    replicas: u32,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    load: Load,
    #[command(flatten)]
    faults: Faults,
    #[command(flatten)]
    own: Own,
}

/// What is sent.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Cases")]
struct Load {
    /// How many cases. Default: 500, or what --rate gives.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    cases: Option<u64>,
    /// How many are sent in a second. Default: --cases over --for.
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// For how long cases are sent and faults happen. Default: 60s, or what --cases and --rate give.
    #[arg(long = "for", value_name = "TIME", value_parser = time_span)]
    span: Option<Duration>,
    /// JSON file with a request, or several that are taken by turns. {case}, {ip} and {id} in its texts are filled in: the case's
    /// number, an address that no other case has, the correlation id; a text that is just "{number}" becomes a number.
    /// Default for the KYC application: its clean case.
    #[arg(long, value_name = "FILE")]
    request: Option<PathBuf>,
    /// An outbound alias by which outcomes leave; may be given several times.
    #[arg(long = "outcome", value_name = "ALIAS")]
    outcomes: Vec<String>,
    /// After the faults, wait so long for what is still open before it counts as lost. Default: join.deadline and a minute.
    #[arg(long, value_name = "TIME", value_parser = time_span)]
    patience: Option<Duration>,
    /// Script of the mock model, instead of the demo's.
    #[arg(long, value_name = "FILE", conflicts_with = "real_model")]
    mock_script: Option<PathBuf>,
    /// Use the model and services that the environment names, and pay for them, instead of the mock.
    #[arg(long)]
    real_model: bool,
}

/// What goes wrong.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Faults (0 turns a kind off)")]
struct Faults {
    /// What faults are drawn from. Default: a new one, which is printed.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// How often a process is killed (kill -9).
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    kills: u32,
    /// How often a process is stopped and continued.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    stops: u32,
    /// How often connections to the brokers are cut, or fall silent. Needs brokers without TLS.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    cuts: u32,
}

/// What is its own.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "What it leaves")]
struct Own {
    /// The topology is called NAME-verify-SUFFIX. Default: a new one each time.
    #[arg(long, value_name = "SUFFIX", value_parser = suffix)]
    suffix: Option<String>,
    /// Keep topics, the topology file and the agents' log. Without it they are kept after a violation only.
    #[arg(long)]
    keep: bool,
}

const EXAMPLES: &str = "\
Examples:
  anabranch verify                                          a minute on the embedded broker, with the mock model
  anabranch verify --brokers localhost:9092                 the same on your cluster, in topics of its own
  anabranch verify --cases 10000 --for 10m --kills 200      longer and harder
  anabranch verify --seed 17 --stops 0 --cuts 0             the kills of another run again
  anabranch verify --topology orders.yaml --request order.json --outcome shipped
  anabranch verify -o json | jq .violation

Exit codes: 0 all held, 1 a violation, or it failed or was interrupted, 64 wrong usage.";

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= 1e6 => Ok(rate),
        _ => Err("write a number above 0, such as 20 or 0.5".to_owned()),
    }
}

fn suffix(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    match (1..=64).contains(&text.len()) && text.chars().all(plain) {
        true => Ok(text.to_owned()),
        false => Err("1 to 64 of the characters a-z, A-Z, 0-9, `.`, `_` and `-`".to_owned()),
    }
}

/// The outbound aliases by which outcomes leave.
fn outcomes(wanted: &[String], topology: &Topology) -> anyhow::Result<Vec<String>> {
    let all = || topology.outbound.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    if let Some(missing) = wanted.iter().find(|alias| !topology.outbound.contains_key(*alias)) {
        return Err(usage(format!("--outcome {missing}: the topology has no such outbound alias; it has: {}", all())));
    }
    let named = topology.outbound.keys().filter(|alias| crate::reading::names_outcomes(alias));
    let aliases: Vec<String> = if wanted.is_empty() { named.cloned().collect() } else { wanted.to_vec() };
    match aliases.is_empty() {
        true => Err(usage(format!("by which outbound alias do outcomes leave? Say --outcome with one of: {}", all()))),
        false => Ok(aliases),
    }
}

/// Runs it.
pub(crate) async fn run(mut args: Args) -> anyhow::Result<ExitCode> {
    args.brokers.retain(|broker| !broker.trim().is_empty());
    let console = Console::stderr();
    let mut plan = Plan::of(&args.load, &args.faults)?;
    let (chosen, names) = args.programs.choose()?;
    let checked = args.topology.check(Some(&names))?;
    checked.warnings.iter().for_each(|warning| console.line(&warning.to_string()));
    let templates = Templates::of(args.load.request.as_deref(), &checked.topology)?;
    let aliases = outcomes(&args.load.outcomes, &checked.topology)?;
    let told = console.clone();
    let shutdown = Shutdown::install(move || told.line("interrupted: stopping agents; once more ends at once"))?;
    let Some(programs) = shutdown.unless(chosen.programs()).await else { return Ok(ExitCode::FAILURE) };
    let programs = programs?;
    let wanted = Wanted {
        brokers: args.brokers.clone(),
        mock_script: args.load.mock_script.clone(),
        always_mock: !args.load.real_model,
        ..Wanted::default()
    };
    let backing = Backing::start(&wanted).await?;
    let wishes = Wishes {
        file: &args.topology,
        original: &checked.topology,
        programs,
        all_agents: &names,
        replicas: args.replicas,
        suffix: args.own.suffix.as_deref(),
        cuts: plan.cuts > 0,
        seed: plan.seed,
    };
    let checking = check(wishes, &mut plan, &args, &backing, &templates, &aliases, &console, &shutdown);
    let verdict = Box::pin(checking).await;
    backing.stop().await;
    verdict.map(|verdict| if verdict == Verdict::Held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Sets up, runs, reports and tidies up, whatever came of it.
#[allow(clippy::too_many_arguments, reason = "what a run is made of, once")]
async fn check(
    wishes: Wishes<'_>,
    plan: &mut Plan,
    args: &Args,
    backing: &Backing,
    templates: &Templates,
    aliases: &[String],
    console: &Console,
    shutdown: &Shutdown,
) -> anyhow::Result<Verdict> {
    let Some(site) = Box::pin(shutdown.unless(Site::open(wishes, backing, console))).await else {
        return Ok(Verdict::Interrupted);
    };
    let site = site?;
    backing.about.iter().for_each(|line| console.line(line));
    console.line(&format!("topology {}, {} processes", site.topology.name, site.launches.len()));
    if !site.network.is_there() {
        plan.cuts = 0;
    }
    let fleet = site.start(backing, shutdown);
    let trial = Trial::new(&site, &fleet, plan, templates, aliases, console);
    let ended = trial.run(shutdown).await;
    // Before the agents drain: what they still say of themselves belongs to the report.
    let reported = match &ended {
        Ok(ended) => report::print(&report::Report::of(&trial, ended, backing), args.output.format),
        Err(_) => Ok(()),
    };
    shutdown.drain.cancel();
    fleet.ended().await;
    // What could not begin, or could not be followed to its end, leaves no evidence.
    let verdict = ended.as_ref().map_or(Verdict::Interrupted, |ended| ended.verdict());
    drop(trial);
    site.close(args.own.keep, verdict, console).await;
    ended?;
    reported.map(|()| verdict)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_leave_by_aliases_that_are_neither_alerts_nor_messages() {
        let text = include_str!("../../../../../topics.yaml");
        let topology = anabranch_topology::parse("topics.yaml", text, None).unwrap().topology;
        assert_eq!(outcomes(&[], &topology).unwrap(), ["decisions", "cases"]);
        assert_eq!(outcomes(&["cases".to_owned()], &topology).unwrap(), ["cases"]);
        let error = outcomes(&["decision".to_owned()], &topology).unwrap_err().to_string();
        assert!(error.contains("decision:") && error.contains("decisions, cases, fraud-alerts"), "{error}");
        let mut alerts_only = topology;
        alerts_only.outbound.retain(|alias, _| alias == "fraud-alerts");
        assert!(outcomes(&[], &alerts_only).unwrap_err().to_string().contains("--outcome"));
    }

    #[test]
    fn words_that_cannot_be_are_refused() {
        assert_eq!(rate("0.5"), Ok(0.5));
        for bad in ["0", "-1", "NaN", "inf", "fast"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
        assert_eq!(suffix("run-7"), Ok("run-7".to_owned()));
        for bad in ["", "a b", "a/b", "ä", &"x".repeat(65)] {
            assert!(suffix(bad).is_err(), "{bad}");
        }
    }
}
