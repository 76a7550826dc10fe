//! What a client's batch must be before it may enter a log. Checked outside the partition's lock.

use kafka_protocol::ResponseError;

use super::{
    batch::{self, HEADER, Header},
    codec::{self, CodecError},
    records::Records,
};

/// A batch that may not enter, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refusal {
    pub(crate) error: ResponseError,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(error: ResponseError, message: impl Into<String>) -> Self {
        Self { error, message: message.into() }
    }
}

/// What a topic asks of its batches.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) max_bytes: usize,
    pub(crate) keys_required: bool,
    pub(crate) log_append_time: bool,
    pub(crate) before_max_ms: i64,
    pub(crate) after_max_ms: i64,
}

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new(ResponseError::InvalidRecord, message)
}

fn corrupt(message: impl Into<String>) -> Refusal {
    Refusal::new(ResponseError::CorruptMessage, message)
}

/// Checks one partition's part of a Produce request of the given version: exactly one sound batch.
pub(crate) fn check(bytes: &[u8], rules: &Rules, version: i16, now: i64) -> Result<Header, Refusal> {
    if bytes.len() > 16 && bytes[16] < 2 {
        let message = "message formats 0 and 1 are not supported";
        return Err(Refusal::new(ResponseError::UnsupportedForMessageFormat, message));
    }
    let header = Header::parse(bytes).ok_or_else(|| corrupt("not a record batch"))?;
    if header.size > bytes.len() {
        return Err(corrupt("the batch is cut short"));
    }
    if header.size < bytes.len() {
        return Err(invalid("a partition may have one record batch in a produce request"));
    }
    if header.size > rules.max_bytes {
        let message =
            format!("the batch has {} bytes, the topic's max.message.bytes is {}", header.size, rules.max_bytes);
        return Err(Refusal::new(ResponseError::MessageTooLarge, message));
    }
    if !batch::checksum_holds(bytes) {
        return Err(corrupt("the checksum of the batch is wrong"));
    }
    check_header(&header, version)?;
    check_records(&header, &bytes[HEADER..], rules, now)?;
    Ok(header)
}

fn check_header(header: &Header, version: i16) -> Result<(), Refusal> {
    if header.is_control() {
        return Err(invalid("clients may not write control batches"));
    }
    if header.delete_horizon().is_some() {
        return Err(invalid("clients may not set a delete horizon"));
    }
    if header.count == 0 || header.count - 1 != header.last_offset_delta {
        return Err(invalid("the record count does not match the offsets"));
    }
    let idempotent = header.producer_id >= 0;
    if idempotent && (header.producer_epoch < 0 || header.base_sequence < 0) {
        return Err(invalid("a producer id needs an epoch and a sequence number"));
    }
    if header.is_transactional() && !idempotent {
        return Err(invalid("a transactional batch needs a producer id"));
    }
    if header.codec() == 4 && version < 7 {
        let message = "zstd needs Produce version 7";
        return Err(Refusal::new(ResponseError::UnsupportedCompressionType, message));
    }
    Ok(())
}

fn check_records(header: &Header, body: &[u8], rules: &Rules, now: i64) -> Result<(), Refusal> {
    let unfolded = codec::unfold(header.codec(), body).map_err(|error| match error {
        CodecError::TooLarge => Refusal::new(ResponseError::MessageTooLarge, error.to_string()),
        CodecError::Unknown(_) => invalid(error.to_string()),
        CodecError::Damaged(_) => corrupt(error.to_string()),
    })?;
    let mut seen = 0;
    for record in Records::new(&unfolded) {
        let record = record.map_err(|error| corrupt(error.to_string()))?;
        if record.offset_delta != seen {
            return Err(invalid("the records' offsets do not count up from 0"));
        }
        seen += 1;
        if rules.keys_required && record.key.is_none() {
            return Err(invalid("a compacted topic takes no record without a key"));
        }
        check_time(header.base_timestamp.saturating_add(record.timestamp_delta), rules, now)?;
    }
    if seen == header.count { Ok(()) } else { Err(corrupt("the record count does not match the records")) }
}

fn check_time(timestamp: i64, rules: &Rules, now: i64) -> Result<(), Refusal> {
    let outside =
        timestamp.saturating_sub(now) > rules.after_max_ms || now.saturating_sub(timestamp) > rules.before_max_ms;
    if rules.log_append_time || timestamp == -1 || !outside {
        return Ok(());
    }
    let message = format!("timestamp {timestamp} is out of range, the broker's time is {now}");
    Err(Refusal::new(ResponseError::InvalidTimestamp, message))
}
