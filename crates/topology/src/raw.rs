//! The file as it is written. These types are the only source of the JSON Schema, and the schema is what a file's
//! shape is checked with ([`shape`](crate::shape)): reader and schema cannot drift apart.
//!
//! Every field is optional here, so that the rest of a file can still be looked at when one field is wrong.

use std::collections::BTreeMap;

use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema, generate::SchemaSettings};
use serde::Deserialize;
use serde_json::Value;

use crate::claims::ClaimsLine;
use crate::journal::JournalLine;
use crate::letters::DeadLettersLine;
use crate::model::{Order, WhenDeadlinePasses};
use crate::parking::ParkingLine;
use crate::spending::{BreakerLine, BudgetLines, PricesLine};
use crate::tools::ToolsLine;
use crate::unit::{Size, Span};

/// The topology of an Anabranch application: its topics, agents and policies.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(title = "Anabranch topology (topics.yaml)")]
pub(crate) struct File {
    /// The topology's name: the prefix of the topics, groups and client ids that need no line of their own.
    #[schemars(required, regex(pattern = "^[A-Za-z0-9._-]{1,249}$"), example = &"kyc")]
    pub(crate) name: Option<String>,
    /// Partitions of every topic that does not say otherwise. Default: 6.
    #[schemars(range(min = 1, max = 10_000), example = 6)]
    pub(crate) partitions: Option<i32>,
    /// Replication factor of every topic. Default: the broker's.
    #[schemars(range(min = 1, max = 100), example = 3)]
    pub(crate) replication_factor: Option<i16>,
    /// Where records come in. Others write these topics.
    #[schemars(required, example = example_inbound())]
    pub(crate) inbound: Option<Inbound>,
    /// Where outcomes leave: the alias a composer uses, and the topic.
    #[schemars(required, example = example_outbound())]
    pub(crate) outbound: Option<BTreeMap<String, TopicLine>>,
    /// Retention of the runtime's own topics. Default: 7d.
    #[schemars(example = &"7d")]
    pub(crate) retention: Option<Span>,
    /// How answers are joined.
    pub(crate) join: Option<Join>,
    /// What follows from how sure the agents are.
    pub(crate) confidence: Option<Confidence>,
    /// What becomes of cases that wait for a person.
    pub(crate) parking: Option<ParkingLine>,
    /// How agents announce themselves.
    pub(crate) directory: Option<Directory>,
    /// Models by alias. `default` is what agents without `model` use.
    pub(crate) models: Option<BTreeMap<String, Option<Model>>>,
    /// Most that may be spent on models; a call that would go beyond is not made.
    pub(crate) budgets: Option<BudgetLines>,
    /// What models cost, for a million tokens, in a currency of your choice: here, or in a file of their own.
    #[schemars(example = example_prices())]
    pub(crate) prices: Option<PricesLine>,
    /// Where in a request its tenant is, as a JSON pointer: models' rate limits are shared fairly between tenants.
    #[schemars(example = &"/customer/tenant")]
    pub(crate) tenant: Option<String>,
    /// Claim check: values too large for a record lie in a store. Default: there is none.
    pub(crate) claims: Option<ClaimsLine>,
    /// Settings of every agent that does not say otherwise.
    pub(crate) defaults: Option<Tuning>,
    /// Settings by agent; `supervisor` and `composer` may have lines too. An agent needs no line.
    pub(crate) agents: Option<BTreeMap<String, Option<Agent>>>,
    /// Services outside this topology that read one topic and write another. No path may lead from an outbound topic
    /// to an inbound one: declare what you know of, and a loop is refused.
    pub(crate) bridges: Option<Vec<Bridge>>,
}

/// Where records come in.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct Inbound {
    /// Requests. The number of partitions may differ from the others'.
    #[schemars(required, example = &"kyc.requests")]
    pub(crate) requests: Option<TopicLine>,
    /// Decisions of people about parked cases. It is joined with the results, so it has as many partitions.
    #[schemars(example = &"kyc.review-decisions")]
    pub(crate) review: Option<TopicLine>,
}

/// A topic: its name, or its name and settings.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum TopicLine {
    /// The topic's name.
    Name(#[schemars(regex(pattern = "^[A-Za-z0-9._-]{1,249}$"))] String),
    /// The topic's name and settings.
    Settings(TopicSettings),
}

/// A topic with settings.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
pub(crate) struct TopicSettings {
    /// The topic's name.
    #[schemars(required, regex(pattern = "^[A-Za-z0-9._-]{1,249}$"), example = &"kyc.requests")]
    pub(crate) topic: Option<String>,
    /// Partitions it is created with. Default: `partitions` of the topology.
    #[schemars(range(min = 1, max = 10_000), example = 12)]
    pub(crate) partitions: Option<i32>,
    /// How long records stay. Default: the broker's.
    #[schemars(example = &"30d")]
    pub(crate) retention: Option<Span>,
    /// Topic configs by Kafka's names.
    pub(crate) configs: Option<BTreeMap<String, ConfigValue>>,
}

