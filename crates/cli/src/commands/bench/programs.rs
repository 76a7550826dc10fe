//! The programs of a benchmark: this command, and the agents' binaries, built in its own profile.

use std::collections::BTreeMap;
use std::path::Path;

use anabranch_bench::{Programs, Workload};
use anyhow::Context as _;

use crate::agents::{self, Program};
use crate::usage::usage;

/// What W6 keeps busy. It is no agent of the application, so nobody finds it as one.
const NAPPER: &str = "napper";

/// Builds what is not built. A peer brings its own agents.
///
/// # Errors
/// If an agent is not there, or cannot be built.
pub(super) async fn find(workload: Workload, directory: Option<&Path>, is_peer: bool) -> anyhow::Result<Programs> {
    let command = std::env::current_exe().context("where this command lies")?;
    let wanted: Vec<String> = Programs::wanted(workload).iter().map(|name| (*name).to_owned()).collect();
    let built = match directory {
        _ if is_peer => Vec::new(),
        Some(directory) => agents::pick(agents::in_directory(directory)?, &wanted, |program| &program.name)?,
        None if wanted == [NAPPER] => vec![napper().await?],
        None => agents::build(&agents::pick(agents::discover()?, &wanted, |agent| &agent.name)?).await?,
    };
    Ok(Programs {
        command,
        agents: built.into_iter().map(|Program { name, path }| (name, path)).collect::<BTreeMap<_, _>>(),
    })
}

/// Built where the bench's own package is in the workspace.
async fn napper() -> anyhow::Result<Program> {
    let metadata = agents::workspace()?;
    let package = metadata.packages.iter().find(|package| package.name.as_str() == "anabranch-bench");
    let package = package.ok_or_else(|| {
        usage("w6 needs the agent of crates/bench: run it in Anabranch's own workspace, or name --bin-dir")
    })?;
    let agent = agents::AgentCrate {
        name: NAPPER.to_owned(),
        role: agents::Role::Agent,
        package: package.id.repr.clone(),
        binary: format!("anabranch-agent-{NAPPER}"),
    };
    let mut built: Vec<Program> = agents::build(&[agent]).await?;
    built.pop().context("the agent of w6 was not built")
}
