//! Which APIs there are, and their version ranges.

use kafka_protocol::{messages::ApiKey, protocol::VersionRange};

use crate::config::{Profile, TransactionVersion};

struct Entry {
    key: ApiKey,
    /// Apache Kafka 4, as far as the codec has it.
    kafka: VersionRange,
    /// Redpanda, where it has the API.
    redpanda: Option<VersionRange>,
}

const fn range(min: i16, max: i16) -> VersionRange {
    VersionRange { min, max }
}

const fn both(key: ApiKey, kafka: VersionRange, redpanda: VersionRange) -> Entry {
    Entry { key, kafka, redpanda: Some(redpanda) }
}

const fn kafka_only(key: ApiKey, kafka: VersionRange) -> Entry {
    Entry { key, kafka, redpanda: None }
}

const TABLE: &[Entry] = &[
    both(ApiKey::Produce, range(3, 13), range(3, 7)),
    both(ApiKey::Fetch, range(4, 18), range(4, 11)),
    both(ApiKey::ListOffsets, range(1, 10), range(1, 4)),
    both(ApiKey::Metadata, range(0, 13), range(0, 8)),
    both(ApiKey::OffsetCommit, range(2, 9), range(2, 8)),
    both(ApiKey::OffsetFetch, range(1, 9), range(1, 7)),
    both(ApiKey::FindCoordinator, range(0, 6), range(0, 3)),
    both(ApiKey::JoinGroup, range(0, 9), range(0, 6)),
    both(ApiKey::Heartbeat, range(0, 4), range(0, 4)),
    both(ApiKey::LeaveGroup, range(0, 5), range(0, 4)),
    both(ApiKey::SyncGroup, range(0, 5), range(0, 4)),
    both(ApiKey::DescribeGroups, range(0, 6), range(0, 5)),
    both(ApiKey::ListGroups, range(0, 5), range(0, 4)),
    both(ApiKey::ApiVersions, range(0, 4), range(0, 3)),
    both(ApiKey::CreateTopics, range(2, 7), range(2, 6)),
    both(ApiKey::DeleteTopics, range(1, 6), range(1, 4)),
    both(ApiKey::DeleteRecords, range(0, 2), range(0, 2)),
    both(ApiKey::InitProducerId, range(0, 5), range(0, 3)),
    both(ApiKey::OffsetForLeaderEpoch, range(2, 4), range(2, 4)),
    // 4 and 5 are between brokers.
    both(ApiKey::AddPartitionsToTxn, range(0, 3), range(0, 1)),
    both(ApiKey::AddOffsetsToTxn, range(0, 4), range(0, 1)),
    both(ApiKey::EndTxn, range(0, 5), range(0, 3)),
    both(ApiKey::TxnOffsetCommit, range(0, 5), range(0, 3)),
    both(ApiKey::DescribeConfigs, range(1, 4), range(1, 4)),
    both(ApiKey::AlterConfigs, range(0, 2), range(0, 2)),
    both(ApiKey::CreatePartitions, range(0, 3), range(0, 3)),
    both(ApiKey::DeleteGroups, range(0, 2), range(0, 2)),
    both(ApiKey::IncrementalAlterConfigs, range(0, 1), range(0, 1)),
    both(ApiKey::OffsetDelete, range(0, 0), range(0, 0)),
    kafka_only(ApiKey::DescribeCluster, range(0, 2)),
    both(ApiKey::DescribeProducers, range(0, 0), range(0, 0)),
    both(ApiKey::DescribeTransactions, range(0, 0), range(0, 0)),
    both(ApiKey::ListTransactions, range(0, 2), range(0, 0)),
];

/// What a broker without transactions leaves out. `InitProducerId` stays: idempotence needs it.
const OF_TRANSACTIONS: &[ApiKey] =
    &[ApiKey::AddPartitionsToTxn, ApiKey::AddOffsetsToTxn, ApiKey::TxnOffsetCommit, ApiKey::EndTxn];

/// The APIs that one broker offers.
#[derive(Debug)]
pub(crate) struct Offer {
    apis: Vec<(ApiKey, VersionRange)>,
}

impl Offer {
    /// What a profile offers. Under transaction version one the versions are left out that belong to version two, as
    /// not every client looks at the feature.
    pub(crate) fn new(profile: Profile, transactions: TransactionVersion) -> Self {
        let offered = |entry: &Entry| match profile {
            Profile::Kafka => Some((entry.key, entry.kafka)),
            Profile::Redpanda => Some((entry.key, entry.redpanda?)),
        };
        let mut apis: Vec<_> = TABLE.iter().filter_map(offered).collect();
        if transactions == TransactionVersion::Off {
            apis.retain(|(key, _)| !OF_TRANSACTIONS.contains(key));
        }
        if transactions != TransactionVersion::Two {
            let caps = [(ApiKey::Produce, 11), (ApiKey::EndTxn, 4), (ApiKey::TxnOffsetCommit, 4)];
            for (key, range) in &mut apis {
                if let Some((_, cap)) = caps.iter().find(|(capped, _)| capped == key) {
                    range.max = range.max.min(*cap);
                }
            }
        }
        Self { apis }
    }

    pub(crate) fn apis(&self) -> &[(ApiKey, VersionRange)] {
        &self.apis
    }

    pub(crate) fn range(&self, key: ApiKey) -> Option<VersionRange> {
        self.apis.iter().find(|(known, _)| *known == key).map(|(_, range)| *range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codec_has_every_version_that_is_offered() {
        for entry in TABLE {
            let valid = entry.key.valid_versions();
            for range in [Some(entry.kafka), entry.redpanda].into_iter().flatten() {
                assert!(range.min >= valid.min && range.max <= valid.max, "{:?}: {range} of {valid}", entry.key);
            }
        }
    }

    #[test]
    fn redpanda_offers_less() {
        let offer = Offer::new(Profile::Redpanda, TransactionVersion::One);
        assert_eq!(offer.range(ApiKey::Produce), Some(range(3, 7)));
        assert_eq!(offer.range(ApiKey::DescribeCluster), None);
        let kafka = Offer::new(Profile::Kafka, TransactionVersion::One);
        assert_eq!(kafka.range(ApiKey::Produce), Some(range(3, 11)));
    }
}