/// The value of a topic config.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum ConfigValue {
    /// On or off.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// A text.
    Text(String),
}

/// How answers are joined.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct Join {
    /// From a request's planning to its latest outcome. Default: 5m.
    #[schemars(example = &"5m")]
    pub(crate) deadline: Option<Span>,
    /// How long a closed case is remembered, so that a late answer or a repeated request is known as such. Default: 24h.
    #[schemars(example = &"24h")]
    pub(crate) closed_memory: Option<Span>,
    /// Which answers a decision waits for. What comes after the decision is late. Default: all.
    #[schemars(example = example_quorum())]
    pub(crate) wait_for: Option<WaitForLine>,
    /// What becomes of a case whose deadline passes before the answers it waits for are in. Default: compose.
    #[schemars(example = &"dead-letter")]
    pub(crate) when_deadline_passes: Option<WhenDeadlinePasses>,
}

/// Which answers a decision waits for: a word, or how many.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum WaitForLine {
    /// A word.
    Word(WaitForWord),
    /// How many.
    Quorum(Quorum),
}

/// Which answers a decision waits for.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WaitForWord {
    /// Every step that has a vote has answered or failed.
    All,
    /// Every required one has; optional ones count if they are in by then.
    Required,
}

/// How many answers a decision waits for.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
pub(crate) struct Quorum {
    /// So many have answered, the required ones among them. Where that cannot be reached any more, all are waited for.
    #[schemars(required, range(min = 1, max = 1_000), example = 2)]
    pub(crate) quorum: Option<u32>,
}

/// What follows from how sure the agents are.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct Confidence {
    /// Above this: publish. Default: 0.95.
    #[schemars(range(min = 0, max = 1), example = 0.95)]
    pub(crate) publish_above: Option<f64>,
    /// From this to `publish_above`: a follow-up round; below: a human. Default: 0.75.
    #[schemars(range(min = 0, max = 1), example = 0.75)]
    pub(crate) follow_up_above: Option<f64>,
    /// Most follow-up rounds of a case. Default: 2.
    #[schemars(range(min = 0, max = 100), example = 2)]
    pub(crate) max_follow_up_rounds: Option<u32>,
}

/// How agents announce themselves.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct Directory {
    /// How often an agent announces its card. Default: 5s.
    #[schemars(example = &"5s")]
    pub(crate) announce_every: Option<Span>,
    /// How long after its last announcement an agent is planned with. Default: 60s.
    #[schemars(example = &"60s")]
    pub(crate) lapse_after: Option<Span>,
}

/// A model at the OpenAI-compatible endpoint.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct Model {
    /// Its name at the endpoint. Default: gpt-4o-mini.
    #[schemars(example = &"gpt-4o-mini")]
    pub(crate) name: Option<String>,
    /// Longest time one call may take. Default: 30s.
    #[schemars(example = &"30s")]
    pub(crate) timeout: Option<Span>,
    /// Sampling temperature. Default: the endpoint's.
    #[schemars(range(min = 0, max = 2), example = 0)]
    pub(crate) temperature: Option<f32>,
    /// Most tokens of an answer. Default: the endpoint's.
    #[schemars(range(min = 1, max = 10_000_000), example = 800)]
    pub(crate) max_output_tokens: Option<u32>,
    /// How often an answer of the wrong shape is sent back with what is wrong with it, before it is a dead letter.
    /// Default: 2.
    #[schemars(range(min = 0, max = 10), example = 2)]
    pub(crate) max_repairs: Option<u32>,
    /// Most requests a minute, by all processes that use this alias together. Default: without bound.
    #[schemars(range(min = 1, max = 100_000_000), example = 500)]
    pub(crate) requests_per_minute: Option<u32>,
    /// Most tokens a minute, read and written, by all processes that use this alias together. Default: without bound.
    #[schemars(range(min = 1, max = 1_000_000_000_000_i64), example = 200_000)]
    pub(crate) tokens_per_minute: Option<u64>,
    /// Over what time the endpoint counts: no such time holds more than its part of a minute's. Default: 1m.
    #[schemars(example = &"1s")]
    pub(crate) limit_window: Option<Span>,
    /// Alias of the model that is asked instead while this one is down. Default: none.
    #[schemars(example = &"second")]
    pub(crate) fallback: Option<String>,
    /// When agents pause because the model does not work.
    pub(crate) breaker: Option<BreakerLine>,
}

