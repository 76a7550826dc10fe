//! The fixed part of a batch.

use bytes::{Buf, Bytes};

/// Bytes before the records of a batch.
pub(crate) const HEADER_BYTES: usize = 61;
/// Bytes before the part that `batchLength` counts.
const LENGTH_END: usize = 12;
/// Where the checksummed part starts.
const CRC_END: usize = 21;

const COMPRESSION_MASK: i16 = 0x07;
const LOG_APPEND_TIME: i16 = 0x08;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;

/// What a batch says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    pub(crate) base_offset: i64,
    pub(crate) attributes: i16,
    pub(crate) last_offset_delta: i32,
    pub(crate) base_timestamp: i64,
    pub(crate) max_timestamp: i64,
    pub(crate) producer_id: i64,
    pub(crate) record_count: i32,
}

impl BatchHeader {
    pub(crate) fn compression(&self) -> i16 {
        self.attributes & COMPRESSION_MASK
    }

    pub(crate) fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }

    pub(crate) fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    pub(crate) fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// The last offset the batch covers, whether or not compaction left a record there.
    pub(crate) fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }
}

/// What comes next in a partition's bytes.
#[derive(Debug)]
pub(crate) enum NextBatch {
    /// A whole batch: its header and its records, still packed.
    Whole(BatchHeader, Bytes),
    /// Nothing, or a batch cut off by the fetch's limit.
    End,
    /// Something that cannot be a batch.
    Corrupt {
        /// The offset it claims.
        offset: i64,
        reason: String,
    },
}

/// Takes the next batch off the front of `bytes`, its checksum verified.
pub(crate) fn next_batch(bytes: &mut Bytes) -> NextBatch {
    if bytes.len() < CRC_END {
        return NextBatch::End;
    }
    let mut peek = bytes.slice(0..CRC_END);
    let (offset, length) = (peek.get_i64(), peek.get_i32());
    let _leader_epoch = peek.get_i32();
    let (magic, crc) = (peek.get_i8(), peek.get_u32());
    let corrupt = |reason: String| NextBatch::Corrupt { offset, reason };
    if magic != 2 {
        return corrupt(format!("record format {magic} is not spoken, only format 2 (Kafka 0.11 and later)"));
    }
    let total = match usize::try_from(length) {
        Ok(length) if length + LENGTH_END >= HEADER_BYTES => length + LENGTH_END,
        _ => return corrupt(format!("length {length} is impossible")),
    };
    if bytes.len() < total {
        return NextBatch::End;
    }
    let batch = bytes.split_to(total);
    let computed = crc32c::crc32c(&batch[CRC_END..]);
    if computed != crc {
        return corrupt(format!("checksum is {computed:#010x}, but {crc:#010x} is written"));
    }
    parse(offset, batch.slice(CRC_END..)).map_or_else(corrupt, |(header, records)| NextBatch::Whole(header, records))
}

fn parse(base_offset: i64, mut rest: Bytes) -> Result<(BatchHeader, Bytes), String> {
    let attributes = rest.get_i16();
    let last_offset_delta = rest.get_i32();
    let (base_timestamp, max_timestamp) = (rest.get_i64(), rest.get_i64());
    let producer_id = rest.get_i64();
    let _producer_epoch = rest.get_i16();
    let _base_sequence = rest.get_i32();
    let record_count = rest.get_i32();
    if base_offset < 0 || last_offset_delta < 0 || record_count < 0 {
        return Err(format!(
            "offset {base_offset}, last offset delta {last_offset_delta}, {record_count} records: one is negative"
        ));
    }
    let header = BatchHeader {
        base_offset,
        attributes,
        last_offset_delta,
        base_timestamp,
        max_timestamp,
        producer_id,
        record_count,
    };
    Ok((header, rest))
}
