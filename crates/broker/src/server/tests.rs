//! Every version of every API that is offered can be carried out and answered, and so can every refusal: the codec fails
//! when a field is set that a version does not have.

use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use kafka_protocol::{
    ResponseError,
    messages::{
        self as m, ApiKey, BrokerId, GroupId, ProducerId, RequestHeader, TopicName, TransactionalId,
        add_partitions_to_txn_request::AddPartitionsToTxnTopic,
        alter_configs_request,
        create_partitions_request::CreatePartitionsTopic,
        create_topics_request::{CreatableTopic, CreatableTopicConfig},
        delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic},
        delete_topics_request::DeleteTopicState,
        describe_configs_request::DescribeConfigsResource,
        describe_producers_request::TopicRequest,
        fetch_request::{FetchPartition, FetchTopic},
        incremental_alter_configs_request,
        join_group_request::JoinGroupRequestProtocol,
        leave_group_request::MemberIdentity,
        list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
        metadata_request::MetadataRequestTopic,
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic},
        offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics},
        offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic},
        produce_request::{PartitionProduceData, TopicProduceData},
        txn_offset_commit_request::{TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic},
    },
    protocol::{Decodable, Encodable, StrBytes},
};
use uuid::Uuid;

use super::{
    connection::{Origin, Outcome},
    dispatch::{Api, dispatch},
};
use crate::{
    config::{BrokerConfig, TransactionVersion},
    node::Node,
    topics::config::Entries,
};

pub(super) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub(super) struct World {
    pub(super) node: Arc<Node>,
    topic: TopicName,
    id: Uuid,
    /// Every request sent, header included.
    pub(super) frames: Mutex<Vec<Bytes>>,
}

impl World {
    pub(super) fn new() -> Self {
        let config = BrokerConfig { transaction_version: TransactionVersion::Two, ..BrokerConfig::default() };
        let node = Node::open(config, "127.0.0.1:1".parse().unwrap()).unwrap();
        let topic = node.topics.create("topic", 1, Entries::new(), false).unwrap().unwrap();
        Self { node: Arc::new(node), topic: text("topic").into(), id: topic.id, frames: Mutex::default() }
    }

    /// Sends a request in a version, well and refused, and reads both answers to their end.
    async fn try_one<R: Api + Send>(&self, key: ApiKey, version: i16, request: R) {
        let mut refusal = BytesMut::new();
        let refused = request.refuse(ResponseError::UnknownServerError).encode(&mut refusal, version);
        refused.unwrap_or_else(|error| panic!("{key:?} {version}: a refusal: {error}"));
        let mut bytes = BytesMut::new();
        let header = RequestHeader::default().with_request_api_key(key as i16).with_request_api_version(version);
        let header = header.with_correlation_id(7).with_client_id(Some(text("client")));
        header.encode(&mut bytes, key.request_header_version(version)).unwrap();
        let body_at = bytes.len();
        request.encode(&mut bytes, version).unwrap_or_else(|error| panic!("{key:?} {version}: the request: {error}"));
        let origin = Origin { client_id: "client".into(), host: "host".into() };
        let frame = bytes.freeze();
        self.frames.lock().unwrap().push(frame.clone());
        let outcome = dispatch(key, version, frame.slice(body_at..), &origin, &self.node).await;
        let Outcome::Answer(mut body, header) = outcome else { panic!("{key:?} {version}: {outcome:?}") };
        assert_eq!(header, key.response_header_version(version));
        R::Response::decode(&mut body, version)
            .unwrap_or_else(|error| panic!("{key:?} {version}: the answer: {error}"));
        assert!(body.is_empty(), "{key:?} {version}: the answer goes on");
    }

    async fn try_all<R: Api + Send>(&self, key: ApiKey, request: impl Fn(&Self, i16) -> R) {
        let range = self.node.offer.range(key).unwrap();
        for version in range.min..=range.max {
            self.try_one(key, version, request(self, version)).await;
        }
    }
}

