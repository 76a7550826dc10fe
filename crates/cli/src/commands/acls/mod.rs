//! `anabranch acls`: the least rights each agent needs.

mod print;
mod rights;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::process::ExitCode;

use crate::agents::{self, Role};
use crate::options::TopologyFile;
use crate::output::{json, line};
use crate::reading::declared_agents;

/// Print the least rights each agent needs, as commands that grant them.
///
/// Needs no broker: the agents are those that the topology declares and those of the cargo workspace this is run in.
/// With these rights nobody creates topics: an operator runs `anabranch topics apply` first. A right to read or write
/// includes that to describe. DescribeConfigs lets an agent check at its start that the topics fit the topology;
/// without it the check is left out.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anabranch acls                               # kafka-acls.sh for a user per agent, called like the agent
  anabranch acls | ANABRANCH_KAFKA=kafka:9093 KAFKA_ADMIN_CONFIG=admin.properties sh
  anabranch acls --principal 'User:CN={agent},O=Example' # mutual TLS
  anabranch acls -o rpk | sh                   # Redpanda
  anabranch acls -o json | jq -r '.[] | select(.agent == \"fraud\") | .name'")]
pub(crate) struct Args {
    /// Instead of the agents' rights print those of an operator who looks at dead letters and sends them back (`anabranch dlq`);
    /// {agent} then stands for `operator`.
    #[arg(long)]
    operator: bool,
    /// Who gets the rights; {agent} stands for the agent's name.
    #[arg(long, value_name = "PRINCIPAL", default_value = "User:{agent}")]
    principal: String,
    /// How the rights are written.
    #[arg(short = 'o', long = "output", value_enum, default_value_t = AclFormat::Kafka, value_name = "FORMAT")]
    format: AclFormat,
    #[command(flatten)]
    topology: TopologyFile,
}

/// How rights are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum AclFormat {
    /// Calls of Apache Kafka's kafka-acls.sh.
    Kafka,
    /// Calls of Redpanda's rpk.
    Rpk,
    /// One object for each right.
    Json,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let topology = args.topology.load()?;
    let mut names: BTreeSet<String> = declared_agents(&topology);
    if let Ok(crates) = agents::discover() {
        names.extend(crates.into_iter().filter(|c| c.role == Role::Agent).map(|c| c.name));
    }
    let rights = match args.operator {
        true => rights::operator(&topology, &names, &args.principal),
        false => rights::rights(&topology, &names, &args.principal),
    };
    match args.format {
        AclFormat::Kafka => line(print::kafka(&rights).trim_end())?,
        AclFormat::Rpk => line(print::rpk(&rights).trim_end())?,
        AclFormat::Json => json(&rights)?,
    }
    Ok(ExitCode::SUCCESS)
}
