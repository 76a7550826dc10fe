//! DescribeCluster.

use kafka_protocol::{
    ResponseError,
    messages::{DescribeClusterRequest, DescribeClusterResponse, describe_cluster_response::DescribeClusterBroker},
};

use super::{metadata::endpoint, text};
use crate::{
    node::NODE_ID,
    server::dispatch::{Api, Call},
};

impl Api for DescribeClusterRequest {
    fn refuse(&self, error: ResponseError) -> Self::Response {
        let message = Some(text(error.to_string()));
        DescribeClusterResponse::default().with_error_code(error.code()).with_error_message(message)
    }

    async fn answer(self, call: &Call<'_>) -> Self::Response {
        let brokers = 1;
        if call.version > 0 && self.endpoint_type != brokers {
            return self.refuse(ResponseError::MismatchedEndpointType);
        }
        let (host, port) = endpoint(call.node);
        let broker = DescribeClusterBroker::default().with_broker_id(NODE_ID).with_host(host).with_port(port);
        DescribeClusterResponse::default()
            .with_cluster_id(text(call.node.cluster_id.as_str()))
            .with_controller_id(NODE_ID)
            .with_brokers(vec![broker])
    }
}
