//! What has to be done to a cluster so that it has what the topology says. Pure.

use std::collections::{BTreeMap, BTreeSet};

use anabranch_kafka::ConfigEntry;
use anabranch_topology::{Found, TopicRole, TopicSpec, Topology};
use serde::Serialize;

/// What is on the cluster.
#[derive(Debug, Default)]
pub(super) struct Actual {
    /// All topics, and how many partitions they have.
    pub(super) partitions: BTreeMap<String, i32>,
    /// Configs of those that the topology wants.
    pub(super) configs: BTreeMap<String, BTreeMap<String, ConfigEntry>>,
}

impl Actual {
    /// As the check that agents make when they start wants it.
    pub(super) fn found(&self) -> BTreeMap<String, Found> {
        let values = |configs: &BTreeMap<String, ConfigEntry>| {
            configs.iter().filter_map(|(name, entry)| Some((name.clone(), entry.value.clone()?))).collect()
        };
        let found = |(topic, partitions): (&String, &i32)| {
            let configs = self.configs.get(topic).map(values).unwrap_or_default();
            (topic.clone(), Found { partitions: *partitions, configs })
        };
        self.partitions.iter().map(found).collect()
    }
}

/// What is to be done, what cannot be, and what the reader should know.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct Plan {
    /// Whether cluster and topology differ at all.
    pub(super) differs: bool,
    /// In the order in which they are done.
    pub(super) steps: Vec<Step>,
    /// Topics of the topology that no agent needs any more. They stay, unless a step deletes them.
    pub(super) left_over: Vec<String>,
    /// What differs and cannot be mended here.
    pub(super) refused: Vec<Refused>,
    pub(super) warnings: Vec<String>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub(super) enum Step {
    Create { topic: String, partitions: i32, replication_factor: i16, configs: BTreeMap<String, String> },
    SetConfigs { topic: String, configs: BTreeMap<String, Change> },
    AddPartitions { topic: String, old: i32, new: i32 },
    Delete { topic: String },
}

/// A config's value before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Change {
    /// `None`: the broker does not tell.
    pub(super) old: Option<String>,
    pub(super) new: String,
}

/// A difference that is not mended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Refused {
    pub(super) topic: String,
    pub(super) why: String,
}

/// Compares.
pub(super) fn plan(topology: &Topology, desired: &[TopicSpec], actual: &Actual, delete: bool) -> Plan {
    let mut plan = Plan::default();
    for spec in desired.iter().filter(|spec| !actual.partitions.contains_key(&spec.name)) {
        plan.steps.push(create(spec));
    }
    for spec in desired.iter().filter(|spec| actual.partitions.contains_key(&spec.name)) {
        plan.configs(spec, actual.configs.get(&spec.name));
    }
    plan.partitions(desired, actual);
    plan.left_over = left_over(topology, desired, actual);
    if delete {
        plan.steps.extend(plan.left_over.iter().map(|topic| Step::Delete { topic: topic.clone() }));
    }
    plan.differs = !plan.steps.is_empty() || !plan.left_over.is_empty() || !plan.refused.is_empty();
    plan
}

fn create(spec: &TopicSpec) -> Step {
    Step::Create {
        topic: spec.name.clone(),
        partitions: spec.partitions,
        replication_factor: spec.replication_factor,
        configs: spec.configs.clone(),
    }
}

impl Plan {
    fn configs(&mut self, spec: &TopicSpec, there: Option<&BTreeMap<String, ConfigEntry>>) {
        let mut changes = BTreeMap::new();
        for (name, new) in &spec.configs {
            match there.and_then(|configs| configs.get(name)) {
                // Setting it would be refused or forgotten, and the next diff would say the same again.
                None => self.warnings.push(format!("{}: the broker knows no config {name}", spec.name)),
                Some(entry) if entry.value.as_ref() == Some(new) => {}
                Some(entry) => {
                    changes.insert(name.clone(), Change { old: entry.value.clone(), new: new.clone() });
                }
            }
        }
        if !changes.is_empty() {
            self.steps.push(Step::SetConfigs { topic: spec.name.clone(), configs: changes });
        }
    }

