//! The requests to a transaction's coordinator, one try each.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anabranch_core::transaction::{Asked, Failure, Producer, Verdict, Version};
use kafka_protocol::{
    error::ResponseError,
    messages::{
        AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, DescribeTransactionsRequest,
        EndTxnRequest, GroupId, InitProducerIdRequest, ProducerId, TransactionalId,
        add_partitions_to_txn_request::AddPartitionsToTxnTopic,
    },
    protocol::StrBytes,
};

use crate::{
    api::Api,
    cluster::Cluster,
    config::TransactionConfig,
    connection::Connection,
    error::{Error, ErrorKind},
    group::{Coordinates, Coordinator},
    link::Links,
    offsets::{by_topic, topic_name},
    types::TopicPartition,
};

/// The feature that says how transactions work, and the level from which they do so as KIP-890 has it.
const FEATURE: (&str, i16) = ("transaction.version", 2);
/// The first versions of these requests that work by [`Version::Two`].
const END_RAISES: i16 = 5;
const OFFSETS_ADD: i16 = 5;
const PRODUCE_ADDS: i16 = 12;

/// What the requests of one transactional producer share. Its connections are its own: a broker that is slow to answer others
/// does not hold it up.
pub(super) struct Wire {
    pub(super) cluster: Cluster,
    pub(super) config: TransactionConfig,
    pub(super) links: Links,
    coordinator: Coordinator,
}

/// Whether a broker with these requests speaks version two; else the highest versions that belong to version one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Most {
    pub(super) end: i16,
    pub(super) offsets: i16,
    pub(super) produce: i16,
}

impl Most {
    pub(super) fn of(version: Version) -> Self {
        match version {
            Version::One => Self { end: END_RAISES - 1, offsets: OFFSETS_ADD - 1, produce: PRODUCE_ADDS - 1 },
            Version::Two => Self { end: i16::MAX, offsets: i16::MAX, produce: i16::MAX },
        }
    }
}

/// What an error means to the machine.
pub(super) fn failure(error: &Error) -> Failure {
    let code = match error.kind() {
        // Nothing that waiting would change.
        ErrorKind::UnsupportedVersion { .. } | ErrorKind::Invalid(_) => Some(ResponseError::UnsupportedVersion.code()),
        ErrorKind::Security(_) => Some(ResponseError::SaslAuthenticationFailed.code()),
        _ => error.code(),
    };
    Failure { code, may_have_happened: error.may_have_happened() }
}

/// What to do about an error of a write.
pub(super) fn judge(asked: Asked, error: &Error) -> Verdict {
    match failure(error).code {
        Some(code) => Verdict::of(asked, code),
        None if error.is_retryable() => Verdict::Again,
        None => Verdict::Abort,
    }
}

/// A try that may not take longer than until `deadline`.
pub(super) async fn before<T>(
    deadline: Instant,
    name: &'static str,
    once: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let started = Instant::now();
    match tokio::time::timeout_at(deadline.into(), once).await {
        Ok(result) => result,
        Err(_) => Err(Error::new(name, ErrorKind::Timeout { after: started.elapsed(), sent: true })),
    }
}

impl Wire {
    pub(super) fn new(cluster: Cluster, config: TransactionConfig) -> Self {
        let coordinator = Coordinator::of(Coordinates::Transactions, cluster.clone(), &config.transactional_id);
        Self { cluster, config, links: Links::default(), coordinator }
    }

    pub(super) fn id(&self) -> TransactionalId {
        TransactionalId(StrBytes::from_string(self.config.transactional_id.clone()))
    }

    pub(super) fn limit(&self) -> Duration {
        self.cluster.config().request_timeout
    }

    async fn connect(&self) -> Result<Connection, Error> {
        let address = self.coordinator.address().await?;
        self.links.connection(&self.cluster, &address).await
    }

