//! The topics and groups that follow from a topology. What follows the convention needs no line in the file.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::{AgentSettings, ModelChoice, Topic, TopicRole, TopicSpec, Topology};
use crate::unit::{Unit, show};

/// The line of the supervisor under `agents`. It plans; it gets no tasks.
pub const SUPERVISOR: &str = "supervisor";
/// The line of the composer under `agents`. It joins; it gets no tasks.
pub const COMPOSER: &str = "composer";

/// Compaction leaves a topic's open segment alone; cards are announced for ever, so segments must close.
const COMPACTED_SEGMENT_MS: u64 = 3_600_000;
/// A month of model calls can be added up, and the last day of it.
const LEDGER_KEPT: Duration = Duration::from_secs(32 * 24 * 3600);
/// Announcements are of use for seconds.
const LIMITS_KEPT: Duration = Duration::from_secs(10 * 60);

/// Whether `name` is a role's and not that of an agent that gets tasks.
pub(crate) fn is_role(name: &str) -> bool {
    name == SUPERVISOR || name == COMPOSER
}

impl Topology {
    /// Where `agent` reads its tasks: `<name>.tasks.<agent>`.
    #[must_use]
    pub fn tasks_topic(&self, agent: &str) -> String {
        format!("{}.tasks.{agent}", self.name)
    }

    /// Plans and partials: `<name>.results`.
    #[must_use]
    pub fn results_topic(&self) -> String {
        format!("{}.results", self.name)
    }

    /// What the composer asks the supervisor for: `<name>.followups`.
    #[must_use]
    pub fn followups_topic(&self) -> String {
        format!("{}.followups", self.name)
    }

    /// What came too late to count: `<name>.late`.
    #[must_use]
    pub fn late_topic(&self) -> String {
        format!("{}.late", self.name)
    }

    /// What people are told of parked cases: `<name>.inbox`. There is one where there is a review topic.
    #[must_use]
    pub fn inbox_topic(&self) -> String {
        format!("{}.inbox", self.name)
    }

    /// The composer's state: `<name>.composer-state`.
    #[must_use]
    pub fn state_topic(&self) -> String {
        format!("{}.composer-state", self.name)
    }

    /// Agents' cards: `<name>.agents`.
    #[must_use]
    pub fn directory_topic(&self) -> String {
        format!("{}.agents", self.name)
    }

    /// What models were asked, and what it cost: `<name>.ledger`.
    #[must_use]
    pub fn ledger_topic(&self) -> String {
        format!("{}.ledger", self.name)
    }

    /// How processes share models' rate limits: `<name>.limits`.
    #[must_use]
    pub fn limits_topic(&self) -> String {
        format!("{}.limits", self.name)
    }

    /// Whether how fast some model may be asked is bounded, so that processes share it.
    #[must_use]
    pub fn has_limits(&self) -> bool {
        self.models.values().any(ModelChoice::is_limited)
    }

    /// Where a record of `topic` waits for `delay` until it is tried again: `<topic>.retry.<delay>`, such as
    /// `kyc.tasks.identity.retry.30s`.
    #[must_use]
    pub fn retry_topic(&self, topic: &str, delay: Duration) -> String {
        format!("{topic}.retry.{}", show(delay))
    }

    /// The retry topics of an agent with their delays, ascending.
    #[must_use]
    pub fn retry_topics(&self, agent: &str) -> Vec<(String, Duration)> {
        let tasks = self.tasks_topic(agent);
        let tiers = self.agents.get(agent).unwrap_or(&self.defaults).retry.tiers.iter();
        tiers.map(|delay| (self.retry_topic(&tasks, *delay), *delay)).collect()
    }

    /// The delay of a retry topic of `topic`, if `name` is one by its name: also of a tier that is no longer there.
    #[must_use]
    pub fn retry_delay(&self, topic: &str, name: &str) -> Option<Duration> {
        let delay = name.strip_prefix(topic)?.strip_prefix(".retry.")?;
        Unit::Duration.parse(delay).ok().map(Duration::from_millis)
    }

    /// Dead letters of `topic`: `<topic>.dlq`.
    #[must_use]
    pub fn dlq_topic(&self, topic: &str) -> String {
        format!("{topic}.dlq")
    }

    /// Which dead letters were sent back or dropped: `<name>.dlq-marks`.
    #[must_use]
    pub fn marks_topic(&self) -> String {
        format!("{}.dlq-marks", self.name)
    }

    /// What the steps of `agent` led to: `<name>.journal.<agent>`.
    #[must_use]
    pub fn journal_topic(&self, agent: &str) -> String {
        format!("{}.journal.{agent}", self.name)
    }

