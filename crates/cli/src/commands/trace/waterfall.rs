//! From the records of a case to a tree of hops in time. Pure.
//!
//! The tree is that of causes. A task and the answer to it are one hop: the answer says when the work began and
//! ended. Copies (late records, dead letters) hang below their original. Records come from anybody, so that a cause may
//! be missing, be itself, or go round in a circle; every record is shown once all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anabranch_protocol::{CorrelationId, EventId, Timestamp};
use serde::Serialize;

use crate::hop::{Hop, Kind};

/// A case as a tree of hops.
#[derive(Debug, Serialize)]
pub(super) struct Waterfall {
    pub(super) correlation_id: CorrelationId,
    /// What the composer last wrote about it; `None`: it is not in the composer's hands (yet, or any more).
    pub(super) state: Option<String>,
    pub(super) started_at: Timestamp,
    /// When the last thing known of it happened.
    pub(super) ended_at: Timestamp,
    pub(super) duration_ms: u64,
    pub(super) deadline: Option<Timestamp>,
    /// Whether the composer has not decided it yet.
    pub(super) open: bool,
    /// In the order in which they are drawn: a cause before its effects.
    pub(super) hops: Vec<Row>,
}

/// One hop.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    /// How many causes it has above it.
    pub(super) depth: usize,
    #[serde(flatten)]
    pub(super) hop: Hop,
    /// How often its record was written again, after a crash.
    pub(super) repeats: u32,
    /// Since the record that caused it.
    pub(super) after_ms: Option<u64>,
    /// How long a task lay in its topic; so far, if nobody has answered.
    pub(super) queue_ms: Option<u64>,
    /// How long the agent took.
    pub(super) work_ms: Option<u64>,
    pub(super) attempts: Option<u32>,
    /// What the agent answered.
    pub(super) answer: Option<Answer>,
    /// A task without an answer that may still come.
    pub(super) waiting: bool,
}

/// An answer to a task.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    pub(super) id: EventId,
    pub(super) time: Timestamp,
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) what: String,
    pub(super) started_at: Timestamp,
    pub(super) finished_at: Timestamp,
}

impl Waterfall {
    /// Builds it. `hops` is not empty; `now` is where open bars end.
    pub(super) fn build(case: CorrelationId, hops: Vec<Hop>, now: Timestamp) -> Self {
        let state = hops.iter().filter(|h| h.kind == Kind::State).max_by_key(|h| (h.time, h.offset));
        let state = state.filter(|s| s.what != "forgotten").map(|s| s.what.clone());
        let deadline = hops.iter().filter(|h| h.kind == Kind::Plan).find_map(|h| h.deadline);
        let open = match &state {
            Some(state) => state != "closed" && !state.starts_with("parked"),
            // Not in the composer's hands yet, or not any more.
            None => !hops.iter().any(|h| matches!(h.kind, Kind::State | Kind::Outcome | Kind::DeadLetter)),
        };
        let rows = Tree::new(hops).rows(open, now);
        let started_at = rows.iter().map(|r| r.hop.time).min().unwrap_or(now);
        let ended_at = rows.iter().map(|r| r.ends(now)).max().unwrap_or(now);
        let duration_ms = millis(ended_at.since(started_at));
        Self { correlation_id: case, state, started_at, ended_at, duration_ms, deadline, open, hops: rows }
    }
}

impl Row {
    fn new(depth: usize, node: &Node, cause: Option<Timestamp>, open: bool, now: Timestamp) -> Self {
        let hop = node.hop.clone();
        let answer = node.answer.as_ref().and_then(|answer| {
            let work = answer.work.as_ref()?;
            Some(Answer {
                id: answer.id.clone(),
                time: answer.time,
                partition: answer.partition,
                offset: answer.offset,
                what: answer.what.clone(),
                started_at: work.started_at,
                finished_at: work.finished_at,
            })
        });
        let work = node.answer.as_ref().and_then(|a| a.work.as_ref()).or(hop.work.as_ref());
        // What follows the outcome is worked on after the case is closed.
        let due = open || hop.deadline.is_some_and(|deadline| deadline > now);
        let waiting = hop.kind == Kind::Task && answer.is_none() && due;
        let queue_ms = match (&answer, waiting) {
            (Some(answer), _) => Some(millis(answer.started_at.since(hop.time))),
            (None, true) => Some(millis(now.since(hop.time))),
            (None, false) => None,
        };
        Self {
            depth,
            repeats: node.repeats,
            after_ms: cause.map(|cause| millis(hop.time.since(cause))),
            queue_ms,
            work_ms: work.map(|w| millis(w.finished_at.since(w.started_at))),
            attempts: work.map(|w| w.attempts),
            answer,
            waiting,
            hop,
        }
    }

