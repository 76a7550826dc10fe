//! `anabranch status`: who works on the topology, and what lies waiting.

mod gather;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use crate::options::{Brokers, TopologyFile};
use crate::output::{Format, OutputArgs, json, line, table};
pub(crate) use gather::lags;
use gather::{GroupStatus, Status};

/// Show the consumer group of every agent: its state, members, partitions and lag; dead letters and open cases.
///
/// Lag is the number of offsets between what a group has committed and where its topics end. Agents are those that
/// topics.yaml declares and those that have a task topic on the cluster. Warns about a group without members.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anabranch status
  watch anabranch status --brokers localhost:9092
  anabranch status -o json | jq '.groups[] | select(.lag > 1000)'")]
pub(crate) struct Args {
    #[command(flatten)]
    topology: TopologyFile,
    #[command(flatten)]
    brokers: Brokers,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let topology = args.topology.load()?;
    let cluster = args.brokers.connect().await?;
    let status = gather::gather(&cluster, &topology).await?;
    match args.output.format {
        Format::Json => json(&status)?,
        Format::Table => print(&status)?,
    }
    for warning in &status.warnings {
        eprintln!("warning: {warning}");
    }
    Ok(ExitCode::SUCCESS)
}

fn print(status: &Status) -> anyhow::Result<()> {
    line(groups(&status.groups))?;
    let dead: Vec<_> = status.dead_letters.iter().filter(|topic| topic.records > 0).collect();
    if !dead.is_empty() {
        let mut letters = table(&["DEAD LETTERS", "RECORDS"]);
        letters.add_rows(dead.iter().map(|topic| [topic.topic.clone(), topic.records.to_string()]));
        line(format!("\n{letters}"))?;
    }
    match &status.cases {
        Some(cases) => line(format!(
            "\n{} cases open: {} being joined, {} parked for a person; {} closed and remembered",
            cases.joining + cases.parked,
            cases.joining,
            cases.parked,
            cases.closed
        )),
        None => Ok(()),
    }
}

fn groups(groups: &[GroupStatus]) -> comfy_table::Table {
    let mut rows = table(&["AGENT", "GROUP", "STATE", "MEMBERS", "PARTITIONS", "LAG"]);
    for group in groups {
        rows.add_row([
            group.agent.clone(),
            group.group.clone(),
            group.state.clone(),
            group.members.len().to_string(),
            format!("{}/{}", group.assigned, group.partitions.len()),
            group.lag.to_string(),
        ]);
    }
    rows
}
