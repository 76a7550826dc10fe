//! Metadata and FindCoordinator: where things are, which is always here.

use kafka_protocol::{
    ResponseError,
    messages::{
        FindCoordinatorRequest, FindCoordinatorResponse, MetadataRequest, MetadataResponse,
        find_coordinator_response::Coordinator,
        metadata_request::MetadataRequestTopic,
        metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic},
    },
    protocol::StrBytes,
};

use super::{find, text};
use crate::{
    log::LEADER_EPOCH,
    node::{NODE_ID, Node},
    server::dispatch::{Api, Call},
    topics::{Topic, names},
};

/// Host and port as clients are told.
pub(super) fn endpoint(node: &Node) -> (StrBytes, i32) {
    (text(node.address.ip().to_string()), i32::from(node.address.port()))
}

fn describe(topic: &Topic) -> MetadataResponseTopic {
    let partition = |index| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(NODE_ID)
            .with_leader_epoch(LEADER_EPOCH)
            .with_replica_nodes(vec![NODE_ID])
            .with_isr_nodes(vec![NODE_ID])
    };
    MetadataResponseTopic::default()
        .with_name(Some(text(topic.name.as_str()).into()))
        .with_topic_id(topic.id)
        .with_partitions((0..topic.count()).map(partition).collect())
}

fn unknown(wanted: &MetadataRequestTopic, error: ResponseError) -> MetadataResponseTopic {
    // Old versions cannot say that there is no name.
    let name = wanted.name.clone().unwrap_or_default();
    MetadataResponseTopic::default().with_name(Some(name)).with_topic_id(wanted.topic_id).with_error_code(error.code())
}

fn one(node: &Node, wanted: &MetadataRequestTopic) -> MetadataResponseTopic {
    let name = wanted.name.clone().unwrap_or_default();
    match find(node, &name, wanted.topic_id) {
        Ok(topic) => describe(&topic),
        Err(_) if wanted.topic_id.is_nil() && names::check(&name).is_err() => {
            unknown(wanted, ResponseError::InvalidTopicException)
        }
        Err(error) => unknown(wanted, error),
    }
}

impl Api for MetadataRequest {
    fn topics(&self, _: &Node) -> Vec<String> {
        let topics = self.topics.iter().flatten();
        topics.filter_map(|topic| Some(topic.name.as_ref()?.as_str().to_owned())).collect()
    }

    fn refuse(&self, error: ResponseError) -> Self::Response {
        let topics = self.topics.iter().flatten().map(|topic| unknown(topic, error)).collect();
        MetadataResponse::default().with_topics(topics)
    }

    async fn answer(self, call: &Call<'_>) -> Self::Response {
        let node = call.node;
        let topics = match &self.topics {
            Some(topics) if call.version > 0 || !topics.is_empty() => topics.iter().map(|t| one(node, t)).collect(),
            _ => node.topics.all().iter().map(|topic| describe(topic)).collect(),
        };
        let (host, port) = endpoint(node);
        let broker = MetadataResponseBroker::default().with_node_id(NODE_ID).with_host(host).with_port(port);
        MetadataResponse::default()
            .with_brokers(vec![broker])
            .with_cluster_id(Some(text(node.cluster_id.as_str())))
            .with_controller_id(NODE_ID)
            .with_topics(topics)
    }
}

impl Api for FindCoordinatorRequest {
    fn refuse(&self, error: ResponseError) -> Self::Response {
        let refused = |key: &StrBytes| {
            Coordinator::default().with_key(key.clone()).with_node_id((-1).into()).with_error_code(error.code())
        };
        let response = FindCoordinatorResponse::default();
        match self.coordinator_keys.as_slice() {
            [] => response.with_node_id((-1).into()).with_error_code(error.code()),
            keys => response.with_coordinators(keys.iter().map(refused).collect()),
        }
    }

    async fn answer(self, call: &Call<'_>) -> Self::Response {
        // 0: groups, 1: transactions. Share groups are not there.
        if !(0..=1).contains(&self.key_type) {
            return self.refuse(ResponseError::InvalidRequest);
        }
        let (host, port) = endpoint(call.node);
        if call.version < 4 {
            return FindCoordinatorResponse::default().with_node_id(NODE_ID).with_host(host).with_port(port);
        }
        let found = |key: StrBytes| {
            Coordinator::default().with_key(key).with_node_id(NODE_ID).with_host(host.clone()).with_port(port)
        };
        FindCoordinatorResponse::default().with_coordinators(self.coordinator_keys.into_iter().map(found).collect())
    }
}
