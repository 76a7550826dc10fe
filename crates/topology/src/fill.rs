//! From what is written to the topology: every default is filled in here, and nowhere else.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::claims;
use crate::journal;
use crate::letters;
use crate::model::{
    AgentSettings, Confidence, DirectorySettings, Inbound, JoinSettings, ModelChoice, RetrySettings, Topic, Topology,
    WaitFor,
};
use crate::parking;
use crate::raw::{self, ConfigValue, TopicLine, TopicSettings, WaitForLine, WaitForWord};
use crate::spending;
use crate::tools;
use crate::unit::Span;
use crate::yaml::Node;

const PARTITIONS: i32 = 6;
const RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);
/// The alias that is always there.
pub(crate) const DEFAULT_MODEL: &str = "default";

/// Fills in the defaults. Of a file with faults it makes something that the rules can look at.
pub(crate) fn topology(file: &raw::File, root: &Node) -> Topology {
    let partitions = file.partitions.unwrap_or(PARTITIONS);
    let inbound = file.inbound.as_ref();
    let topic = |line: &TopicLine| topic(line, partitions);
    let defaults = tune(AgentSettings::default(), file.defaults.as_ref());
    let agents = file.agents.iter().flatten().map(|(name, line)| (name.clone(), agent(&defaults, line.as_ref())));
    let mut outbound: indexmap::IndexMap<String, Topic> =
        file.outbound.iter().flatten().map(|(alias, line)| (alias.clone(), topic(line))).collect();
    sort_as_written(&mut outbound, root);
    Topology {
        name: file.name.clone().unwrap_or_default(),
        partitions,
        replication_factor: file.replication_factor.unwrap_or(-1),
        inbound: Inbound {
            requests: topic(inbound.and_then(|i| i.requests.as_ref()).unwrap_or(&TopicLine::Name(String::new()))),
            review: inbound.and_then(|i| i.review.as_ref()).map(topic),
        },
        outbound,
        retention: or(file.retention, RETENTION),
        join: join(file.join.as_ref()),
        confidence: confidence(file.confidence.as_ref()),
        parking: parking::filled(file.parking.as_ref()),
        directory: directory(file.directory.as_ref()),
        models: models(file.models.as_ref()),
        budgets: spending::budgets(file.budgets.as_ref()),
        prices: spending::prices_of(file.prices.as_ref()),
        tenant: file.tenant.clone(),
        claims: claims::filled(file.claims.as_ref()),
        agents: agents.collect(),
        defaults,
    }
}

fn or(span: Option<Span>, default: Duration) -> Duration {
    span.map_or(default, |s| s.0)
}

/// JSON objects forget the order of their keys; the file's is kept.
fn sort_as_written(outbound: &mut indexmap::IndexMap<String, Topic>, root: &Node) {
    let written = root.entries().iter().find(|e| e.key == "outbound").map(|e| e.value.entries()).unwrap_or_default();
    outbound.sort_by_cached_key(|alias, _| written.iter().position(|e| e.key == *alias));
}

/// The settings of a topic, whichever form it is written in.
pub(crate) fn settings(line: &TopicLine) -> TopicSettings {
    match line {
        TopicLine::Name(name) => TopicSettings { topic: Some(name.clone()), ..TopicSettings::default() },
        TopicLine::Settings(settings) => settings.clone(),
    }
}

fn topic(line: &TopicLine, partitions: i32) -> Topic {
    let TopicSettings { topic, partitions: own, retention, configs } = settings(line);
    let mut all: BTreeMap<String, String> =
        configs.iter().flatten().map(|(name, value)| (name.clone(), config_text(value))).collect();
    if let Some(Span(retention)) = retention {
        all.insert("retention.ms".to_owned(), retention.as_millis().to_string());
    }
    Topic { name: topic.unwrap_or_default(), partitions: own.unwrap_or(partitions), configs: all }
}

fn config_text(value: &ConfigValue) -> String {
    match value {
        ConfigValue::Bool(b) => b.to_string(),
        ConfigValue::Int(i) => i.to_string(),
        ConfigValue::Float(f) => f.to_string(),
        ConfigValue::Text(text) => text.clone(),
    }
}

fn join(raw: Option<&raw::Join>) -> JoinSettings {
    JoinSettings {
        deadline: or(raw.and_then(|r| r.deadline), Duration::from_secs(5 * 60)),
        closed_memory: or(raw.and_then(|r| r.closed_memory), Duration::from_secs(24 * 3600)),
        wait_for: raw.and_then(|r| r.wait_for.as_ref()).map_or(WaitFor::All, wait_for),
        when_deadline_passes: raw.and_then(|r| r.when_deadline_passes).unwrap_or_default(),
    }
}

