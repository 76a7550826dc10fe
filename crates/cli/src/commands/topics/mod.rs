//! `anabranch topics`: the topology's topics against those of a cluster.

mod apply;
mod plan;
mod show;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use anabranch_kafka::Cluster;
use anabranch_topology::Topology;

use crate::agents::{self, Role};
use crate::options::{Brokers, TopologyFile};
use crate::output::{Format, OutputArgs, json};
use crate::reading::declared_agents;
use plan::{Actual, Plan};

/// Compare the topology's topics with a cluster's, or make the cluster's so.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Diff(DiffArgs),
    Apply(ApplyArgs),
}

/// Show what `topics apply` would do: + create, ~ change, - left over, ! cannot be done.
///
/// Compares what topics.yaml says of partitions and configs with what is there. Configs that the topology does not
/// mention are left alone.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
struct DiffArgs {
    /// End with 1 if there is a difference, as in a CI check.
    #[arg(long)]
    exit_code: bool,
    #[command(flatten)]
    common: Common,
}

/// Create the topics that are missing, and change partitions and configs that differ.
///
/// Asks first on a terminal; elsewhere it wants --yes. Nothing is ever deleted without --delete, and partitions never
/// become fewer. Each step is printed when it is done; run it again after a failure, and it goes on from there.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
struct ApplyArgs {
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct Common {
    /// Delete what is left over: task topics of this topology (and their dead letters) whose agent is no more. Their
    /// records are lost.
    #[arg(long)]
    delete: bool,
    #[command(flatten)]
    topology: TopologyFile,
    #[command(flatten)]
    brokers: Brokers,
    #[command(flatten)]
    output: OutputArgs,
}

const EXAMPLES: &str = "\
Examples:
  anabranch topics diff --brokers localhost:9092
  anabranch topics diff --exit-code -o json
  anabranch topics apply --yes";

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Diff(args) => diff(args).await,
        Command::Apply(args) => {
            let (cluster, plan) = make_plan(&args.common).await?;
            apply::run(&cluster, plan, args.yes, args.common.output.format).await
        }
    }
}

async fn diff(args: DiffArgs) -> anyhow::Result<ExitCode> {
    let (_, plan) = make_plan(&args.common).await?;
    match args.common.output.format {
        Format::Json => json(&plan)?,
        Format::Table => show::print(&plan)?,
    }
    Ok(if args.exit_code && plan.differs { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn make_plan(common: &Common) -> anyhow::Result<(Cluster, Plan)> {
    let topology = common.topology.load()?;
    let cluster = common.brokers.connect().await?;
    let agents = agents(&topology);
    let names: Vec<&str> = agents.iter().map(String::as_str).collect();
    let desired = topology.topics(&names);
    let actual = look(&cluster, &desired.iter().map(|spec| spec.name.clone()).collect()).await?;
    let plan = plan::plan(&topology, &desired, &actual, common.delete);
    Ok((cluster, plan))
}

/// Those that the topology declares, and those that have a crate here.
fn agents(topology: &Topology) -> BTreeSet<String> {
    let mut names = declared_agents(topology);
    match agents::discover() {
        Ok(crates) => names.extend(crates.into_iter().filter(|c| c.role == Role::Agent).map(|c| c.name)),
        Err(_) => eprintln!("not in a cargo workspace with agents: only agents that topics.yaml declares are known"),
    }
    names
}

/// What the cluster has of `desired`; of all other topics only that they are there.
async fn look(cluster: &Cluster, desired: &BTreeSet<String>) -> anyhow::Result<Actual> {
    let admin = cluster.admin();
    let listed = admin.list_topics().await?.into_iter().filter(|topic| !topic.internal);
    let partitions: BTreeMap<String, i32> = listed.map(|topic| (topic.name, topic.partitions)).collect();
    let existing: Vec<String> = desired.iter().filter(|name| partitions.contains_key(*name)).cloned().collect();
    let configs = if existing.is_empty() { BTreeMap::new() } else { admin.describe_configs(&existing).await? };
    Ok(Actual { partitions, configs })
}
