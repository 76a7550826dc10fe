//! One agent, one consumer group: two agents on one would take each other's records.

use std::collections::{BTreeMap, BTreeSet};

use super::{Facts, line_of};
use crate::diagnostic::{Path, Report};
use crate::names::{COMPOSER, SUPERVISOR};

/// Checks groups, and that no two crates are one agent.
pub(super) fn check(facts: &Facts<'_>, report: &mut Report<'_>) {
    let topology = facts.topology;
    let mut agents = facts.known();
    agents.extend([SUPERVISOR, COMPOSER]);
    let mut of: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for agent in agents {
        of.entry(topology.group_of(agent)).or_default().push(agent);
    }
    for (name, line) in facts.lines() {
        let Some(group) = &line.group else { continue };
        let at = line_of(name).key("group");
        let default = format!("{}.{name}", topology.name);
        let others: Vec<&str> = of.get(group).into_iter().flatten().copied().filter(|a| a != name).collect();
        if !others.is_empty() {
            let message = format!("two agents on one group: `{group}` is the group of {} too", others.join(", "));
            report.error(&at, message, format!("remove the line: the group is then `{default}`"));
        }
        if group.is_empty() || group.len() > 249 || group.chars().any(|c| c.is_whitespace() || c.is_control()) {
            report.error(&at, "no name for a group", format!("write a word, such as `group: {default}`"));
        }
    }
    check_crates(facts, report);
}

fn check_crates(facts: &Facts<'_>, report: &mut Report<'_>) {
    let mut seen = BTreeSet::new();
    let twice: BTreeSet<&String> = facts.crates.into_iter().flatten().filter(|c| !seen.insert(*c)).collect();
    for agent in twice {
        let at = if facts.topology.agents.contains_key(agent) { line_of(agent) } else { Path::of(&["name"]) };
        report.error(
            &at,
            format!(
                "two crates are the agent `{agent}`: both would be on the group `{}`",
                facts.topology.group_of(agent)
            ),
            "give one of them another `NAME`",
        );
    }
}