/// What `defaults` and each agent may set.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
pub(crate) struct Tuning {
    /// Most tasks worked on at once in one process. Default: 256.
    #[schemars(range(min = 1, max = 100_000), example = 256)]
    pub(crate) concurrency: Option<usize>,
    /// Most bytes of records held in one process; past it, fetching stops. Default: 64MiB.
    #[schemars(example = &"64MiB")]
    pub(crate) max_in_flight: Option<Size>,
    /// In which order it works. Default: key.
    pub(crate) order: Option<Order>,
    /// Longest time one attempt may take. Default: 120s.
    #[schemars(example = &"120s")]
    pub(crate) handler_timeout: Option<Span>,
    /// Longest time a drain may take. Default: 30s.
    #[schemars(example = &"30s")]
    pub(crate) drain_timeout: Option<Span>,
    /// A process that is silent for so long is evicted from its group; at least 6s. Default: 10s.
    #[schemars(example = &"10s")]
    pub(crate) session_timeout: Option<Span>,
    /// Retries of what failed in a way that may pass.
    pub(crate) retry: Option<Retry>,
    /// Port of the probes on loopback; 0 takes a free one. Default: 0.
    #[schemars(range(min = 0, max = 65_535), example = 0)]
    pub(crate) http_port: Option<u16>,
    /// Alias of a model in `models`. Default: default.
    #[schemars(example = &"default")]
    pub(crate) model: Option<String>,
    /// How much the journal of its steps may hold.
    pub(crate) journal: Option<JournalLine>,
    /// How many dead letters are too many. The supervisor counts only requests whose planning failed in a way that may
    /// pass; the composer has no limits.
    pub(crate) dead_letters: Option<DeadLettersLine>,
}

/// Retries of what failed in a way that may pass.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
pub(crate) struct Retry {
    /// Most attempts, the first included. Default: 6.
    #[schemars(range(min = 1, max = 1_000_000), example = 6)]
    pub(crate) max_attempts: Option<u32>,
    /// Wait after the first failure; each further one is four times as long. Default: 200ms.
    #[schemars(example = &"200ms")]
    pub(crate) initial_backoff: Option<Span>,
    /// Longest wait, unless the other side asks for a longer one. Default: the longest tier's delay, 30s.
    #[schemars(example = &"30s")]
    pub(crate) max_backoff: Option<Span>,
    /// Delays of the agent's retry topics, ascending. A wait that is as long as one is spent there; a shorter one, and
    /// with no tier every one, in memory. Default: 5s and 30s.
    #[schemars(example = TIERS)]
    pub(crate) tiers: Option<Vec<Span>>,
}

/// One agent.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct Agent {
    #[serde(flatten)]
    pub(crate) tuning: Tuning,
    /// Whether a case needs its answer. Default: as the agent's card says.
    #[schemars(example = true)]
    pub(crate) required: Option<bool>,
    /// For which requests it is asked: CEL over `request`. Default: as the agent's card says.
    #[schemars(example = &"request.product != \"gift-card\"")]
    pub(crate) when: Option<String>,
    /// Agents whose answers it waits for. Default: as the agent's card says.
    #[schemars(example = AFTER)]
    pub(crate) after: Option<Vec<String>>,
    /// Agents whose answers it may see, `outcome`, or `*` for all. Default: as the agent's card says, else those it waits for.
    #[schemars(example = AFTER)]
    pub(crate) sees: Option<Vec<String>>,
    /// Fields of the request that are hidden from it, as JSON pointers; `*` is every element of a list. Default: none.
    #[schemars(example = HIDDEN)]
    pub(crate) hidden_fields: Option<Vec<String>>,
    /// Tools that its model may call, and how much.
    pub(crate) tools: Option<ToolsLine>,
    /// Its consumer group. Default: `<name>.<agent>`.
    #[schemars(example = &"kyc.identity")]
    pub(crate) group: Option<String>,
    /// The agent's own configuration.
    pub(crate) config: Option<Value>,
}

/// A service outside this topology that reads `from` and writes `to`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct Bridge {
    /// The topic it reads.
    #[schemars(required, regex(pattern = "^[A-Za-z0-9._-]{1,249}$"), example = &"kyc.decisions")]
    pub(crate) from: Option<String>,
    /// The topic it writes.
    #[schemars(required, regex(pattern = "^[A-Za-z0-9._-]{1,249}$"), example = &"crm.updates")]
    pub(crate) to: Option<String>,
}

fn example_inbound() -> BTreeMap<&'static str, &'static str> {
    BTreeMap::from([("requests", "kyc.requests")])
}

fn example_outbound() -> BTreeMap<&'static str, &'static str> {
    BTreeMap::from([("decisions", "kyc.decisions")])
}

fn example_quorum() -> BTreeMap<&'static str, u32> {
    BTreeMap::from([("quorum", 2)])
}

fn example_prices() -> Value {
    serde_json::json!({ "gpt-4o-mini": { "input": 0.15, "output": 0.6 } })
}

const AFTER: [&str; 1] = ["document"];
const HIDDEN: [&str; 1] = ["/applicant/tax_number"];
const TIERS: [&str; 3] = ["5s", "30s", "2m"];

/// The schema of [`File`].
pub(crate) fn schema() -> Value {
    schema_of::<File>()
}

/// The schema of a file of this shape.
pub(crate) fn schema_of<T: JsonSchema>() -> Value {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>();
    Tidy.transform(&mut schema);
    schema.to_value()
}

/// Closes every object, and removes the formats that name Rust's integer types.
struct Tidy;

impl Transform for Tidy {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        if schema.get("properties").is_some() {
            schema.insert("additionalProperties".to_owned(), Value::Bool(false));
        }
        schema.remove("format");
    }
}
