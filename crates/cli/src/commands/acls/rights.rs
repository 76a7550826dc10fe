//! The rights that follow from a topology. Pure.

use std::collections::BTreeSet;

use anabranch_topology::{Access, COMPOSER, SUPERVISOR, Topology};
use serde::Serialize;

/// Who deals with dead letters.
const OPERATOR: &str = "operator";

/// Some operations on one resource, for one agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Right {
    pub(super) agent: String,
    pub(super) principal: String,
    pub(super) resource: Resource,
    pub(super) name: String,
    pub(super) pattern: Pattern,
    pub(super) operations: Vec<Operation>,
}

/// What a right is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Resource {
    Topic,
    Group,
    TransactionalId,
}

/// How a right's name is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Pattern {
    /// This one.
    Literal,
    /// All that begin so.
    Prefixed,
}

/// What may be done. Each of the first two includes to describe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) enum Operation {
    Read,
    Write,
    DescribeConfigs,
}

/// What supervisor, composer and each of `agents` need, in this order.
pub(super) fn rights(topology: &Topology, agents: &BTreeSet<String>, principal: &str) -> Vec<Right> {
    let mut all = of(topology, SUPERVISOR, &topology.access_of_supervisor(), principal);
    let composer = of(topology, COMPOSER, &topology.access_of_composer(), principal);
    all.extend(composer);
    all.push(Right {
        resource: Resource::TransactionalId,
        name: topology.transactional_id_prefix(),
        pattern: Pattern::Prefixed,
        operations: vec![Operation::Write],
        ..group(topology, COMPOSER, principal)
    });
    for agent in agents {
        all.extend(of(topology, agent, &topology.access_of_agent(agent), principal));
    }
    all
}

/// What an operator needs for the dead letters of all of them.
pub(super) fn operator(topology: &Topology, agents: &BTreeSet<String>, principal: &str) -> Vec<Right> {
    let names: Vec<&str> = agents.iter().map(String::as_str).collect();
    let mut rights = of(topology, OPERATOR, &topology.access_of_operator(&names), principal);
    // Looking belongs to no group.
    rights.retain(|right| right.resource == Resource::Topic);
    rights
}

fn group(topology: &Topology, agent: &str, principal: &str) -> Right {
    Right {
        agent: agent.to_owned(),
        principal: principal.replace("{agent}", agent),
        resource: Resource::Group,
        name: topology.group_of(agent),
        pattern: Pattern::Literal,
        operations: vec![Operation::Read],
    }
}

fn of(topology: &Topology, agent: &str, access: &Access, principal: &str) -> Vec<Right> {
    let topic = |name: &String, pattern, operations: Vec<Operation>| Right {
        resource: Resource::Topic,
        name: name.clone(),
        pattern,
        operations,
        ..group(topology, agent, principal)
    };
    let names: BTreeSet<&String> = access.reads.iter().chain(&access.writes).collect();
    let mut rights: Vec<Right> = names
        .into_iter()
        .map(|name| {
            let asked = [
                (access.reads.contains(name), Operation::Read),
                (access.writes.contains(name), Operation::Write),
                (true, Operation::DescribeConfigs),
            ];
            let operations = asked.into_iter().filter(|(needed, _)| *needed).map(|(_, operation)| operation);
            topic(name, Pattern::Literal, operations.collect())
        })
        .collect();
    let under = access.writes_under.iter();
    rights.extend(under.map(|n| topic(n, Pattern::Prefixed, vec![Operation::Write, Operation::DescribeConfigs])));
    rights.push(group(topology, agent, principal));
    rights
}
