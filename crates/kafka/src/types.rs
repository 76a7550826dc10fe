//! The values that go in and out of this crate.

use std::{collections::BTreeMap, sync::Arc};

pub use anabranch_core::group::TopicPartition;
pub use anabranch_protocol::Header;
use anabranch_protocol::{Envelope, RecordView};
use bytes::Bytes;

/// A record read from a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The offset in the partition.
    pub offset: i64,
    /// Create time or append time, as the topic says, in ms since the epoch; -1: none.
    pub timestamp_ms: i64,
    /// The key; `None` is Kafka's null.
    pub key: Option<Bytes>,
    /// The value; `None` is Kafka's null, a tombstone on a compacted topic.
    pub value: Option<Bytes>,
    /// The headers in the order of the log.
    pub headers: Vec<Header>,
}

impl Record {
    /// The record as the protocol crate reads it, borrowed.
    pub fn view(&self) -> RecordView<'_> {
        RecordView {
            topic: &self.topic,
            partition: self.partition,
            offset: self.offset,
            timestamp_ms: self.timestamp_ms,
            key: self.key.as_deref(),
            value: self.value.as_ref(),
            headers: &self.headers,
        }
    }
}

/// A record to be written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OutRecord {
    /// The topic. It must exist: nothing here creates topics on the way.
    pub topic: String,
    /// The partition; `None`: murmur2 of the key as Java clients do, or round robin without a key.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<Bytes>,
    /// The value.
    pub value: Option<Bytes>,
    /// The headers, kept in this order.
    pub headers: Vec<Header>,
    /// Create time in ms since the epoch; `None`: now.
    pub timestamp_ms: Option<i64>,
}

impl OutRecord {
    /// The record that an envelope and the JSON of its data make, keyed by the case.
    pub fn message(topic: &str, envelope: &Envelope, value: impl Into<Bytes>) -> Self {
        Self {
            topic: topic.to_owned(),
            partition: None,
            key: Some(Bytes::from(envelope.correlation_id.as_str().to_owned())),
            value: Some(value.into()),
            headers: envelope.headers(),
            timestamp_ms: Some(envelope.time.as_millis()),
        }
    }
}

/// Where an acknowledged record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

/// What one fetch brought for one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The records in offset order, without control records and (read committed) aborted ones. May be empty.
    pub records: Vec<Record>,
    /// Where reading goes on. It can lie past the last record: markers, aborted records, compaction gaps.
    pub next_offset: i64,
    /// Offset after the last replicated record.
    pub high_watermark: i64,
    /// Offset before which no transaction is open; reading committed ends here.
    pub last_stable_offset: i64,
    /// The first offset the log still has.
    pub log_start_offset: i64,
}

impl Fetched {
    /// The partition this is from.
    pub fn topic_partition(&self) -> TopicPartition {
        TopicPartition { topic: self.topic.clone(), partition: self.partition }
    }
}

/// A committed offset, as the broker keeps it. The metadata may be anybody's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next offset to be read.
    pub offset: i64,
    /// What was committed with it.
    pub metadata: String,
}

/// An offset to be committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetToCommit {
    /// The next offset to be read.
    pub offset: i64,
    /// At most the broker's `offset.metadata.max.bytes`, 4,096 by default.
    pub metadata: String,
}

/// A partition that has come to this consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignedPartition {
    /// Which one.
    pub tp: TopicPartition,
    /// Where reading starts: the committed offset, or what [`StartOffset`](crate::StartOffset) says.
    pub start_offset: i64,
    /// What the group had committed, if anything.
    pub committed: Option<CommittedOffset>,
}

/// A topic to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// The name.
    pub name: String,
    /// The number of partitions; -1: the broker's default.
    pub partitions: i32,
    /// The replication factor; -1: the broker's default.
    pub replication_factor: i16,
    /// Topic configs by Kafka's names.
    pub configs: BTreeMap<String, String>,
}

/// A topic that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicInfo {
    /// The name.
    pub name: String,
    /// The number of partitions.
    pub partitions: i32,
    /// Whether it is the broker's own, such as `__consumer_offsets`.
    pub internal: bool,
}

/// One config value of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    /// The value; `None` for sensitive ones.
    pub value: Option<String>,
    /// Whether it is not set on the topic itself.
    pub is_default: bool,
    /// Whether it cannot be altered.
    pub read_only: bool,
    /// Whether the broker hides it.
    pub sensitive: bool,
}

/// A group in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupListing {
    /// The group id.
    pub group: String,
    /// `consumer` for groups of consumers.
    pub protocol_type: String,
    /// The state, where the broker tells it.
    pub state: Option<String>,
}

/// A group as its coordinator describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupInfo {
    /// The group id.
    pub group: String,
    /// `Stable`, `PreparingRebalance`, `CompletingRebalance`, `Empty` or `Dead`.
    pub state: String,
    /// The assignor in use.
    pub protocol: String,
    /// The members.
    pub members: Vec<MemberInfo>,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberInfo {
    /// The id the coordinator gave it.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// What the client calls itself.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// What it was assigned. Empty when the group's protocol is not a consumer's.
    pub assignment: Vec<TopicPartition>,
}
