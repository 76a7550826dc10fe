//! What a partition remembers of its producers: sequence numbers, epochs and open transactions.

use std::collections::{BTreeMap, HashMap, VecDeque};

use kafka_protocol::ResponseError;

use super::{batch::Header, validate::Refusal};
use crate::ports::Producer;

/// How many of a producer's last batches are known again when they are sent twice, as in Apache Kafka.
const REMEMBERED: usize = 5;

#[derive(Debug, Clone, Copy)]
struct Batch {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: i64,
    last_offset: i64,
    timestamp: i64,
}

#[derive(Debug, Clone)]
struct Entry {
    epoch: i16,
    batches: VecDeque<Batch>,
    open_since: Option<i64>,
    coordinator_epoch: i32,
    last_seen: i64,
}

/// A batch that was already appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Duplicate {
    pub(crate) base_offset: i64,
    pub(crate) timestamp: i64,
}

/// A transaction that was aborted, by where its records are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Aborted {
    pub(crate) producer_id: i64,
    pub(crate) first_offset: i64,
    /// Where its marker is.
    pub(crate) marker_offset: i64,
}

/// A producer as DescribeProducers shows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Description {
    pub(crate) producer: Producer,
    pub(crate) last_sequence: i32,
    pub(crate) last_timestamp: i64,
    pub(crate) coordinator_epoch: i32,
    pub(crate) open_since: Option<i64>,
}

/// The producers of one partition. Rebuilt from the log at start.
#[derive(Debug, Default)]
pub(crate) struct Producers {
    entries: HashMap<i64, Entry>,
    /// First offset of each open transaction.
    open: BTreeMap<i64, i64>,
    /// By marker offset.
    aborted: Vec<Aborted>,
}

impl Producers {
    /// Whether a client's batch may follow what is here; `Some` if it already is here.
    pub(crate) fn check(&self, header: &Header) -> Result<Option<Duplicate>, Refusal> {
        let Some(entry) = self.entries.get(&header.producer_id).filter(|_| header.producer_id >= 0) else {
            return Ok(None);
        };
        if header.producer_epoch < entry.epoch {
            let message = format!("producer epoch {} is older than {}", header.producer_epoch, entry.epoch);
            return Err(Refusal::new(ResponseError::InvalidProducerEpoch, message));
        }
        let same_epoch = header.producer_epoch == entry.epoch;
        let last_sequence = header.last_sequence();
        let twin = entry.batches.iter().find(|batch| {
            same_epoch && batch.first_sequence == header.base_sequence && batch.last_sequence == last_sequence
        });
        if let Some(twin) = twin {
            return Ok(Some(Duplicate { base_offset: twin.base_offset, timestamp: twin.timestamp }));
        }
        if !header.is_transactional() && entry.open_since.is_some() {
            let message = "a plain batch inside the producer's open transaction";
            return Err(Refusal::new(ResponseError::InvalidTxnState, message));
        }
        let expected = match entry.batches.back().filter(|_| same_epoch) {
            Some(last) => last.last_sequence.checked_add(1).unwrap_or(0),
            None => 0,
        };
        if header.base_sequence != expected {
            let message = format!("sequence {} came where {expected} was due", header.base_sequence);
            return Err(Refusal::new(ResponseError::OutOfOrderSequenceNumber, message));
        }
        Ok(None)
    }

    /// Takes note of a data batch that is in the log. `time` is when, for expiry.
    pub(crate) fn appended(&mut self, header: &Header, time: i64) {
        if header.producer_id < 0 {
            return;
        }
        let entry = self.entry(header.producer_id, header.producer_epoch);
        entry.last_seen = entry.last_seen.max(time);
        if entry.batches.len() == REMEMBERED {
            entry.batches.pop_front();
        }
        entry.batches.push_back(Batch {
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            timestamp: header.max_timestamp,
        });
        if header.is_transactional() && entry.open_since.is_none() {
            entry.open_since = Some(header.base_offset);
            self.open.insert(header.base_offset, header.producer_id);
        }
    }

    fn entry(&mut self, producer_id: i64, epoch: i16) -> &mut Entry {
        let entry = self.entries.entry(producer_id).or_insert_with(|| Entry {
            epoch,
            batches: VecDeque::new(),
            open_since: None,
            coordinator_epoch: -1,
            last_seen: 0,
        });
        if entry.epoch != epoch {
            entry.epoch = epoch;
            entry.batches.clear();
        }
        entry
    }

    /// Whether a marker of this producer comes too late: a newer epoch has written here since.
    pub(crate) fn outdates(&self, producer: Producer) -> bool {
        self.entries.get(&producer.id).is_some_and(|entry| entry.epoch > producer.epoch)
    }

    /// Takes note of a marker that is in the log.
    pub(crate) fn ended(&mut self, producer: Producer, commit: bool, coordinator_epoch: i32, offset: i64, time: i64) {
        let entry = self.entry(producer.id, producer.epoch);
        entry.coordinator_epoch = coordinator_epoch;
        entry.last_seen = entry.last_seen.max(time);
        let Some(first_offset) = entry.open_since.take() else { return };
        self.open.remove(&first_offset);
        if !commit {
            self.aborted.push(Aborted { producer_id: producer.id, first_offset, marker_offset: offset });
        }
    }

    /// First offset of the oldest open transaction.
    pub(crate) fn first_open(&self) -> Option<i64> {
        self.open.first_key_value().map(|(offset, _)| *offset)
    }

    /// The aborted transactions with records or a marker in `from..to`, by first offset.
    pub(crate) fn aborted_in(&self, from: i64, to: i64) -> Vec<Aborted> {
        let start = self.aborted.partition_point(|aborted| aborted.marker_offset < from);
        let mut found: Vec<_> =
            self.aborted[start..].iter().filter(|aborted| aborted.first_offset < to).copied().collect();
        found.sort_by_key(|aborted| aborted.first_offset);
        found
    }

    /// Forgets aborted transactions that ended before `log_start`.
    pub(crate) fn forget_before(&mut self, log_start: i64) {
        self.aborted.retain(|aborted| aborted.marker_offset >= log_start);
    }

    /// Forgets aborted transactions whose markers compaction has removed.
    pub(crate) fn forget_markers(&mut self, removed: &[i64]) {
        self.aborted.retain(|aborted| removed.binary_search(&aborted.marker_offset).is_err());
    }

    /// Forgets producers without an open transaction that were last seen before `time`.
    pub(crate) fn expire(&mut self, time: i64) {
        self.entries.retain(|_, entry| entry.open_since.is_some() || entry.last_seen >= time);
    }

    /// The last data offset of every producer: the batches that compaction may empty but not remove.
    pub(crate) fn last_offsets(&self) -> HashMap<i64, i64> {
        let last = |(id, entry): (&i64, &Entry)| Some((*id, entry.batches.back()?.last_offset));
        self.entries.iter().filter_map(last).collect()
    }

    pub(crate) fn describe(&self) -> Vec<Description> {
        let describe = |(id, entry): (&i64, &Entry)| Description {
            producer: Producer { id: *id, epoch: entry.epoch },
            last_sequence: entry.batches.back().map_or(-1, |batch| batch.last_sequence),
            last_timestamp: entry.last_seen,
            coordinator_epoch: entry.coordinator_epoch,
            open_since: entry.open_since,
        };
        self.entries.iter().map(describe).collect()
    }
}