fn wait_for(line: &WaitForLine) -> WaitFor {
    match line {
        WaitForLine::Word(WaitForWord::All) => WaitFor::All,
        WaitForLine::Word(WaitForWord::Required) => WaitFor::Required,
        WaitForLine::Quorum(raw::Quorum { quorum }) => quorum.map_or(WaitFor::All, WaitFor::Quorum),
    }
}

fn confidence(raw: Option<&raw::Confidence>) -> Confidence {
    Confidence {
        publish_above: raw.and_then(|r| r.publish_above).unwrap_or(0.95),
        follow_up_above: raw.and_then(|r| r.follow_up_above).unwrap_or(0.75),
        max_follow_up_rounds: raw.and_then(|r| r.max_follow_up_rounds).unwrap_or(2),
    }
}

fn directory(raw: Option<&raw::Directory>) -> DirectorySettings {
    DirectorySettings {
        announce_every: or(raw.and_then(|r| r.announce_every), Duration::from_secs(5)),
        lapse_after: or(raw.and_then(|r| r.lapse_after), Duration::from_secs(60)),
    }
}

fn models(raw: Option<&BTreeMap<String, Option<raw::Model>>>) -> BTreeMap<String, ModelChoice> {
    let mut models: BTreeMap<String, ModelChoice> =
        raw.into_iter().flatten().map(|(alias, model)| (alias.clone(), model_choice(model.as_ref()))).collect();
    models.entry(DEFAULT_MODEL.to_owned()).or_default();
    models
}

fn model_choice(raw: Option<&raw::Model>) -> ModelChoice {
    let default = ModelChoice::default();
    let Some(raw) = raw else { return default };
    ModelChoice {
        name: raw.name.clone().unwrap_or(default.name),
        temperature: raw.temperature,
        max_output_tokens: raw.max_output_tokens,
        max_repairs: raw.max_repairs.unwrap_or(default.max_repairs),
        timeout: or(raw.timeout, default.timeout),
        requests_per_minute: raw.requests_per_minute,
        tokens_per_minute: raw.tokens_per_minute,
        limit_window: or(raw.limit_window, default.limit_window),
        fallback: raw.fallback.clone(),
        breaker: spending::breaker(raw.breaker.as_ref()),
    }
}

fn agent(defaults: &AgentSettings, line: Option<&raw::Agent>) -> AgentSettings {
    let Some(line) = line else { return defaults.clone() };
    AgentSettings {
        required: line.required,
        when: line.when.clone(),
        after: line.after.clone(),
        sees: line.sees.clone(),
        hidden_fields: line.hidden_fields.clone().unwrap_or_default(),
        tools: tools::fill(line.tools.as_ref()),
        group: line.group.clone(),
        config: line.config.clone().unwrap_or(Value::Null),
        ..tune(defaults.clone(), Some(&line.tuning))
    }
}

fn tune(base: AgentSettings, tuning: Option<&raw::Tuning>) -> AgentSettings {
    let Some(tuning) = tuning else { return base };
    AgentSettings {
        concurrency: tuning.concurrency.unwrap_or(base.concurrency),
        max_in_flight_bytes: tuning
            .max_in_flight
            .map_or(base.max_in_flight_bytes, |s| usize::try_from(s.0).unwrap_or(usize::MAX)),
        order: tuning.order.unwrap_or(base.order),
        handler_timeout: or(tuning.handler_timeout, base.handler_timeout),
        drain_timeout: or(tuning.drain_timeout, base.drain_timeout),
        session_timeout: or(tuning.session_timeout, base.session_timeout),
        retry: retry(&base.retry, tuning.retry.as_ref()),
        http_port: tuning.http_port.unwrap_or(base.http_port),
        model: tuning.model.clone().unwrap_or(base.model),
        journal: journal::fill(&base.journal, tuning.journal.as_ref()),
        dead_letters: letters::fill(base.dead_letters, tuning.dead_letters.as_ref()),
        ..base
    }
}

fn retry(base: &RetrySettings, raw: Option<&raw::Retry>) -> RetrySettings {
    let Some(raw) = raw else { return base.clone() };
    let tiers: Option<Vec<Duration>> = raw.tiers.as_ref().map(|tiers| tiers.iter().map(|tier| tier.0).collect());
    // Whoever writes a longer tier wants it used.
    let longest = tiers.iter().flatten().copied().max();
    RetrySettings {
        max_attempts: raw.max_attempts.unwrap_or(base.max_attempts),
        initial_backoff: or(raw.initial_backoff, base.initial_backoff),
        max_backoff: or(raw.max_backoff, longest.map_or(base.max_backoff, |longest| longest.max(base.max_backoff))),
        tiers: tiers.unwrap_or_else(|| base.tiers.clone()),
    }
}
