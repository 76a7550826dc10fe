//! ApiVersions: what the broker offers.

use kafka_protocol::{
    ResponseError,
    messages::{
        ApiVersionsRequest, ApiVersionsResponse,
        api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey},
    },
};

use super::text;
use crate::{
    config::TransactionVersion,
    node::Node,
    server::dispatch::{Api, Call},
};

const TRANSACTION_VERSION: &str = "transaction.version";

/// The offer in a version of the answer.
pub(crate) fn offer(node: &Node, version: i16) -> ApiVersionsResponse {
    let api = |(key, range): &(kafka_protocol::messages::ApiKey, kafka_protocol::protocol::VersionRange)| {
        ApiVersion::default().with_api_key(*key as i16).with_min_version(range.min).with_max_version(range.max)
    };
    let response = ApiVersionsResponse::default().with_api_keys(node.offer.apis().iter().map(api).collect());
    if version < 3 || !node.is_kafka() {
        return response;
    }
    let level = match node.config.transaction_version {
        TransactionVersion::Off => 0,
        TransactionVersion::One => 1,
        TransactionVersion::Two => 2,
    };
    let supported = SupportedFeatureKey::default().with_name(text(TRANSACTION_VERSION));
    let finalized = FinalizedFeatureKey::default().with_name(text(TRANSACTION_VERSION));
    response
        // Clients refuse a lowest version of 0 before version 4.
        .with_supported_features(vec![supported.with_min_version(i16::from(version < 4)).with_max_version(2)])
        .with_finalized_features_epoch(1)
        .with_finalized_features(vec![finalized.with_min_version_level(level).with_max_version_level(level)])
}

impl Api for ApiVersionsRequest {
    fn refuse(&self, error: ResponseError) -> Self::Response {
        ApiVersionsResponse::default().with_error_code(error.code())
    }

    async fn answer(self, call: &Call<'_>) -> Self::Response {
        offer(call.node, call.version)
    }
}
