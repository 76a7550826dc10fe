//! DescribeConfigs, AlterConfigs, IncrementalAlterConfigs.

use kafka_protocol::{
    ResponseError,
    messages::{
        AlterConfigsRequest, AlterConfigsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
        IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, alter_configs_request, alter_configs_response,
        describe_configs_request::DescribeConfigsResource,
        describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym},
        incremental_alter_configs_request, incremental_alter_configs_response,
    },
    protocol::StrBytes,
};

use super::{text, told};
use crate::{
    log::Refusal,
    node::{NODE_ID, Node},
    server::dispatch::{Api, Call},
    topics::config::{self, Defaults, Entries, Operation},
};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

const OF_TOPIC: i8 = 1;
const OF_BROKER_FILE: i8 = 4;
const DEFAULT: i8 = 5;

/// A configuration entry as clients see it.
pub(super) struct Shown {
    pub(super) name: &'static str,
    pub(super) value: String,
    pub(super) source: i8,
    kind: i8,
    default: String,
}

/// All entries of a topic, its own and the defaults.
pub(super) fn shown(defaults: &Defaults, entries: &Entries) -> Vec<Shown> {
    let show = |definition: &config::Definition| {
        let default = defaults.of(definition);
        let own = entries.get(definition.name);
        Shown {
            name: definition.name,
            value: own.unwrap_or(&default).clone(),
            source: if own.is_some() { OF_TOPIC } else { DEFAULT },
            kind: definition.wire_type(),
            default,
        }
    };
    config::definitions().iter().map(show).collect()
}

fn broker_entries(node: &Node) -> Vec<Shown> {
    let config = &node.config;
    let millis = |time: std::time::Duration| time.as_millis().to_string();
    let entry = |name, value: String, kind| Shown { name, default: value.clone(), value, source: OF_BROKER_FILE, kind };
    vec![
        entry("auto.create.topics.enable", "false".into(), 1),
        entry("broker.id", NODE_ID.0.to_string(), 3),
        entry("group.initial.rebalance.delay.ms", millis(config.initial_rebalance_delay), 3),
        entry("group.max.session.timeout.ms", millis(config.max_session_timeout), 3),
        entry("group.min.session.timeout.ms", millis(config.min_session_timeout), 3),
        entry("log.segment.bytes", config.segment_bytes.to_string(), 3),
        entry("message.max.bytes", config.max_message_bytes.to_string(), 3),
        entry("num.partitions", config.default_partitions.to_string(), 3),
        entry("default.replication.factor", "1".into(), 3),
        entry("socket.request.max.bytes", config.max_request_bytes.to_string(), 3),
        entry("transaction.max.timeout.ms", millis(config.max_transaction_timeout), 3),
    ]
}

fn describe(node: &Node, resource: &DescribeConfigsResource) -> Result<Vec<Shown>, Refusal> {
    match resource.resource_type {
        TOPIC => {
            let unknown = || Refusal::new(ResponseError::UnknownTopicOrPartition, "the topic does not exist");
            let topic = node.topics.get(&resource.resource_name).ok_or_else(unknown)?;
            Ok(shown(&node.topics.defaults, &topic.entries()))
        }
        BROKER if resource.resource_name.is_empty() => Ok(Vec::new()),
        BROKER if resource.resource_name.as_str() == NODE_ID.0.to_string() => Ok(broker_entries(node)),
        _ => Err(Refusal::new(ResponseError::InvalidRequest, "there is no such resource here")),
    }
}

fn entry(shown: Shown, resource_type: i8, synonyms: bool) -> DescribeConfigsResourceResult {
    let synonym = |value: &str, source| {
        let synonym = DescribeConfigsSynonym::default().with_name(text(shown.name)).with_value(Some(text(value)));
        synonym.with_source(source)
    };
    let mut all = Vec::new();
    if synonyms && shown.source == OF_TOPIC {
        all.push(synonym(&shown.value, OF_TOPIC));
    }
    if synonyms {
        all.push(synonym(&shown.default, DEFAULT));
    }
    DescribeConfigsResourceResult::default()
        .with_name(text(shown.name))
        .with_read_only(resource_type == BROKER)
        .with_config_source(shown.source)
        .with_synonyms(all)
        .with_config_type(shown.kind)
        .with_value(Some(text(shown.value)))
}

impl Api for DescribeConfigsRequest {
    fn topics(&self, _: &Node) -> Vec<String> {
        let topics = self.resources.iter().filter(|resource| resource.resource_type == TOPIC);
        topics.map(|resource| resource.resource_name.as_str().to_owned()).collect()
    }

