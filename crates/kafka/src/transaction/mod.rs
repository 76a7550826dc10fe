//! Transactions: records of several partitions and offsets of a group, visible together or not at all.
//!
//! What may be written when, and what an answer means, is decided by [`Machine`]; this is its shell. Everything has a
//! deadline. The answer to "is it committed?" is never a guess: see [`Transaction::commit`].

mod offsets;
mod send;
mod wire;
mod witness;
mod writes;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use anabranch_core::transaction::{Last, Machine, Over, Producer, Request, Sight, Verdict, Version};
use kafka_protocol::error::ResponseError;

use crate::{
    cluster::Cluster,
    config::TransactionConfig,
    error::{Error, ErrorKind},
    group::Committer,
    producer::Placer,
    types::{Delivered, OffsetToCommit, OutRecord, TopicPartition},
};
use offsets::Staging;
use wire::{Wire, before, failure};
use writes::Tries;

const END: &str = "EndTxn";
const INIT: &str = "InitProducerId";
const WRITE: &str = "Produce";
const DESCRIBE: &str = "DescribeTransactions";
/// Longest time after the end of a transaction in which the next one waits for its markers.
const MARKERS_WITHIN: Duration = Duration::from_millis(20);
/// How often they are asked for.
const MARKERS_AGAIN: Duration = Duration::from_micros(500);
const MAX_TIMEOUT: Duration = Duration::from_millis(i32::MAX as u64);

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All of it can be read.
    Committed,
    /// None of it will ever be read by those who read committed records.
    Aborted,
}

/// A producer that writes in transactions, one at a time.
///
/// It is the only one with its transactional id: a newer one fences it, and it hears of that with its next request
/// ([`Error::is_fenced`]). It is over then, and every later call says so; whoever owns it steps down.
pub struct TransactionalProducer {
    wire: Arc<Wire>,
    machine: Machine,
    placer: Placer,
    /// Why the last thing did not go well.
    fault: Option<Error>,
    /// Why it is over.
    grave: Option<Error>,
    /// When the last transaction was ended, if its markers were not waited for yet.
    ended: Option<Instant>,
}

impl fmt::Debug for TransactionalProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransactionalProducer")
            .field("transactional_id", &self.wire.config.transactional_id)
            .field("machine", &self.machine)
            .finish_non_exhaustive()
    }
}

impl TransactionalProducer {
    pub(crate) async fn start(cluster: Cluster, config: TransactionConfig) -> Result<Self, Error> {
        if config.transactional_id.is_empty() {
            return Err(Error::invalid(INIT, "the transactional id is empty"));
        }
        if config.transaction_timeout < Duration::from_millis(1) || config.transaction_timeout > MAX_TIMEOUT {
            return Err(Error::invalid(INIT, "the transaction timeout is not between 1 ms and 24 days"));
        }
        let placer = Placer::new(cluster.clone());
        let wire = Arc::new(Wire::new(cluster, config));
        let mut this = Self { wire, machine: Machine::new(), placer, fault: None, grave: None, ended: None };
        this.drive(this.deadline(), Machine::is_idle).await?;
        Ok(this)
    }

