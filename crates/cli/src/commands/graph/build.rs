//! Nodes and edges of a topology. Pure.

use std::collections::{BTreeMap, BTreeSet};

use anabranch_protocol::Step;
use anabranch_topology::{COMPOSER, SUPERVISOR, TopicRole, Topology};
use serde::Serialize;

/// Nodes, and edges by the nodes' ids.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Graph {
    pub(super) name: String,
    pub(super) nodes: Vec<Node>,
    pub(super) edges: Vec<Edge>,
}

/// A topic or an agent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Node {
    /// A topic's name; `agent:` and the name of an agent, as topics may be called anything.
    pub(super) id: String,
    pub(super) name: String,
    pub(super) kind: NodeKind,
    /// What a topic is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) role: Option<TopicRole>,
    /// How many partitions a topic is created with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) partitions: Option<i32>,
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum NodeKind {
    Topic,
    Supervisor,
    Agent,
    Composer,
}

/// Who writes what or reads what; between agents: who waits for whom.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Edge {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) kind: EdgeKind,
}

/// What flows along an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum EdgeKind {
    /// The agent writes to the topic.
    Writes,
    /// The agent reads the topic.
    Reads,
    /// The second agent's step comes after the first one's.
    Before,
}

/// The graph. Without `all` the runtime's own topics are left out that carry no part of a case that goes well.
pub(super) fn graph(topology: &Topology, agents: &BTreeSet<String>, all: bool) -> Graph {
    let names: Vec<&str> = agents.iter().map(String::as_str).collect();
    let shown = |role| {
        use TopicRole::{DeadLetters, Directory, Journal, Late, Ledger, Limits, Marks, Retry, State};
        // Marks are between operators: no agent has to do with them.
        let own = matches!(role, DeadLetters | Directory | Journal | Late | Ledger | Limits | Retry | State);
        role != Marks && (all || !own)
    };
    let topics = topology.topics(&names).into_iter().filter(|spec| shown(spec.role));
    let mut nodes: Vec<Node> = topics
        .map(|spec| Node {
            id: spec.name.clone(),
            name: spec.name,
            kind: NodeKind::Topic,
            role: Some(spec.role),
            partitions: Some(spec.partitions),
        })
        .collect();
    let member =
        |name: &str, kind| Node { id: agent_id(name), name: name.to_owned(), kind, role: None, partitions: None };
    nodes.push(member(SUPERVISOR, NodeKind::Supervisor));
    nodes.extend(agents.iter().map(|name| member(name, NodeKind::Agent)));
    nodes.push(member(COMPOSER, NodeKind::Composer));

    let mut edges =
        Edges { topology, known: nodes.iter().map(|n| (n.id.clone(), n.kind)).collect(), edges: Vec::new() };
    edges.of_the_roles();
    for agent in agents {
        edges.of_agent(agent);
    }
    Graph { name: topology.name.clone(), edges: edges.edges, nodes }
}

fn agent_id(name: &str) -> String {
    format!("agent:{name}")
}

struct Edges<'a> {
    topology: &'a Topology,
    known: BTreeMap<String, NodeKind>,
    edges: Vec<Edge>,
}

impl Edges<'_> {
    fn add(&mut self, from: &str, to: &str, kind: EdgeKind) {
        if self.known.contains_key(from) && self.known.contains_key(to) {
            self.edges.push(Edge { from: from.to_owned(), to: to.to_owned(), kind });
        }
    }

    /// `agent` reads `topic`; what it cannot read goes to the topic's dead letters.
    fn reads(&mut self, agent: &str, topic: &str) {
        self.add(topic, &agent_id(agent), EdgeKind::Reads);
        self.writes(agent, &self.topology.dlq_topic(topic));
    }

    fn writes(&mut self, agent: &str, topic: &str) {
        self.add(&agent_id(agent), topic, EdgeKind::Writes);
    }

    fn of_the_roles(&mut self) {
        let topology = self.topology;
        self.reads(SUPERVISOR, &topology.inbound.requests.name);
        self.reads(SUPERVISOR, &topology.followups_topic());
        self.add(&topology.directory_topic(), &agent_id(SUPERVISOR), EdgeKind::Reads);
        self.writes(SUPERVISOR, &topology.results_topic());
        self.reads(COMPOSER, &topology.results_topic());
        if let Some(review) = &topology.inbound.review {
            self.reads(COMPOSER, &review.name);
            self.writes(COMPOSER, &topology.inbox_topic());
        }
        let outbound: BTreeSet<&str> = topology.outbound.values().map(|t| t.name.as_str()).collect();
        for topic in outbound {
            self.writes(COMPOSER, topic);
        }
        for topic in [topology.followups_topic(), topology.late_topic(), topology.state_topic()] {
            self.writes(COMPOSER, &topic);
        }
        self.add(&topology.state_topic(), &agent_id(COMPOSER), EdgeKind::Reads);
    }

    fn of_agent(&mut self, agent: &str) {
        let topology = self.topology;
        let tasks = topology.tasks_topic(agent);
        self.writes(SUPERVISOR, &tasks);
        self.reads(agent, &tasks);
        for (topic, _) in topology.retry_topics(agent) {
            self.writes(agent, &topic);
            self.add(&topic, &agent_id(agent), EdgeKind::Reads);
        }
        self.writes(agent, &topology.results_topic());
        self.writes(agent, &topology.directory_topic());
        self.writes(agent, &topology.journal_topic(agent));
        self.writes(agent, &topology.ledger_topic());
        let after = topology.agents.get(agent).and_then(|settings| settings.after.clone()).unwrap_or_default();
        for before in after {
            // The outcome is the composer's.
            let before = if before == Step::OUTCOME { COMPOSER } else { &before };
            self.add(&agent_id(before), &agent_id(agent), EdgeKind::Before);
        }
    }
}
