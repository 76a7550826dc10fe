//! From a partition's bytes to the records its reader may see, and to where reading goes on.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use bytes::{Buf, Bytes};

use super::{
    BatchHeader, Budget, decode_records,
    header::{NextBatch, next_batch},
};
use crate::{
    config::Isolation,
    error::{Error, ErrorKind},
    types::Record,
};

/// A transaction that was aborted, as a fetch answer names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Aborted {
    pub(crate) producer_id: i64,
    pub(crate) first_offset: i64,
}

/// What was asked of one partition.
#[derive(Debug, Clone)]
pub(crate) struct Partition {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    pub(crate) fetch_offset: i64,
    pub(crate) isolation: Isolation,
    pub(crate) max_batch_bytes: usize,
}

/// Reads as many whole batches as there are. Returns the records and the next offset.
///
/// An unreadable batch is an error only when nothing good comes before it: the good part is returned first, and
/// the next fetch starts at the bad batch. `spent` counts the memory of all partitions of an answer; when it has reached
/// what one batch may take, what is left is for the next fetch.
pub(crate) fn read_partition(
    asked: &Partition,
    mut bytes: Bytes,
    aborted: Vec<Aborted>,
    spent: &mut usize,
) -> Result<(Vec<Record>, i64), Error> {
    let mut transactions = Transactions::new(aborted);
    let mut records = Vec::new();
    let mut next_offset = asked.fetch_offset;
    let cut_off = !bytes.is_empty();
    let mut whole = 0;
    loop {
        if *spent >= asked.max_batch_bytes {
            return Ok((records, next_offset));
        }
        let (offset, reason) = match next_batch(&mut bytes) {
            // A broker sends at least one whole batch, or none. To ask for this again for ever would be silence.
            NextBatch::End if cut_off && whole == 0 => (asked.fetch_offset, "it is cut off".to_owned()),
            NextBatch::End => return Ok((records, next_offset)),
            NextBatch::Corrupt { offset, reason } => (offset, reason),
            NextBatch::Whole(header, packed) => match read_batch(asked, &header, packed, &mut transactions, spent) {
                Ok(batch) => {
                    whole += 1;
                    records.extend(batch);
                    next_offset = next_offset.max(header.last_offset().saturating_add(1));
                    continue;
                }
                Err(reason) => (header.base_offset, reason),
            },
        };
        if next_offset > asked.fetch_offset {
            return Ok((records, next_offset));
        }
        let kind = ErrorKind::CorruptBatch { offset, reason };
        return Err(Error::new("Fetch", kind).on_partition(&*asked.topic, asked.partition));
    }
}

fn read_batch(
    asked: &Partition,
    header: &BatchHeader,
    packed: Bytes,
    transactions: &mut Transactions,
    spent: &mut usize,
) -> Result<Vec<Record>, String> {
    let mut budget = Budget::new(asked.max_batch_bytes);
    transactions.advance_to(header.last_offset());
    if header.is_control() {
        for marker in decode_records(header, packed, &mut budget)? {
            transactions.marker(header.producer_id, marker.key.as_ref());
        }
        return Ok(Vec::new());
    }
    let hidden = asked.isolation == Isolation::ReadCommitted && transactions.is_aborted(header);
    if hidden || header.last_offset() < asked.fetch_offset {
        return Ok(Vec::new());
    }
    let decoded = decode_records(header, packed, &mut budget)?;
    *spent = spent.saturating_add(budget.spent());
    // A fetch from the middle of a batch brings the whole batch.
    let wanted = decoded.into_iter().filter(|r| r.offset >= asked.fetch_offset);
    let record = |r: super::DecodedRecord| Record {
        topic: asked.topic.clone(),
        partition: asked.partition,
        offset: r.offset,
        timestamp_ms: r.timestamp_ms,
        key: r.key,
        value: r.value,
        headers: r.headers,
    };
    Ok(wanted.map(record).collect())
}

/// Which producers are inside an aborted transaction at the place reached.
struct Transactions {
    /// By first offset. The broker may send them in any order.
    ahead: VecDeque<Aborted>,
    open: HashSet<i64>,
}

impl Transactions {
    fn new(mut aborted: Vec<Aborted>) -> Self {
        aborted.sort_by_key(|a| a.first_offset);
        Self { ahead: aborted.into(), open: HashSet::new() }
    }

    fn advance_to(&mut self, offset: i64) {
        while let Some(aborted) = self.ahead.pop_front_if(|a| a.first_offset <= offset) {
            self.open.insert(aborted.producer_id);
        }
    }

    /// A control record's key: version, then 0 for abort or 1 for commit.
    fn marker(&mut self, producer_id: i64, key: Option<&Bytes>) {
        let kind = key.and_then(|key| key.get(2..4)).map(|mut kind| kind.get_i16());
        if kind == Some(0) {
            self.open.remove(&producer_id);
        }
    }

    fn is_aborted(&self, header: &BatchHeader) -> bool {
        header.is_transactional() && self.open.contains(&header.producer_id)
    }
}
