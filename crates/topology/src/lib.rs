//! `topics.yaml` to a validated topology. Pure: no I/O, no clock, no tokio.
//!
//! | room | what is in it |
//! |---|---|
//! | `model` | the validated topology, every default filled in: what the rest of the program works with |
//! | `names` | the topics and groups that follow from it |
//! | `access` | which process reads and writes which of them |
//! | `rename` | the same topology under another name, beside the first one |
//! | `raw` | the file as it is written; its types are the only source of the JSON Schema |
//! | `yaml` | text to a tree of nodes, each with its line and column |
//! | `shape`, `explain` | the tree against the schema: unknown fields, types, units |
//! | `fill` | from what is written to the topology, with defaults |
//! | `journal` | how much the journal of an agent's steps may hold |
//! | `letters` | how many dead letters of an agent are too many |
//! | `tools` | which tools an agent's model may call, and the servers they come from |
//! | `spending` | what models may be asked and cost: limits, budgets, prices |
//! | `claims` | values too large for a record, and where they lie |
//! | `parking` | cases that wait for a person: reminders, escalation, expiry |
//! | `rules` | what the schema cannot say: loops, names, bands, retention |
//! | `when` | expressions over requests, within bounds |
//! | `fitness` | whether topics that exist can hold what is promised |
//! | `diagnostic` | what is wrong, where, and what to write instead |
//!
//! A file is read in steps that do not stop at the first fault: what has the wrong shape is reported and left out, and
//! the rules look at the rest. So one run reports everything.

mod access;
mod claims;
mod diagnostic;
mod explain;
mod fill;
mod fitness;
mod journal;
mod letters;
mod model;
mod names;
mod parking;
mod raw;
mod rename;
mod rules;
mod shape;
mod spending;
mod tools;
mod unit;
mod when;
mod yaml;

pub use access::Access;
pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub use fitness::{Found, Misfit, misfits};
pub use model::*;
pub use names::{COMPOSER, SUPERVISOR};
pub use rename::renamed;
pub use spending::prices;
pub use when::compile_when;

use diagnostic::Report;
use rules::Facts;

/// A topology that can be used, and what its author should know.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The topology.
    pub topology: Topology,
    /// What is probably not meant, in order of line.
    pub warnings: Vec<Diagnostic>,
}

/// Reads and checks a topology. `file` is only named in diagnostics; `crates` are the names of the agents that have a
/// crate, if that is known.
///
/// # Errors
/// Everything that is wrong, warnings included, in order of line.
///
/// ```
/// let text = "name: kyc\ninbound: { requests: kyc.requests }\noutbound: { decisions: kyc.decisions }\n";
/// let checked = anabranch_topology::parse("topics.yaml", text, None)?;
/// assert_eq!(checked.topology.tasks_topic("identity"), "kyc.tasks.identity");
///
/// let wrong = text.replace("requests:", "request:");
/// let faults = anabranch_topology::parse("topics.yaml", &wrong, None).unwrap_err();
/// assert!(faults.to_string().starts_with("topics.yaml:2:1: error: inbound.requests: missing"));
/// # Ok::<(), anabranch_topology::Diagnostics>(())
/// ```
pub fn parse(file: &str, text: &str, crates: Option<&[String]>) -> Result<Checked, Diagnostics> {
    let root = yaml::read(text).map_err(|fault| Diagnostics::of_syntax(file, fault))?;
    let mut report = Report::new(file, &root);
    let raw = shape::read(&root, &mut report);
    let topology = fill::topology(&raw, &root);
    rules::check(&Facts { file: &raw, topology: &topology, crates }, &mut report);
    report.finish().map(|warnings| Checked { topology, warnings })
}

/// JSON Schema (draft 2020-12) of the file, for editors. [`parse`] checks a file's shape with the same schema.
#[must_use]
pub fn json_schema() -> serde_json::Value {
    raw::schema()
}
