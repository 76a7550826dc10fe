//! `anabranch up`: agents as processes against a cluster.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anabranch_topology::Topology;

use crate::agents::{self, Program};
use crate::console::Console;
use crate::options::{Brokers, TopologyFile};
use crate::processes::{Common, End, Fleet, Launch, Shutdown};

/// After an agent's own drain time it may take so much longer to leave its group and end.
const AFTER_DRAIN: Duration = Duration::from_secs(5);
/// Readiness is only told, so it may take as long as a broker may be away at a start.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// Build and run agents, one process each, against a Kafka or Redpanda cluster.
///
/// Agents are the crates of the workspace whose Cargo.toml has [package.metadata.anabranch]. A process that fails is
/// started again, with a growing wait between tries; one that cannot work with its topology or config (exit code 64)
/// is not. Logs go to stderr with the agent's name in front. Ctrl-C or SIGTERM drains all of them together; a second
/// one ends them at once, and what was not done is delivered again.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) brokers: Brokers,
    #[command(flatten)]
    pub(crate) topology: TopologyFile,
    #[command(flatten)]
    pub(crate) programs: ProgramArgs,
    /// Processes of each agent; they share its partitions.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) replicas: u32,
    /// Make the processes static members of their groups (group.instance.id `<agent>-<replica>`): one that is started again
    /// within its session time causes no rebalance, and gets its partitions back. The price: they wait for it that long,
    /// also after Ctrl-C. Of each agent only one `up --static` may run on a cluster.
    #[arg(long = "static")]
    pub(crate) static_members: bool,
}

const EXAMPLES: &str = "\
Examples:
  anabranch up --brokers localhost:9092                      all agents of the workspace
  ANABRANCH_KAFKA=localhost:9092 anabranch up --agent fraud --replicas 3
  anabranch up --brokers kafka:9092 --bin-dir /opt/kyc/bin   in a deployment, without cargo

An agent joins by being started: run a second `anabranch up --agent adverse-media` in another terminal, and the
running supervisor plans with it.

Exit codes: 0 all drained or ended by themselves, 1 one failed, 64 wrong usage, or an agent that cannot work with its config.";

/// Which agents, and where their binaries come from.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ProgramArgs {
    /// Only this agent; may be given several times.
    #[arg(long = "agent", value_name = "AGENT")]
    pub(crate) agents: Vec<String>,
    /// Build nothing: run the agents' binaries that are beside this one.
    #[arg(long)]
    pub(crate) no_build: bool,
    /// Build nothing: run the executables anabranch-agent-NAME in this directory. Needs neither cargo nor sources.
    #[arg(long, value_name = "DIR")]
    pub(crate) bin_dir: Option<PathBuf>,
}

/// Agents that were chosen, not built yet.
pub(crate) enum Chosen {
    Crates(Vec<agents::AgentCrate>),
    Built(Vec<Program>),
}

impl ProgramArgs {
    /// The agents that were chosen, and the names of all there are.
    pub(crate) fn choose(&self) -> anyhow::Result<(Chosen, Vec<String>)> {
        if let Some(directory) = &self.bin_dir {
            let all = agents::in_directory(directory)?;
            let names = all.iter().map(|p| p.name.clone()).collect();
            return Ok((Chosen::Built(agents::pick(all, &self.agents, |p| &p.name)?), names));
        }
        let all = agents::discover()?;
        let names = all.iter().map(|a| a.name.clone()).collect();
        let picked = agents::pick(all, &self.agents, |a| &a.name)?;
        let chosen = if self.no_build { Chosen::Built(agents::beside(picked)?) } else { Chosen::Crates(picked) };
        Ok((chosen, names))
    }
}

impl Chosen {
    /// Builds what is not built.
    pub(crate) async fn programs(self) -> anyhow::Result<Vec<Program>> {
        match self {
            Self::Crates(crates) => agents::build(&crates).await,
            Self::Built(programs) => Ok(programs),
        }
    }
}

/// A launch for each process: `replicas` of each program.
pub(crate) fn launches(
    programs: Vec<Program>,
    replicas: u32,
    static_members: bool,
    topology: &Topology,
) -> Vec<Launch> {
    let of = |program: Program| {
        let settings = topology.agent(&program.name);
        (1..=replicas).map(move |replica| Launch {
            agent: program.name.clone(),
            replica: (replicas > 1).then_some(replica),
            program: program.path.clone(),
            // Only one process can have the port that the topology names.
            http_port: if replicas == 1 { settings.http_port } else { 0 },
            drain_within: settings.drain_timeout + AFTER_DRAIN,
            arguments: Vec::new(),
            instance_id: static_members.then(|| format!("{}-{replica}", program.name)),
        })
    };
    programs.into_iter().flat_map(of).collect()
}

/// What every agent is told.
pub(crate) fn common(topology: &TopologyFile, brokers: &[String]) -> Common {
    let arguments = ["--topology".into(), topology.path.clone().into(), "--brokers".into(), brokers.join(",").into()];
    Common { arguments: arguments.to_vec(), environment: Vec::new() }
}

/// Runs it.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let console = Console::stderr();
    let (chosen, names) = args.programs.choose()?;
    let checked = args.topology.check(Some(&names))?;
    checked.warnings.iter().for_each(|warning| console.line(&warning.to_string()));
    let shutdown = Shutdown::of_agents(&console)?;
    let Some(programs) = shutdown.unless(chosen.programs()).await else { return Ok(ExitCode::FAILURE) };
    let launches = launches(programs?, args.replicas, args.static_members, &checked.topology);
    let fleet = Fleet::start(launches, common(&args.topology, &args.brokers.brokers), &console, &shutdown);
    console.line(&format!("started: {}", fleet.labels().collect::<Vec<_>>().join(", ")));
    let tell = async {
        match fleet.ready(READY_WITHIN).await {
            Ok(()) => console.line("all ready; Ctrl-C drains"),
            Err(error) => console.line(&format!("warning: {error:#}")),
        }
        std::future::pending::<()>().await;
    };
    let ends = tokio::select! {
        ends = fleet.ended() => ends,
        () = tell => Vec::new(),
    };
    Ok(exit_code(&ends))
}

fn exit_code(ends: &[End]) -> ExitCode {
    if ends.contains(&End::Refused) {
        crate::usage::refused()
    } else if ends.contains(&End::Failed) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn static_members_have_stable_names_of_their_own() {
        let ids = |static_members| -> Vec<Option<String>> {
            let program = Program { name: "fraud".to_owned(), path: PathBuf::from("/bin/true") };
            let topology = crate::reading::example();
            launches(vec![program], 2, static_members, &topology).into_iter().map(|l| l.instance_id).collect()
        };
        assert_eq!(ids(true), [Some("fraud-1".to_owned()), Some("fraud-2".to_owned())]);
        assert_eq!(ids(false), [None, None]);
    }

    #[test]
    fn the_worst_end_decides() {
        assert_eq!(exit_code(&[End::Done, End::Done]), ExitCode::SUCCESS);
        assert_eq!(exit_code(&[End::Done, End::Failed]), ExitCode::FAILURE);
        assert_eq!(exit_code(&[End::Failed, End::Refused]), ExitCode::from(64));
    }
}
