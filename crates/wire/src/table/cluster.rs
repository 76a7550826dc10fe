//! Who is there, and how to talk to whom.

use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, DescribeClusterRequest, FindCoordinatorRequest, FindCoordinatorResponse,
    MetadataRequest, MetadataResponse, RequestHeader, ResponseHeader, SaslAuthenticateResponse, SaslHandshakeResponse,
};

use super::shapes;
use crate::shape::{NEVER, array, blob, fixed, numbers, plain_text, text, texts};

shapes! {
    ApiVersionsRequest: 3 => [text("client_software_name").since(3), text("client_software_version").since(3)],
    MetadataRequest: 9 => [
        array("topics", &[fixed(16).since(10), text("name")]), fixed(1).since(4), fixed(1).only(8, 10),
        fixed(1).since(8),
    ],
    DescribeClusterRequest: 0 => [fixed(1), fixed(1).since(1), fixed(1).since(2)],
    FindCoordinatorRequest: 3 => [text("key").until(3), fixed(1).since(1), texts("coordinator_keys").since(4)],
    ApiVersionsResponse: 3 => [
        fixed(2), array("api_keys", &[fixed(6)]), fixed(4).since(1),
        array("supported_features", &[text("name"), fixed(4)]).tag(0).since(3), fixed(8).tag(1).since(3),
        array("finalized_features", &[text("name"), fixed(4)]).tag(2).since(3), fixed(1).tag(3).since(3),
    ],
    MetadataResponse: 9 => [
        fixed(4).since(3), array("brokers", &[fixed(4), text("host"), fixed(4), text("rack").since(1)]),
        text("cluster_id").since(2), fixed(4).since(1),
        array("topics", &[
            fixed(2), text("name"), fixed(16).since(10), fixed(1).since(1),
            array("partitions", &[
                fixed(10), fixed(4).since(7), numbers("replica_nodes", 4), numbers("isr_nodes", 4),
                numbers("offline_replicas", 4).since(5),
            ]),
            fixed(4).since(8),
        ]),
        fixed(4).only(8, 10), fixed(2).since(13),
    ],
    FindCoordinatorResponse: 3 => [
        fixed(4).since(1), fixed(2).until(3), text("error_message").only(1, 3), fixed(4).until(3),
        text("host").until(3), fixed(4).until(3),
        array("coordinators", &[text("key"), fixed(4), text("host"), fixed(6), text("error_message")]).since(4),
    ],
    SaslHandshakeResponse: NEVER => [fixed(2), texts("mechanisms")],
    SaslAuthenticateResponse: 2 => [fixed(2), text("error_message"), blob("auth_bytes"), fixed(8).since(1)],
    RequestHeader: 2 => [fixed(8), text("client_id").until(1), plain_text("client_id").since(2)],
    ResponseHeader: 1 => [fixed(4)],
}
