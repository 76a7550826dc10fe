//! `anabranch topics`: the topology's topics against those of a cluster.

mod apply;
mod plan;
mod show;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use anabranch_kafka::{Admin, Cluster};
use anabranch_topology::Topology;

use crate::agents::{self, Role};
use crate::options::{Brokers, TopologyFile};
use crate::output::{Format, OutputArgs, json};
use crate::reading::{agent_of_topic, declared_agents};
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
    /// Delete what is left over: task topics of this topology, and their dead letters, whose agent is neither declared,
    /// nor a crate of this workspace, nor running. Their records are lost.
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
    let mut agents = known_agents(&topology, common.delete)?;
    let cluster = common.brokers.connect().await?;
    let admin = cluster.admin();
    let listed = admin.list_topics().await?.into_iter().filter(|topic| !topic.internal);
    let partitions: BTreeMap<String, i32> = listed.map(|topic| (topic.name, topic.partitions)).collect();
    let strangers = partitions.keys().filter_map(|topic| agent_of_topic(&topology, topic));
    let strangers: Vec<String> = strangers.filter(|agent| !agents.contains(agent)).collect();
    agents.extend(running(&admin, &topology, strangers).await?);

    let names: Vec<&str> = agents.iter().map(String::as_str).collect();
    let desired = topology.topics(&names);
    let existing = desired.iter().map(|spec| spec.name.clone()).filter(|name| partitions.contains_key(name));
    let existing: Vec<String> = existing.collect();
    let configs = if existing.is_empty() { BTreeMap::new() } else { admin.describe_configs(&existing).await? };
    let actual = Actual { partitions, configs };
    let mut plan = plan::plan(&topology, &desired, &actual, common.delete);
    let misfits = anabranch_topology::misfits(&topology, &desired, &actual.found());
    plan.warnings.extend(misfits.iter().map(|misfit| format!("agents refuse to start as it is: {misfit}")));
    Ok((cluster, plan))
}

/// Agents that the topology declares, and those that have a crate here.
///
/// # Errors
/// If topics are to be deleted and it is not known which crates there are: those of agents that rest just now would be
/// among them.
fn known_agents(topology: &Topology, delete: bool) -> anyhow::Result<BTreeSet<String>> {
    let mut names = declared_agents(topology);
    match agents::discover() {
        Ok(crates) => names.extend(crates.into_iter().filter(|c| c.role == Role::Agent).map(|c| c.name)),
        Err(error) if delete => {
            return Err(error.context("--delete must know all agents: run it in their cargo workspace"));
        }
        Err(_) => eprintln!("not in a cargo workspace: known are agents that topics.yaml declares or that run"),
    }
    Ok(names)
}

/// Those of `agents` whose group has members: wherever their crates are, they are no left-overs.
async fn running(admin: &Admin, topology: &Topology, agents: Vec<String>) -> anyhow::Result<Vec<String>> {
    if agents.is_empty() {
        return Ok(agents);
    }
    let groups: Vec<String> = agents.iter().map(|agent| topology.group_of(agent)).collect();
    let infos = admin.describe_groups(&groups).await?;
    let running = agents.into_iter().zip(infos).filter(|(_, info)| !info.members.is_empty());
    Ok(running.map(|(agent, _)| agent).collect())
}
