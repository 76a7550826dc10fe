//! `anabranch new agent`: a crate that compiles and answers tasks as it is.

mod template;
#[cfg(test)]
mod tests;

use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::agents::{check_name, workspace};
use crate::output;
use crate::usage::usage;
use template::Template;

/// Make something new.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Agent(AgentArgs),
}

/// Write the crate of a new agent to agents/NAME. It compiles as it is and answers tasks; no other file is edited.
///
/// The workspace takes every crate in agents/. Once it runs, the agent announces itself, and a running supervisor
/// plans with it.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
struct AgentArgs {
    /// Its name: lower-case letters, digits and -. It names the crate, the topic of its tasks and its group.
    name: String,
    /// What it does, in a sentence; a planning model reads this.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// CEL over `request`: which cases need it. Without it, all.
    #[arg(long, value_name = "CEL")]
    when: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  anabranch new agent adverse-media --description 'Looks for bad press about the applicant.'
  anabranch new agent pep-check --when 'request.risk == \"high\"'";

/// Runs it.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let What::Agent(args) = args.what;
    let template = Template::new(&args.name, args.description.as_deref(), args.when.as_deref())?;
    let directory = workspace()?.workspace_root.into_std_path_buf().join("agents").join(&args.name);
    write(&template, &directory)?;
    let directory = shown(&directory);
    output::line(&directory)?;
    eprint!("{}", next_steps(&args.name, &directory));
    Ok(ExitCode::SUCCESS)
}

/// Writes the crate's files. Either all of them are there afterwards, or none.
fn write(template: &Template, directory: &Path) -> anyhow::Result<()> {
    let parent = directory.parent().context("an agent's directory has a parent")?;
    std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    match std::fs::create_dir(directory) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            return Err(usage(format!("{} is there already; choose another name, or remove it", shown(directory))));
        }
        Err(error) => return Err(error).with_context(|| format!("cannot make {}", shown(directory))),
    }
    if let Err(error) = write_all(template, directory) {
        // What is left of it is not worth hiding the error for.
        let _ = std::fs::remove_dir_all(directory);
        return Err(error).with_context(|| format!("cannot write {}", shown(directory)));
    }
    Ok(())
}

fn write_all(template: &Template, directory: &Path) -> std::io::Result<()> {
    for (path, text) in template.files() {
        let path = directory.join(path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(path, text)?;
    }
    Ok(())
}

/// A path, relative to the current directory where it lies below.
fn shown(path: &Path) -> String {
    let current = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(current).unwrap_or(path).display().to_string()
}

fn next_steps(name: &str, directory: &str) -> String {
    format!(
        "\
{directory} compiles as it is and answers tasks. Next:
  1. {directory}/src/lib.rs: say what it reads, what it answers and how
  2. cargo test -p anabranch-agent-{name}
  3. anabranch up --agent {name}    it joins what runs: new cases get tasks for it
"
    )
}