fn fetch(world: &World, version: i16) -> m::FetchRequest {
    let topic = FetchTopic::default().with_partitions(vec![FetchPartition::default().with_partition_max_bytes(1000)]);
    let topic = if version < 13 { topic.with_topic(world.topic.clone()) } else { topic.with_topic_id(world.id) };
    m::FetchRequest::default().with_max_bytes(1000).with_isolation_level(1).with_topics(vec![topic])
}

fn produce(world: &World, version: i16) -> m::ProduceRequest {
    let topic = TopicProduceData::default().with_partition_data(vec![PartitionProduceData::default()]);
    let topic = if version < 13 { topic.with_name(world.topic.clone()) } else { topic.with_topic_id(world.id) };
    m::ProduceRequest::default().with_acks(-1).with_topic_data(vec![topic])
}

fn metadata(world: &World, version: i16) -> m::MetadataRequest {
    let topic = MetadataRequestTopic::default();
    let mut topics = vec![topic.clone().with_name(Some(world.topic.clone()))];
    topics.push(topic.clone().with_name(Some(text("unknown").into())));
    if version >= 12 {
        topics.push(topic.with_name(None).with_topic_id(Uuid::from_u128(9)));
    }
    m::MetadataRequest::default().with_topics(Some(topics))
}

fn find_coordinator(_: &World, version: i16) -> m::FindCoordinatorRequest {
    let request = m::FindCoordinatorRequest::default();
    if version < 4 { request.with_key(text("g")) } else { request.with_coordinator_keys(vec![text("g")]) }
}

fn list_offsets(world: &World, _: i16) -> m::ListOffsetsRequest {
    let partitions = [-1, -2, 5].map(|time| ListOffsetsPartition::default().with_timestamp(time)).to_vec();
    let topic = ListOffsetsTopic::default().with_name(world.topic.clone()).with_partitions(partitions);
    m::ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic])
}

fn create_topics(_: &World, version: i16) -> m::CreateTopicsRequest {
    let config = CreatableTopicConfig::default().with_name(text("retention.ms")).with_value(Some(text("5")));
    let topic = CreatableTopic::default().with_num_partitions(1).with_replication_factor(1).with_configs(vec![config]);
    let topics = [format!("new-{version}"), "topic".into()].map(|name| topic.clone().with_name(text(&name).into()));
    m::CreateTopicsRequest::default().with_topics(topics.to_vec())
}

fn delete_topics(_: &World, version: i16) -> m::DeleteTopicsRequest {
    let name: TopicName = text(&format!("new-{version}")).into();
    if version < 6 {
        return m::DeleteTopicsRequest::default().with_topic_names(vec![name]);
    }
    let topics = vec![
        DeleteTopicState::default().with_name(Some(name)),
        DeleteTopicState::default().with_name(None).with_topic_id(Uuid::from_u128(9)),
    ];
    m::DeleteTopicsRequest::default().with_topics(topics)
}

fn offset_fetch(world: &World, version: i16) -> m::OffsetFetchRequest {
    let (name, group) = (world.topic.clone(), GroupId(text("g")));
    if version < 8 {
        let topic = OffsetFetchRequestTopic::default().with_name(name).with_partition_indexes(vec![0]);
        return m::OffsetFetchRequest::default().with_group_id(group).with_topics(Some(vec![topic]));
    }
    let topic = OffsetFetchRequestTopics::default().with_name(name).with_partition_indexes(vec![0]);
    let group = OffsetFetchRequestGroup::default().with_group_id(group).with_topics(Some(vec![topic]));
    m::OffsetFetchRequest::default().with_groups(vec![group])
}

fn leave_group(_: &World, version: i16) -> m::LeaveGroupRequest {
    let request = m::LeaveGroupRequest::default().with_group_id(GroupId(text("g")));
    if version < 3 {
        return request.with_member_id(text("nobody"));
    }
    request.with_members(vec![MemberIdentity::default().with_member_id(text("nobody"))])
}

#[tokio::test]
async fn topics_and_records() {
    ask_for_topics_and_records(&World::new()).await;
}

