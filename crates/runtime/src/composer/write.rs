//! One batch, one transaction: what leaves, the state, and the offsets that led to it become visible together or not at
//! all (KIP-98, with the group's metadata of KIP-447).
//!
//! What may be tried again is tried again here, for as long as it takes. Anything else ends this membership: its state in
//! memory is ahead of what is written, so it is thrown away and read anew.

use std::time::Duration;

use anabranch_kafka::{
    Committer, Delivered, Ended, Error, OffsetToCommit, OutRecord, TopicPartition, TransactionConfig,
    TransactionalProducer,
};

use super::outputs::Copied;
use crate::service::Service;
use crate::worker::Halt;

/// First and longest wait between two tries of a batch.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const MAX_WAIT: Duration = Duration::from_millis(500);
/// More than the key of a copy is longer than that of its original.
const COPY_KEY_BYTES: usize = 64;

/// What is to be written.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) records: Vec<OutRecord>,
    /// With the epoch in which each partition came: what went away meanwhile is not committed for.
    pub(super) offsets: Vec<(TopicPartition, u64, OffsetToCommit)>,
    /// Which of the records are copies of payloads.
    pub(super) copied: Vec<Copied>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.offsets.is_empty()
    }
}

/// Why a batch was not written.
#[derive(Debug)]
pub(super) enum Unwritten {
    /// Partitions went to another process, or another one writes in this one's name: begin again from what is written.
    StepDown(String),
    /// No retry mends it.
    Halt(Halt),
}

impl From<Halt> for Unwritten {
    fn from(halt: Halt) -> Self {
        Self::Halt(halt)
    }
}

/// Writes batches in transactions.
pub(super) struct Writer {
    service: Service,
    producer: TransactionalProducer,
}

impl Writer {
    /// Opens the producer of this process. An open transaction of an earlier instance of the same name is aborted.
    pub(super) async fn start(service: &Service, instance: &str) -> Result<Self, Error> {
        let id = format!("{}-{instance}", service.topology.transactional_id_prefix());
        let mut config = TransactionConfig::new(id);
        // After kill -9 the partitions' next owner waits until an open transaction is aborted: no longer than for the
        // group to notice.
        config.transaction_timeout = service.settings.session_timeout;
        // The copy of the largest record that an agent may write has a longer key.
        config.max_record_bytes += COPY_KEY_BYTES;
        let producer = service.cluster.transactional(config).await?;
        Ok(Self { service: service.clone(), producer })
    }

    /// Writes a batch; waits for the broker as long as it takes. Where each record lies, as
    /// [`Transaction::write`](anabranch_kafka::Transaction::write) tells.
    pub(super) async fn write(&mut self, committer: &Committer, batch: &Batch) -> Result<Vec<Delivered>, Unwritten> {
        let mut wait = FIRST_WAIT;
        let mut delivered = Vec::new();
        loop {
            let error = match self.attempt(committer, batch, &mut delivered).await {
                Ok(()) => break,
                Err(error) => error,
            };
            if error.may_have_happened() {
                if self.settle(&error).await? {
                    break;
                }
            } else if error.is_stale() || error.is_fenced() || self.producer.is_over() {
                return Err(Unwritten::StepDown(error.to_string()));
            } else if !error.is_retryable() {
                return Err(Unwritten::Halt(Halt::Agent(format!("cannot write in a transaction: {error}"))));
            }
            tracing::warn!(%error, records = batch.records.len(), "a transaction was aborted, trying again");
            self.service.metrics.committed("failed");
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(MAX_WAIT);
        }
        self.service.metrics.committed("ok");
        batch.records.iter().for_each(|r| self.service.metrics.emitted(&r.topic));
        Ok(delivered)
    }

    async fn attempt(
        &mut self,
        committer: &Committer,
        batch: &Batch,
        delivered: &mut Vec<Delivered>,
    ) -> Result<(), Error> {
        let mut transaction = self.producer.begin().await?;
        *delivered = transaction.write(batch.records.clone(), committer, batch.offsets.clone()).await?;
        transaction.commit().await
    }

    /// Learns how a commit ended whose answer was lost: nothing else is written before that. `true`: committed.
    async fn settle(&mut self, lost: &Error) -> Result<bool, Unwritten> {
        tracing::warn!(error = %lost, "how a transaction ended is not known, asking");
        loop {
            match self.producer.settle().await {
                Ok(Some(Ended::Committed)) => return Ok(true),
                Ok(Some(Ended::Aborted)) => return Ok(false),
                // What is written tells: the state and the offsets are read anew.
                Ok(None) => return Err(Unwritten::StepDown(lost.to_string())),
                Err(error) if self.producer.is_over() => return Err(Unwritten::StepDown(error.to_string())),
                Err(error) => tracing::warn!(%error, "how a transaction ended is still not known"),
            }
            tokio::time::sleep(MAX_WAIT).await;
        }
    }
}
