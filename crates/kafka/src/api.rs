//! The requests this client speaks, and which versions of each.
//!
//! A range is what this crate's code was written for. What is used on a connection is the highest version that
//! the broker offers as well (KIP-35); nothing is pinned. Versions that name topics by id alone (KIP-516) are left
//! out, since everything here is known by name.

use anabranch_wire::Shaped;
use kafka_protocol::{
    messages::{
        AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, AlterConfigsRequest, ApiVersionsRequest,
        CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest,
        DescribeConfigsRequest, DescribeGroupsRequest, DescribeTransactionsRequest, EndTxnRequest, FetchRequest,
        FindCoordinatorRequest, HeartbeatRequest, IncrementalAlterConfigsRequest, InitProducerIdRequest,
        JoinGroupRequest, LeaveGroupRequest, ListGroupsRequest, ListOffsetsRequest, MetadataRequest,
        OffsetCommitRequest, OffsetFetchRequest, ProduceRequest, SaslAuthenticateRequest, SaslHandshakeRequest,
        SyncGroupRequest, TxnOffsetCommitRequest,
    },
    protocol::{Request, StrBytes},
};

/// A request with a name for errors and the versions we speak. The layout of its answer is known, so that no length in it
/// is trusted.
pub(crate) trait Api: Request<Response: Shaped> {
    const NAME: &'static str;
    const SPEAKS: (i16, i16);
}

macro_rules! apis {
    ($($request:ty: $name:literal $min:literal..=$max:literal,)*) => {$(
        impl Api for $request {
            const NAME: &'static str = $name;
            const SPEAKS: (i16, i16) = ($min, $max);
        }
    )*};
}

apis! {
    ApiVersionsRequest: "ApiVersions" 0..=3,
    SaslHandshakeRequest: "SaslHandshake" 1..=1,
    SaslAuthenticateRequest: "SaslAuthenticate" 0..=2,
    MetadataRequest: "Metadata" 1..=12,
    ProduceRequest: "Produce" 3..=12,
    FetchRequest: "Fetch" 4..=12,
    ListOffsetsRequest: "ListOffsets" 2..=9,
    FindCoordinatorRequest: "FindCoordinator" 1..=4,
    JoinGroupRequest: "JoinGroup" 1..=9,
    SyncGroupRequest: "SyncGroup" 0..=5,
    HeartbeatRequest: "Heartbeat" 0..=4,
    LeaveGroupRequest: "LeaveGroup" 0..=5,
    OffsetCommitRequest: "OffsetCommit" 2..=9,
    OffsetFetchRequest: "OffsetFetch" 2..=9,
    ListGroupsRequest: "ListGroups" 0..=4,
    DescribeGroupsRequest: "DescribeGroups" 0..=5,
    CreateTopicsRequest: "CreateTopics" 2..=7,
    DeleteTopicsRequest: "DeleteTopics" 1..=5,
    DeleteRecordsRequest: "DeleteRecords" 0..=2,
    CreatePartitionsRequest: "CreatePartitions" 0..=3,
    DescribeConfigsRequest: "DescribeConfigs" 1..=4,
    IncrementalAlterConfigsRequest: "IncrementalAlterConfigs" 0..=1,
    AlterConfigsRequest: "AlterConfigs" 0..=2,
    // Below, a producer cannot raise its epoch without fencing whoever came after it (KIP-360).
    InitProducerIdRequest: "InitProducerId" 3..=5,
    // From 4 on it is between brokers.
    AddPartitionsToTxnRequest: "AddPartitionsToTxn" 0..=3,
    AddOffsetsToTxnRequest: "AddOffsetsToTxn" 0..=4,
    // Below, a member that the group has evicted could still commit (KIP-447).
    TxnOffsetCommitRequest: "TxnOffsetCommit" 3..=5,
    EndTxnRequest: "EndTxn" 0..=5,
    DescribeTransactionsRequest: "DescribeTransactions" 0..=0,
}

/// What is asked first on a connection, and by a ping.
pub(crate) fn api_versions(version: i16) -> ApiVersionsRequest {
    let request = ApiVersionsRequest::default();
    if version < 3 {
        return request;
    }
    request
        .with_client_software_name(StrBytes::from_static_str("anabranch"))
        .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")))
}

/// The highest version both sides speak.
pub(crate) fn common_version(ours: (i16, i16), theirs: (i16, i16)) -> Option<i16> {
    let version = ours.1.min(theirs.1);
    (version >= ours.0.max(theirs.0)).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ranges Redpanda offers; each must meet ours.
    #[test]
    fn redpandas_ranges_overlap_ours() {
        let redpanda = [
            (JoinGroupRequest::SPEAKS, (0, 6)),
            (SyncGroupRequest::SPEAKS, (0, 4)),
            (HeartbeatRequest::SPEAKS, (0, 4)),
            (OffsetCommitRequest::SPEAKS, (1, 8)),
            (OffsetFetchRequest::SPEAKS, (1, 7)),
            (ProduceRequest::SPEAKS, (0, 7)),
            (FetchRequest::SPEAKS, (4, 11)),
            (MetadataRequest::SPEAKS, (0, 8)),
            (FindCoordinatorRequest::SPEAKS, (0, 3)),
            (InitProducerIdRequest::SPEAKS, (0, 3)),
            (AddPartitionsToTxnRequest::SPEAKS, (0, 1)),
            (AddOffsetsToTxnRequest::SPEAKS, (0, 1)),
            (TxnOffsetCommitRequest::SPEAKS, (0, 3)),
            (EndTxnRequest::SPEAKS, (0, 3)),
        ]
        .map(|(ours, theirs): ((i16, i16), (i16, i16))| common_version(ours, theirs));
        assert_eq!(redpanda, [6, 4, 4, 8, 7, 7, 11, 8, 3, 3, 1, 1, 3, 3].map(Some));
    }

    #[test]
    fn ranges_that_do_not_meet_give_none() {
        assert_eq!(common_version((4, 12), (0, 3)), None);
        assert_eq!(common_version((4, 12), (13, 17)), None);
    }
}