async fn ask_for_topics_and_records(world: &World) {
    world.try_all(ApiKey::ApiVersions, |_, _| m::ApiVersionsRequest::default()).await;
    world.try_all(ApiKey::Produce, produce).await;
    world.try_all(ApiKey::Fetch, fetch).await;
    world.try_all(ApiKey::Metadata, metadata).await;
    world.try_all(ApiKey::FindCoordinator, find_coordinator).await;
    world.try_all(ApiKey::ListOffsets, list_offsets).await;
    world.try_all(ApiKey::CreateTopics, create_topics).await;
    world.try_all(ApiKey::DeleteTopics, delete_topics).await;
    world.try_all(ApiKey::DescribeCluster, |_, _| m::DescribeClusterRequest::default()).await;
    let delete_records = |world: &World, _| {
        let partitions = vec![DeleteRecordsPartition::default()];
        let topic = DeleteRecordsTopic::default().with_name(world.topic.clone()).with_partitions(partitions);
        m::DeleteRecordsRequest::default().with_topics(vec![topic])
    };
    world.try_all(ApiKey::DeleteRecords, delete_records).await;
    let epochs = |world: &World, _| {
        let partitions = vec![OffsetForLeaderPartition::default()];
        let topic = OffsetForLeaderTopic::default().with_topic(world.topic.clone()).with_partitions(partitions);
        m::OffsetForLeaderEpochRequest::default().with_topics(vec![topic])
    };
    world.try_all(ApiKey::OffsetForLeaderEpoch, epochs).await;
    let grow = |world: &World, version: i16| {
        let count = i32::from(version) + 2;
        let topic = CreatePartitionsTopic::default().with_name(world.topic.clone()).with_count(count);
        m::CreatePartitionsRequest::default().with_topics(vec![topic.with_assignments(None)])
    };
    world.try_all(ApiKey::CreatePartitions, grow).await;
    let producers = |world: &World, _| {
        let topic = TopicRequest::default().with_name(world.topic.clone()).with_partition_indexes(vec![0, 99]);
        m::DescribeProducersRequest::default().with_topics(vec![topic])
    };
    world.try_all(ApiKey::DescribeProducers, producers).await;
}

#[tokio::test]
async fn configurations() {
    ask_for_configurations(&World::new()).await;
}

async fn ask_for_configurations(world: &World) {
    let describe = |_: &World, _| {
        let resource =
            |kind, name| DescribeConfigsResource::default().with_resource_type(kind).with_resource_name(text(name));
        let resources = vec![resource(2, "topic"), resource(4, "1"), resource(2, "unknown")];
        let resources = resources.into_iter().map(|resource| resource.with_configuration_keys(None)).collect();
        m::DescribeConfigsRequest::default().with_resources(resources).with_include_synonyms(true)
    };
    world.try_all(ApiKey::DescribeConfigs, describe).await;
    let alter = |_: &World, _| {
        let config = alter_configs_request::AlterableConfig::default().with_name(text("retention.ms"));
        let resource = alter_configs_request::AlterConfigsResource::default().with_resource_type(2);
        let resource =
            resource.with_resource_name(text("topic")).with_configs(vec![config.with_value(Some(text("5")))]);
        m::AlterConfigsRequest::default().with_resources(vec![resource])
    };
    world.try_all(ApiKey::AlterConfigs, alter).await;
    let change = |_: &World, _| {
        let config = incremental_alter_configs_request::AlterableConfig::default().with_name(text("nonsense"));
        let resource = incremental_alter_configs_request::AlterConfigsResource::default().with_resource_type(2);
        let resource = resource.with_resource_name(text("topic")).with_configs(vec![config]);
        m::IncrementalAlterConfigsRequest::default().with_resources(vec![resource])
    };
    world.try_all(ApiKey::IncrementalAlterConfigs, change).await;
}

#[tokio::test]
async fn groups() {
    ask_for_groups(&World::new()).await;
}