    /// The consumer group of an agent, of [`SUPERVISOR`] or of [`COMPOSER`]: `<name>.<agent>`, unless its line says
    /// otherwise.
    #[must_use]
    pub fn group_of(&self, role_or_agent: &str) -> String {
        let declared = self.agents.get(role_or_agent).and_then(|a| a.group.clone());
        declared.unwrap_or_else(|| format!("{}.{role_or_agent}", self.name))
    }

    /// What is declared of an agent, or the defaults.
    #[must_use]
    pub fn agent(&self, name: &str) -> AgentSettings {
        self.agents.get(name).unwrap_or(&self.defaults).clone()
    }

    /// The model of an agent. In a validated topology its alias exists.
    #[must_use]
    pub fn model_of(&self, settings: &AgentSettings) -> ModelChoice {
        let choice = self.models.get(&settings.model).or_else(|| self.models.get("default"));
        choice.cloned().unwrap_or_default()
    }

    /// All topics of the topology, with tasks and their dead letters for `agents` and for those that have a line.
    ///
    /// The order is fixed: inbound, own, tasks in order of name, retries, outbound as declared; dead letters follow their topic.
    /// Joined topics (results, review, state) have equally many partitions.
    #[must_use]
    pub fn topics(&self, agents: &[&str]) -> Vec<TopicSpec> {
        let mut specs = Vec::new();
        let mut consumed = |spec: TopicSpec| {
            let dlq = self.own(self.dlq_topic(&spec.name), TopicRole::DeadLetters);
            specs.extend([spec, dlq]);
        };
        consumed(self.foreign(&self.inbound.requests, TopicRole::Requests));
        if let Some(review) = &self.inbound.review {
            consumed(self.foreign(review, TopicRole::Review));
        }
        consumed(self.own(self.results_topic(), TopicRole::Results));
        consumed(self.own(self.followups_topic(), TopicRole::FollowUps));
        let declared = self.agents.keys().map(String::as_str);
        let agents: BTreeSet<&str> = declared.chain(agents.iter().copied()).filter(|a| !is_role(a)).collect();
        for agent in &agents {
            consumed(self.own(self.tasks_topic(agent), TopicRole::Tasks));
        }
        let retries = agents.iter().flat_map(|agent| self.retry_topics(agent));
        specs.extend(retries.map(|(topic, _)| self.own(topic, TopicRole::Retry)));
        specs.extend(agents.iter().map(|agent| self.own(self.journal_topic(agent), TopicRole::Journal)));
        specs.push(self.own(self.late_topic(), TopicRole::Late));
        if self.inbound.review.is_some() {
            specs.push(self.own(self.inbox_topic(), TopicRole::Inbox));
        }
        specs.push(self.compacted(self.state_topic(), TopicRole::State, self.partitions));
        specs.push(self.compacted(self.directory_topic(), TopicRole::Directory, 1));
        specs.push(self.compacted(self.marks_topic(), TopicRole::Marks, 1));
        specs.push(self.kept(self.ledger_topic(), TopicRole::Ledger, self.partitions, self.retention.max(LEDGER_KEPT)));
        if self.has_limits() {
            specs.push(self.kept(self.limits_topic(), TopicRole::Limits, 1, LIMITS_KEPT));
        }
        let mut seen = BTreeSet::new();
        let outbound = self.outbound.values().filter(|t| seen.insert(t.name.as_str()));
        specs.extend(outbound.map(|t| self.foreign(t, TopicRole::Outbound)));
        specs
    }

    fn spec(&self, name: String, role: TopicRole, partitions: i32, configs: BTreeMap<String, String>) -> TopicSpec {
        TopicSpec { name, role, partitions, replication_factor: self.replication_factor, configs }
    }

    fn foreign(&self, topic: &Topic, role: TopicRole) -> TopicSpec {
        self.spec(topic.name.clone(), role, topic.partitions, topic.configs.clone())
    }

    fn own(&self, name: String, role: TopicRole) -> TopicSpec {
        self.kept(name, role, self.partitions, self.retention)
    }

    fn kept(&self, name: String, role: TopicRole, partitions: i32, retention: Duration) -> TopicSpec {
        let configs = [("cleanup.policy", "delete".to_owned()), ("retention.ms", retention.as_millis().to_string())];
        self.spec(name, role, partitions, configs.map(|(k, v)| (k.to_owned(), v)).into())
    }

    fn compacted(&self, name: String, role: TopicRole, partitions: i32) -> TopicSpec {
        let configs = [("cleanup.policy", "compact".to_owned()), ("segment.ms", COMPACTED_SEGMENT_MS.to_string())];
        self.spec(name, role, partitions, configs.map(|(k, v)| (k.to_owned(), v)).into())
    }
}
