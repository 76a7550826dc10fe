//! Consumer groups and their offsets: handed to the group coordinator.

use kafka_protocol::{
    ResponseError,
    messages::{
        DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse, HeartbeatRequest,
        HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse,
        ListGroupsRequest, ListGroupsResponse, OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest,
        OffsetDeleteResponse, OffsetFetchRequest, OffsetFetchResponse, SyncGroupRequest, SyncGroupResponse,
        delete_groups_response::DeletableGroupResult,
        describe_groups_response::DescribedGroup,
        offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic},
        offset_fetch_response::OffsetFetchResponseGroup,
    },
};

use super::names;
use crate::{
    node::Node,
    server::dispatch::{Api, Call},
};

impl Api for JoinGroupRequest {
    fn refuse(&self, error: ResponseError) -> Self::Response {
        JoinGroupResponse::default().with_error_code(error.code()).with_protocol_name(Some(super::text("")))
    }

    async fn answer(self, call: &Call<'_>) -> Self::Response {
        call.node.groups.join_group(&self, call.version, &call.origin.client_id, &call.origin.host).await
    }
}

impl Api for SyncGroupRequest {
    fn refuse(&self, error: ResponseError) -> Self::Response {
        SyncGroupResponse::default().with_error_code(error.code())
    }

    async fn answer(self, call: &Call<'_>) -> Self::Response {
        call.node.groups.sync_group(&self, call.version).await
    }
}

impl Api for HeartbeatRequest {
    fn refuse(&self, error: ResponseError) -> Self::Response {
        HeartbeatResponse::default().with_error_code(error.code())
    }

    async fn answer(self, call: &Call<'_>) -> Self::Response {
        call.node.groups.heartbeat(&self)
    }
}

impl Api for LeaveGroupRequest {
    fn refuse(&self, error: ResponseError) -> Self::Response {
        LeaveGroupResponse::default().with_error_code(error.code())
    }

    async fn answer(self, call: &Call<'_>) -> Self::Response {
        call.node.groups.leave_group(&self, call.version)
    }
}

impl Api for OffsetCommitRequest {
    fn topics(&self, _: &Node) -> Vec<String> {
        names(self.topics.iter().map(|topic| &topic.name))
    }

    fn refuse(&self, error: ResponseError) -> Self::Response {
        let mut topics = Vec::with_capacity(self.topics.len());
        for topic in &self.topics {
            let partitions = topic.partitions.iter().map(|partition| {
                let response = OffsetCommitResponsePartition::default().with_error_code(error.code());
                response.with_partition_index(partition.partition_index)
            });
            let partitions = partitions.collect();
            topics.push(OffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions));
        }
        OffsetCommitResponse::default().with_topics(topics)
    }

    async fn answer(self, call: &Call<'_>) -> Self::Response {
        call.node.groups.offset_commit(&self)
    }
}

impl Api for OffsetFetchRequest {
    fn topics(&self, _: &Node) -> Vec<String> {
        let old = self.topics.iter().flatten().map(|topic| &topic.name);
        let new = self.groups.iter().flat_map(|group| group.topics.iter().flatten()).map(|topic| &topic.name);
        names(old.chain(new))
    }

    fn refuse(&self, error: ResponseError) -> Self::Response {
        if self.groups.is_empty() {
            return OffsetFetchResponse::default().with_error_code(error.code());
        }
        let groups = self.groups.iter().map(|group| {
            OffsetFetchResponseGroup::default().with_group_id(group.group_id.clone()).with_error_code(error.code())
        });
        OffsetFetchResponse::default().with_groups(groups.collect())
    }

    async fn answer(self, call: &Call<'_>) -> Self::Response {
        call.node.groups.offset_fetch(&self, call.version)
    }
}

impl Api for OffsetDeleteRequest {
    fn topics(&self, _: &Node) -> Vec<String> {
        names(self.topics.iter().map(|topic| &topic.name))
    }

    fn refuse(&self, error: ResponseError) -> Self::Response {
        OffsetDeleteResponse::default().with_error_code(error.code())
    }

    async fn answer(self, call: &Call<'_>) -> Self::Response {
        call.node.groups.offset_delete(&self)
    }
}

impl Api for ListGroupsRequest {
    fn refuse(&self, error: ResponseError) -> Self::Response {
        ListGroupsResponse::default().with_error_code(error.code())
    }

    async fn answer(self, call: &Call<'_>) -> Self::Response {
        call.node.groups.list_groups(&self)
    }
}

impl Api for DescribeGroupsRequest {
    fn refuse(&self, error: ResponseError) -> Self::Response {
        let refused = |group: &kafka_protocol::messages::GroupId| {
            DescribedGroup::default().with_group_id(group.clone()).with_error_code(error.code())
        };
        DescribeGroupsResponse::default().with_groups(self.groups.iter().map(refused).collect())
    }

    async fn answer(self, call: &Call<'_>) -> Self::Response {
        call.node.groups.describe_groups(&self, call.version)
    }
}

impl Api for DeleteGroupsRequest {
    fn refuse(&self, error: ResponseError) -> Self::Response {
        let refused = |group: &kafka_protocol::messages::GroupId| {
            DeletableGroupResult::default().with_group_id(group.clone()).with_error_code(error.code())
        };
        DeleteGroupsResponse::default().with_results(self.groups_names.iter().map(refused).collect())
    }

    async fn answer(self, call: &Call<'_>) -> Self::Response {
        call.node.groups.delete_groups(&self)
    }
}
