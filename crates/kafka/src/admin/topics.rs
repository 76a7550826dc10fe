//! Creating, listing, growing and deleting topics.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use kafka_protocol::{
    error::ResponseError,
    messages::{
        CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest,
        create_partitions_request::CreatePartitionsTopic,
        create_topics_request::{CreatableTopic, CreatableTopicConfig},
    },
    protocol::StrBytes,
};

use super::{PerTopic, Verdict, at_controller, millis};
use crate::{Cluster, Error, NewTopic, TopicInfo, api::Api, backoff::Backoff, offsets::topic_name};

/// How long a created topic's leaders are waited for. A broker learns of them within milliseconds.
const LEADERS_WAIT: Duration = Duration::from_secs(5);

fn words(message: Option<StrBytes>) -> Option<String> {
    message.map(|m| m.to_string()).filter(|m| !m.is_empty())
}

pub(super) async fn create(cluster: &Cluster, topics: Vec<NewTopic>) -> Result<PerTopic, Error> {
    let names: Vec<String> = topics.iter().map(|t| t.name.clone()).collect();
    let results = at_controller(cluster, CreateTopicsRequest::NAME, &names, |open, limit| {
        let wanted = topics.iter().filter(|t| open.contains(&t.name)).map(creatable).collect();
        async move {
            let connection = cluster.controller().await?;
            let answer = connection
                .call(limit, |_| CreateTopicsRequest::default().with_timeout_ms(millis(limit)).with_topics(wanted))
                .await?;
            let verdict = |t: kafka_protocol::messages::create_topics_response::CreatableTopicResult| Verdict {
                topic: t.name.to_string(),
                code: t.error_code,
                message: words(t.error_message),
            };
            Ok(answer.topics.into_iter().map(verdict).collect())
        }
    })
    .await?;
    let created: Vec<&str> = results.iter().filter(|(_, r)| r.is_ok()).map(|(t, _)| t.as_str()).collect();
    await_leaders(cluster, &created, None).await;
    Ok(results)
}

fn creatable(topic: &NewTopic) -> CreatableTopic {
    let config = |(name, value): (&String, &String)| {
        CreatableTopicConfig::default()
            .with_name(StrBytes::from_string(name.clone()))
            .with_value(Some(StrBytes::from_string(value.clone())))
    };
    CreatableTopic::default()
        .with_name(topic_name(&topic.name))
        .with_num_partitions(topic.partitions)
        .with_replication_factor(topic.replication_factor)
        .with_configs(topic.configs.iter().map(config).collect())
}

/// Brokers learn of a new topic a moment after the controller has said yes; who produces at once should not be told
/// that it is unknown. Only a courtesy: when it takes too long, whoever uses the topic waits for himself.
async fn await_leaders(cluster: &Cluster, topics: &[&str], partitions: Option<i32>) {
    let deadline = Instant::now() + LEADERS_WAIT.min(cluster.config().call_timeout);
    let mut backoff = Backoff::new(cluster.config());
    let has_leaders = |topic: &&str| {
        let metadata = cluster.read_metadata();
        let Some(count) = metadata.partition_count(topic, Duration::MAX) else { return false };
        partitions.is_none_or(|wanted| count >= wanted) && (0..count).all(|p| metadata.leader(topic, p).is_some())
    };
    while !topics.is_empty() {
        let refreshed = cluster.refresh(topics).await;
        if refreshed.is_ok() && topics.iter().all(has_leaders) {
            return;
        }
        let wait = backoff.next_wait();
        if Instant::now() + wait >= deadline {
            tracing::debug!(?topics, "not all partitions have a leader yet");
            return;
        }
        tokio::time::sleep(wait).await;
    }
}

pub(super) async fn list(cluster: &Cluster) -> Result<Vec<TopicInfo>, Error> {
    let answer = cluster.retrying(|| cluster.refresh_all()).await?;
    let unknown = ResponseError::UnknownTopicOrPartition.code();
    // A topic on its way out is named, with an error.
    let topics = answer.topics.into_iter().filter(|t| t.error_code != unknown);
    let info = |t: kafka_protocol::messages::metadata_response::MetadataResponseTopic| {
        Some(TopicInfo {
            name: t.name?.to_string(),
            partitions: i32::try_from(t.partitions.len()).unwrap_or(i32::MAX),
            internal: t.is_internal,
        })
    };
    let mut topics: Vec<TopicInfo> = topics.filter_map(info).collect();
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(topics)
}

pub(super) async fn grow(cluster: &Cluster, topic: &str, total: i32) -> Result<(), Error> {
    let names = [topic.to_owned()];
    let lost = &AtomicBool::new(false);
    let results =
        at_controller(cluster, CreatePartitionsRequest::NAME, &names, |_, limit| async move {
            let wanted =
                CreatePartitionsTopic::default().with_name(topic_name(topic)).with_count(total).with_assignments(None);
            let answer = async {
                let connection = cluster.controller().await?;
                connection
                    .call(limit, |_| {
                        CreatePartitionsRequest::default().with_timeout_ms(millis(limit)).with_topics(vec![wanted])
                    })
                    .await
            };
            let answer = answer.await.inspect_err(|e| {
                if e.may_have_happened() {
                    lost.store(true, Ordering::Relaxed);
                }
            })?;
            let verdict = |t: kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult| {
                Verdict { topic: t.name.to_string(), code: t.error_code, message: words(t.error_message) }
            };
            Ok(answer.results.into_iter().map(verdict).collect())
        })
        .await?;
    cluster.forget(topic);
    let result = results.into_iter().next().map_or(Ok(()), |(_, result)| result);
    let has_them = matches!(&result, Err(e) if e.response_error() == Some(ResponseError::InvalidPartitions));
    // Ours, most likely: the answer to the first try was lost.
    if lost.load(Ordering::Relaxed) && has_them && cluster.partition_count(topic).await? == total {
        return Ok(());
    }
    result?;
    await_leaders(cluster, &[topic], Some(total)).await;
    Ok(())
}

pub(super) async fn delete(cluster: &Cluster, topics: &[String]) -> Result<PerTopic, Error> {
    let results = at_controller(cluster, DeleteTopicsRequest::NAME, topics, |open: Vec<String>, limit| async move {
        let names = open.iter().map(|t| topic_name(t)).collect();
        let connection = cluster.controller().await?;
        let answer = connection
            .call(limit, |_| DeleteTopicsRequest::default().with_timeout_ms(millis(limit)).with_topic_names(names))
            .await?;
        let verdict = |t: kafka_protocol::messages::delete_topics_response::DeletableTopicResult| {
            Some(Verdict { topic: t.name?.to_string(), code: t.error_code, message: words(t.error_message) })
        };
        Ok(answer.responses.into_iter().filter_map(verdict).collect())
    })
    .await;
    topics.iter().for_each(|t| cluster.forget(t));
    results
}
