//! What becomes part of a transaction: partitions, groups, and offsets.

use kafka_protocol::{
    error::ResponseError,
    messages::{
        AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
        TxnOffsetCommitRequest, TxnOffsetCommitResponse,
        add_partitions_to_txn_request::{AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction},
        add_partitions_to_txn_response::{
            AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
        },
        txn_offset_commit_request::TxnOffsetCommitRequestTopic,
        txn_offset_commit_response::{TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic},
    },
};

use super::{Transactional, Version, by_epoch, code, known_to, transaction::Phase};
use crate::{
    group::{Committer, Offset, Partition},
    ports::{self, Code, Producer},
};

/// From this version of Produce a write adds its partition by itself (KIP-890).
const PRODUCE_ADDS: i16 = 12;

/// From this version of TxnOffsetCommit, so does a commit its group.
const COMMIT_ADDS: i16 = 5;

impl Transactional {
    /// AddPartitionsToTxn: versions 0 to 3 for one transaction, 4 to 5 for any number.
    pub(crate) fn add_partitions_to_txn(
        &self,
        request: &AddPartitionsToTxnRequest,
        version: i16,
    ) -> AddPartitionsToTxnResponse {
        if version < 4 {
            let producer =
                Producer { id: request.v3_and_below_producer_id.0, epoch: request.v3_and_below_producer_epoch };
            let (id, topics) = (&request.v3_and_below_transactional_id, &request.v3_and_below_topics);
            let results = self.add_topics(id, producer, topics, version);
            return AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(results);
        }
        let one = |transaction: &AddPartitionsToTxnTransaction| {
            let producer = Producer { id: transaction.producer_id.0, epoch: transaction.producer_epoch };
            let (id, topics) = (&transaction.transactional_id, &transaction.topics);
            let results = if transaction.verify_only {
                self.verify_topics(id, producer, topics, version)
            } else {
                self.add_topics(id, producer, topics, version)
            };
            AddPartitionsToTxnResult::default().with_transactional_id(id.clone()).with_topic_results(results)
        };
        let results = request.transactions.iter().map(one).collect();
        AddPartitionsToTxnResponse::default().with_results_by_transaction(results)
    }

    fn add_topics(
        &self,
        id: &str,
        producer: Producer,
        topics: &[AddPartitionsToTxnTopic],
        version: i16,
    ) -> Vec<AddPartitionsToTxnTopicResult> {
        let wanted: Vec<Partition> = topics.iter().flat_map(partitions_of).collect();
        if wanted.iter().all(|(topic, partition)| self.log.exists(topic, *partition)) {
            let result = self.add(id, producer, wanted, None).map_err(|error| known_to(version, 2, error));
            return answer(topics, |_| code(&result));
        }
        // All or nothing: one partition that is not there keeps the others out.
        answer(topics, |(topic, partition)| {
            let error = if self.log.exists(topic, *partition) {
                ResponseError::OperationNotAttempted
            } else {
                ResponseError::UnknownTopicOrPartition
            };
            error.code()
        })
    }

    /// Says which partitions are part of the transaction, and adds none.
    fn verify_topics(
        &self,
        id: &str,
        producer: Producer,
        topics: &[AddPartitionsToTxnTopic],
        version: i16,
    ) -> Vec<AddPartitionsToTxnTopicResult> {
        let inner = self.lock();
        let transaction = inner.transactions.get(id).ok_or(ResponseError::InvalidProducerIdMapping);
        let transaction = transaction.and_then(|t| t.admit(producer).map(|()| t));
        let absent = if version >= 5 { ResponseError::TransactionAbortable } else { ResponseError::InvalidTxnState };
        answer(topics, |partition| match &transaction {
            Ok(transaction) if transaction.partitions.contains(partition) => 0,
            Ok(_) => absent.code(),
            Err(error) => known_to(version, 2, *error).code(),
        })
    }

    /// AddOffsetsToTxn, versions 0 to 4.
    pub(crate) fn add_offsets_to_txn(&self, request: &AddOffsetsToTxnRequest, version: i16) -> AddOffsetsToTxnResponse {
        let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
        let result = if request.group_id.is_empty() {
            Err(ResponseError::InvalidGroupId)
        } else {
            self.add(&request.transactional_id, producer, Vec::new(), Some(&request.group_id))
        };
        let result = result.map_err(|error| known_to(version, 2, error));
        AddOffsetsToTxnResponse::default().with_error_code(code(&result))
    }

