//! Groups and their offsets, and what members tell each other through the coordinator.

use kafka_protocol::messages::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, DeleteGroupsRequest, DescribeGroupsRequest,
    DescribeGroupsResponse, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, LeaveGroupResponse, ListGroupsRequest, ListGroupsResponse, OffsetCommitRequest,
    OffsetCommitResponse, OffsetDeleteRequest, OffsetFetchRequest, OffsetFetchResponse, SyncGroupRequest,
    SyncGroupResponse,
};

use super::shapes;
use crate::shape::{NEVER, array, blob, fixed, numbers, text, texts};

shapes! {
    JoinGroupRequest: 6 => [
        text("group_id"), fixed(4), fixed(4).since(1), text("member_id"), text("group_instance_id").since(5),
        text("protocol_type"), array("protocols", &[text("name"), blob("metadata")]), text("reason").since(8),
    ],
    SyncGroupRequest: 4 => [
        text("group_id"), fixed(4), text("member_id"), text("group_instance_id").since(3),
        text("protocol_type").since(5), text("protocol_name").since(5),
        array("assignments", &[text("member_id"), blob("assignment")]),
    ],
    HeartbeatRequest: 4 => [text("group_id"), fixed(4), text("member_id"), text("group_instance_id").since(3)],
    LeaveGroupRequest: 4 => [
        text("group_id"), text("member_id").until(2),
        array("members", &[text("member_id"), text("group_instance_id"), text("reason").since(5)]).since(3),
    ],
    OffsetCommitRequest: 8 => [
        text("group_id"), fixed(4), text("member_id"), text("group_instance_id").since(7), fixed(8).until(4),
        array("topics", &[
            text("name"), array("partitions", &[fixed(12), fixed(4).since(6), text("committed_metadata")]),
        ]),
    ],
    OffsetFetchRequest: 6 => [
        text("group_id").until(7), array("topics", &[text("name"), numbers("partition_indexes", 4)]).until(7),
        array("groups", &[
            text("group_id"), text("member_id").since(9), fixed(4).since(9),
            array("topics", &[text("name"), numbers("partition_indexes", 4)]),
        ]).since(8),
        fixed(1).since(7),
    ],
    OffsetDeleteRequest: NEVER => [
        text("group_id"), array("topics", &[text("name"), array("partitions", &[fixed(4)])]),
    ],
    ListGroupsRequest: 3 => [texts("states_filter").since(4), texts("types_filter").since(5)],
    DescribeGroupsRequest: 5 => [texts("groups"), fixed(1).since(3)],
    DeleteGroupsRequest: 2 => [texts("groups_names")],
    JoinGroupResponse: 6 => [
        fixed(4).since(2), fixed(6), text("protocol_type").since(7), text("protocol_name"), text("leader"),
        fixed(1).since(9), text("member_id"),
        array("members", &[text("member_id"), text("group_instance_id").since(5), blob("metadata")]),
    ],
    SyncGroupResponse: 4 => [
        fixed(4).since(1), fixed(2), text("protocol_type").since(5), text("protocol_name").since(5),
        blob("assignment"),
    ],
    HeartbeatResponse: 4 => [fixed(4).since(1), fixed(2)],
    LeaveGroupResponse: 4 => [
        fixed(4).since(1), fixed(2),
        array("members", &[text("member_id"), text("group_instance_id"), fixed(2)]).since(3),
    ],
    OffsetCommitResponse: 8 => [
        fixed(4).since(3),
        array("topics", &[text("name").until(9), fixed(16).since(10), array("partitions", &[fixed(6)])]),
    ],
    OffsetFetchResponse: 6 => [
        fixed(4).since(3),
        array("topics", &[
            text("name"), array("partitions", &[fixed(12), fixed(4).since(5), text("metadata"), fixed(2)]),
        ]).until(7),
        fixed(2).only(2, 7),
        array("groups", &[
            text("group_id"),
            array("topics", &[
                text("name").until(9), fixed(16).since(10),
                array("partitions", &[fixed(16), text("metadata"), fixed(2)]),
            ]),
            fixed(2),
        ]).since(8),
    ],
    ListGroupsResponse: 3 => [
        fixed(4).since(1), fixed(2),
        array("groups", &[
            text("group_id"), text("protocol_type"), text("group_state").since(4), text("group_type").since(5),
        ]),
    ],
    DescribeGroupsResponse: 5 => [
        fixed(4).since(1),
        array("groups", &[
            fixed(2), text("error_message").since(6), text("group_id"), text("group_state"), text("protocol_type"),
            text("protocol_data"),
            array("members", &[
                text("member_id"), text("group_instance_id").since(4), text("client_id"), text("client_host"),
                blob("member_metadata"), blob("member_assignment"),
            ]),
            fixed(4).since(3),
        ]),
    ],
    ConsumerProtocolSubscription: NEVER => [
        texts("topics"), blob("user_data"),
        array("owned_partitions", &[text("topic"), numbers("partitions", 4)]).since(1), fixed(4).since(2),
        text("rack_id").since(3),
    ],
    ConsumerProtocolAssignment: NEVER => [
        array("assigned_partitions", &[text("topic"), numbers("partitions", 4)]), blob("user_data"),
    ],
}
