//! Who is asked when, and who waits for whom.

use std::collections::BTreeMap;

use super::{Facts, line_of};
use crate::diagnostic::{Path, Report, suggest};
use crate::names::is_role;
use crate::raw::Agent;
use crate::when::compile_when;

/// In `sees`: the outcome; and all answers, and the outcome.
const OUTCOME: &str = "outcome";
const EVERYBODY: &str = "*";

/// Checks the lines of agents.
pub(super) fn check(facts: &Facts<'_>, report: &mut Report<'_>) {
    for (name, line) in facts.lines() {
        if is_role(name) {
            role(name, line, report);
            continue;
        }
        if let Some(when) = &line.when {
            check_when(when, &line_of(name).key("when"), report);
        }
        for (i, other) in line.after.iter().flatten().enumerate() {
            check_after(facts, name, other, &line_of(name).key("after").index(i), report);
        }
        for (i, other) in line.sees.iter().flatten().enumerate() {
            check_sees(facts, name, other, &line_of(name).key("sees").index(i), report);
        }
        for (i, pointer) in line.hidden_fields.iter().flatten().enumerate() {
            check_hidden(pointer, &line_of(name).key("hidden_fields").index(i), report);
        }
    }
    for agent in facts.topology.agents.keys() {
        without_crate(facts, agent, report);
    }
    cycles(facts, report);
}

/// Supervisor and composer get no tasks.
fn role(name: &str, line: &Agent, report: &mut Report<'_>) {
    let written = [
        ("required", line.required.is_some()),
        ("when", line.when.is_some()),
        ("after", line.after.is_some()),
        ("sees", line.sees.is_some()),
        ("hidden_fields", line.hidden_fields.is_some()),
    ];
    for (field, _) in written.into_iter().filter(|(_, is_written)| *is_written) {
        let message = format!("the {name} gets no tasks, so nothing is planned with it");
        report.error(&line_of(name).key(field), message, "remove the line");
    }
}

fn check_when(when: &str, at: &Path, report: &mut Report<'_>) {
    if let Err(wrong) = compile_when(when) {
        report.error(at, wrong, "write CEL over `request` that is true or false, such as `'request.amount > 1000'`");
    }
}

fn check_after(facts: &Facts<'_>, name: &str, other: &str, at: &Path, report: &mut Report<'_>) {
    if is_role(other) {
        let help = "name an agent that gets tasks, or remove it";
        report.error(at, format!("the {other} gives no answer to wait for"), help);
    } else if name == other {
        report.error(at, "an agent cannot wait for itself", "remove it");
    } else if facts.crates.is_some() && !facts.known().contains(other) {
        let known = facts.known().into_iter().filter(|a| *a != name && !is_role(a));
        report.warn(at, format!("no agent is called `{other}`"), suggest(other, known));
    }
}

fn check_sees(facts: &Facts<'_>, name: &str, other: &str, at: &Path, report: &mut Report<'_>) {
    if matches!(other, OUTCOME | EVERYBODY) {
        return;
    }
    if is_role(other) {
        report.error(at, format!("the {other} gives no answer to see"), "name an agent that gets tasks, or remove it");
    } else if name == other {
        report.warn(at, "an agent always sees its own earlier answer", "remove it");
    } else if facts.crates.is_some() && !facts.known().contains(other) {
        let known = facts.known().into_iter().filter(|a| *a != name && !is_role(a));
        report.warn(at, format!("no agent is called `{other}`"), suggest(other, known));
    }
}

fn check_hidden(pointer: &str, at: &Path, report: &mut Report<'_>) {
    if !pointer.starts_with('/') {
        let wrong = format!("`{pointer}` is no JSON pointer to a field of the request");
        report.error(
            at,
            wrong,
            "write for example `/applicant/tax_number`, or `/documents/*/number` for every element",
        );
    }
}

fn without_crate(facts: &Facts<'_>, agent: &str, report: &mut Report<'_>) {
    let Some(crates) = facts.crates.filter(|c| c.iter().all(|c| c != agent)) else { return };
    let free = crates.iter().map(String::as_str).filter(|c| !facts.topology.agents.contains_key(*c));
    let near = suggest(agent, free);
    let help = if near.starts_with("did you mean") {
        near
    } else {
        format!("add it with `anabranch new agent {agent}`, or remove the line")
    };
    report.warn_at_key(&line_of(agent), "no crate is this agent", help);
}

/// Agents that wait for each other would wait for ever. Each circle is reported once, at its first agent.
fn cycles(facts: &Facts<'_>, report: &mut Report<'_>) {
    let after: BTreeMap<&str, &[String]> =
        facts.lines().filter_map(|(name, line)| Some((name.as_str(), line.after.as_deref()?))).collect();
    let mut done: Vec<&str> = Vec::new();
    for start in after.keys().copied() {
        if done.contains(&start) {
            continue;
        }
        if let Some(circle) = circle_from(start, &after).filter(|c| c.len() > 1) {
            let way: Vec<&str> = circle.iter().copied().chain([start]).collect();
            report.error(
                &line_of(start).key("after"),
                format!("agents wait for each other: {}", way.join(" after ")),
                "remove one of these `after`",
            );
            done.extend(circle);
        }
    }
}

/// The shortest way from `start` back to itself.
fn circle_from<'a>(start: &'a str, after: &BTreeMap<&'a str, &'a [String]>) -> Option<Vec<&'a str>> {
    let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut queue = std::collections::VecDeque::from([start]);
    while let Some(agent) = queue.pop_front() {
        for next in after.get(agent).into_iter().flat_map(|a| a.iter()) {
            if next == start {
                let mut circle = vec![agent];
                while let Some(before) = circle.last().and_then(|last| came_from.get(last)) {
                    circle.push(before);
                }
                circle.reverse();
                return Some(circle);
            }
            if !came_from.contains_key(next.as_str()) {
                came_from.insert(next, agent);
                queue.push_back(next);
            }
        }
    }
    None
}
