//! Writing one batch, uncompressed. For what rskafka cannot express.

use std::borrow::Borrow;

use bytes::{BufMut, Bytes, BytesMut};

use super::HEADER_BYTES;
use crate::types::OutRecord;

const CRC_AT: usize = 17;
const CRC_END: usize = 21;
const NO_LEADER_EPOCH: i32 = -1;
/// Length, attributes and the two deltas at their longest.
const RECORD_OVERHEAD_BYTES: usize = 5 + 1 + 10 + 5;

/// Who writes a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Producing {
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) base_sequence: i32,
    pub(crate) attributes: i16,
}

/// The attribute of a batch that is part of a transaction.
const TRANSACTIONAL: i16 = 0x10;

impl Producing {
    /// Neither idempotent nor transactional.
    pub(crate) const PLAIN: Self = Self { producer_id: -1, producer_epoch: -1, base_sequence: -1, attributes: 0 };

    /// In a transaction.
    pub(crate) fn transactional(producer_id: i64, producer_epoch: i16, base_sequence: i32) -> Self {
        Self { producer_id, producer_epoch, base_sequence, attributes: TRANSACTIONAL }
    }
}

/// At most so many bytes a record takes in a batch.
pub(crate) fn record_size(record: &OutRecord) -> usize {
    let field = |bytes: &Option<Bytes>| 5 + bytes.as_ref().map_or(0, Bytes::len);
    let headers: usize = record.headers.iter().map(|h| 5 + h.name.len() + field(&h.value)).sum();
    RECORD_OVERHEAD_BYTES + field(&record.key) + field(&record.value) + 5 + headers
}

/// Encodes records, in order, as one batch. Timestamps that are missing become `now_ms`.
pub(crate) fn encode_batch<R: Borrow<OutRecord>>(records: &[R], producing: Producing, now_ms: i64) -> Bytes {
    let records = || records.iter().map(Borrow::borrow);
    let timestamp = |r: &OutRecord| r.timestamp_ms.unwrap_or(now_ms);
    let base_timestamp = records().next().map_or(now_ms, timestamp);
    let max_timestamp = records().map(timestamp).max().unwrap_or(now_ms);
    let count = i32::try_from(records().len()).unwrap_or(i32::MAX);

    let mut batch = BytesMut::with_capacity(HEADER_BYTES + records().map(record_size).sum::<usize>());
    batch.put_i64(0);
    batch.put_i32(0);
    batch.put_i32(NO_LEADER_EPOCH);
    batch.put_i8(2);
    batch.put_u32(0);
    batch.put_i16(producing.attributes);
    batch.put_i32(count - 1);
    batch.put_i64(base_timestamp);
    batch.put_i64(max_timestamp);
    batch.put_i64(producing.producer_id);
    batch.put_i16(producing.producer_epoch);
    batch.put_i32(producing.base_sequence);
    batch.put_i32(count);
    let mut scratch = BytesMut::new();
    for (record, index) in records().zip(0_i64..) {
        scratch.clear();
        put_record(&mut scratch, record, timestamp(record) - base_timestamp, index);
        put_length(&mut batch, scratch.len());
        batch.put_slice(&scratch);
    }
    let length = i32::try_from(batch.len() - 12).unwrap_or(i32::MAX);
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&batch[CRC_END..]);
    batch[CRC_AT..CRC_END].copy_from_slice(&crc.to_be_bytes());
    batch.freeze()
}

fn put_record(buf: &mut BytesMut, record: &OutRecord, timestamp_delta: i64, offset_delta: i64) {
    buf.put_i8(0);
    put_varlong(buf, timestamp_delta);
    put_varlong(buf, offset_delta);
    put_nullable(buf, record.key.as_ref());
    put_nullable(buf, record.value.as_ref());
    put_length(buf, record.headers.len());
    for header in &record.headers {
        put_length(buf, header.name.len());
        buf.put_slice(header.name.as_bytes());
        put_nullable(buf, header.value.as_ref());
    }
}

fn put_nullable(buf: &mut BytesMut, bytes: Option<&Bytes>) {
    match bytes {
        Some(bytes) => {
            put_length(buf, bytes.len());
            buf.put_slice(bytes);
        }
        None => put_varlong(buf, -1),
    }
}

fn put_length(buf: &mut BytesMut, length: usize) {
    put_varlong(buf, i64::try_from(length).unwrap_or(i64::MAX));
}

fn put_varlong(buf: &mut BytesMut, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        buf.put_u8((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    buf.put_u8(rest as u8);
}