async fn ask_for_groups(world: &World) {
    let group = || GroupId(text("g"));
    let join = |_: &World, version: i16| {
        let protocol = JoinGroupRequestProtocol::default().with_name(text("range"));
        let request = m::JoinGroupRequest::default().with_group_id(GroupId(text(&format!("join-{version}"))));
        let request = request.with_session_timeout_ms(10_000).with_protocol_type(text("consumer"));
        let request = request.with_protocols(vec![protocol]);
        if version == 0 { request } else { request.with_rebalance_timeout_ms(10_000) }
    };
    world.try_all(ApiKey::JoinGroup, join).await;
    world.try_all(ApiKey::SyncGroup, |_, _| m::SyncGroupRequest::default().with_group_id(group())).await;
    world.try_all(ApiKey::Heartbeat, |_, _| m::HeartbeatRequest::default().with_group_id(group())).await;
    let commit = |world: &World, _| {
        let partitions = vec![OffsetCommitRequestPartition::default().with_committed_offset(3)];
        let topic = OffsetCommitRequestTopic::default().with_name(world.topic.clone()).with_partitions(partitions);
        m::OffsetCommitRequest::default().with_group_id(group()).with_topics(vec![topic])
    };
    world.try_all(ApiKey::OffsetCommit, commit).await;
    world.try_all(ApiKey::OffsetFetch, offset_fetch).await;
    world.try_all(ApiKey::ListGroups, |_, _| m::ListGroupsRequest::default()).await;
    let describe =
        |_: &World, _| m::DescribeGroupsRequest::default().with_groups(vec![group(), GroupId(text("join-3"))]);
    world.try_all(ApiKey::DescribeGroups, describe).await;
    let delete = |world: &World, _| {
        let partitions = vec![OffsetDeleteRequestPartition::default()];
        let topic = OffsetDeleteRequestTopic::default().with_name(world.topic.clone()).with_partitions(partitions);
        m::OffsetDeleteRequest::default().with_group_id(group()).with_topics(vec![topic])
    };
    world.try_all(ApiKey::OffsetDelete, delete).await;
    world.try_all(ApiKey::LeaveGroup, leave_group).await;
    world
        .try_all(ApiKey::DeleteGroups, |_, _| m::DeleteGroupsRequest::default().with_groups_names(vec![group()]))
        .await;
}

#[tokio::test]
async fn transactions() {
    ask_for_transactions(&World::new()).await;
}

async fn ask_for_transactions(world: &World) {
    let id = || TransactionalId(text("t"));
    let init = |_: &World, _| {
        let request = m::InitProducerIdRequest::default().with_transactional_id(Some(id()));
        request.with_transaction_timeout_ms(10_000).with_producer_id(ProducerId(-1)).with_producer_epoch(-1)
    };
    world.try_all(ApiKey::InitProducerId, init).await;
    let add = |world: &World, _| {
        let topic = AddPartitionsToTxnTopic::default().with_name(world.topic.clone()).with_partitions(vec![0, 9]);
        let request = m::AddPartitionsToTxnRequest::default().with_v3_and_below_transactional_id(id());
        request.with_v3_and_below_topics(vec![topic])
    };
    world.try_all(ApiKey::AddPartitionsToTxn, add).await;
    let offsets = |_: &World, _| m::AddOffsetsToTxnRequest::default().with_transactional_id(id());
    world.try_all(ApiKey::AddOffsetsToTxn, offsets).await;
    let commit = |world: &World, _| {
        let partitions = vec![TxnOffsetCommitRequestPartition::default()];
        let topic = TxnOffsetCommitRequestTopic::default().with_name(world.topic.clone()).with_partitions(partitions);
        let request = m::TxnOffsetCommitRequest::default().with_transactional_id(id());
        request.with_group_id(GroupId(text("g"))).with_topics(vec![topic])
    };
    world.try_all(ApiKey::TxnOffsetCommit, commit).await;
    world.try_all(ApiKey::EndTxn, |_, _| m::EndTxnRequest::default().with_transactional_id(id())).await;
    world.try_all(ApiKey::ListTransactions, |_, _| m::ListTransactionsRequest::default()).await;
    let describe = |_: &World, _| m::DescribeTransactionsRequest::default().with_transactional_ids(vec![id()]);
    world.try_all(ApiKey::DescribeTransactions, describe).await;
}

/// A good request of every kind in every version, as it stands on the wire.
pub(super) async fn all_frames() -> Vec<Bytes> {
    let world = World::new();
    ask_for_topics_and_records(&world).await;
    ask_for_configurations(&world).await;
    ask_for_groups(&world).await;
    ask_for_transactions(&world).await;
    world.frames.into_inner().unwrap()
}
