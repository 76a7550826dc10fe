//! What is known of brokers, topics and leaders, and since when.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use kafka_protocol::messages::{MetadataResponse, metadata_response::MetadataResponsePartition};

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;

/// A broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broker {
    pub(crate) id: i32,
    /// `host:port`, as the broker advertises it.
    pub(crate) address: String,
}

#[derive(Debug)]
struct Topic {
    error_code: i16,
    /// Leader ids by partition; `None`: there is none now.
    leaders: BTreeMap<i32, Option<i32>>,
    learnt: Instant,
}

/// `host:port`, as connecting wants it; a bare IPv6 address needs its brackets.
pub(crate) fn address(host: &str, port: i32) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The last answers, merged.
#[derive(Debug, Default)]
pub(crate) struct Metadata {
    brokers: HashMap<i32, String>,
    controller: Option<i32>,
    topics: HashMap<String, Topic>,
}

impl Metadata {
    pub(crate) fn learn(&mut self, answer: &MetadataResponse) {
        if !answer.brokers.is_empty() {
            self.brokers = answer.brokers.iter().map(|b| (b.node_id.0, address(&b.host, b.port))).collect();
        }
        self.controller = Some(answer.controller_id.0).filter(|id| *id >= 0);
        for topic in &answer.topics {
            let Some(name) = &topic.name else { continue };
            let leader = |p: &MetadataResponsePartition| (p.partition_index, Some(p.leader_id.0).filter(|id| *id >= 0));
            let leaders = topic.partitions.iter().map(leader).collect();
            let known = Topic { error_code: topic.error_code, leaders, learnt: Instant::now() };
            self.topics.insert(name.to_string(), known);
        }
    }

    /// Learns from an answer that names all topics: those it does not name are gone.
    pub(crate) fn learn_all(&mut self, answer: &MetadataResponse) {
        self.topics.clear();
        self.learn(answer);
    }

    pub(crate) fn forget(&mut self, topic: &str) {
        self.topics.remove(topic);
    }

    pub(crate) fn forget_controller(&mut self) {
        self.controller = None;
    }

    pub(crate) fn addresses(&self) -> Vec<String> {
        self.brokers.values().cloned().collect()
    }

    pub(crate) fn controller(&self) -> Option<Broker> {
        let id = self.controller?;
        Some(Broker { id, address: self.brokers.get(&id)?.clone() })
    }

    pub(crate) fn is_newer_than(&self, topic: &str, since: Instant) -> bool {
        self.topics.get(topic).is_some_and(|t| t.learnt > since)
    }

    pub(crate) fn partition_count(&self, topic: &str, max_age: Duration) -> Option<i32> {
        let topic = self.topics.get(topic)?;
        let usable = topic.error_code == 0 && !topic.leaders.is_empty() && topic.learnt.elapsed() <= max_age;
        usable.then(|| i32::try_from(topic.leaders.len()).unwrap_or(i32::MAX))
    }

    /// Why a topic has no partitions.
    pub(crate) fn error_of(&self, topic: &str) -> i16 {
        self.topics.get(topic).map(|t| t.error_code).filter(|code| *code != 0).unwrap_or(UNKNOWN_TOPIC_OR_PARTITION)
    }

    pub(crate) fn leader(&self, topic: &str, partition: i32) -> Option<Broker> {
        let id = (*self.topics.get(topic)?.leaders.get(&partition)?)?;
        Some(Broker { id, address: self.brokers.get(&id)?.clone() })
    }
}
