//! A graph in the languages of Mermaid and Graphviz.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anabranch_topology::TopicRole;

use super::build::{EdgeKind, Graph, Node, NodeKind};

/// A Mermaid flowchart: agents are boxes, topics are cylinders.
pub(super) fn mermaid(graph: &Graph) -> String {
    let ids = short_ids(graph);
    let mut out = "flowchart LR\n".to_owned();
    for (node, id) in graph.nodes.iter().zip(ids.values_in_order(graph)) {
        // Names are Kafka's, so that none has a quote; whatever reads the file is still told so.
        let name = node.name.replace('"', "#quot;");
        let _ = match node.kind {
            NodeKind::Topic => writeln!(out, "    {id}[(\"{name}\")]"),
            NodeKind::Agent => writeln!(out, "    {id}[\"{name}\"]"),
            NodeKind::Supervisor | NodeKind::Composer => writeln!(out, "    {id}[[\"{name}\"]]"),
        };
    }
    for edge in &graph.edges {
        let (from, to) = (ids.of(&edge.from), ids.of(&edge.to));
        let arrow = if edge.kind == EdgeKind::Before { "-. then .->" } else { "-->" };
        let _ = writeln!(out, "    {from} {arrow} {to}");
    }
    for (class, style) in [("inbound", "fill:#d9ead3"), ("outbound", "fill:#cfe2f3"), ("dead", "fill:#f4cccc")] {
        let members: Vec<&str> =
            graph.nodes.iter().filter(|n| class_of(n) == Some(class)).map(|n| ids.of(&n.id)).collect();
        if !members.is_empty() {
            let _ = writeln!(out, "    classDef {class} {style}\n    class {} {class}", members.join(","));
        }
    }
    out.truncate(out.trim_end().len());
    out
}

/// A Graphviz digraph: agents are boxes, topics are cylinders.
pub(super) fn dot(graph: &Graph) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let mut out = format!("digraph {} {{\n    rankdir=LR;\n", quoted(&graph.name));
    for node in &graph.nodes {
        let shape = match node.kind {
            NodeKind::Topic => "cylinder",
            NodeKind::Agent => "box",
            NodeKind::Supervisor | NodeKind::Composer => "box3d",
        };
        let fill = match class_of(node) {
            Some("inbound") => ", style=filled, fillcolor=\"#d9ead3\"",
            Some("outbound") => ", style=filled, fillcolor=\"#cfe2f3\"",
            Some(_) => ", style=filled, fillcolor=\"#f4cccc\"",
            None => "",
        };
        let _ = writeln!(out, "    {} [label={}, shape={shape}{fill}];", quoted(&node.id), quoted(&node.name));
    }
    for edge in &graph.edges {
        let style = if edge.kind == EdgeKind::Before { " [style=dashed, label=\"then\"]" } else { "" };
        let _ = writeln!(out, "    {} -> {}{style};", quoted(&edge.from), quoted(&edge.to));
    }
    out.push('}');
    out
}

fn class_of(node: &Node) -> Option<&'static str> {
    match node.role? {
        TopicRole::Requests | TopicRole::Review => Some("inbound"),
        TopicRole::Outbound => Some("outbound"),
        TopicRole::DeadLetters => Some("dead"),
        _ => None,
    }
}

/// Mermaid wants plain ids: `t1` for topics, `a1` for agents.
struct Ids(BTreeMap<String, String>);

fn short_ids(graph: &Graph) -> Ids {
    let (mut topics, mut agents) = (0, 0);
    let ids = graph.nodes.iter().map(|node| {
        let (letter, count) = if node.kind == NodeKind::Topic { ('t', &mut topics) } else { ('a', &mut agents) };
        *count += 1;
        (node.id.clone(), format!("{letter}{count}"))
    });
    Ids(ids.collect())
}

impl Ids {
    fn of(&self, node: &str) -> &str {
        self.0.get(node).map_or("unknown", String::as_str)
    }

    fn values_in_order<'a>(&'a self, graph: &'a Graph) -> impl Iterator<Item = &'a str> {
        graph.nodes.iter().map(|node| self.of(&node.id))
    }
}
