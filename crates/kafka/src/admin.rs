//! Topics, configs, groups.
use std::collections::BTreeMap;
use crate::{CommittedOffset, ConfigEntry, Error, GroupInfo, GroupListing, Isolation, NewTopic, TopicInfo, TopicPartition};
/// Administration.
#[derive(Debug, Clone)]
pub struct Admin { cluster: crate::Cluster }
impl Admin {
    pub(crate) fn new(cluster: crate::Cluster) -> Self { Self { cluster } }
    /// Creates topics: one result per topic, in order.
    pub async fn create_topics(&self, topics: Vec<NewTopic>) -> Result<Vec<(String, Result<(), Error>)>, Error> { unimplemented!() }
    /// All topics.
    pub async fn list_topics(&self) -> Result<Vec<TopicInfo>, Error> { unimplemented!() }
    /// All configs of topics.
    pub async fn describe_configs(&self, topics: &[String]) -> Result<BTreeMap<String, BTreeMap<String, ConfigEntry>>, Error> { unimplemented!() }
    /// Sets (`Some`) or resets (`None`) configs of a topic; others stay as they are.
    pub async fn alter_configs(&self, topic: &str, changes: BTreeMap<String, Option<String>>) -> Result<(), Error> { unimplemented!() }
    /// Raises the number of partitions to `total`.
    pub async fn create_partitions(&self, topic: &str, total: i32) -> Result<(), Error> { unimplemented!() }
    /// Deletes topics: one result per topic, in order.
    pub async fn delete_topics(&self, topics: &[String]) -> Result<Vec<(String, Result<(), Error>)>, Error> { unimplemented!() }
    /// All groups of all brokers.
    pub async fn list_groups(&self) -> Result<Vec<GroupListing>, Error> { unimplemented!() }
    /// Groups in detail. One that does not exist comes as `Dead`.
    pub async fn describe_groups(&self, groups: &[String]) -> Result<Vec<GroupInfo>, Error> { unimplemented!() }
    /// What a group has committed.
    pub async fn committed_offsets(&self, group: &str) -> Result<Vec<(TopicPartition, CommittedOffset)>, Error> { unimplemented!() }
    /// The first offset of each partition.
    pub async fn earliest_offsets(&self, tps: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, i64>, Error> { unimplemented!() }
    /// The end of each partition: the high watermark, or the last stable offset when reading committed.
    pub async fn end_offsets(&self, tps: &[TopicPartition], isolation: Isolation) -> Result<BTreeMap<TopicPartition, i64>, Error> { unimplemented!() }
    /// The first offset at or after a time in ms since the epoch; `None`: no such record.
    pub async fn offsets_for_timestamp(&self, tps: &[TopicPartition], timestamp_ms: i64) -> Result<BTreeMap<TopicPartition, Option<i64>>, Error> { unimplemented!() }
}
