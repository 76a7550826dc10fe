//! What each process does with topics: it needs these rights on a cluster with ACLs, and no others.

use std::collections::BTreeSet;

use crate::model::{TopicRole, Topology};
use crate::names::COMPOSER;

/// The topics that one process reads and writes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Access {
    /// Topics it reads.
    pub reads: BTreeSet<String>,
    /// Topics it writes.
    pub writes: BTreeSet<String>,
    /// Beginnings of names: it writes to every topic that starts so, those of agents yet to come as well.
    pub writes_under: BTreeSet<String>,
}

impl Access {
    /// Reads a topic; what cannot be read goes to its dead letters.
    fn consumes(&mut self, topology: &Topology, topic: &str) {
        self.reads.insert(topic.to_owned());
        self.writes.insert(topology.dlq_topic(topic));
    }

    /// May ask models: what they cost, and how fast they are asked, is shared with all that do.
    fn asks_models(&mut self, topology: &Topology) {
        let shared =
            std::iter::once(topology.ledger_topic()).chain(topology.has_limits().then(|| topology.limits_topic()));
        for topic in shared {
            self.reads.insert(topic.clone());
            self.writes.insert(topic);
        }
    }

    /// Whether the process reads or writes this topic.
    #[must_use]
    pub fn touches(&self, topic: &str) -> bool {
        self.reads.contains(topic) || self.writes(topic)
    }

    /// Whether the process writes this topic.
    #[must_use]
    pub fn writes(&self, topic: &str) -> bool {
        self.writes.contains(topic) || self.writes_under.iter().any(|prefix| topic.starts_with(prefix))
    }
}

impl Topology {
    /// What an agent does: its tasks in, what is to be tried again out and in, results and its card out, and the
    /// journal of its steps.
    #[must_use]
    pub fn access_of_agent(&self, agent: &str) -> Access {
        let mut access = Access::default();
        access.consumes(self, &self.tasks_topic(agent));
        for (topic, _) in self.retry_topics(agent) {
            access.reads.insert(topic.clone());
            access.writes.insert(topic);
        }
        access.writes.extend([self.results_topic(), self.directory_topic(), self.journal_topic(agent)]);
        access.reads.insert(self.journal_topic(agent));
        access.asks_models(self);
        access
    }

    /// What the supervisor does: requests, follow-ups and cards in, plans and tasks out.
    #[must_use]
    pub fn access_of_supervisor(&self) -> Access {
        let mut access = Access::default();
        access.consumes(self, &self.inbound.requests.name);
        access.consumes(self, &self.followups_topic());
        access.reads.insert(self.directory_topic());
        access.writes.insert(self.results_topic());
        access.writes_under.insert(self.tasks_topic(""));
        access.asks_models(self);
        access
    }

    /// What the composer does: results and people's decisions in; outcomes, follow-ups, late records and state out. A
    /// decision that lies in another partition than its case is moved, so the review topic is written as well.
    #[must_use]
    pub fn access_of_composer(&self) -> Access {
        let mut access = Access::default();
        access.consumes(self, &self.results_topic());
        if let Some(review) = &self.inbound.review {
            access.consumes(self, &review.name);
            access.writes.extend([review.name.clone(), self.inbox_topic()]);
        }
        access.reads.insert(self.state_topic());
        access.writes.extend([self.followups_topic(), self.late_topic(), self.state_topic()]);
        access.writes.extend(self.outbound.values().map(|topic| topic.name.clone()));
        access
    }

    /// What an operator does with the dead letters of these agents, and of those that have a line: looks at them, at
    /// requests, agents' cards and where cases stand; sends back what was given up, and says which were dealt with.
    #[must_use]
    pub fn access_of_operator(&self, agents: &[&str]) -> Access {
        let mut access = Access::default();
        for spec in self.topics(agents) {
            match spec.role {
                TopicRole::DeadLetters | TopicRole::State | TopicRole::Directory => _ = access.reads.insert(spec.name),
                TopicRole::Requests | TopicRole::Marks => {
                    access.reads.insert(spec.name.clone());
                    access.writes.insert(spec.name);
                }
                TopicRole::Review | TopicRole::FollowUps | TopicRole::Results | TopicRole::Tasks => {
                    access.writes.insert(spec.name);
                }
                _ => {}
            }
        }
        access
    }

    /// How the composer's transactional ids begin: `<name>.composer`, or as its group is called.
    #[must_use]
    pub fn transactional_id_prefix(&self) -> String {
        self.group_of(COMPOSER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Topology {
        let text = "name: kyc\ninbound: { requests: kyc.requests, review: kyc.review }\n\
                    outbound: { decisions: kyc.decisions }\nagents:\n  identity: {}\n";
        crate::parse("topics.yaml", text, None).unwrap().topology
    }

    #[test]
    fn every_topic_is_somebodys_and_agents_keep_to_their_own() {
        let topology = example();
        let all = [
            topology.access_of_supervisor(),
            topology.access_of_composer(),
            topology.access_of_agent("identity"),
            topology.access_of_agent("fraud"),
            topology.access_of_operator(&["fraud"]),
        ];
        for spec in topology.topics(&["fraud"]) {
            assert!(all.iter().any(|access| access.touches(&spec.name)), "{} is nobody's", spec.name);
        }
        let fraud = &all[3];
        assert!(fraud.touches("kyc.tasks.fraud") && fraud.writes("kyc.tasks.fraud.dlq"));
        assert!(!fraud.writes("kyc.tasks.fraud"), "only the supervisor gives tasks");
        assert!(!fraud.touches("kyc.tasks.identity") && !fraud.touches("kyc.decisions"));
    }
}
