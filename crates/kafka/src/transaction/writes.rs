//! What the writes of a transaction have in common: tries with waits, and what becomes of the transaction when they fail.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use anabranch_core::transaction::{Asked, Over, Producer, Verdict};

use super::{
    TransactionalProducer,
    wire::{before, judge},
};
use crate::{backoff::Backoff, error::Error, producer::TOPIC_GRACE, types::TopicPartition};

/// First wait after CONCURRENT_TRANSACTIONS: the markers of the last transaction are written in a few milliseconds.
const FIRST_WAIT: Duration = Duration::from_millis(2);

/// What is added to a transaction before it is written to.
#[derive(Clone, Copy)]
enum Addition<'a> {
    Partitions(&'a BTreeSet<TopicPartition>),
    Group(&'a str),
}

/// Tries until a deadline.
pub(super) struct Tries {
    backoff: Backoff,
    started: Instant,
    deadline: Instant,
}

impl Tries {
    /// How long to wait before the next try.
    ///
    /// # Errors
    /// The error given, if there is no time for one.
    pub(super) fn next_wait(&mut self, verdict: Verdict, error: Error) -> Result<Duration, Error> {
        let until = match verdict {
            Verdict::Missing => self.deadline.min(self.started + TOPIC_GRACE),
            _ => self.deadline,
        };
        let wait = self.backoff.next_wait();
        if Instant::now() + wait >= until {
            return Err(error);
        }
        tracing::debug!(%error, wait_ms = wait.as_millis(), "a transaction's request failed; trying again");
        Ok(wait)
    }

    /// Waits before the next try.
    ///
    /// # Errors
    /// The error given, if there is no time for one.
    pub(super) async fn wait(&mut self, verdict: Verdict, error: Error) -> Result<(), Error> {
        let wait = self.next_wait(verdict, error)?;
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

impl TransactionalProducer {
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.wire.cluster.config().call_timeout
    }

    pub(super) fn tries(&self, deadline: Instant) -> Tries {
        let longest = self.wire.cluster.config().max_backoff;
        Tries { backoff: Backoff::between(FIRST_WAIT.min(longest), longest), started: Instant::now(), deadline }
    }

    /// Judges a failed write, and tells the machine.
    pub(super) fn weigh(&mut self, asked: Asked, error: &Error) -> Verdict {
        if error.may_have_happened() {
            self.machine.straggle();
        }
        let verdict = judge(asked, error);
        match verdict {
            Verdict::Fenced => self.machine.finish(Over::Fenced),
            Verdict::Fatal => self.machine.finish(Over::Fatal),
            _ => {}
        }
        verdict
    }

    async fn add(&mut self, deadline: Instant, producer: Producer, what: Addition<'_>) -> Result<(), Error> {
        let mut tries = self.tries(deadline);
        let wire = self.wire.clone();
        loop {
            let result = match what {
                Addition::Partitions(partitions) => {
                    before(deadline, "AddPartitionsToTxn", wire.add_partitions(producer, partitions)).await
                }
                Addition::Group(group) => before(deadline, "AddOffsetsToTxn", wire.add_group(producer, group)).await,
            };
            let Err(error) = result else { return Ok(()) };
            match self.weigh(Asked::Add, &error) {
                verdict @ (Verdict::Again | Verdict::FindCoordinator | Verdict::Missing) => {
                    tries.wait(verdict, error).await?;
                }
                _ => return Err(error),
            }
        }
    }

    /// Adds those partitions that have to be.
    pub(super) async fn add_partitions(
        &mut self,
        deadline: Instant,
        producer: Producer,
        partitions: Vec<TopicPartition>,
    ) -> Result<(), Error> {
        let missing: BTreeSet<TopicPartition> = self.machine.to_add(partitions);
        if !missing.is_empty() {
            self.add(deadline, producer, Addition::Partitions(&missing)).await?;
            self.machine.added(missing);
        }
        Ok(())
    }

    /// Adds a group, if it has to be.
    pub(super) async fn add_group(
        &mut self,
        deadline: Instant,
        producer: Producer,
        group: Arc<str>,
    ) -> Result<(), Error> {
        if self.machine.must_add_group(&group) {
            self.add(deadline, producer, Addition::Group(&group)).await?;
            self.machine.added_group(group);
        }
        Ok(())
    }
}
