//! CreateTopics.

use std::{collections::HashSet, sync::Arc};

use kafka_protocol::{
    ResponseError,
    messages::{
        CreateTopicsRequest, CreateTopicsResponse,
        create_topics_request::CreatableTopic,
        create_topics_response::{CreatableTopicConfigs, CreatableTopicResult},
    },
};

use super::{configs::shown, names, text, told};
use crate::{
    log::Refusal,
    node::{NODE_ID, Node},
    server::dispatch::{Api, Call},
    topics::{Topic, config::Entries},
};

impl Api for CreateTopicsRequest {
    fn topics(&self, _: &Node) -> Vec<String> {
        names(self.topics.iter().map(|topic| &topic.name))
    }

    fn refuse(&self, error: ResponseError) -> Self::Response {
        let refused = |topic: &CreatableTopic| result(topic, &Err::<(), _>(Refusal::new(error, error.to_string())));
        CreateTopicsResponse::default().with_topics(self.topics.iter().map(refused).collect())
    }

    async fn answer(self, call: &Call<'_>) -> Self::Response {
        let (mut once, mut twice) = (HashSet::new(), HashSet::new());
        for topic in &self.topics {
            if !once.insert(&topic.name) {
                twice.insert(&topic.name);
            }
        }
        let create = |topic: &CreatableTopic| {
            if twice.contains(&topic.name) {
                let message = "Duplicate topic name.";
                return result(topic, &Err::<(), _>(Refusal::new(ResponseError::InvalidRequest, message)));
            }
            let created = create(call.node, topic, self.validate_only);
            let response = result(topic, &created);
            match created {
                Ok((partitions, made)) => detailed(call, response, partitions, made.as_deref()),
                Err(_) => response,
            }
        };
        CreateTopicsResponse::default().with_topics(self.topics.iter().map(create).collect())
    }
}

fn result<T>(topic: &CreatableTopic, result: &Result<T, Refusal>) -> CreatableTopicResult {
    let (code, message) = told(result);
    CreatableTopicResult::default().with_name(topic.name.clone()).with_error_code(code).with_error_message(message)
}

/// How many partitions are asked for: by number or by assignment.
fn partitions(node: &Node, topic: &CreatableTopic) -> Result<i32, Refusal> {
    let refuse = |error, message: &str| Err(Refusal::new(error, message));
    if topic.assignments.is_empty() {
        if !matches!(topic.replication_factor, -1 | 1) {
            let message = "Replication factor is below 1 or larger than the number of available brokers: there is one.";
            return refuse(ResponseError::InvalidReplicationFactor, message);
        }
        return Ok(if topic.num_partitions == -1 { node.config.default_partitions } else { topic.num_partitions });
    }
    if topic.num_partitions != -1 || topic.replication_factor != -1 {
        let message = "Both a number and an assignment of partitions were given.";
        return refuse(ResponseError::InvalidRequest, message);
    }
    let mut indexes: Vec<i32> = topic.assignments.iter().map(|assignment| assignment.partition_index).collect();
    indexes.sort_unstable();
    let count = i32::try_from(indexes.len()).unwrap_or(i32::MAX);
    let consecutive = indexes.into_iter().eq(0..count);
    if !consecutive || topic.assignments.iter().any(|assignment| assignment.broker_ids != [NODE_ID]) {
        return refuse(ResponseError::InvalidReplicaAssignment, "Replica assignment is invalid: there is one broker.");
    }
    Ok(count)
}

fn create(node: &Node, topic: &CreatableTopic, validate_only: bool) -> Result<(i32, Option<Arc<Topic>>), Refusal> {
    let partitions = partitions(node, topic)?;
    let mut entries = Entries::new();
    for config in &topic.configs {
        let value = config.value.as_ref().ok_or_else(|| {
            let message = format!("Null value not supported for topic configs: {}", config.name.as_str());
            Refusal::new(ResponseError::InvalidConfig, message)
        })?;
        entries.insert(config.name.as_str().to_owned(), value.as_str().to_owned());
    }
    let made = node.topics.create(&topic.name, partitions, entries, validate_only)?;
    Ok((partitions, made))
}

/// What versions from 5 on say about the new topic.
fn detailed(
    call: &Call<'_>,
    response: CreatableTopicResult,
    partitions: i32,
    made: Option<&Topic>,
) -> CreatableTopicResult {
    let response = match made {
        Some(topic) if call.version >= 7 => response.with_topic_id(topic.id),
        _ => response,
    };
    if call.version < 5 {
        return response;
    }
    let entries = made.map(Topic::entries).unwrap_or_default();
    let configs = shown(&call.node.topics.defaults, &entries).into_iter().map(|config| {
        CreatableTopicConfigs::default()
            .with_name(text(config.name))
            .with_value(Some(text(config.value)))
            .with_config_source(config.source)
    });
    response.with_num_partitions(partitions).with_replication_factor(1).with_configs(Some(configs.collect()))
}
