//! The record batch, format 2, as bytes. The broker keeps batches as they came, so it reads and patches headers and
//! leaves the records alone wherever it can.

use bytes::Bytes;

/// Bytes in front of the records: base offset to record count.
pub(crate) const HEADER: usize = 61;
/// Bytes in front of what `batch length` counts.
const PREFIX: usize = 12;
/// Where the checksummed part starts.
const CHECKSUMMED: usize = 21;

const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;
const LOG_APPEND_TIME: i16 = 1 << 3;
const DELETE_HORIZON: i16 = 1 << 6;

/// A parsed batch header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) base_offset: i64,
    /// The whole batch, in bytes.
    pub(crate) size: usize,
    pub(crate) leader_epoch: i32,
    pub(crate) attributes: i16,
    pub(crate) last_offset_delta: i32,
    pub(crate) base_timestamp: i64,
    pub(crate) max_timestamp: i64,
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) base_sequence: i32,
    pub(crate) count: i32,
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

impl Header {
    /// Reads a header. `None` if there are too few bytes or the numbers make no sense; the checksum is not looked at.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < HEADER || bytes[16] != 2 {
            return None;
        }
        let length = usize::try_from(i32::from_be_bytes(array(bytes, 8))).ok()?;
        let size = length.checked_add(PREFIX)?;
        let header = Self {
            base_offset: i64::from_be_bytes(array(bytes, 0)),
            size,
            leader_epoch: i32::from_be_bytes(array(bytes, 12)),
            attributes: i16::from_be_bytes(array(bytes, 21)),
            last_offset_delta: i32::from_be_bytes(array(bytes, 23)),
            base_timestamp: i64::from_be_bytes(array(bytes, 27)),
            max_timestamp: i64::from_be_bytes(array(bytes, 35)),
            producer_id: i64::from_be_bytes(array(bytes, 43)),
            producer_epoch: i16::from_be_bytes(array(bytes, 51)),
            base_sequence: i32::from_be_bytes(array(bytes, 53)),
            count: i32::from_be_bytes(array(bytes, 57)),
        };
        (size >= HEADER && header.last_offset_delta >= 0 && header.count >= 0 && header.base_offset >= 0)
            .then_some(header)
    }

    /// The offset of the last record, whether compaction left it there or not.
    pub(crate) fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    pub(crate) fn next_offset(&self) -> i64 {
        self.last_offset() + 1
    }

    /// The sequence number of the last record; wraps to 0 after `i32::MAX`.
    pub(crate) fn last_sequence(&self) -> i32 {
        let last = i64::from(self.base_sequence) + i64::from(self.last_offset_delta);
        i32::try_from(last % (i64::from(i32::MAX) + 1)).unwrap_or(0)
    }

    pub(crate) fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    pub(crate) fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// The number of the compression codec.
    pub(crate) fn codec(&self) -> i16 {
        self.attributes & 7
    }

    /// When tombstones and markers of this batch may go (milliseconds since 1970), if compaction has said so.
    pub(crate) fn delete_horizon(&self) -> Option<i64> {
        (self.attributes & DELETE_HORIZON != 0).then_some(self.base_timestamp)
    }
}

/// Whether the checksum is right. `batch` is exactly one batch.
pub(crate) fn checksum_holds(batch: &[u8]) -> bool {
    batch.len() >= HEADER && u32::from_be_bytes(array(batch, 17)) == crc32c::crc32c(&batch[CHECKSUMMED..])
}

/// Sets what the broker decides: neither field is under the checksum.
pub(crate) fn place(batch: &mut [u8], base_offset: i64, leader_epoch: i32) {
    batch[0..8].copy_from_slice(&base_offset.to_be_bytes());
    batch[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
}

/// Sets the time of the append as the time of every record.
pub(crate) fn stamp(batch: &mut [u8], now: i64) {
    let attributes = i16::from_be_bytes(array(batch, 21)) | LOG_APPEND_TIME;
    batch[21..23].copy_from_slice(&attributes.to_be_bytes());
    batch[35..43].copy_from_slice(&now.to_be_bytes());
    seal(batch);
}

fn seal(batch: &mut [u8]) {
    let sum = crc32c::crc32c(&batch[CHECKSUMMED..]);
    batch[17..21].copy_from_slice(&sum.to_be_bytes());
}

/// A batch from its header and its (already compressed) records. `size` of the header is ignored.
pub(crate) fn assemble(header: &Header, records: &[u8]) -> Vec<u8> {
    let length = i32::try_from(HEADER - PREFIX + records.len()).unwrap_or(i32::MAX);
    let mut out = Vec::with_capacity(HEADER + records.len());
    out.extend_from_slice(&header.base_offset.to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&header.leader_epoch.to_be_bytes());
    out.push(2);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&header.attributes.to_be_bytes());
    out.extend_from_slice(&header.last_offset_delta.to_be_bytes());
    out.extend_from_slice(&header.base_timestamp.to_be_bytes());
    out.extend_from_slice(&header.max_timestamp.to_be_bytes());
    out.extend_from_slice(&header.producer_id.to_be_bytes());
    out.extend_from_slice(&header.producer_epoch.to_be_bytes());
    out.extend_from_slice(&header.base_sequence.to_be_bytes());
    out.extend_from_slice(&header.count.to_be_bytes());
    out.extend_from_slice(records);
    seal(&mut out);
    out
}

/// The header with the delete horizon set (see [`Header::delete_horizon`]).
pub(crate) fn with_delete_horizon(header: &Header, horizon: i64) -> Header {
    Header { attributes: header.attributes | DELETE_HORIZON, base_timestamp: horizon, ..*header }
}

/// The batch that ends a transaction.
pub(crate) fn marker(marker: crate::ports::Marker, now: i64) -> Vec<u8> {
    let mut key = vec![0, 0];
    key.extend_from_slice(&i16::from(marker.commit).to_be_bytes());
    let mut value = vec![0, 0];
    value.extend_from_slice(&marker.coordinator_epoch.to_be_bytes());
    let mut records = Vec::new();
    super::records::write(&mut records, 0, 0, Some(&key), Some(&value));
    let header = Header {
        base_offset: 0,
        size: 0,
        leader_epoch: 0,
        attributes: TRANSACTIONAL | CONTROL,
        last_offset_delta: 0,
        base_timestamp: now,
        max_timestamp: now,
        producer_id: marker.producer.id,
        producer_epoch: marker.producer.epoch,
        base_sequence: -1,
        count: 1,
    };
    assemble(&header, &records)
}

/// Whether a control batch commits (`Some(true)`), aborts (`Some(false)`), or is something else.
pub(crate) fn marker_commits(batch: &[u8]) -> Option<bool> {
    let record = super::records::Records::new(batch.get(HEADER..)?).next()?.ok()?;
    match record.key? {
        [_, _, 0, 0, ..] => Some(false),
        [_, _, 0, 1, ..] => Some(true),
        _ => None,
    }
}

/// Splits bytes into whole batches; ends at the first thing that is not one.
pub(crate) struct Batches {
    rest: Bytes,
}

impl Batches {
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self { rest: bytes }
    }
}

impl Iterator for Batches {
    type Item = (Header, Bytes);

    fn next(&mut self) -> Option<Self::Item> {
        let header = Header::parse(&self.rest)?;
        (self.rest.len() >= header.size).then(|| (header, self.rest.split_to(header.size)))
    }
}
