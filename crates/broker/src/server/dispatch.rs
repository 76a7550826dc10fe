//! From bytes to a request to its handler and back.

use std::{future::Future, sync::Arc};

use anabranch_wire::Shaped;
use bytes::{Bytes, BytesMut};
use kafka_protocol::{
    ResponseError,
    messages::*,
    protocol::{Encodable, HeaderVersion, Request},
};
use tracing::{error, warn};

use super::connection::{Origin, Outcome, fallback_header_version};
use crate::{faults::Action, handlers, node::Node};

/// What a handler knows besides the request.
pub(crate) struct Call<'a> {
    pub(crate) node: &'a Arc<Node>,
    pub(crate) version: i16,
    pub(crate) origin: &'a Origin,
}

/// A request that the broker can carry out.
pub(crate) trait Api: Request + Shaped {
    /// The topics it names, for faults.
    fn topics(&self, _: &Node) -> Vec<String> {
        Vec::new()
    }

    /// Whether the client wants no answer.
    fn silent(&self) -> bool {
        false
    }

    /// The answer that says this error wherever it can.
    fn refuse(&self, error: ResponseError) -> Self::Response;

    /// Carries it out.
    fn answer(self, call: &Call<'_>) -> impl Future<Output = Self::Response> + Send;
}

async fn run<R: Api + Send>(key: ApiKey, mut body: Bytes, call: &Call<'_>) -> Outcome {
    let request = match anabranch_wire::decode::<R>(&mut body, call.version) {
        Ok(request) => request,
        Err(error) => {
            warn!(api = ?key, version = call.version, %error, "a request cannot be read");
            return Outcome::Close;
        }
    };
    let (delay, action) = call.node.faults.of(key, || request.topics(call.node));
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    let silent = request.silent();
    let response = match action {
        Some(Action::Cut) => return Outcome::Close,
        Some(Action::Fail(error)) => request.refuse(error),
        _ => Box::pin(request.answer(call)).await,
    };
    match action {
        Some(Action::LoseAnswer) => Outcome::Close,
        _ if silent => Outcome::NoAnswer,
        _ => encode(&response, key, call.version),
    }
}

fn encode<T: Encodable + HeaderVersion>(response: &T, key: ApiKey, version: i16) -> Outcome {
    let mut out = BytesMut::new();
    match response.encode(&mut out, version) {
        Ok(()) => Outcome::Answer(out.freeze(), T::header_version(version)),
        Err(error) => {
            error!(api = ?key, version, %error, "an answer cannot be written");
            Outcome::Close
        }
    }
}

/// The answer to an ApiVersions request of a version that is too new: version 0, with what there is.
pub(crate) fn unsupported_api_versions(node: &Node) -> Outcome {
    let response = handlers::api_versions::offer(node, 0).with_error_code(ResponseError::UnsupportedVersion.code());
    match encode(&response, ApiKey::ApiVersions, 0) {
        Outcome::Answer(body, _) => Outcome::Answer(body, fallback_header_version()),
        other => other,
    }
}

macro_rules! apis {
    ($($key:ident => $request:ty),* $(,)?) => {
        /// Carries a request out. The version is one that is offered.
        pub(crate) async fn dispatch(key: ApiKey, version: i16, body: Bytes, origin: &Origin, node: &Arc<Node>) -> Outcome {
            let call = Call { node, version, origin };
            match key {
                $(ApiKey::$key => run::<$request>(key, body, &call).await,)*
                _ => Outcome::Close,
            }
        }
    };
}

apis! {
    Produce => ProduceRequest,
    Fetch => FetchRequest,
    ListOffsets => ListOffsetsRequest,
    Metadata => MetadataRequest,
    FindCoordinator => FindCoordinatorRequest,
    ApiVersions => ApiVersionsRequest,
    CreateTopics => CreateTopicsRequest,
    DeleteTopics => DeleteTopicsRequest,
    DeleteRecords => DeleteRecordsRequest,
    OffsetForLeaderEpoch => OffsetForLeaderEpochRequest,
    DescribeConfigs => DescribeConfigsRequest,
    AlterConfigs => AlterConfigsRequest,
    IncrementalAlterConfigs => IncrementalAlterConfigsRequest,
    CreatePartitions => CreatePartitionsRequest,
    DescribeCluster => DescribeClusterRequest,
    DescribeProducers => DescribeProducersRequest,
    JoinGroup => JoinGroupRequest,
    SyncGroup => SyncGroupRequest,
    Heartbeat => HeartbeatRequest,
    LeaveGroup => LeaveGroupRequest,
    OffsetCommit => OffsetCommitRequest,
    OffsetFetch => OffsetFetchRequest,
    OffsetDelete => OffsetDeleteRequest,
    ListGroups => ListGroupsRequest,
    DescribeGroups => DescribeGroupsRequest,
    DeleteGroups => DeleteGroupsRequest,
    InitProducerId => InitProducerIdRequest,
    AddPartitionsToTxn => AddPartitionsToTxnRequest,
    AddOffsetsToTxn => AddOffsetsToTxnRequest,
    TxnOffsetCommit => TxnOffsetCommitRequest,
    EndTxn => EndTxnRequest,
    ListTransactions => ListTransactionsRequest,
    DescribeTransactions => DescribeTransactionsRequest,
}