    /// Begins a transaction. One that was dropped without commit or abort is aborted first. No request is sent where there is
    /// nothing to mend, and the last one ended a while ago.
    ///
    /// # Errors
    /// [`Error::is_fenced`] and [`Error::is_fatal`]: it is over. [`ErrorKind::Invalid`]: it is not known how the last commit
    /// ended, see [`settle`](Self::settle). Else what the coordinator last had to say within the call timeout.
    pub async fn begin(&mut self) -> Result<Transaction<'_>, Error> {
        let deadline = self.deadline();
        if self.machine.last() != Last::Nothing {
            return Err(Error::invalid(END, "how the last commit ended was not asked for yet"));
        }
        self.machine.end(false);
        self.drive(deadline, Machine::is_idle).await?;
        let mut tries = self.tries(deadline);
        let version = loop {
            match before(deadline, INIT, self.wire.version()).await {
                Ok(version) => break version,
                Err(error) if error.is_retryable() => {
                    tries.wait(Verdict::Again, error).await?;
                }
                Err(error) => return Err(error),
            }
        };
        self.await_markers(version).await;
        self.fault = None;
        if !self.machine.begin(version) {
            return Err(self.gone());
        }
        Ok(Transaction { producer: self })
    }

    /// Waits until the markers of the last transaction are written, which takes brokers a millisecond or two. Under version two
    /// they add by themselves what is written to, and where it comes too early try again after 20 ms. Whatever comes of asking,
    /// they decide.
    async fn await_markers(&mut self, version: Version) {
        let Some(ended) = self.ended.take().filter(|_| version == Version::Two) else { return };
        let until = ended + MARKERS_WITHIN;
        while Instant::now() < until {
            match before(until, DESCRIBE, self.wire.is_ending()).await {
                Ok(true) => tokio::time::sleep(MARKERS_AGAIN).await,
                Ok(false) => return,
                Err(error) => return tracing::debug!(%error, "whether a transaction has ended cannot be asked"),
            }
        }
    }

    /// How the last commit ended, if that is not known yet: after an error with [`Error::may_have_happened`], or after a commit
    /// that was not waited for. `None`: there is nothing to learn.
    ///
    /// # Errors
    /// [`ErrorKind::OutcomeUnknown`]. Ask again, until it is known. It never will be where the producer is over and none of the
    /// transaction's records is in the log any more, or there were only offsets in it: then the next answer is `None`.
    pub async fn settle(&mut self) -> Result<Option<Ended>, Error> {
        if self.machine.last() == Last::Nothing {
            return Ok(None);
        }
        let driven = self.drive(self.deadline(), |machine| machine.last() != Last::Pending).await;
        match self.machine.hear() {
            Last::Committed => Ok(Some(Ended::Committed)),
            Last::Aborted => Ok(Some(Ended::Aborted)),
            Last::Nothing => Ok(None),
            Last::Pending | Last::Unknown => Err(self.unknown(driven.err())),
        }
    }

    /// Whether it is over: fenced, or without the right to write.
    pub fn is_over(&self) -> bool {
        self.machine.over().is_some()
    }

    /// Does what the machine asks for until it is as wanted.
    async fn drive(&mut self, deadline: Instant, wanted: impl Fn(&Machine) -> bool) -> Result<(), Error> {
        let mut tries: Tries = self.tries(deadline);
        while !wanted(&self.machine) {
            let Some(request) = self.machine.next_request() else { return Err(self.gone()) };
            let Err(error) = self.perform(deadline, request).await else { continue };
            self.note(&error);
            if self.machine.over().is_none() || self.machine.is_ending() {
                tries.wait(Verdict::Again, error).await?;
            }
        }
        Ok(())
    }

    /// One request, and what it came to.
    async fn perform(&mut self, deadline: Instant, request: Request) -> Result<(), Error> {
        let wire = self.wire.clone();
        match request {
            Request::Init(producer) => {
                let result = before(deadline, INIT, wire.init(producer)).await;
                self.machine.initialised(result.as_ref().copied().map_err(failure));
                result.map(|_| ())
            }
            Request::End { producer, commit } => {
                let version = self.machine.version();
                let result = before(deadline, END, wire.end(version, producer, commit)).await;
                self.machine.ended(result.as_ref().copied().map_err(failure));
                self.ended = Some(Instant::now());
                result.map(|_| ())
            }
            Request::Look => {
                let sight = witness::look(&wire.cluster, self.machine.witnesses().iter(), deadline).await;
                tracing::info!(
                    transactional_id = %wire.config.transactional_id,
                    ?sight,
                    "how a transaction ended was looked up in the log"
                );
                self.machine.looked(sight);
                match sight {
                    Sight::NotYet => Err(Error::new(END, ErrorKind::Aborted("its end is not in the log yet".into()))),
                    _ => Ok(()),
                }
            }
        }
    }

    /// Remembers why.
    fn note(&mut self, error: &Error) {
        self.fault = Some(error.clone());
        if self.grave.is_none()
            && let Some(over) = self.machine.over()
        {
            let id = &self.wire.config.transactional_id;
            tracing::warn!(transactional_id = %id, %error, "a transactional producer is over");
            self.grave = Some(match over {
                // Whatever the code, to the caller it means this.
                Over::Fenced if !error.is_fenced() => {
                    Error::broker_code(INIT, ResponseError::ProducerFenced.code(), Some(error.to_string()))
                }
                _ => error.clone(),
            });
        }
    }

    /// Why nothing goes on.
    fn gone(&self) -> Error {
        self.grave.clone().or_else(|| self.fault.clone()).unwrap_or_else(|| Error::closed(END))
    }

    /// The error of a commit that may have happened.
    fn unknown(&self, last: Option<Error>) -> Error {
        let error = last.unwrap_or_else(|| self.gone());
        let fenced = self.machine.over().is_some() && !self.machine.is_ending();
        Error::new(END, ErrorKind::OutcomeUnknown { reason: error.to_string(), fenced })
    }

    /// The error of a transaction that is not committed.
    fn aborted(&self) -> Error {
        match self.grave.clone().or_else(|| self.fault.clone()) {
            // Whatever may have happened to a request on the way, the transaction did not.
            Some(error) if error.may_have_happened() => Error::new(END, ErrorKind::Aborted(error.to_string())),
            Some(error) => error,
            None => Error::new(END, ErrorKind::Aborted("a write was not waited for".into())),
        }
    }

    /// Who writes now.
    fn writable(&self) -> Result<Producer, Error> {
        if let Some(grave) = &self.grave {
            return Err(grave.clone());
        }
        match self.machine.producer() {
            Some(producer) if self.machine.is_writable() => Ok(producer),
            _ => Err(Error::invalid(WRITE, "the transaction can only be aborted: a write before did not end well")),
        }
    }

    /// After a write: a failure leaves nothing but to abort.
    fn doomed<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        result.inspect_err(|error| {
            // The first failure is why; what is tried afterwards is refused because of it.
            if self.fault.is_none() {
                self.note(error);
            }
            self.machine.doom();
        })
    }
}