    /// When the last of it happened.
    fn ends(&self, now: Timestamp) -> Timestamp {
        match &self.answer {
            Some(answer) => answer.time.max(answer.finished_at).max(self.hop.time),
            None if self.waiting => now.max(self.hop.time),
            None => self.hop.time,
        }
    }
}

struct Node {
    hop: Hop,
    repeats: u32,
    /// For a task: the answer that came first.
    answer: Option<Hop>,
    children: Vec<usize>,
    parent: Option<usize>,
}

struct Tree {
    nodes: Vec<Node>,
}

impl Tree {
    fn new(mut hops: Vec<Hop>) -> Self {
        hops.retain(|h| h.kind != Kind::State);
        hops.sort_by(|a, b| (a.time, a.kind, &a.topic, a.offset).cmp(&(b.time, b.kind, &b.topic, b.offset)));
        let tasks: BTreeSet<EventId> = hops.iter().filter(|h| h.kind == Kind::Task).map(|h| h.id.clone()).collect();
        let mut nodes: Vec<Node> = Vec::new();
        let mut seen: BTreeMap<(String, EventId), usize> = BTreeMap::new();
        // An answer stands for itself only where its task is not there. The id of its node is then the task's.
        let mut answers: BTreeMap<EventId, Hop> = BTreeMap::new();
        let mut same_as: BTreeMap<EventId, EventId> = BTreeMap::new();
        for hop in hops {
            if let (Kind::Partial, Some(task)) = (hop.kind, hop.causation_id.clone().filter(|c| tasks.contains(c))) {
                same_as.insert(hop.id.clone(), task.clone());
                answers.entry(task).or_insert(hop);
                continue;
            }
            if let Some(index) = seen.get(&(hop.topic.clone(), hop.id.clone())) {
                nodes[*index].repeats += 1;
                continue;
            }
            seen.insert((hop.topic.clone(), hop.id.clone()), nodes.len());
            nodes.push(Node { hop, repeats: 0, answer: None, children: Vec::new(), parent: None });
        }
        for node in nodes.iter_mut().filter(|n| n.hop.kind == Kind::Task) {
            node.answer = answers.remove(&node.hop.id);
        }
        let mut tree = Self { nodes };
        tree.link(&same_as);
        tree
    }

    fn link(&mut self, same_as: &BTreeMap<EventId, EventId>) {
        let mut by_id: BTreeMap<EventId, usize> = BTreeMap::new();
        for (index, node) in self.nodes.iter().enumerate().filter(|(_, n)| !is_copy(n.hop.kind)) {
            by_id.entry(node.hop.id.clone()).or_insert(index);
        }
        let find = |id: &EventId| by_id.get(same_as.get(id).unwrap_or(id)).copied();
        let parents: Vec<Option<usize>> = self
            .nodes
            .iter()
            .map(|node| {
                let original = is_copy(node.hop.kind).then(|| find(&node.hop.id)).flatten();
                original.or_else(|| node.hop.causation_id.as_ref().and_then(find))
            })
            .collect();
        for (index, parent) in parents.into_iter().enumerate().filter_map(|(i, p)| Some((i, p.filter(|p| *p != i)?))) {
            self.nodes[index].parent = Some(parent);
            self.nodes[parent].children.push(index);
        }
    }

    /// Depth first, from those without a cause; then what only hangs together in circles.
    fn rows(&self, open: bool, now: Timestamp) -> Vec<Row> {
        let mut shown = vec![false; self.nodes.len()];
        let mut rows = Vec::with_capacity(self.nodes.len());
        let roots = (0..self.nodes.len()).filter(|i| self.nodes[*i].parent.is_none());
        for start in roots.chain(0..self.nodes.len()) {
            let mut stack = vec![(start, 0)];
            while let Some((index, depth)) = stack.pop() {
                if std::mem::replace(&mut shown[index], true) {
                    continue;
                }
                let node = &self.nodes[index];
                let cause = node.parent.map(|parent| self.effect_time(parent, node));
                rows.push(Row::new(depth, node, cause, open, now));
                stack.extend(node.children.iter().rev().map(|child| (*child, depth + 1)));
            }
        }
        rows
    }

    /// When the cause of `node` was written: the answer, where it was an answer that caused it.
    fn effect_time(&self, parent: usize, node: &Node) -> Timestamp {
        let cause = &self.nodes[parent];
        match &cause.answer {
            Some(answer) if node.hop.causation_id.as_ref() == Some(&answer.id) => answer.time,
            _ => cause.hop.time,
        }
    }
}

/// Records with another's `ce_id`.
fn is_copy(kind: Kind) -> bool {
    matches!(kind, Kind::Late | Kind::DeadLetter)
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