    fn refuse(&self, error: ResponseError) -> Self::Response {
        let refused = |resource: &DescribeConfigsResource| {
            described(resource, Err(Refusal::new(error, error.to_string())), false)
        };
        DescribeConfigsResponse::default().with_results(self.resources.iter().map(refused).collect())
    }

    async fn answer(self, call: &Call<'_>) -> Self::Response {
        let describe = |r: &DescribeConfigsResource| described(r, describe(call.node, r), self.include_synonyms);
        DescribeConfigsResponse::default().with_results(self.resources.iter().map(describe).collect())
    }
}

fn described(
    resource: &DescribeConfigsResource,
    result: Result<Vec<Shown>, Refusal>,
    synonyms: bool,
) -> DescribeConfigsResult {
    let (code, message) = told(&result);
    let wanted = |shown: &Shown| match &resource.configuration_keys {
        Some(keys) => keys.iter().any(|key| key.as_str() == shown.name),
        None => true,
    };
    let entries = result.unwrap_or_default().into_iter().filter(wanted);
    DescribeConfigsResult::default()
        .with_error_code(code)
        .with_error_message(message)
        .with_resource_type(resource.resource_type)
        .with_resource_name(resource.resource_name.clone())
        .with_configs(entries.map(|shown| entry(shown, resource.resource_type, synonyms)).collect())
}

fn only_topics(resource_type: i8) -> Result<(), Refusal> {
    match resource_type {
        TOPIC => Ok(()),
        _ => Err(Refusal::new(ResponseError::InvalidRequest, "only the configuration of topics can be changed")),
    }
}

fn operation(number: i8) -> Result<Operation, String> {
    match number {
        0 => Ok(Operation::Set),
        1 => Ok(Operation::Delete),
        2 => Ok(Operation::Append),
        3 => Ok(Operation::Subtract),
        other => Err(format!("There is no operation {other}")),
    }
}

fn change(
    node: &Node,
    resource: &incremental_alter_configs_request::AlterConfigsResource,
    validate_only: bool,
) -> Result<(), Refusal> {
    only_topics(resource.resource_type)?;
    node.topics.configure(&resource.resource_name, validate_only, |entries| {
        resource.configs.iter().try_for_each(|entry| {
            let value = entry.value.as_ref().map(StrBytes::as_str);
            config::change(entries, &node.topics.defaults, &entry.name, operation(entry.config_operation)?, value)
        })
    })
}

fn replace(
    node: &Node,
    resource: &alter_configs_request::AlterConfigsResource,
    validate_only: bool,
) -> Result<(), Refusal> {
    only_topics(resource.resource_type)?;
    node.topics.configure(&resource.resource_name, validate_only, |entries| {
        entries.clear();
        resource.configs.iter().try_for_each(|entry| {
            let value = entry.value.as_ref().map(StrBytes::as_str);
            config::change(entries, &node.topics.defaults, &entry.name, Operation::Set, value)
        })
    })
}

macro_rules! altering {
    ($request:ty, $response:ident, $requests:ident, $responses:ident, $apply:ident) => {
        impl Api for $request {
            fn topics(&self, _: &Node) -> Vec<String> {
                let topics = self.resources.iter().filter(|resource| resource.resource_type == TOPIC);
                topics.map(|resource| resource.resource_name.as_str().to_owned()).collect()
            }

            fn refuse(&self, error: ResponseError) -> Self::Response {
                self.each(|_| Err(Refusal::new(error, error.to_string())))
            }

            async fn answer(self, call: &Call<'_>) -> Self::Response {
                self.each(|resource| $apply(call.node, resource, self.validate_only))
            }
        }

        impl Altering for $request {
            type Resource = $requests::AlterConfigsResource;

            fn each(&self, apply: impl Fn(&Self::Resource) -> Result<(), Refusal>) -> Self::Response {
                let result = |resource: &Self::Resource| {
                    let (code, message) = told(&apply(resource));
                    $responses::AlterConfigsResourceResponse::default()
                        .with_error_code(code)
                        .with_error_message(message)
                        .with_resource_type(resource.resource_type)
                        .with_resource_name(resource.resource_name.clone())
                };
                $response::default().with_responses(self.resources.iter().map(result).collect())
            }
        }
    };
}

/// The two requests that change configurations: one answer per resource.
trait Altering: Api {
    type Resource;

    fn each(&self, apply: impl Fn(&Self::Resource) -> Result<(), Refusal>) -> Self::Response;
}

altering!(AlterConfigsRequest, AlterConfigsResponse, alter_configs_request, alter_configs_response, replace);
altering!(
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
    incremental_alter_configs_request,
    incremental_alter_configs_response,
    change
);
