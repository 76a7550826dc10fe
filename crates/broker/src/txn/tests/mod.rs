//! The coordinator as its clients see it, with a log that remembers the markers, on a clock that the test moves.

mod ending;
mod fencing;
mod joining;
mod listing;
mod restart;

use std::{
    collections::BTreeSet,
    io,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use kafka_protocol::{
    messages::{
        AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, EndTxnRequest, EndTxnResponse, GroupId,
        InitProducerIdRequest, InitProducerIdResponse, OffsetFetchRequest, TopicName, TransactionalId,
        TxnOffsetCommitRequest,
        add_partitions_to_txn_request::AddPartitionsToTxnTopic,
        txn_offset_commit_request::{TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic},
    },
    protocol::{Decodable, Encodable, StrBytes},
};

use super::{Settings, Transactional, Version};
use crate::{
    group::{self, Groups},
    journal::Journal,
    ports::{Log, Marker, Producer, Transactions},
};

pub(super) const OK: i16 = 0;
pub(super) const INVALID_EPOCH: i16 = 47;
pub(super) const INVALID_STATE: i16 = 48;
pub(super) const UNKNOWN_PRODUCER: i16 = 49;
pub(super) const CONCURRENT: i16 = 51;
pub(super) const UNSTABLE: i16 = 88;
pub(super) const FENCED: i16 = 90;

/// A log with the topic `t` of three partitions.
#[derive(Debug, Default)]
pub(super) struct Markers {
    pub(super) written: Mutex<Vec<(String, i32, Marker)>>,
    pub(super) broken: AtomicBool,
}

impl Log for Markers {
    fn exists(&self, topic: &str, partition: i32) -> bool {
        topic == "t" && (0..3).contains(&partition)
    }

    fn append_marker(&self, topic: &str, partition: i32, marker: Marker) -> io::Result<()> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(io::Error::other("no space left"));
        }
        self.written.lock().unwrap().push((topic.to_owned(), partition, marker));
        Ok(())
    }
}

/// A coordinator with all around it.
pub(super) struct Bench {
    pub(super) log: Arc<Markers>,
    pub(super) groups: Arc<Groups>,
    pub(super) txn: Arc<Transactional>,
}

impl Bench {
    pub(super) fn of(version: Version) -> Self {
        Self::with(version, Journal::memory(), Journal::memory(), Arc::default())
    }

    pub(super) fn new() -> Self {
        Self::of(Version::One)
    }

    /// Opens what the directory holds.
    pub(super) fn in_dir(dir: &Path, log: &Arc<Markers>) -> Self {
        let journal = |name| Journal::open(dir.join(name)).unwrap();
        Self::with(Version::One, journal("groups"), journal("txn"), Arc::clone(log))
    }

    fn with(version: Version, groups: Journal, txn: Journal, log: Arc<Markers>) -> Self {
        let groups = Groups::open(group::Settings::default(), groups).unwrap();
        let settings = Settings { version, ..Settings::default() };
        let port: Arc<dyn Log> = Arc::clone(&log) as _;
        let txn = Transactional::open(settings, port, Arc::clone(&groups), txn).unwrap();
        Self { log, groups, txn }
    }

    /// A producer of transactional id `x`, with a transaction timeout of 60 s.
    pub(super) fn producer(&self) -> Producer {
        self.init(None).unwrap()
    }

