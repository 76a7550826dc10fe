//! The validated topology: what the rest of the program works with. Every default is filled in.

use std::collections::BTreeMap;
use std::time::Duration;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use crate::claims::{ClaimSettings, ClaimStore};
pub use crate::journal::JournalSettings;
pub use crate::letters::DeadLetterSettings;
pub use crate::parking::ParkingSettings;
pub use crate::spending::{BreakerSettings, Budgets, Price, PriceList, Prices, Spending};
pub use crate::tools::{McpSettings, McpTransport, ToolSettings};

/// A validated topology.
#[derive(Debug, Clone, PartialEq)]
pub struct Topology {
    /// Its name: the prefix of the topics that need no line of their own, of groups and client ids.
    pub name: String,
    /// Partitions of every topic that does not say otherwise.
    pub partitions: i32,
    /// Replication factor of every topic; -1: the broker's default.
    pub replication_factor: i16,
    /// Where requests and review decisions come in.
    pub inbound: Inbound,
    /// Where outcomes leave, by the alias that composers use.
    pub outbound: IndexMap<String, Topic>,
    /// The runtime's own topics' retention.
    pub retention: Duration,
    /// How cases are joined.
    pub join: JoinSettings,
    /// Confidence bands.
    pub confidence: Confidence,
    /// What becomes of cases that wait for a person.
    pub parking: ParkingSettings,
    /// How agents announce themselves.
    pub directory: DirectorySettings,
    /// Models by alias; `default` is always there.
    pub models: BTreeMap<String, ModelChoice>,
    /// Most that may be spent on models.
    pub budgets: Budgets,
    /// What models cost.
    pub prices: Prices,
    /// Where in a request its tenant is, as a JSON pointer.
    pub tenant: Option<String>,
    /// Where values lie that are too large for a record; `None`: nowhere.
    pub claims: Option<ClaimSettings>,
    /// What is declared of agents, defaults filled in. An agent without a line has the defaults: [`Topology::agent`].
    pub agents: BTreeMap<String, AgentSettings>,
    /// What an agent without a line has.
    pub defaults: AgentSettings,
}

/// Where records come in.
#[derive(Debug, Clone, PartialEq)]
pub struct Inbound {
    /// Requests.
    pub requests: Topic,
    /// Decisions of people about parked cases.
    pub review: Option<Topic>,
}

/// A topic that others write or read.
#[derive(Debug, Clone, PartialEq)]
pub struct Topic {
    /// Its name in Kafka.
    pub name: String,
    /// How many partitions it is created with.
    pub partitions: i32,
    /// Topic configs, by Kafka's names.
    pub configs: BTreeMap<String, String>,
}

/// How cases are joined.
#[derive(Debug, Clone, PartialEq)]
pub struct JoinSettings {
    /// From the request's planning to the latest outcome.
    pub deadline: Duration,
    /// How long a closed case is remembered.
    pub closed_memory: Duration,
    /// Which answers a decision waits for.
    pub wait_for: WaitFor,
    /// What becomes of a case whose deadline passes before those are in.
    pub when_deadline_passes: WhenDeadlinePasses,
}

/// Which answers a decision waits for. What comes after the decision is late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WaitFor {
    /// Every step that has a vote has answered or failed.
    #[default]
    All,
    /// Every required one has; optional ones count if they are in by then. A plan without a required step waits for all.
    Required,
    /// So many have answered, the required ones among them. Where that cannot be reached any more, all have answered or
    /// failed.
    Quorum(u32),
}

/// What becomes of a case whose deadline passes before the answers it waits for are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WhenDeadlinePasses {
    /// The composer decides, and is told what is missing.
    #[default]
    Compose,
    /// It becomes a dead letter that names what is missing.
    DeadLetter,
}

/// Confidence bands (`ARCHITECTURE.md`, deciding with confidence).
#[derive(Debug, Clone, PartialEq)]
pub struct Confidence {
    /// Above this: publish.
    pub publish_above: f64,
    /// From this to `publish_above`: a follow-up round; below: a human.
    pub follow_up_above: f64,
    /// Most follow-up rounds.
    pub max_follow_up_rounds: u32,
}

/// How agents announce themselves.
#[derive(Debug, Clone, PartialEq)]
pub struct DirectorySettings {
    /// How often an agent announces its card.
    pub announce_every: Duration,
    /// A card lapses so long after it was announced.
    pub lapse_after: Duration,
}

const MINUTE: Duration = Duration::from_secs(60);

/// A model at an OpenAI-compatible endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelChoice {
    /// Its name at the endpoint.
    pub name: String,
    /// Sampling temperature.
    pub temperature: Option<f32>,
    /// Most tokens of an answer.
    pub max_output_tokens: Option<u32>,
    /// How often an answer of the wrong shape is sent back to be repaired.
    pub max_repairs: u32,
    /// Longest time one call may take.
    pub timeout: Duration,
    /// Most requests a minute, by all processes that use this alias.
    pub requests_per_minute: Option<u32>,
    /// Most tokens a minute, read and written, by all processes that use this alias.
    pub tokens_per_minute: Option<u64>,
    /// Over what time the two are counted: in no such time is more than its part of a minute's used.
    pub limit_window: Duration,
    /// Alias of the model that is asked instead while this one is down.
    pub fallback: Option<String>,
    /// When agents pause because it does not work.
    pub breaker: BreakerSettings,
}

