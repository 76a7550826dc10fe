//! `anabranch validate`: what is wrong with a topology, all of it at once.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anabranch_topology::{Diagnostic, Prices, Severity, Topology};

use crate::agents;
use crate::options::TopologyFile;
use crate::output::{Format, OutputArgs, json, line};
use crate::usage::EX_USAGE;

/// Check a topology: every fault with its line and column, and what to write instead.
///
/// Needs no broker. In a cargo workspace it also knows the agents' crates, and warns about agents that have none. Exit
/// code 0: it can be used, perhaps with warnings; 64: it cannot.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anabranch validate                                   # topics.yaml, or what ANABRANCH_TOPOLOGY names
  anabranch validate staging.yaml -o json
  anabranch validate --schema > topics.schema.json     # for editors: complete and check while writing")]
pub(crate) struct Args {
    /// The topology.
    #[arg(env = "ANABRANCH_TOPOLOGY", default_value = "topics.yaml", value_name = "FILE")]
    file: PathBuf,
    /// Print the JSON Schema of the file instead.
    #[arg(long)]
    schema: bool,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.schema {
        json(&anabranch_topology::json_schema())?;
        return Ok(ExitCode::SUCCESS);
    }
    let file = TopologyFile { path: args.file };
    let text = file.read()?;
    let found = match anabranch_topology::parse(&file.name(), &text, agents::names().as_deref()) {
        Ok(checked) => {
            let mut found = checked.warnings;
            found.extend(prices(&file, &checked.topology));
            found
        }
        Err(diagnostics) => diagnostics.iter().cloned().collect(),
    };
    match args.output.format {
        Format::Json => json(&found)?,
        Format::Table => found.iter().try_for_each(line)?,
    }
    let errors = found.iter().filter(|d| d.severity == Severity::Error).count();
    let warnings = found.len() - errors;
    eprintln!("{}: {}", file.name(), summary(errors, warnings));
    Ok(if errors > 0 { ExitCode::from(EX_USAGE) } else { ExitCode::SUCCESS })
}

/// What is wrong with the prices, where they have a file of their own.
fn prices(file: &TopologyFile, topology: &Topology) -> Vec<Diagnostic> {
    let Prices::File(name) = &topology.prices else { return Vec::new() };
    let path = file.path.parent().unwrap_or(Path::new("")).join(name);
    let shown = path.display().to_string();
    let said = std::fs::read_to_string(&path).map(|text| anabranch_topology::prices(&shown, &text, topology));
    match said {
        Ok(Ok(_)) => Vec::new(),
        Ok(Err(diagnostics)) => diagnostics.iter().cloned().collect(),
        Err(error) => vec![Diagnostic {
            severity: Severity::Error,
            file: shown,
            line: 1,
            column: 1,
            path: String::new(),
            message: format!("cannot be read: {error}"),
            help: format!("{} names it under `prices`, relative to itself", file.name()),
        }],
    }
}

fn summary(errors: usize, warnings: usize) -> String {
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    match (errors, warnings) {
        (0, 0) => "valid".to_owned(),
        (0, warnings) => format!("valid, {}", count(warnings, "warning")),
        (errors, 0) => count(errors, "error"),
        (errors, warnings) => format!("{}, {}", count(errors, "error"), count(warnings, "warning")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts() {
        assert_eq!(summary(0, 0), "valid");
        assert_eq!(summary(0, 1), "valid, 1 warning");
        assert_eq!(summary(2, 1), "2 errors, 1 warning");
    }
}