    fn add(
        &self,
        id: &str,
        producer: Producer,
        partitions: Vec<Partition>,
        group: Option<&str>,
    ) -> Result<(), ResponseError> {
        if id.is_empty() {
            return Err(ResponseError::InvalidRequest);
        }
        self.update(id, |transaction, at| {
            transaction.admit(producer)?;
            transaction.join(at, partitions, group);
            Ok(())
        })
    }

    /// TxnOffsetCommit, versions 0 to 5. The offsets are held back until the transaction commits.
    pub(crate) fn txn_offset_commit(&self, request: &TxnOffsetCommitRequest, version: i16) -> TxnOffsetCommitResponse {
        let offsets: Vec<Offset> = request.topics.iter().flat_map(offsets_of).collect();
        let count = offsets.len();
        let codes = self.stage(request, version, offsets).unwrap_or_else(|error| vec![by_epoch(error).code(); count]);
        let mut codes = codes.into_iter();
        let topic = |topic: &TxnOffsetCommitRequestTopic| {
            let partitions = topic.partitions.iter().zip(codes.by_ref()).map(|(p, code)| {
                TxnOffsetCommitResponsePartition::default()
                    .with_partition_index(p.partition_index)
                    .with_error_code(code)
            });
            let partitions = partitions.collect();
            TxnOffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions)
        };
        TxnOffsetCommitResponse::default().with_topics(request.topics.iter().map(topic).collect())
    }

    fn stage(
        &self,
        request: &TxnOffsetCommitRequest,
        version: i16,
        offsets: Vec<Offset>,
    ) -> Result<Vec<Code>, ResponseError> {
        let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
        let group = request.group_id.as_str();
        let adds = version >= COMMIT_ADDS && self.settings.version == Version::Two;
        let offsets = self.groups.examine(offsets);
        let mut inner = self.lock();
        inner.update(&request.transactional_id, |transaction, at| {
            transaction.admit(producer)?;
            if adds {
                transaction.join(at, [], Some(group));
            }
            let is_part = transaction.phase == Phase::Ongoing && transaction.groups.contains(group);
            if is_part { Ok(()) } else { Err(ResponseError::InvalidTxnState) }
        })?;
        self.alarm.arm(inner.transactions.get(request.transactional_id.as_str()).and_then(|t| t.deadline));
        let instance = request.group_instance_id.as_ref();
        let committer = Committer::new(group, &request.member_id, instance, request.generation_id);
        // Still under the lock: nothing may be staged behind the end of the transaction.
        let codes = self.groups.stage_offsets(producer.id, &committer, offsets);
        drop(inner);
        Ok(codes)
    }
}

impl ports::Transactions for Transactional {
    fn before_append(&self, id: &str, producer: Producer, topic: &str, partition: i32, version: i16) -> Code {
        let adds = version >= PRODUCE_ADDS && self.settings.version == Version::Two;
        let partition = (topic.to_owned(), partition);
        let state = match self.lock().transactions.get(id) {
            None => Err(ResponseError::InvalidProducerIdMapping),
            Some(transaction) => transaction.admit(producer).map(|()| transaction.has(&partition)),
        };
        let result = match state {
            Ok(true) => Ok(()),
            Ok(false) if adds => self.add(id, producer, vec![partition], None),
            Ok(false) => Err(ResponseError::InvalidTxnState),
            Err(error) => Err(error),
        };
        code(&result.map_err(by_epoch))
    }
}

fn partitions_of(topic: &AddPartitionsToTxnTopic) -> impl Iterator<Item = Partition> {
    topic.partitions.iter().map(|partition| (topic.name.as_str().to_owned(), *partition))
}

fn offsets_of(topic: &TxnOffsetCommitRequestTopic) -> impl Iterator<Item = Offset> {
    topic.partitions.iter().map(|p| Offset {
        topic: topic.name.as_str().to_owned(),
        partition: p.partition_index,
        offset: p.committed_offset,
        leader_epoch: p.committed_leader_epoch,
        metadata: p.committed_metadata.as_ref().map(|m| m.as_str().to_owned()).unwrap_or_default(),
    })
}

fn answer(topics: &[AddPartitionsToTxnTopic], code: impl Fn(&Partition) -> Code) -> Vec<AddPartitionsToTxnTopicResult> {
    let result = |at: Partition| {
        let code = code(&at);
        AddPartitionsToTxnPartitionResult::default().with_partition_index(at.1).with_partition_error_code(code)
    };
    let topic = |topic: &AddPartitionsToTxnTopic| {
        let results = partitions_of(topic).map(result).collect();
        AddPartitionsToTxnTopicResult::default().with_name(topic.name.clone()).with_results_by_partition(results)
    };
    topics.iter().map(topic).collect()
}
