//! `anabranch replay`: a finished case, done again and compared.
//!
//! | room | what is in it |
//! |---|---|
//! | `found` | the records of the case, sorted by what is done with them |
//! | `steps` | what the agents' journals held |
//! | `turns` | what the composer did, in order, and when |
//! | `tasks` | the supervisor's tasks, made again of plans and follow-ups |
//! | `again` | tasks and case, done again by their programs |
//! | `program` | one binary, asked to do something again |
//! | `compare` | where two records differ |
//! | `report` | what came of it, as a table or as JSON |

mod again;
mod compare;
mod found;
mod program;
mod report;
mod steps;
mod tasks;
#[cfg(test)]
mod tests;
mod turns;

use std::collections::BTreeSet;
use std::process::ExitCode;

use anabranch_kafka::Cluster;
use anabranch_protocol::{CorrelationId, PartialStatus};
use anabranch_topology::{COMPOSER, Topology};

use self::again::Again;
use self::found::Found;
use self::report::Report;
use self::steps::Journals;
use super::up::ProgramArgs;
use crate::masking::Masking;
use crate::options::{Brokers, TopologyFile};
use crate::output::{OutputArgs, ReaderGone};
use crate::reading::Survey;
use crate::usage::{Usage, usage};

/// It could not be told whether all is the same.
const NOT_COMPARED: u8 = 2;

/// Do a finished case again, from its records and its agents' journals, and compare byte for byte.
///
/// Every task whose answer counted is done again by its agent: it is given the task, what its journal holds of steps, model
/// calls and tool calls, and the time as it read it then. No model is asked, no tool is called, and a step that is not in the
/// journal is refused. Then the composer is given all answers, decisions and deadlines in the order in which it had them, and
/// tasks are made of plans and follow-ups. What would be written is compared with what is on the cluster: key, headers, value.
/// Run it with the topology and the environment that the agents have.
///
/// Nothing is written to the cluster, ever. The plan is taken as it was, as planning has no journal. So are answers that
/// failed or expired, as errors are not journaled, and those that did not count. Times and numbers of attempts are taken from
/// the records; which turn the composer took when it wrote nothing is told by the time of the record that it had.
///
/// With --live AGENT the model is asked anew for the tasks of that agent alone, with what OPENAI_BASE_URL and OPENAI_API_KEY
/// name, and the difference of its answers is shown. Such calls are in no ledger and know neither budgets nor rate limits;
/// the composer is given the answers as they were.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anabranch replay case-17
  anabranch replay case-17 --agent fraud --bin-dir target/release
  anabranch replay case-17 --live document            # what would the model say today?
  anabranch replay case-17 -o json | jq '.items[] | select(.verdict == \"differs\")'

Exit codes: 0 all the same, 1 something differs, 2 it cannot be told (no such case, not finished, records or journals gone,
another version of an agent, no broker), 64 wrong usage.")]
pub(crate) struct Args {
    /// The case, as `send` and `watch` print it.
    #[arg(value_name = "CORRELATION_ID")]
    case: String,
    /// Ask the model anew for this agent's tasks.
    #[arg(long, value_name = "AGENT")]
    live: Option<String>,
    #[command(flatten)]
    programs: ProgramArgs,
    #[command(flatten)]
    topology: TopologyFile,
    #[command(flatten)]
    brokers: Brokers,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match replay(args).await {
        Err(error) if !error.is::<Usage>() && !error.is::<ReaderGone>() => {
            eprintln!("error: {error:#}");
            Ok(ExitCode::from(NOT_COMPARED))
        }
        other => other,
    }
}

async fn replay(args: Args) -> anyhow::Result<ExitCode> {
    let topology = args.topology.load()?;
    let cluster = args.brokers.connect().await?;
    let (case, format) = (CorrelationId::new(args.case.clone()), args.output.format);
    let survey = Survey::take(&cluster, &topology).await?;
    let found = found::find(&cluster, (&topology, &survey), &case).await?;
    let wanted = wanted(&found, &args)?;
    let report = done_again(&args, (&cluster, &topology, &survey), case, &found, wanted).await?;
    report.print(format)?;
    Ok(report.exit_code())
}

async fn done_again(
    args: &Args,
    (cluster, topology, survey): (&Cluster, &Topology, &Survey),
    case: CorrelationId,
    found: &Found,
    wanted: BTreeSet<String>,
) -> anyhow::Result<Report> {
    let all = args.programs.agents.is_empty();
    let chosen = ProgramArgs { agents: wanted.iter().cloned().collect(), ..args.programs.clone() };
    let programs = chosen.choose()?.0.programs().await?;
    let masking = Masking::take(cluster, survey).await?;
    let again = Again {
        found,
        topology,
        file: &args.topology,
        journals: Journals::read(cluster, (topology, survey), found).await?,
        programs,
        all,
        live: args.live.as_deref(),
        masking,
    };
    // The supervisor keeps no state, so that its part takes no program of its own.
    let mut items = if all { tasks::again(found, topology, &again.masking)? } else { Vec::new() };
    items.extend(again.answers().await?);
    if wanted.contains(COMPOSER) {
        items.extend(again.case().await?);
    }
    Ok(Report::new(case, args.live.clone(), items))
}

/// Whose part is done again: of all that had one, or of those that are named.
fn wanted(found: &Found, args: &Args) -> anyhow::Result<BTreeSet<String>> {
    let counted = found
        .answers
        .iter()
        .filter(|answer| answer.late.is_none() && matches!(answer.read.data.status, PartialStatus::Completed(_)));
    let answered: BTreeSet<String> = counted.map(|answer| answer.read.data.agent.clone()).collect();
    let there = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(", ");
    if let Some(live) = args.live.as_ref().filter(|live| !answered.contains(*live)) {
        let there = there(&answered);
        return Err(usage(format!(
            "--live {live}: no answer of {live} counts in this case; there are those of {there}"
        )));
    }
    let mut all = answered;
    all.insert(COMPOSER.to_owned());
    if args.programs.agents.is_empty() {
        return Ok(all);
    }
    let named: BTreeSet<String> = args.programs.agents.iter().chain(&args.live).cloned().collect();
    match named.iter().find(|name| !all.contains(*name)) {
        Some(name) => {
            let there = there(&all);
            Err(usage(format!("--agent {name}: no answer of {name} counts in this case; there are those of {there}")))
        }
        None => Ok(named),
    }
}
