//! Record batches, format 2, as they lie in the log.
//!
//! kafka-protocol's record decoder keeps headers in a map, so that repeated names collapse, trusts the number of
//! headers it is told, unpacks without a limit, and does not tell `last_offset_delta`, without which the end of a
//! compacted batch cannot be found. Hence this one. What it reads is untrusted.

mod compression;
mod decode;
mod encode;
mod filter;
mod header;

pub(crate) use decode::{Budget, DecodedRecord, decode_records};
pub(crate) use encode::{Producing, encode_batch, record_size};
pub(crate) use filter::{Aborted, Partition, read_partition};
pub(crate) use header::{BatchHeader, HEADER_BYTES};

#[cfg(test)]
mod tests;
