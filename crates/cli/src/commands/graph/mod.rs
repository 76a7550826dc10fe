//! `anabranch graph`: the topology as a graph.

mod build;
mod draw;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::process::ExitCode;

use crate::agents::{self, Role};
use crate::options::TopologyFile;
use crate::output::{json, line};
use crate::reading::declared_agents;

/// Draw the topology: which agent reads and writes which topic.
///
/// Needs no broker: the agents are those that the topology declares and those of the cargo workspace this is run in.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anabranch graph > topology.mmd                     # Mermaid, as in README files
  anabranch graph -o dot | dot -Tsvg > topology.svg
  anabranch graph -o json | jq '.edges[] | select(.from == \"agent:supervisor\")'")]
pub(crate) struct Args {
    /// How the graph is written.
    #[arg(short = 'o', long = "output", value_enum, default_value_t = GraphFormat::Mermaid, value_name = "FORMAT")]
    format: GraphFormat,
    /// The runtime's own topics as well: state, directory, late records and dead letters.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    topology: TopologyFile,
}

/// How a graph is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum GraphFormat {
    /// Mermaid flowchart.
    Mermaid,
    /// Graphviz.
    Dot,
    /// Nodes and edges.
    Json,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let topology = args.topology.load()?;
    let mut names: BTreeSet<String> = declared_agents(&topology);
    if let Ok(crates) = agents::discover() {
        names.extend(crates.into_iter().filter(|c| c.role == Role::Agent).map(|c| c.name));
    }
    let graph = build::graph(&topology, &names, args.all);
    match args.format {
        GraphFormat::Json => json(&graph)?,
        GraphFormat::Mermaid => line(draw::mermaid(&graph))?,
        GraphFormat::Dot => line(draw::dot(&graph))?,
    }
    Ok(ExitCode::SUCCESS)
}
