//! The ledger topic: what this process writes there, and what it learns from it about the others' spending.

use std::sync::Arc;
use std::time::Duration;

use anabranch_kafka::{Cluster, Error, Fetched};
use anabranch_llm::stack::{Entry, Ledger, LedgerError};
use anabranch_protocol::Timestamp;
use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::wire::{self, Address, CALL};
use crate::emit::Emitter;

/// How long an entry may wait for its acknowledgement before the call's answer is held back no longer. The entry is
/// offered again then, and no call is made meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);

/// Largest entry that is read, in bytes: records may come from anybody.
const MAX_ENTRY_BYTES: usize = 64 * 1024;

/// The ledger of this process: an entry is kept when all in-sync replicas have it.
#[derive(Debug)]
pub(super) struct KafkaLedger {
    pub(super) emitter: Emitter,
    pub(super) address: Address,
}

impl KafkaLedger {
    async fn keep(&self, entry: &Entry) -> Result<(), LedgerError> {
        let refused = |error: &dyn std::fmt::Display| LedgerError(error.to_string());
        // By case where there is one, so that a case's calls lie together.
        let key = entry.correlation_id.as_deref().unwrap_or(&entry.agent);
        let record = self.address.record(CALL, &entry.id, key, entry).map_err(|e| refused(&e))?;
        match tokio::time::timeout(PATIENCE, self.emitter.emit(vec![record])).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(refused(&error)),
            Err(_) => Err(LedgerError(format!("no acknowledgement within {} s", PATIENCE.as_secs()))),
        }
    }
}

impl Ledger for KafkaLedger {
    fn entry(&self, entry: Entry) -> BoxFuture<'_, Result<(), LedgerError>> {
        async move { self.keep(&entry).await }.boxed()
    }
}

/// What is told of every entry that another process wrote, or this one before its last start.
pub(super) type Take = Arc<dyn Fn(&Entry) + Send + Sync>;

/// Reads the ledger from `since` to its end, then keeps following it.
///
/// # Errors
/// If the topic cannot be read to its end.
pub(super) async fn follow(cluster: &Cluster, topic: &str, since: Timestamp, take: Take) -> Result<(), Error> {
    let wire::Tail { mut fetcher, mut left } = wire::tail(cluster, topic, since).await?;
    while !left.is_empty() {
        let fetched = fetcher.next().await?;
        take_in(&take, &fetched);
        let tp = fetched.topic_partition();
        if left.get(&tp).is_some_and(|end| fetched.next_offset >= *end) {
            left.remove(&tp);
        }
    }
    tokio::spawn(async move {
        loop {
            match fetcher.next().await {
                Ok(fetched) => take_in(&take, &fetched),
                Err(error) => {
                    tracing::warn!(%error, "cannot read the ledger, trying again: budgets lag behind");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    });
    Ok(())
}

fn take_in(take: &Take, fetched: &Fetched) {
    for record in &fetched.records {
        let value = record.value.as_deref().filter(|value| value.len() <= MAX_ENTRY_BYTES).unwrap_or_default();
        match serde_json::from_slice(value) {
            Ok(entry) => take(&entry),
            Err(error) => tracing::warn!(%error, offset = record.offset, "a record of the ledger that is no entry"),
        }
    }
}
