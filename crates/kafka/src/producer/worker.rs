//! One partition's queue: one batch at a time, tried until it is in or its time is up.

use std::{sync::Arc, time::Instant};

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::{
    Shared, TOPIC_GRACE, Ticket, own,
    plain::{PlainPartition, RSKAFKA_MOST_BYTES, fits_rskafka},
};
use crate::{
    backoff::Backoff,
    error::{Error, ErrorKind},
    types::{Delivered, OutRecord},
};

const MESSAGE_TOO_LARGE: i16 = 10;
const RECORD_LIST_TOO_LARGE: i16 = 18;

/// A record on its way.
pub(super) struct Job {
    pub(super) record: Arc<OutRecord>,
    pub(super) bytes: usize,
    pub(super) deadline: Instant,
    pub(super) done: oneshot::Sender<Result<Delivered, Error>>,
    pub(super) _room: OwnedSemaphorePermit,
    pub(super) _ticket: Ticket,
}

struct Worker {
    shared: Arc<Shared>,
    topic: String,
    partition: i32,
    plain: PlainPartition,
}

/// Sends what comes until the producer is dropped.
pub(super) async fn run(shared: Arc<Shared>, topic: String, partition: i32, mut jobs: mpsc::UnboundedReceiver<Job>) {
    let plain = PlainPartition::new(topic.clone(), partition);
    let mut worker = Worker { shared, topic, partition, plain };
    let mut next = jobs.recv().await;
    while let Some(first) = next.take() {
        let batch = gather(first, &mut jobs, worker.shared.config.max_batch_bytes, &mut next);
        worker.deliver(batch).await;
        if next.is_none() {
            next = jobs.recv().await;
        }
    }
}

/// What is queued, as far as it fits into one batch of one kind. The first that does not is left in `next`.
fn gather(first: Job, jobs: &mut mpsc::UnboundedReceiver<Job>, max_bytes: usize, next: &mut Option<Job>) -> Vec<Job> {
    let kind = fits_rskafka(&first.record);
    let mut bytes = first.bytes;
    let mut batch = vec![first];
    while let Ok(job) = jobs.try_recv() {
        if bytes + job.bytes > max_bytes || fits_rskafka(&job.record) != kind {
            *next = Some(job);
            break;
        }
        bytes += job.bytes;
        batch.push(job);
    }
    batch
}

fn is_too_large(error: &Error) -> bool {
    matches!(error.code(), Some(MESSAGE_TOO_LARGE | RECORD_LIST_TOO_LARGE))
}

impl Worker {
    /// Delivers a batch, in halves if the broker finds it too large.
    async fn deliver(&mut self, batch: Vec<Job>) {
        let mut parts = vec![batch];
        while let Some(mut part) = parts.pop() {
            let result = self.try_until_deadline(&part).await;
            let too_large = matches!(&result, Err(error) if is_too_large(error));
            if too_large && part.len() > 1 {
                let second = part.split_off(part.len() / 2);
                parts.extend([second, part]);
                continue;
            }
            for (job, index) in part.into_iter().zip(0_i64..) {
                let answer = match &result {
                    Ok(base) => Ok(Delivered { partition: self.partition, offset: base + index }),
                    Err(_) if too_large => Err(self.too_large(job.bytes)),
                    Err(error) => Err(error.clone()),
                };
                // A sender that stopped waiting still has its record sent.
                drop(job.done.send(answer));
            }
        }
    }

    fn too_large(&self, bytes: usize) -> Error {
        let kind = ErrorKind::RecordTooLarge { bytes, limit_bytes: None };
        Error::new("Produce", kind).on_partition(self.topic.clone(), self.partition)
    }

    /// The base offset, once some try has succeeded. An error says whether any of the tries may have.
    async fn try_until_deadline(&mut self, batch: &[Job]) -> Result<i64, Error> {
        let deadline = batch.iter().map(|job| job.deadline).max().unwrap_or_else(Instant::now);
        let topic_deadline = deadline.min(Instant::now() + TOPIC_GRACE);
        let mut backoff = Backoff::new(self.shared.cluster.config());
        let mut unclear = None;
        loop {
            let error = match self.try_before(deadline, batch).await {
                Ok(base) => return Ok(base),
                Err(error) => error.on_partition(self.topic.clone(), self.partition),
            };
            let wait = backoff.next_wait();
            let until = if error.is_unknown_topic() { topic_deadline } else { deadline };
            if is_too_large(&error) {
                return Err(error);
            }
            if !error.is_transient() || Instant::now() + wait >= until {
                return Err(unclear.filter(|_| !error.may_have_happened()).unwrap_or(error));
            }
            tracing::warn!(%error, records = batch.len(), wait_ms = wait.as_millis(), "produce failed; trying again");
            if error.may_have_happened() {
                unclear = Some(error);
            }
            tokio::time::sleep(wait).await;
        }
    }

    async fn try_before(&mut self, deadline: Instant, batch: &[Job]) -> Result<i64, Error> {
        let after = self.shared.config.delivery_timeout;
        let timed_out = |sent| Err(Error::new("Produce", ErrorKind::Timeout { after, sent }));
        if Instant::now() >= deadline {
            return timed_out(false);
        }
        match tokio::time::timeout_at(deadline.into(), self.try_once(batch)).await {
            Ok(result) => result,
            Err(_) => timed_out(true),
        }
    }

    async fn try_once(&mut self, batch: &[Job]) -> Result<i64, Error> {
        let records = batch.iter().map(|job| &*job.record);
        let bytes: usize = batch.iter().map(|job| job.bytes).sum();
        let by_rskafka = bytes <= RSKAFKA_MOST_BYTES && batch.iter().all(|job| fits_rskafka(&job.record));
        if by_rskafka && self.shared.cluster.rskafka_reaches() {
            self.plain.produce(&self.shared.plain, records).await
        } else {
            let records: Vec<&OutRecord> = records.collect();
            own::produce(&self.shared.cluster, &self.topic, self.partition, &records).await
        }
    }
}
