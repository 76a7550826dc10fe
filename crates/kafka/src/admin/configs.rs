//! Topic configs.

use std::collections::BTreeMap;

use kafka_protocol::{
    error::ResponseError,
    messages::{
        AlterConfigsRequest, DescribeConfigsRequest, IncrementalAlterConfigsRequest, alter_configs_request,
        describe_configs_request::DescribeConfigsResource, describe_configs_response::DescribeConfigsResult,
        incremental_alter_configs_request as incremental,
    },
    protocol::StrBytes,
};

use crate::{Cluster, ConfigEntry, Error, api::Api, cluster::Purpose, error::ErrorKind};

/// The resource type of a topic.
const TOPIC: i8 = 2;
/// The config source that says: set on the topic itself.
const SET_ON_TOPIC: i8 = 1;
const SET: i8 = 0;
const DELETE: i8 = 1;

type Configs = BTreeMap<String, ConfigEntry>;

fn text(s: &str) -> StrBytes {
    StrBytes::from_string(s.to_owned())
}

fn refused(request: &'static str, topic: &str, code: i16, message: Option<StrBytes>) -> Result<(), Error> {
    match code {
        0 => Ok(()),
        code => {
            let message = message.map(|m| m.to_string()).filter(|m| !m.is_empty());
            Err(Error::broker_code(request, code, message).on_topic(topic))
        }
    }
}

pub(super) async fn describe(cluster: &Cluster, topics: &[String]) -> Result<BTreeMap<String, Configs>, Error> {
    if topics.is_empty() {
        return Ok(BTreeMap::new());
    }
    cluster.retrying(|| describe_once(cluster, topics)).await
}

async fn describe_once(cluster: &Cluster, topics: &[String]) -> Result<BTreeMap<String, Configs>, Error> {
    let connection = cluster.any_broker(Purpose::Control).await?;
    let resource = |topic: &String| {
        DescribeConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text(topic))
            .with_configuration_keys(None)
    };
    let resources = topics.iter().map(resource).collect();
    let answer = connection
        .call(cluster.config().request_timeout, |_| DescribeConfigsRequest::default().with_resources(resources))
        .await?;
    let mut described = BTreeMap::new();
    for result in answer.results {
        let topic = result.resource_name.to_string();
        refused(DescribeConfigsRequest::NAME, &topic, result.error_code, result.error_message.clone())?;
        described.insert(topic, entries(result));
    }
    match topics.iter().find(|t| !described.contains_key(*t)) {
        Some(topic) => {
            Err(Error::malformed(DescribeConfigsRequest::NAME, "the answer leaves out a topic").on_topic(topic))
        }
        None => Ok(described),
    }
}

fn entries(result: DescribeConfigsResult) -> Configs {
    let entry = |c: kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult| {
        let entry = ConfigEntry {
            value: c.value.map(|v| v.to_string()).filter(|_| !c.is_sensitive),
            is_default: c.config_source != SET_ON_TOPIC,
            read_only: c.read_only,
            sensitive: c.is_sensitive,
        };
        (c.name.to_string(), entry)
    };
    result.configs.into_iter().map(entry).collect()
}

pub(super) async fn alter(
    cluster: &Cluster,
    topic: &str,
    changes: BTreeMap<String, Option<String>>,
) -> Result<(), Error> {
    if changes.is_empty() {
        return Ok(());
    }
    match cluster.retrying(|| alter_incrementally(cluster, topic, &changes)).await {
        Err(error) if is_unsupported(&error) => replace(cluster, topic, changes).await,
        result => result,
    }
}

fn is_unsupported(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::UnsupportedVersion { .. })
        || error.response_error() == Some(ResponseError::UnsupportedVersion)
}

async fn alter_incrementally(
    cluster: &Cluster,
    topic: &str,
    changes: &BTreeMap<String, Option<String>>,
) -> Result<(), Error> {
    let config = |(name, value): (&String, &Option<String>)| {
        incremental::AlterableConfig::default()
            .with_name(text(name))
            .with_config_operation(if value.is_some() { SET } else { DELETE })
            .with_value(value.as_deref().map(text))
    };
    let resource = incremental::AlterConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text(topic))
        .with_configs(changes.iter().map(config).collect());
    let connection = cluster.controller().await?;
    let answer = connection
        .call(cluster.config().request_timeout, |_| {
            IncrementalAlterConfigsRequest::default().with_resources(vec![resource])
        })
        .await
        .inspect_err(|_| cluster.forget_controller())?;
    let name = IncrementalAlterConfigsRequest::NAME;
    let Some(result) = answer.responses.into_iter().next() else {
        return Err(Error::malformed(name, "the answer leaves out the topic").on_topic(topic));
    };
    refused(name, topic, result.error_code, result.error_message).inspect_err(|_| cluster.forget_controller())
}

/// All that is set on the topic, with the changes in it, in one piece.
async fn replace(cluster: &Cluster, topic: &str, changes: BTreeMap<String, Option<String>>) -> Result<(), Error> {
    let mut described = describe(cluster, &[topic.to_owned()]).await?;
    let current = described.remove(topic).unwrap_or_default();
    if let Some((name, _)) = current.iter().find(|(_, c)| c.sensitive && !c.is_default) {
        let why = format!("config {name} is hidden by the broker and would be lost");
        return Err(Error::invalid(AlterConfigsRequest::NAME, why).on_topic(topic));
    }
    let kept = current.into_iter().filter(|(_, c)| !c.is_default && !c.read_only);
    let mut wanted: BTreeMap<String, Option<String>> = kept.map(|(name, c)| (name, c.value)).collect();
    wanted.extend(changes);
    cluster.retrying(|| replace_once(cluster, topic, &wanted)).await
}

async fn replace_once(cluster: &Cluster, topic: &str, wanted: &BTreeMap<String, Option<String>>) -> Result<(), Error> {
    let config = |(name, value): (&String, &Option<String>)| {
        let value = value.as_deref().map(text)?;
        Some(alter_configs_request::AlterableConfig::default().with_name(text(name)).with_value(Some(value)))
    };
    let resource = alter_configs_request::AlterConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text(topic))
        .with_configs(wanted.iter().filter_map(config).collect());
    let connection = cluster.controller().await?;
    let answer = connection
        .call(cluster.config().request_timeout, |_| AlterConfigsRequest::default().with_resources(vec![resource]))
        .await
        .inspect_err(|_| cluster.forget_controller())?;
    let name = AlterConfigsRequest::NAME;
    let Some(result) = answer.responses.into_iter().next() else {
        return Err(Error::malformed(name, "the answer leaves out the topic").on_topic(topic));
    };
    refused(name, topic, result.error_code, result.error_message).inspect_err(|_| cluster.forget_controller())
}
