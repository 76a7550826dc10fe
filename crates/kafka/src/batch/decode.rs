//! The records of one batch.

use anabranch_protocol::header;
use bytes::{Buf, Bytes};

use super::{BatchHeader, compression::unpack};
use crate::types::Header;

/// A record's own part; topic and partition are its surroundings'.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DecodedRecord {
    pub(crate) offset: i64,
    pub(crate) timestamp_ms: i64,
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Option<Bytes>,
    pub(crate) headers: Vec<Header>,
}

/// What a record or a header takes in memory beside its bytes. A header of two bytes in the log is a struct here.
const ITEM_COST_BYTES: usize = 64;

/// Memory that decoding may still use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    left: usize,
    spent: usize,
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        Self { left: bytes, spent: 0 }
    }

    pub(crate) fn spent(&self) -> usize {
        self.spent
    }

    fn take(&mut self, bytes: usize) -> Result<(), String> {
        let total = self.left.saturating_add(self.spent);
        self.left = self.left.checked_sub(bytes).ok_or_else(|| format!("its records need more than {total} bytes"))?;
        self.spent += bytes;
        Ok(())
    }
}

/// Unpacks and reads the records of a batch, all within `budget`. Each record gets memory of its own: a slice would
/// keep a whole fetch alive for one small record.
pub(crate) fn decode_records(
    header: &BatchHeader,
    packed: Bytes,
    budget: &mut Budget,
) -> Result<Vec<DecodedRecord>, String> {
    let mut bytes = unpack(header.compression(), packed, budget.left)?;
    let mut records = Vec::new();
    for _ in 0..header.record_count {
        let length = length(varint(&mut bytes)?, bytes.len(), "record")?;
        budget.take(length + ITEM_COST_BYTES)?;
        let record = Bytes::copy_from_slice(&bytes[..length]);
        bytes.advance(length);
        records.push(decode_record(header, record, budget)?);
    }
    Ok(records)
}

fn decode_record(header: &BatchHeader, mut rest: Bytes, budget: &mut Budget) -> Result<DecodedRecord, String> {
    if rest.is_empty() {
        return Err("an empty record".into());
    }
    let _attributes = rest.get_i8();
    let timestamp_delta = varlong(&mut rest)?;
    let offset_delta = i64::from(varint(&mut rest)?);
    let timestamp_ms = match header.is_log_append_time() {
        true => header.max_timestamp,
        false => header.base_timestamp.saturating_add(timestamp_delta),
    };
    let key = nullable(&mut rest, "key")?;
    let value = nullable(&mut rest, "value")?;
    let headers = decode_headers(&mut rest, budget)?;
    Ok(DecodedRecord { offset: header.base_offset.saturating_add(offset_delta), timestamp_ms, key, value, headers })
}

fn decode_headers(rest: &mut Bytes, budget: &mut Budget) -> Result<Vec<Header>, String> {
    let count = varint(rest)?;
    // Two bytes are the least a header takes; a count that lies is found before anything is allocated for it.
    let fits = usize::try_from(count).is_ok_and(|count| count <= rest.len() / 2);
    if !fits {
        return Err(format!("{count} headers do not fit into {} bytes", rest.len()));
    }
    budget.take(usize::try_from(count).unwrap_or(usize::MAX).saturating_mul(ITEM_COST_BYTES))?;
    let mut headers = Vec::new();
    for _ in 0..count {
        let name = nullable(rest, "header name")?.ok_or("a header without a name")?;
        let value = nullable(rest, "header value")?;
        headers.push(Header { name: header::name(&name), value });
    }
    Ok(headers)
}

fn nullable(rest: &mut Bytes, what: &str) -> Result<Option<Bytes>, String> {
    match varint(rest)? {
        -1 => Ok(None),
        size => Ok(Some(rest.split_to(length(size, rest.len(), what)?))),
    }
}

fn length(claimed: i32, available: usize, what: &str) -> Result<usize, String> {
    usize::try_from(claimed)
        .ok()
        .filter(|claimed| *claimed <= available)
        .ok_or_else(|| format!("a {what} of {claimed} bytes where {available} are left"))
}

fn varint(rest: &mut Bytes) -> Result<i32, String> {
    i32::try_from(varlong(rest)?).map_err(|_| "a number out of range".into())
}

/// Zigzag, seven bits a byte, lowest first.
fn varlong(rest: &mut Bytes) -> Result<i64, String> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        if rest.is_empty() {
            return Err("cut off inside a number".into());
        }
        let byte = rest.get_u8();
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()));
        }
    }
    Err("a number longer than ten bytes".into())
}