    /// After a failure the coordinator is looked for anew, where it may have moved.
    fn noting<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        result.inspect_err(|error| {
            let moved = [ResponseError::NotCoordinator, ResponseError::CoordinatorNotAvailable].map(Some);
            if error.code().is_none() || moved.contains(&error.response_error()) {
                self.coordinator.forget();
            }
        })
    }

    /// How transactions work at the coordinator.
    pub(super) async fn version(&self) -> Result<Version, Error> {
        let connection = self.noting(self.connect().await)?;
        let offers = |version: Result<i16, Error>, least: i16| version.is_ok_and(|v| v >= least);
        let two = connection.feature(FEATURE.0) >= FEATURE.1
            && offers(connection.version_of::<EndTxnRequest>(), END_RAISES)
            && offers(connection.version_of::<kafka_protocol::messages::TxnOffsetCommitRequest>(), OFFSETS_ADD)
            && offers(connection.version_of::<kafka_protocol::messages::ProduceRequest>(), PRODUCE_ADDS);
        Ok(if two { Version::Two } else { Version::One })
    }

    pub(super) async fn init(&self, producer: Option<Producer>) -> Result<Producer, Error> {
        self.noting(self.init_once(producer).await)
    }

    async fn init_once(&self, producer: Option<Producer>) -> Result<Producer, Error> {
        let connection = self.connect().await?;
        let timeout_ms = i32::try_from(self.config.transaction_timeout.as_millis()).unwrap_or(i32::MAX);
        let current = producer.unwrap_or(Producer { id: -1, epoch: -1 });
        let answer = connection
            .call(self.limit(), |_| {
                InitProducerIdRequest::default()
                    .with_transactional_id(Some(self.id()))
                    .with_transaction_timeout_ms(timeout_ms)
                    .with_producer_id(ProducerId(current.id))
                    .with_producer_epoch(current.epoch)
            })
            .await?;
        match answer.error_code {
            0 if answer.producer_id.0 < 0 => Err(Error::malformed(InitProducerIdRequest::NAME, "no producer id came")),
            0 => Ok(Producer { id: answer.producer_id.0, epoch: answer.producer_epoch }),
            code => Err(self.refused(InitProducerIdRequest::NAME, code, &connection)),
        }
    }

    fn refused(&self, name: &'static str, code: i16, connection: &Connection) -> Error {
        let id = &self.config.transactional_id;
        Error::broker_code(name, code, Some(format!("transactional id {id}"))).at_broker(connection.address())
    }

    /// Under version two with the identity that follows.
    pub(super) async fn end(
        &self,
        version: Version,
        producer: Producer,
        commit: bool,
    ) -> Result<Option<Producer>, Error> {
        self.noting(self.end_once(version, producer, commit).await)
    }

    async fn end_once(&self, version: Version, producer: Producer, commit: bool) -> Result<Option<Producer>, Error> {
        let connection = self.connect().await?;
        let answer = connection
            .call_up_to(Most::of(version).end, self.limit(), |_| {
                EndTxnRequest::default()
                    .with_transactional_id(self.id())
                    .with_producer_id(ProducerId(producer.id))
                    .with_producer_epoch(producer.epoch)
                    .with_committed(commit)
            })
            .await?;
        let next = Producer { id: answer.producer_id.0, epoch: answer.producer_epoch };
        match answer.error_code {
            0 => Ok((version == Version::Two && next.id >= 0).then_some(next)),
            code => Err(self.refused(EndTxnRequest::NAME, code, &connection)),
        }
    }

    /// Whether the coordinator has decided how a transaction ends, but not all partitions have heard of it.
    pub(super) async fn is_ending(&self) -> Result<bool, Error> {
        let connection = self.noting(self.connect().await)?;
        let request = DescribeTransactionsRequest::default().with_transactional_ids(vec![self.id()]);
        let answer = connection.call(self.limit(), |_| request).await?;
        let name = DescribeTransactionsRequest::NAME;
        let state = answer.transaction_states.into_iter().next();
        let state = state.ok_or_else(|| Error::malformed(name, "the answer leaves out the transaction"))?;
        match state.error_code {
            0 => Ok(state.transaction_state.starts_with("Prepare")),
            code => Err(self.refused(name, code, &connection)),
        }
    }

    pub(super) async fn add_partitions(
        &self,
        producer: Producer,
        partitions: &BTreeSet<TopicPartition>,
    ) -> Result<(), Error> {
        self.noting(self.add_partitions_once(producer, partitions).await)
    }

    async fn add_partitions_once(
        &self,
        producer: Producer,
        partitions: &BTreeSet<TopicPartition>,
    ) -> Result<(), Error> {
        let connection = self.connect().await?;
        let topics = by_topic(partitions).into_iter().map(|(topic, partitions)| {
            AddPartitionsToTxnTopic::default().with_name(topic_name(&topic)).with_partitions(partitions)
        });
        let topics = topics.collect();
        let answer = connection
            .call(self.limit(), |_| {
                AddPartitionsToTxnRequest::default()
                    .with_v3_and_below_transactional_id(self.id())
                    .with_v3_and_below_producer_id(ProducerId(producer.id))
                    .with_v3_and_below_producer_epoch(producer.epoch)
                    .with_v3_and_below_topics(topics)
            })
            .await?;
        read_added(answer, partitions).map_err(|e| e.at_broker(connection.address()))
    }

    pub(super) async fn add_group(&self, producer: Producer, group: &str) -> Result<(), Error> {
        self.noting(self.add_group_once(producer, group).await)
    }

    async fn add_group_once(&self, producer: Producer, group: &str) -> Result<(), Error> {
        let connection = self.connect().await?;
        let answer = connection
            .call(self.limit(), |_| {
                AddOffsetsToTxnRequest::default()
                    .with_transactional_id(self.id())
                    .with_producer_id(ProducerId(producer.id))
                    .with_producer_epoch(producer.epoch)
                    .with_group_id(GroupId(StrBytes::from_string(group.to_owned())))
            })
            .await?;
        match answer.error_code {
            0 => Ok(()),
            code => Err(self.refused(AddOffsetsToTxnRequest::NAME, code, &connection)),
        }
    }
}

/// The error that says most: one that waiting does not change, where there is one.
fn read_added(answer: AddPartitionsToTxnResponse, wanted: &BTreeSet<TopicPartition>) -> Result<(), Error> {
    let mut missing = wanted.clone();
    let mut worst: Option<Error> = None;
    for topic in answer.results_by_topic_v3_and_below {
        for p in topic.results_by_partition {
            missing.remove(&TopicPartition::new(topic.name.as_str(), p.partition_index));
            let error = Error::broker_code(AddPartitionsToTxnRequest::NAME, p.partition_error_code, None)
                .on_partition(topic.name.as_str(), p.partition_index);
            // Nothing was attempted for this one because of another.
            let of_another = error.response_error() == Some(ResponseError::OperationNotAttempted);
            if p.partition_error_code != 0 && !of_another && worst.as_ref().is_none_or(Error::is_transient) {
                worst = Some(error);
            }
        }
    }
    match worst {
        Some(error) => Err(error),
        None if missing.is_empty() => Ok(()),
        None => Err(Error::malformed(AddPartitionsToTxnRequest::NAME, "the answer leaves out partitions")),
    }
}