    /// InitProducerId for `x`, by a new instance or by the one given.
    pub(super) fn init(&self, given: Option<Producer>) -> Result<Producer, i16> {
        let given = given.unwrap_or(Producer { id: -1, epoch: -1 });
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(id()))
            .with_transaction_timeout_ms(60_000)
            .with_producer_id(given.id.into())
            .with_producer_epoch(given.epoch);
        producer(&over_the_wire(&self.txn.init_producer_id(&request, 4), 4))
    }

    pub(super) fn add(&self, producer: Producer, partitions: &[i32]) -> i16 {
        self.add_as(producer, partitions, 3)[0]
    }

    pub(super) fn add_as(&self, producer: Producer, partitions: &[i32], version: i16) -> Vec<i16> {
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(id())
            .with_v3_and_below_producer_id(producer.id.into())
            .with_v3_and_below_producer_epoch(producer.epoch)
            .with_v3_and_below_topics(vec![topic(partitions)]);
        let response = over_the_wire(&self.txn.add_partitions_to_txn(&request, version), version);
        let results = &response.results_by_topic_v3_and_below[0].results_by_partition;
        results.iter().map(|result| result.partition_error_code).collect()
    }

    pub(super) fn add_group(&self, producer: Producer) -> i16 {
        let request = AddOffsetsToTxnRequest::default()
            .with_transactional_id(id())
            .with_producer_id(producer.id.into())
            .with_producer_epoch(producer.epoch)
            .with_group_id(GroupId(StrBytes::from_static_str("g")));
        over_the_wire(&self.txn.add_offsets_to_txn(&request, 3), 3).error_code
    }

    pub(super) fn offsets_request(&self, producer: Producer, offset: i64) -> TxnOffsetCommitRequest {
        let partition = TxnOffsetCommitRequestPartition::default()
            .with_committed_offset(offset)
            .with_committed_metadata(Some(StrBytes::from_static_str("m")));
        let topic = TxnOffsetCommitRequestTopic::default().with_name(name()).with_partitions(vec![partition]);
        TxnOffsetCommitRequest::default()
            .with_transactional_id(id())
            .with_group_id(GroupId(StrBytes::from_static_str("g")))
            .with_producer_id(producer.id.into())
            .with_producer_epoch(producer.epoch)
            .with_generation_id(-1)
            .with_topics(vec![topic])
    }

    pub(super) fn commit_offset(&self, producer: Producer, offset: i64, version: i16) -> i16 {
        let request = self.offsets_request(producer, offset);
        let response = over_the_wire(&self.txn.txn_offset_commit(&request, version), version);
        response.topics[0].partitions[0].error_code
    }

    /// The group's offset on partition 0 and its code, as a client that requires stable ones is told.
    pub(super) fn offset(&self) -> (i64, i16) {
        let request = OffsetFetchRequest::default()
            .with_group_id(GroupId(StrBytes::from_static_str("g")))
            .with_topics(None)
            .with_require_stable(true);
        let response = self.groups.offset_fetch(&request, 7);
        let partition = response.topics.first().map(|topic| &topic.partitions[0]);
        partition.map_or((-1, OK), |partition| (partition.committed_offset, partition.error_code))
    }

    pub(super) fn end(&self, producer: Producer, commit: bool) -> i16 {
        self.end_as(producer, commit, 4).error_code
    }

    pub(super) fn end_as(&self, producer: Producer, commit: bool, version: i16) -> EndTxnResponse {
        let request = EndTxnRequest::default()
            .with_transactional_id(id())
            .with_producer_id(producer.id.into())
            .with_producer_epoch(producer.epoch)
            .with_committed(commit);
        over_the_wire(&self.txn.end_txn(&request, version), version)
    }

    /// What a write to partition 0 would be told.
    pub(super) fn write(&self, producer: Producer, version: i16) -> i16 {
        self.txn.before_append("x", producer, "t", 0, version)
    }

    /// Markers written since the last call: partition, epoch, whether a commit.
    pub(super) fn markers(&self) -> BTreeSet<(i32, i16, bool)> {
        let written = std::mem::take(&mut *self.log.written.lock().unwrap());
        written.into_iter().map(|(_, at, marker)| (at, marker.producer.epoch, marker.commit)).collect()
    }
}

pub(super) fn over_the_wire<T: Encodable + Decodable>(response: &T, version: i16) -> T {
    let mut bytes = bytes::BytesMut::new();
    response.encode(&mut bytes, version).unwrap();
    T::decode(&mut bytes.freeze(), version).unwrap()
}

pub(super) fn producer(response: &InitProducerIdResponse) -> Result<Producer, i16> {
    match response.error_code {
        OK => Ok(Producer { id: response.producer_id.0, epoch: response.producer_epoch }),
        code => Err(code),
    }
}

pub(super) fn id() -> TransactionalId {
    TransactionalId(StrBytes::from_static_str("x"))
}

pub(super) fn name() -> TopicName {
    TopicName(StrBytes::from_static_str("t"))
}

pub(super) fn topic(partitions: &[i32]) -> AddPartitionsToTxnTopic {
    AddPartitionsToTxnTopic::default().with_name(name()).with_partitions(partitions.to_vec())
}

pub(super) fn next(producer: Producer) -> Producer {
    Producer { epoch: producer.epoch + 1, ..producer }
}

pub(super) async fn pass(secs: u64) {
    tokio::time::sleep(std::time::Duration::from_secs(secs)).await;
}