    fn partitions(&mut self, desired: &[TopicSpec], actual: &Actual) {
        let existing = |spec: &&TopicSpec| actual.partitions.contains_key(&spec.name);
        let of = |spec: &TopicSpec| actual.partitions.get(&spec.name).copied().unwrap_or(spec.partitions);
        let (joined, others): (Vec<_>, Vec<_>) = desired.iter().partition(|spec| is_joined(spec.role));
        for spec in others.into_iter().filter(existing) {
            self.resize(spec, of(spec), true);
        }
        // What cannot shrink keeps the others from growing: they would no longer fit together.
        let too_many = joined.iter().find(|spec| of(spec) > spec.partitions).map(|spec| spec.name.clone());
        for spec in &joined {
            match &too_many {
                Some(other) if of(spec) < spec.partitions || !existing(spec) => {
                    self.refuse_joined(spec, of(spec), other);
                }
                _ => self.resize(spec, of(spec), false),
            }
        }
        if joined.iter().any(|spec| of(spec) < spec.partitions) && too_many.is_none() {
            self.warnings.push(
                "the joined topics (results, review, state) get more partitions: an open case's records go to \
                 another partition from then on, and its answers no longer meet. Let open cases end and stop the \
                 composer before, start it after"
                    .to_owned(),
            );
        }
    }

    fn resize(&mut self, spec: &TopicSpec, old: i32, warn: bool) {
        let topic = spec.name.clone();
        match old.cmp(&spec.partitions) {
            std::cmp::Ordering::Equal => {}
            std::cmp::Ordering::Less => {
                if warn && is_keyed(spec.role) {
                    self.warnings.push(format!(
                        "{topic}: with more partitions most keys move to another one; records of one key that are \
                         still unread are then worked on beside newer ones"
                    ));
                }
                self.steps.push(Step::AddPartitions { topic, old, new: spec.partitions });
            }
            std::cmp::Ordering::Greater => {
                let wanted = spec.partitions;
                self.refused.push(Refused {
                    why: format!(
                        "it has {old} partitions and the topology says {wanted}: Kafka cannot take partitions away; \
                         write {old}, or delete the topic and its records and apply again"
                    ),
                    topic,
                });
            }
        }
    }

    fn refuse_joined(&mut self, spec: &TopicSpec, old: i32, other: &str) {
        let at = self.steps.iter().position(|step| matches!(step, Step::Create { topic, .. } if *topic == spec.name));
        if let Some(at) = at {
            self.steps.remove(at);
        }
        let stays = if at.is_some() { "is not created".to_owned() } else { format!("stays at {old} partitions") };
        self.refused.push(Refused {
            topic: spec.name.clone(),
            why: format!("{stays}: it is joined with {other}, and joined topics need equally many partitions"),
        });
    }
}

/// Results, review decisions and the composer's state are read partition by partition together.
fn is_joined(role: TopicRole) -> bool {
    matches!(role, TopicRole::Results | TopicRole::Review | TopicRole::State)
}

/// Topics whose order by key matters to a reader.
fn is_keyed(role: TopicRole) -> bool {
    use TopicRole::{DeadLetters, Directory, Journal, Late, Ledger, Limits, Marks};
    !matches!(role, DeadLetters | Late | Directory | Journal | Ledger | Limits | Marks)
}

/// Task topics of this topology, with all that follows from them (dead letters), that are not wanted. Nothing else is
/// ever called left over: other names may be anybody's.
fn left_over(topology: &Topology, desired: &[TopicSpec], actual: &Actual) -> Vec<String> {
    let wanted: BTreeSet<&str> = desired.iter().map(|spec| spec.name.as_str()).collect();
    let prefix = topology.tasks_topic("");
    let is_ours = |topic: &&String| topic.strip_prefix(&prefix).is_some_and(|agent| !agent.is_empty());
    actual.partitions.keys().filter(is_ours).filter(|topic| !wanted.contains(topic.as_str())).cloned().collect()
}