/// An open transaction. Dropped without [`commit`](Self::commit) or [`abort`](Self::abort), it is aborted by the next
/// [`begin`](TransactionalProducer::begin), or by the coordinator when its time is up.
#[derive(Debug)]
#[must_use = "a transaction that is dropped is aborted"]
pub struct Transaction<'a> {
    producer: &'a mut TransactionalProducer,
}

impl Transaction<'_> {
    /// Writes records, in order for each partition, and waits until all in-sync replicas have them. They become visible with
    /// the commit. Partitions are chosen as by [`Producer`](crate::Producer).
    ///
    /// In the answer, in the order of the records, an offset is -1 where a batch was in the log already and the broker does
    /// not say where.
    ///
    /// # Errors
    /// What a broker last had to say within the call timeout. After any error, or when the future is dropped before its end, the
    /// transaction can only be aborted. [`Error::is_fenced`]: the producer is over.
    pub async fn send(&mut self, records: Vec<OutRecord>) -> Result<Vec<Delivered>, Error> {
        let result = self.producer.write(records, None).await;
        self.producer.doomed(result)
    }

    /// As [`send`](Self::send) and [`commit_offsets_each`](Self::commit_offsets_each) one after the other, but neither waits for
    /// the other's answers: a round trip less, and two under version one.
    ///
    /// # Errors
    /// As both.
    pub async fn write(
        &mut self,
        records: Vec<OutRecord>,
        committer: &Committer,
        offsets: Vec<(TopicPartition, u64, OffsetToCommit)>,
    ) -> Result<Vec<Delivered>, Error> {
        let result = self.producer.write(records, Some(Staging { committer, offsets })).await;
        self.producer.doomed(result)
    }

    /// Makes offsets of a group part of the transaction, under the live membership behind `committer`. A rebalance under way is
    /// waited for, as long as all partitions stay.
    ///
    /// # Errors
    /// [`Error::is_stale`] when a partition is no longer this member's, by its own knowledge or the coordinator's: none of it
    /// will be committed. [`ErrorKind::Invalid`] for a group that does not commit
    /// [in transactions](crate::Commits::InTransactions). Else as [`send`](Self::send).
    pub async fn commit_offsets(
        &mut self,
        committer: &Committer,
        offsets: Vec<(TopicPartition, OffsetToCommit)>,
    ) -> Result<(), Error> {
        self.commit_offsets_each(committer, offsets.into_iter().map(|(tp, offset)| (tp, u64::MAX, offset)).collect())
            .await
    }

    /// As [`commit_offsets`](Self::commit_offsets), but stale also for a partition that went away and came back since the epoch
    /// beside it, the one in which the caller got it.
    ///
    /// # Errors
    /// As [`commit_offsets`](Self::commit_offsets).
    pub async fn commit_offsets_each(
        &mut self,
        committer: &Committer,
        offsets: Vec<(TopicPartition, u64, OffsetToCommit)>,
    ) -> Result<(), Error> {
        self.write(Vec::new(), committer, offsets).await.map(|_| ())
    }

    /// Commits. `Ok`: all of it can be read, now or in a moment.
    ///
    /// # Errors
    /// Without [`Error::may_have_happened`]: it is aborted, and why. With it ([`ErrorKind::OutcomeUnknown`]): the call timeout
    /// passed before a coordinator or the log told; nothing is written until [`settle`](TransactionalProducer::settle) has.
    pub async fn commit(self) -> Result<(), Error> {
        let producer = self.producer;
        producer.machine.end(true);
        let wanted = |machine: &Machine| machine.last() == Last::Committed || !machine.is_ending();
        let driven = producer.drive(producer.deadline(), wanted).await;
        match producer.machine.hear() {
            Last::Committed => Ok(()),
            Last::Nothing | Last::Aborted => Err(producer.aborted()),
            Last::Pending | Last::Unknown => Err(producer.unknown(driven.err())),
        }
    }

    /// Aborts.
    ///
    /// # Errors
    /// [`Error::is_fenced`]: the producer is over, and the transaction is aborted by whoever fenced it. Else the coordinator
    /// did not answer within the call timeout; the next [`begin`](TransactionalProducer::begin) goes on with it.
    pub async fn abort(self) -> Result<(), Error> {
        let producer = self.producer;
        producer.machine.end(false);
        producer.drive(producer.deadline(), |machine| !machine.is_ending()).await?;
        match producer.machine.over() {
            Some(_) => Err(producer.gone()),
            None => Ok(()),
        }
    }
}
