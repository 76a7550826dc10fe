//! No way back: nothing that leaves may come in again.

use std::collections::{HashMap, HashSet, VecDeque};

use super::Facts;
use super::names::{Named, Side};
use crate::diagnostic::{Path, Report};

/// A service outside the topology that reads `from` and writes `to`.
struct Bridge<'a> {
    from: &'a str,
    to: &'a str,
    at: Path,
}

/// Looks for a way from what the runtime writes, over the declared bridges, to what it reads.
pub(super) fn check(facts: &Facts<'_>, topics: &[Named], report: &mut Report<'_>) {
    let bridges: Vec<Bridge<'_>> = bridges(facts).collect();
    let side: HashMap<&str, Side> = topics.iter().rev().map(|t| (t.name.as_str(), t.side)).collect();
    let came_from = reach(topics, &bridges);
    for bridge in &bridges {
        match side.get(bridge.to) {
            Some(Side::Own) => report.error(
                &bridge.at.key("to"),
                format!("`{}` is one of the runtime's own topics, which nobody else may write", bridge.to),
                "let the service write a topic of its own",
            ),
            Some(Side::Inbound) if came_from.contains_key(bridge.from) => {
                let way = way(bridge.from, &came_from);
                report.error(
                    &bridge.at.key("to"),
                    format!("a loop: {} → {}, which is inbound", way.join(" → "), bridge.to),
                    "let the service write a topic that is not inbound; what people decide about parked cases is no bridge",
                );
            }
            _ => {}
        }
    }
}

fn bridges<'a>(facts: &'a Facts<'_>) -> impl Iterator<Item = Bridge<'a>> {
    facts.file.bridges.iter().flatten().enumerate().filter_map(|(i, bridge)| {
        let (from, to) = (bridge.from.as_deref()?, bridge.to.as_deref()?);
        Some(Bridge { from, to, at: Path::of(&["bridges"]).index(i) })
    })
}

/// Every topic that can be reached from one that the runtime writes, and the one before it.
fn reach<'a>(topics: &'a [Named], bridges: &[Bridge<'a>]) -> HashMap<&'a str, Option<&'a str>> {
    let written = topics.iter().filter(|t| t.side != Side::Inbound).map(|t| t.name.as_str());
    let mut came_from: HashMap<&str, Option<&str>> = written.map(|name| (name, None)).collect();
    let mut next: HashMap<&str, Vec<&str>> = HashMap::new();
    for bridge in bridges {
        next.entry(bridge.from).or_default().push(bridge.to);
    }
    let mut starts: Vec<&str> = came_from.keys().copied().collect();
    starts.sort_unstable();
    let mut queue = VecDeque::from(starts);
    while let Some(topic) = queue.pop_front() {
        for to in next.get(topic).into_iter().flatten() {
            if !came_from.contains_key(to) {
                came_from.insert(to, Some(topic));
                queue.push_back(to);
            }
        }
    }
    came_from
}

fn way<'a>(to: &'a str, came_from: &HashMap<&'a str, Option<&'a str>>) -> Vec<&'a str> {
    let (mut way, mut seen) = (vec![to], HashSet::from([to]));
    while let Some(Some(before)) = way.last().and_then(|last| came_from.get(last)) {
        if !seen.insert(before) {
            break;
        }
        way.push(before);
    }
    way.reverse();
    way
}
