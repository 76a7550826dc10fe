//! The agents there are: found by `cargo metadata`, built by cargo, or taken from a directory of built binaries.
//!
//! An agent's package says so in its `Cargo.toml`, and that is all there is to registering one:
//!
//! ```toml
//! [package.metadata.anabranch]
//! agent = "identity"
//! role = "agent"      # or "supervisor", "composer"; "agent" if left out
//! ```

mod build;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use cargo_metadata::{Metadata, MetadataCommand, Package, TargetKind};
use serde::Deserialize;

use crate::usage::usage;

pub(crate) use build::build;

/// An agent's binary is named as its package: this, then the agent's name.
const BINARY_PREFIX: &str = "anabranch-agent-";

/// What an agent is to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Plans.
    Supervisor,
    /// Works.
    #[default]
    Agent,
    /// Joins and decides.
    Composer,
}

/// An agent's crate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AgentCrate {
    /// The agent's name: its group, its topic.
    pub(crate) name: String,
    /// Its role.
    pub(crate) role: Role,
    /// The package, as cargo wants it after `-p`.
    pub(crate) package: String,
    /// The package's binary.
    pub(crate) binary: String,
}

/// A built agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    /// The agent's name.
    pub(crate) name: String,
    /// What to run.
    pub(crate) path: PathBuf,
}

/// `[package.metadata.anabranch]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Marks {
    agent: String,
    #[serde(default)]
    role: Role,
}

/// The agents of the cargo workspace that the current directory is in: supervisors first, composers last.
///
/// # Errors
/// If there is no workspace, or a package says something of itself that cannot be.
pub(crate) fn discover() -> anyhow::Result<Vec<AgentCrate>> {
    of_metadata(&workspace()?)
}

/// The cargo workspace that the current directory is in, without its dependencies.
///
/// # Errors
/// If there is none, or no cargo.
pub(crate) fn workspace() -> anyhow::Result<Metadata> {
    MetadataCommand::new().no_deps().exec().map_err(|error| {
        let why = match error {
            cargo_metadata::Error::CargoMetadata { stderr } => stderr.trim().trim_start_matches("error: ").to_owned(),
            error => error.to_string(),
        };
        usage(format!("this is done in the workspace of the agents, with cargo: {why}"))
    })
}

/// The names of the agents of the workspace, where there is one.
pub(crate) fn names() -> Option<Vec<String>> {
    Some(discover().ok()?.into_iter().map(|agent| agent.name).collect())
}

fn of_metadata(metadata: &Metadata) -> anyhow::Result<Vec<AgentCrate>> {
    let mut found: BTreeMap<String, (AgentCrate, String)> = BTreeMap::new();
    for package in metadata.workspace_packages() {
        let Some(agent) = of_package(package)? else { continue };
        let file = package.manifest_path.to_string();
        if let Some((_, other)) = found.get(&agent.name) {
            return Err(usage(format!("{file}: agent {:?} is in {other} already; name it otherwise", agent.name)));
        }
        found.insert(agent.name.clone(), (agent, file));
    }
    let mut agents: Vec<AgentCrate> = found.into_values().map(|(agent, _)| agent).collect();
    agents.sort_by(|a, b| (a.role, &a.name).cmp(&(b.role, &b.name)));
    Ok(agents)
}

fn of_package(package: &Package) -> anyhow::Result<Option<AgentCrate>> {
    let Some(marks) = package.metadata.get("anabranch") else { return Ok(None) };
    let file = &package.manifest_path;
    let marks = Marks::deserialize(marks).map_err(|e| usage(format!("{file}: [package.metadata.anabranch]: {e}")))?;
    check_name(&marks.agent).map_err(|why| usage(format!("{file}: agent = {:?}: {why}", marks.agent)))?;
    let binaries = package.targets.iter().filter(|t| t.kind.contains(&TargetKind::Bin)).map(|t| t.name.clone());
    let binaries: Vec<String> = binaries.collect();
    let named = binaries.iter().find(|name| **name == *package.name || **name == marks.agent);
    let binary = match (&binaries[..], named) {
        ([only], _) => only.clone(),
        (_, Some(named)) => named.clone(),
        ([], None) => return Err(usage(format!("{file}: an agent needs a binary: write src/main.rs"))),
        (_, None) => {
            return Err(usage(format!("{file}: which binary is the agent? name one of them {:?}", *package.name)));
        }
    };
    Ok(Some(AgentCrate { name: marks.agent, role: marks.role, package: package.id.repr.clone(), binary }))
}

/// Whether `name` can be an agent's: it becomes part of topics, groups and metric labels.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if let Some(odd) = name.chars().find(|c| !plain(*c)) {
        return Err(format!("{odd:?} may not be in an agent's name; use lower-case letters, digits and -"));
    }
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        return Err("an agent's name begins with a lower-case letter".to_owned());
    }
    if name.ends_with('-') || name.contains("--") {
        return Err("a - stands between two letters or digits".to_owned());
    }
    if name.len() > 64 {
        return Err("an agent's name has at most 64 characters".to_owned());
    }
    Ok(())
}

/// Those of `all` that are wanted; all of them if nothing is.
///
/// # Errors
/// If one that is wanted does not exist, or there is none at all.
pub(crate) fn pick<T>(all: Vec<T>, wanted: &[String], name: impl Fn(&T) -> &str) -> anyhow::Result<Vec<T>> {
    let names = || all.iter().map(&name).collect::<Vec<_>>().join(", ");
    if all.is_empty() {
        return Err(usage("there are no agents: make one with `anabranch new agent NAME`"));
    }
    if let Some(missing) = wanted.iter().find(|w| !all.iter().any(|a| name(a) == w.as_str())) {
        return Err(usage(format!("there is no agent {missing:?}; there are: {}", names())));
    }
    Ok(all.into_iter().filter(|a| wanted.is_empty() || wanted.iter().any(|w| w == name(a))).collect())
}

/// The built agents in a directory: its executables named `anabranch-agent-<name>`.
///
/// # Errors
/// If the directory cannot be read, or holds none.
pub(crate) fn in_directory(directory: &Path) -> anyhow::Result<Vec<Program>> {
    let shown = directory.display();
    let entries = std::fs::read_dir(directory).map_err(|e| usage(format!("cannot read --bin-dir {shown}: {e}")))?;
    let mut programs = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read {shown}"))?.path();
        let name = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_prefix(BINARY_PREFIX));
        let Some(name) = name.filter(|n| check_name(n).is_ok()) else { continue };
        if is_executable(&path) {
            programs.push(Program { name: name.to_owned(), path: path.clone() });
        }
    }
    if programs.is_empty() {
        return Err(usage(format!("{shown} holds no executable named {BINARY_PREFIX}<name>")));
    }
    programs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(programs)
}

/// The binaries of `agents` beside the running one.
///
/// # Errors
/// If one is not built.
pub(crate) fn beside(agents: Vec<AgentCrate>) -> anyhow::Result<Vec<Program>> {
    let own = std::env::current_exe().context("cannot tell where this binary is")?;
    let of = |agent: AgentCrate| {
        let path = own.with_file_name(&agent.binary);
        if is_executable(&path) {
            return Ok(Program { name: agent.name, path });
        }
        Err(usage(format!("{} is not built: {} does not exist; leave --no-build out", agent.name, path.display())))
    };
    agents.into_iter().map(of).collect()
}

fn is_executable(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
