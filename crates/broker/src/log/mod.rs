//! Partitions: append-only logs of record batches, kept as they came. Appends are written before they are
//! acknowledged (no fsync: what is acknowledged survives a kill of the process, not of the machine).

pub(crate) mod batch;
pub(crate) mod codec;
pub(crate) mod compaction;
mod core;
pub(crate) mod partition;
pub(crate) mod producers;
mod read;
pub(crate) mod records;
mod recovery;
mod retention;
mod segment;
pub(crate) mod settings;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod validate;

pub(crate) use partition::{Appended, Fetched, Partition, Waiter};
pub(crate) use read::Found;
pub(crate) use settings::Settings;
pub(crate) use validate::Refusal;

/// The only leader epoch there is: the node never loses a partition.
pub(crate) const LEADER_EPOCH: i32 = 0;

/// Milliseconds since 1970, by the machine's clock.
pub(crate) fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    since.as_millis().try_into().unwrap_or(i64::MAX)
}
