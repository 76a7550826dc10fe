//! What the broker behind the proxy is made to offer.

use std::fmt;
use std::str::FromStr;

use kafka_protocol::messages::{ApiKey, ApiVersionsResponse};

/// What the broker is made to offer: its answer to `ApiVersions` is cut down to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Caps {
    /// All it has.
    #[default]
    Full,
    /// No API that Redpanda lacks, no version above Redpanda's, and no features (so transaction version 1).
    Redpanda,
    /// The lowest version of everything that the broker and `anabranch-kafka` speak, no `IncrementalAlterConfigs`, and no
    /// features.
    Oldest,
}

impl fmt::Display for Caps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "full",
            Self::Redpanda => "redpanda",
            Self::Oldest => "oldest",
        })
    }
}

impl FromStr for Caps {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Full, Self::Redpanda, Self::Oldest]
            .into_iter()
            .find(|caps| caps.to_string() == text)
            .ok_or_else(|| format!("caps are full, redpanda or oldest, not {text:?}"))
    }
}

/// The APIs that Redpanda has, with its highest versions.
const REDPANDA: &[(ApiKey, i16)] = &[
    (ApiKey::Produce, 7),
    (ApiKey::Fetch, 11),
    (ApiKey::ListOffsets, 4),
    (ApiKey::Metadata, 8),
    (ApiKey::OffsetCommit, 8),
    (ApiKey::OffsetFetch, 7),
    (ApiKey::FindCoordinator, 3),
    (ApiKey::JoinGroup, 6),
    (ApiKey::Heartbeat, 4),
    (ApiKey::LeaveGroup, 4),
    (ApiKey::SyncGroup, 4),
    (ApiKey::DescribeGroups, 5),
    (ApiKey::ListGroups, 4),
    (ApiKey::SaslHandshake, 1),
    (ApiKey::ApiVersions, 3),
    (ApiKey::CreateTopics, 6),
    (ApiKey::DeleteTopics, 4),
    (ApiKey::DeleteRecords, 2),
    (ApiKey::InitProducerId, 3),
    (ApiKey::OffsetForLeaderEpoch, 4),
    (ApiKey::AddPartitionsToTxn, 1),
    (ApiKey::AddOffsetsToTxn, 1),
    (ApiKey::EndTxn, 3),
    (ApiKey::TxnOffsetCommit, 3),
    (ApiKey::DescribeAcls, 1),
    (ApiKey::CreateAcls, 1),
    (ApiKey::DeleteAcls, 1),
    (ApiKey::DescribeConfigs, 4),
    (ApiKey::AlterConfigs, 2),
    (ApiKey::SaslAuthenticate, 1),
    (ApiKey::CreatePartitions, 3),
    (ApiKey::DeleteGroups, 2),
    (ApiKey::IncrementalAlterConfigs, 1),
    (ApiKey::OffsetDelete, 0),
    (ApiKey::DescribeProducers, 0),
    (ApiKey::DescribeTransactions, 0),
    (ApiKey::ListTransactions, 0),
];

/// The lowest versions `anabranch-kafka` speaks, where brokers still know lower ones. Those have no way to say what is
/// needed.
const OLDEST_SPOKEN: &[(ApiKey, i16)] = &[
    (ApiKey::Produce, 3),
    (ApiKey::Fetch, 4),
    (ApiKey::ListOffsets, 2),
    (ApiKey::Metadata, 1),
    (ApiKey::OffsetCommit, 2),
    (ApiKey::OffsetFetch, 2),
    (ApiKey::JoinGroup, 1),
    (ApiKey::CreateTopics, 2),
    (ApiKey::DeleteTopics, 1),
    (ApiKey::DescribeConfigs, 1),
    (ApiKey::FindCoordinator, 1),
    (ApiKey::InitProducerId, 3),
    (ApiKey::TxnOffsetCommit, 3),
];

fn of(table: &[(ApiKey, i16)], api: i16) -> Option<i16> {
    table.iter().find(|(key, _)| *key as i16 == api).map(|(_, version)| *version)
}

impl Caps {
    /// The highest version that may be seen of an API; `None`: the broker's own.
    pub fn highest(self, api: ApiKey) -> Option<i16> {
        match self {
            Self::Redpanda => of(REDPANDA, api as i16),
            Self::Full | Self::Oldest => None,
        }
    }

    pub(super) fn apply(self, versions: &mut ApiVersionsResponse) {
        match self {
            Self::Full => return,
            Self::Redpanda => {
                versions.api_keys.retain(|api| of(REDPANDA, api.api_key).is_some_and(|max| max >= api.min_version));
                for api in &mut versions.api_keys {
                    api.max_version = api.max_version.min(of(REDPANDA, api.api_key).unwrap_or(api.max_version));
                }
            }
            Self::Oldest => {
                versions.api_keys.retain(|api| api.api_key != ApiKey::IncrementalAlterConfigs as i16);
                for api in versions.api_keys.iter_mut().filter(|api| api.api_key != ApiKey::ApiVersions as i16) {
                    let floor = of(OLDEST_SPOKEN, api.api_key).unwrap_or(0);
                    api.max_version = api.min_version.max(floor).min(api.max_version);
                }
            }
        }
        versions.supported_features.clear();
        versions.finalized_features.clear();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use kafka_protocol::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey};

    use super::*;

    fn offered(caps: Caps) -> ApiVersionsResponse {
        let api =
            |key: i16, min, max| ApiVersion::default().with_api_key(key).with_min_version(min).with_max_version(max);
        let mut versions = ApiVersionsResponse::default()
            .with_api_keys(vec![
                api(ApiKey::Produce as i16, 0, 13),
                api(ApiKey::EndTxn as i16, 0, 5),
                api(ApiKey::IncrementalAlterConfigs as i16, 0, 1),
                api(ApiKey::ConsumerGroupHeartbeat as i16, 0, 1),
            ])
            .with_finalized_features(vec![FinalizedFeatureKey::default()]);
        caps.apply(&mut versions);
        versions
    }

    fn highest(versions: &ApiVersionsResponse) -> Vec<(i16, i16)> {
        versions.api_keys.iter().map(|api| (api.api_key, api.max_version)).collect()
    }

    #[test]
    fn an_offer_is_cut_down_to_the_caps() {
        assert_eq!(highest(&offered(Caps::Full)), [(0, 13), (26, 5), (44, 1), (68, 1)]);
        assert_eq!(offered(Caps::Full).finalized_features.len(), 1);
        assert_eq!(highest(&offered(Caps::Redpanda)), [(0, 7), (26, 3), (44, 1)]);
        assert!(offered(Caps::Redpanda).finalized_features.is_empty());
        assert_eq!(highest(&offered(Caps::Oldest)), [(0, 3), (26, 0), (68, 0)]);
    }

    #[test]
    fn names_are_read_back() {
        for caps in [Caps::Full, Caps::Redpanda, Caps::Oldest] {
            assert_eq!(caps.to_string().parse(), Ok(caps));
        }
        assert!("redpnada".parse::<Caps>().unwrap_err().contains("redpnada"));
    }
}
