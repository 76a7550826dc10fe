//! Building agents with cargo, in the profile of the running binary.

use std::process::Stdio;

use anyhow::{Context as _, anyhow};
use cargo_metadata::{Message, TargetKind};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use super::{AgentCrate, Program};

/// Whether this binary was built with `--release`; its agents are then built so too.
const RELEASE: bool = !cfg!(debug_assertions);

/// Builds the agents; what is up to date is only looked up. Cargo shows its progress on stderr.
///
/// Dropping the future ends cargo.
///
/// # Errors
/// If cargo cannot be run, or fails: it has said why.
pub(crate) async fn build(agents: &[AgentCrate]) -> anyhow::Result<Vec<Program>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(&cargo);
    // Of the whole workspace, so that dependencies are built with the same features as for everything else, once.
    command.args(["build", "--workspace", "--message-format", "json-render-diagnostics"]);
    if RELEASE {
        command.arg("--release");
    }
    for agent in agents {
        command.args(["--bin", &agent.binary]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().with_context(|| format!("cannot run {}", cargo.display()))?;
    let stdout = child.stdout.take().ok_or_else(|| anyhow!("cargo has no stdout"))?;
    let mut lines = BufReader::new(stdout).lines();
    let mut programs = Vec::with_capacity(agents.len());
    while let Some(line) = lines.next_line().await.context("cannot read what cargo says")? {
        programs.extend(built(agents, &line));
    }
    let status = child.wait().await.context("cannot wait for cargo")?;
    if !status.success() {
        return Err(anyhow!("the agents cannot be built: cargo ended with {status}"));
    }
    in_order(agents, programs)
}

/// The agent that a line of cargo's messages says is built.
fn built(agents: &[AgentCrate], line: &str) -> Option<Program> {
    // Lines that are no messages are what build scripts printed.
    let Ok(Message::CompilerArtifact(artifact)) = serde_json::from_str::<Message>(line) else { return None };
    let path = artifact.executable?;
    let is_of = |a: &&AgentCrate| {
        a.package == artifact.package_id.repr
            && a.binary == artifact.target.name
            && artifact.target.kind.contains(&TargetKind::Bin)
    };
    agents.iter().find(is_of).map(|agent| Program { name: agent.name.clone(), path: path.into_std_path_buf() })
}

fn in_order(agents: &[AgentCrate], mut programs: Vec<Program>) -> anyhow::Result<Vec<Program>> {
    if let Some(missing) = agents.iter().find(|a| !programs.iter().any(|p| p.name == a.name)) {
        return Err(anyhow!("cargo built {} but did not say where", missing.name));
    }
    let place = |program: &Program| agents.iter().position(|a| a.name == program.name);
    programs.sort_by_key(place);
    Ok(programs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agents::Role;

    fn agent(name: &str) -> AgentCrate {
        AgentCrate {
            name: name.to_owned(),
            role: Role::Agent,
            package: format!("path+file:///w/agents/{name}#anabranch-agent-{name}@0.1.0"),
            binary: format!("anabranch-agent-{name}"),
        }
    }

    fn artifact(name: &str, kind: &str, executable: Option<&str>) -> String {
        serde_json::json!({
            "reason": "compiler-artifact",
            "package_id": format!("path+file:///w/agents/{name}#anabranch-agent-{name}@0.1.0"),
            "manifest_path": format!("/w/agents/{name}/Cargo.toml"),
            "target": {"kind": [kind], "crate_types": [kind], "name": format!("anabranch-agent-{name}"),
                "src_path": "/w/main.rs", "edition": "2024", "doc": true, "doctest": false, "test": true},
            "profile": {"opt_level": "0", "debuginfo": 1, "debug_assertions": true, "overflow_checks": true, "test": false},
            "features": [], "filenames": [], "executable": executable, "fresh": true
        })
        .to_string()
    }

    #[test]
    fn what_cargo_says_is_built_is_found_in_the_order_asked_for() {
        let agents = [agent("supervisor"), agent("fraud")];
        let lines = [
            artifact("fraud", "lib", None),
            artifact("fraud", "bin", Some("/w/target/debug/anabranch-agent-fraud")),
            "not json".to_owned(),
            artifact("other", "bin", Some("/w/target/debug/other")),
            artifact("supervisor", "bin", Some("/w/target/debug/anabranch-agent-supervisor")),
        ];
        let programs: Vec<Program> = lines.iter().filter_map(|line| built(&agents, line)).collect();
        let programs = in_order(&agents, programs).unwrap();
        let paths: Vec<String> = programs.iter().map(|p| p.path.display().to_string()).collect();
        assert_eq!(paths, ["/w/target/debug/anabranch-agent-supervisor", "/w/target/debug/anabranch-agent-fraud"]);
    }

    #[test]
    fn an_agent_that_cargo_does_not_mention_is_an_error() {
        let error = in_order(&[agent("fraud")], Vec::new()).unwrap_err();
        assert!(error.to_string().contains("fraud"), "{error}");
    }
}
