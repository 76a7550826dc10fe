use std::collections::BTreeSet;

use super::build::{Graph, graph};
use super::draw;
use crate::reading::{declared_agents, example};

fn example_graph(all: bool) -> Graph {
    let topology = example();
    let mut agents: BTreeSet<String> = declared_agents(&topology);
    agents.insert("adverse-media".to_owned());
    graph(&topology, &agents, all)
}

#[test]
fn mermaid() {
    insta::assert_snapshot!(draw::mermaid(&example_graph(false)));
}

#[test]
fn dot() {
    insta::assert_snapshot!(draw::dot(&example_graph(false)));
}

#[test]
fn json() {
    insta::assert_snapshot!(serde_json::to_string_pretty(&example_graph(true)).unwrap());
}

#[test]
fn every_edge_ends_at_nodes_and_every_topic_has_a_reader_or_a_writer() {
    let graph = example_graph(true);
    let ids: BTreeSet<&str> = graph.nodes.iter().map(|n| n.id.as_str()).collect();
    assert_eq!(ids.len(), graph.nodes.len(), "ids are unique");
    assert!(graph.edges.iter().all(|e| ids.contains(e.from.as_str()) && ids.contains(e.to.as_str())));
    let joined: BTreeSet<&str> = graph.edges.iter().flat_map(|e| [e.from.as_str(), e.to.as_str()]).collect();
    assert_eq!(ids, joined);
}
