//! What is written as part of a transaction: what has to be added first, then records and offsets at the same time.
//!
//! Nothing waits for an answer that the next request does not depend on. Requests to the same broker follow one another on
//! one connection, on which a broker takes them one at a time: the coordinator, which does one thing at a time for a
//! transaction, is not asked for two by us.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use anabranch_core::transaction::{Asked, Over, Producer, Verdict};
use futures::future::try_join;

use super::{
    TransactionalProducer,
    offsets::{Staging, stage},
    wire::{before, judge},
};
use crate::{
    backoff::Backoff,
    error::Error,
    producer::TOPIC_GRACE,
    types::{Delivered, OutRecord, TopicPartition},
};

/// First wait after CONCURRENT_TRANSACTIONS: the markers of the last transaction are written in a millisecond or two.
const FIRST_WAIT: Duration = Duration::from_millis(1);

/// Tries until a deadline.
pub(super) struct Tries {
    backoff: Backoff,
    started: Instant,
    deadline: Instant,
}

impl Tries {
    /// When nothing is tried any more.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

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

    /// Adds something to a transaction. `true`: a try that got no answer may arrive once more.
    async fn add<F>(mut self, mut once: impl FnMut() -> F) -> Result<bool, Error>
    where
        F: Future<Output = Result<(), Error>>,
    {
        let mut straggling = false;
        loop {
            let Err(error) = once().await else { return Ok(straggling) };
            straggling |= error.may_have_happened();
            match judge(Asked::Add, &error) {
                verdict @ (Verdict::Again | Verdict::FindCoordinator | Verdict::Missing) => {
                    self.wait(verdict, error).await?;
                }
                _ => return Err(error),
            }
        }
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

    /// Writes records, and offsets with them. The first failure ends both.
    pub(super) async fn write(
        &mut self,
        records: Vec<OutRecord>,
        staging: Option<Staging<'_>>,
    ) -> Result<Vec<Delivered>, Error> {
        let deadline = self.deadline();
        if let Some(staging) = &staging {
            staging.check()?;
        }
        let staging = staging.filter(|staging| !staging.offsets.is_empty());
        let parcels = self.pack(deadline, records).await?;
        let producer = self.writable()?;
        if parcels.is_empty() && staging.is_none() {
            return Ok(Vec::new());
        }
        self.machine.launch();
        self.add(deadline, producer, parcels.partitions(), staging.as_ref().map(Staging::group)).await?;
        let (wire, version, tries) = (self.wire.clone(), self.machine.version(), self.tries(deadline));
        let staged = Box::pin(async {
            match &staging {
                Some(staging) => stage(&wire, tries, version, producer, staging).await,
                None => Ok(false),
            }
            .map_err(|error| (Asked::Offsets, error))
        });
        let sent =
            Box::pin(async { self.send(deadline, producer, parcels).await.map_err(|error| (Asked::Produce, error)) });
        let joined = try_join(sent, staged).await;
        let (delivered, straggling) = self.heard(joined)?;
        self.may_straggle(straggling);
        self.machine.landed();
        Ok(delivered)
    }

    /// Adds those partitions, and the group, that have to be.
    async fn add(
        &mut self,
        deadline: Instant,
        producer: Producer,
        partitions: Vec<TopicPartition>,
        group: Option<Arc<str>>,
    ) -> Result<(), Error> {
        let missing: BTreeSet<TopicPartition> = self.machine.to_add(partitions);
        let group = group.filter(|group| self.machine.must_add_group(group));
        let (wire, tries) = (&self.wire, || self.tries(deadline));
        let partitions_added = Box::pin(async {
            let once = || before(deadline, "AddPartitionsToTxn", wire.add_partitions(producer, &missing));
            if missing.is_empty() { Ok(false) } else { tries().add(once).await }
        });
        let group_added = Box::pin(async {
            match &group {
                Some(group) => {
                    tries().add(|| before(deadline, "AddOffsetsToTxn", wire.add_group(producer, group))).await
                }
                None => Ok(false),
            }
        });
        let joined = try_join(partitions_added, group_added).await;
        let straggling = self.heard(joined.map_err(|error| (Asked::Add, error)))?;
        self.may_straggle(straggling.0 || straggling.1);
        self.machine.added(missing);
        if let Some(group) = group {
            self.machine.added_group(group);
        }
        Ok(())
    }

    /// Tells the machine of an error with which a write has ended.
    fn heard<T>(&mut self, result: Result<T, (Asked, Error)>) -> Result<T, Error> {
        result.map_err(|(asked, error)| {
            self.weigh(asked, &error);
            error
        })
    }

    fn may_straggle(&mut self, straggling: bool) {
        if straggling {
            self.machine.straggle();
        }
    }
}
