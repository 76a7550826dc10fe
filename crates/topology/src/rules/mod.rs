//! What the schema cannot say: names, loops, bands, retention, who waits for whom.
//!
//! Every rule looks at the topology with its defaults filled in, and at the file to know what its author wrote: the
//! place that is named is one that the author can change.

mod agents;
mod claims;
mod flow;
mod groups;
mod journal;
mod letters;
mod models;
mod names;
mod parking;
mod settings;
mod tools;

use crate::diagnostic::{Path, Report};
use crate::model::Topology;
use crate::raw;

/// What every rule looks at.
pub(crate) struct Facts<'a> {
    /// What is written.
    pub(crate) file: &'a raw::File,
    /// The same with defaults.
    pub(crate) topology: &'a Topology,
    /// Names of the agents that have a crate, if that is known.
    pub(crate) crates: Option<&'a [String]>,
}

impl Facts<'_> {
    /// Whether the topology's name could be read; nothing can be said of the topics that follow from it otherwise.
    fn is_named(&self) -> bool {
        self.file.name.is_some()
    }

    /// The agents with a line, `null` lines left out.
    fn lines(&self) -> impl Iterator<Item = (&String, &raw::Agent)> {
        self.file.agents.iter().flatten().filter_map(|(name, line)| Some((name, line.as_ref()?)))
    }

    /// All agents that are known, roles included, in order of name.
    fn known(&self) -> std::collections::BTreeSet<&str> {
        let declared = self.topology.agents.keys().map(String::as_str);
        declared.chain(self.crates.into_iter().flatten().map(String::as_str)).collect()
    }
}

/// Checks everything.
pub(crate) fn check(facts: &Facts<'_>, report: &mut Report<'_>) {
    let topics = names::collect(facts);
    names::check(facts, &topics, report);
    flow::check(facts, &topics, report);
    groups::check(facts, report);
    settings::check(facts, report);
    parking::check(facts, report);
    models::check(facts, report);
    claims::check(facts, report);
    tools::check(facts, report);
    agents::check(facts, report);
}

/// The path of an agent's line.
fn line_of(agent: &str) -> Path {
    Path::of(&["agents", agent])
}