impl ModelChoice {
    /// Most requests in [`ModelChoice::limit_window`].
    #[must_use]
    pub fn requests_per_window(&self) -> Option<u64> {
        self.requests_per_minute.map(|n| self.per_window(n.into()))
    }

    /// Most tokens in [`ModelChoice::limit_window`].
    #[must_use]
    pub fn tokens_per_window(&self) -> Option<u64> {
        self.tokens_per_minute.map(|n| self.per_window(n))
    }

    fn per_window(&self, per_minute: u64) -> u64 {
        let part = u128::from(per_minute).saturating_mul(self.limit_window.as_millis()) / MINUTE.as_millis();
        u64::try_from(part).unwrap_or(u64::MAX)
    }

    /// Whether how fast it may be asked is bounded.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.requests_per_minute.is_some() || self.tokens_per_minute.is_some()
    }
}

impl Default for ModelChoice {
    fn default() -> Self {
        Self {
            name: "gpt-4o-mini".to_owned(),
            temperature: None,
            max_output_tokens: None,
            max_repairs: 2,
            timeout: Duration::from_secs(30),
            requests_per_minute: None,
            tokens_per_minute: None,
            limit_window: MINUTE,
            fallback: None,
            breaker: BreakerSettings::default(),
        }
    }
}

/// In which order an agent works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Records of one key one after the other.
    #[default]
    Key,
    /// Records of one partition one after the other.
    Partition,
    /// No order.
    None,
}

/// One agent, defaults filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentSettings {
    /// Most tasks worked on at once in one process.
    pub concurrency: usize,
    /// Most bytes of records held in one process.
    pub max_in_flight_bytes: usize,
    /// In which order it works.
    pub order: Order,
    /// Longest time one attempt may take.
    pub handler_timeout: Duration,
    /// Longest time a drain may take.
    pub drain_timeout: Duration,
    /// A silent process is evicted from its group after this.
    pub session_timeout: Duration,
    /// Retries of what failed in a way that may pass.
    pub retry: RetrySettings,
    /// Port of the probes on loopback; 0 takes a free one.
    pub http_port: u16,
    /// Alias in [`Topology::models`].
    pub model: String,
    /// How much the journal of its steps may hold.
    pub journal: JournalSettings,
    /// How many dead letters are too many.
    pub dead_letters: DeadLetterSettings,
    /// Whether a case needs its answer; `None`: as its card says.
    pub required: Option<bool>,
    /// CEL over `request`; `None`: as its card says.
    pub when: Option<String>,
    /// Steps it waits for; `None`: as its card says.
    pub after: Option<Vec<String>>,
    /// Steps whose answers it may see; `None`: as its card says, else those it waits for.
    pub sees: Option<Vec<String>>,
    /// Fields of the request that are hidden from it, as JSON pointers.
    pub hidden_fields: Vec<String>,
    /// Tools that its model may call, and how much.
    pub tools: ToolSettings,
    /// Its consumer group; `None`: as [`Topology::group_of`] says.
    pub group: Option<String>,
    /// The agent's own configuration; null if there is none.
    pub config: Value,
}

/// Retries of what failed in a way that may pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetrySettings {
    /// Most attempts, from 1.
    pub max_attempts: u32,
    /// Wait after the first failure; each further one is four times as long.
    pub initial_backoff: Duration,
    /// Longest wait, unless the other side asks for a longer one.
    pub max_backoff: Duration,
    /// Delays of the retry topics, ascending.
    pub tiers: Vec<Duration>,
}

impl Default for AgentSettings {
    fn default() -> Self {
        Self {
            concurrency: 256,
            max_in_flight_bytes: 64 * 1024 * 1024,
            order: Order::Key,
            handler_timeout: Duration::from_secs(120),
            drain_timeout: Duration::from_secs(30),
            session_timeout: Duration::from_secs(10),
            retry: RetrySettings {
                max_attempts: 6,
                initial_backoff: Duration::from_millis(200),
                max_backoff: Duration::from_secs(30),
                tiers: vec![Duration::from_secs(5), Duration::from_secs(30)],
            },
            http_port: 0,
            model: "default".to_owned(),
            journal: JournalSettings::default(),
            dead_letters: DeadLetterSettings::default(),
            required: None,
            when: None,
            after: None,
            sees: None,
            hidden_fields: Vec::new(),
            tools: ToolSettings::default(),
            group: None,
            config: Value::Null,
        }
    }
}

/// What a topic is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TopicRole {
    /// Requests come in.
    Requests,
    /// Review decisions come in.
    Review,
    /// Tasks of one agent.
    Tasks,
    /// Tasks of one agent that wait to be tried again.
    Retry,
    /// Plans and partials.
    Results,
    /// What the composer asks the supervisor for.
    FollowUps,
    /// What came too late to count.
    Late,
    /// What people are told of parked cases: answers to what they decided, reminders, escalations.
    Inbox,
    /// The composer's state; compacted.
    State,
    /// Agents' cards; compacted.
    Directory,
    /// What models were asked, and what it cost.
    Ledger,
    /// How processes share models' rate limits.
    Limits,
    /// What an agent's steps led to.
    Journal,
    /// Dead letters.
    DeadLetters,
    /// Which dead letters are dealt with; compacted.
    Marks,
    /// Outcomes leave.
    Outbound,
}

/// A topic as it should be on the cluster.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TopicSpec {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub role: TopicRole,
    /// How many partitions.
    pub partitions: i32,
    /// -1: the broker's default.
    pub replication_factor: i16,
    /// Topic configs by Kafka's names.
    pub configs: BTreeMap<String, String>,
}
