//! How a transaction ends: by request, by running out of time, or after a restart.

use std::{io, time::Instant};

use kafka_protocol::{
    error::ResponseError,
    messages::{EndTxnRequest, EndTxnResponse},
};

use super::{Moment, RETRY, Transactional, Version, known_to, transaction::End};
use crate::ports::Producer;

impl Transactional {
    /// EndTxn, versions 0 to 5. Answers when all markers are written, so that a reader sees the end at once.
    ///
    /// From version 5, under transaction version 2, the answer carries the raised epoch. Below, the epoch stays.
    pub(crate) fn end_txn(&self, request: &EndTxnRequest, version: i16) -> EndTxnResponse {
        match self.end(request, version) {
            Ok(producer) => {
                EndTxnResponse::default().with_producer_id(producer.id.into()).with_producer_epoch(producer.epoch)
            }
            Err(error) => EndTxnResponse::default().with_error_code(known_to(version, 2, error).code()),
        }
    }

    fn end(&self, request: &EndTxnRequest, version: i16) -> Result<Producer, ResponseError> {
        let id = request.transactional_id.as_str();
        if id.is_empty() {
            return Err(ResponseError::InvalidRequest);
        }
        let caller = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
        let raise = version >= 5 && self.settings.version == Version::Two;
        let end = {
            let mut inner = self.lock();
            let mut next = inner.transactions.get(id).cloned().ok_or(ResponseError::InvalidProducerIdMapping)?;
            let end = next.end(caller, request.committed, raise, || inner.fresh_id())?;
            if end == End::Decided {
                inner.put(id, next)?;
            }
            end
        };
        if end == End::Decided {
            self.finish(id)?;
        }
        let transaction = self.lock().transactions.get(id).map(super::Transaction::identity);
        transaction.ok_or(ResponseError::InvalidProducerIdMapping)
    }

    /// Writes the markers of a transaction whose end is decided. The decision stands when that fails: it is tried again
    /// until it works, and the caller hears that the end is under way.
    pub(super) fn finish(&self, id: &str) -> Result<(), ResponseError> {
        self.try_finish(id).map_err(|error| {
            tracing::error!(transactional_id = id, %error, "could not end a transaction, will try again");
            let at = super::alarm::now() + RETRY;
            if let Some(transaction) = self.lock().transactions.get_mut(id) {
                transaction.deadline = Some(at);
            }
            self.alarm.arm(Some(at));
            ResponseError::ConcurrentTransactions
        })
    }

    fn try_finish(&self, id: &str) -> io::Result<()> {
        let (marker, partitions) = {
            let mut inner = self.lock();
            let Some(transaction) = inner.transactions.get(id) else { return Ok(()) };
            let Some(marker) = transaction.marker() else { return Ok(()) };
            let partitions = transaction.partitions.clone();
            if !inner.ending.insert(id.to_owned()) {
                // Somebody else is at it, and will see it through.
                return Ok(());
            }
            (marker, partitions)
        };
        let mut written = Ok(());
        for (topic, partition) in &partitions {
            written = written.and_then(|()| self.log.append_marker(topic, *partition, marker));
        }
        let written = written
            .and_then(|()| self.groups.finish_offsets(marker.producer.id, marker.commit).map_err(io::Error::other));
        let mut inner = self.lock();
        inner.ending.remove(id);
        written?;
        let completed = inner.update(id, |transaction, _| {
            transaction.complete();
            Ok(())
        });
        completed.map_err(io::Error::other)
    }

    /// Transactions with something to do.
    pub(super) fn due(&self, now: Instant) -> Vec<String> {
        let inner = self.lock();
        let due = inner.transactions.iter().filter(|(_, t)| t.deadline.is_some_and(|at| at <= now));
        due.map(|(id, _)| id.clone()).collect()
    }

    /// A deadline has passed: aborts the transaction and fences its producer, or tries again to end it.
    pub(super) fn run_out(&self, id: &str) {
        let fenced = {
            let mut inner = self.lock();
            let fenced = inner.fence_late(id);
            if let Some(transaction) = inner.transactions.get_mut(id) {
                if fenced.is_err() {
                    // A decision that could not be journaled is not one, and is tried again.
                    transaction.deadline = Some(Moment::present().now + RETRY);
                } else if transaction.is_ending() {
                    transaction.deadline = None;
                }
            }
            fenced
        };
        match fenced {
            Ok(true) => tracing::info!(transactional_id = id, "aborted a transaction that ran out of time"),
            Ok(false) => {}
            // The failure is logged where it happened.
            Err(_) => return,
        }
        // A failure is logged there, and sets the next deadline.
        let _ = self.finish(id);
    }
}
