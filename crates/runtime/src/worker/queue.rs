//! What has been read and is not done: waiting in lanes, ready for a slot, or running. Bounded in number and bytes.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Instant;

use anabranch_core::lanes::Lanes;
use anabranch_kafka::{Record, TopicPartition};
use anabranch_topology::Order;
use bytes::Bytes;

use super::Limits;
use super::partitions::Tenure;

/// Ready records per slot before fetching stops: enough to keep every slot busy between two fetches. What waits behind
/// its own key is bounded in bytes alone: a few slow keys must not keep the others from being read.
const READY_PER_SLOT: usize = 4;
/// What a held record takes beside its own bytes, roughly.
pub(super) const OVERHEAD: usize = 256;

/// What order is kept within.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Lane {
    Key(TopicPartition, Bytes),
    Partition(TopicPartition),
}

/// A record on its way through.
#[derive(Debug)]
pub(crate) struct Held {
    pub(super) tenure: Tenure,
    pub(super) offset: i64,
    pub(super) started: Instant,
    lane: Option<Lane>,
    bytes: usize,
    record: Option<Record>,
}

impl Held {
    pub(super) fn new(tenure: Tenure, record: Record) -> Self {
        let headers: usize = record.headers.iter().map(|h| h.name.len() + h.value.as_ref().map_or(0, Bytes::len)).sum();
        let own = record.value.as_ref().map_or(0, Bytes::len) + record.key.as_ref().map_or(0, Bytes::len);
        let bytes = own + headers + OVERHEAD;
        Self { tenure, offset: record.offset, started: Instant::now(), lane: None, bytes, record: Some(record) }
    }
}

/// The queue of one process.
#[derive(Debug)]
pub(super) struct Queue {
    limits: Limits,
    lanes: Lanes<Lane, Held>,
    ready: VecDeque<Held>,
    /// Ready, but above what their partition may start now, by offset.
    held_back: HashMap<TopicPartition, BTreeMap<i64, Held>>,
    /// How many wait of each partition, whether ready, in a lane or held back.
    waiting: HashMap<TopicPartition, usize>,
    /// How many run of each tenure, and their bytes.
    running: HashMap<Tenure, (usize, usize)>,
    held_bytes: usize,
}

impl Queue {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            lanes: Lanes::default(),
            ready: VecDeque::new(),
            held_back: HashMap::new(),
            waiting: HashMap::new(),
            running: HashMap::new(),
            held_bytes: 0,
        }
    }

    /// Takes a record in.
    pub(super) fn offer(&mut self, mut held: Held) {
        let tp = held.tenure.tp.clone();
        held.lane = match self.limits.order {
            Order::None => None,
            Order::Partition => Some(Lane::Partition(tp)),
            // A record without a key has no order to keep.
            Order::Key => held.record.as_ref().and_then(|r| r.key.clone()).map(|key| Lane::Key(tp, key)),
        };
        self.held_bytes += held.bytes;
        *self.waiting.entry(held.tenure.tp.clone()).or_default() += 1;
        self.ready.extend(self.lanes.offer(held.lane.clone(), held));
    }

    /// The next record to start. Those that may not start are held back until [`release`](Self::release); `stalled` hears
    /// of a partition when that begins.
    pub(super) fn next(
        &mut self,
        may_start: impl Fn(&Held) -> bool,
        mut stalled: impl FnMut(&TopicPartition),
    ) -> Option<(Held, Record)> {
        let mut held = loop {
            let held = self.ready.pop_front()?;
            if may_start(&held) {
                break held;
            }
            let back = self.held_back.entry(held.tenure.tp.clone()).or_default();
            if back.is_empty() {
                stalled(&held.tenure.tp);
            }
            back.insert(held.offset, held);
        };
        let record = held.record.take()?;
        if let Some(waiting) = self.waiting.get_mut(&held.tenure.tp) {
            *waiting -= 1;
        }
        let running = self.running.entry(held.tenure.clone()).or_default();
        running.0 += 1;
        running.1 += held.bytes;
        Some((held, record))
    }

    /// A running record ended; the next one of its lane becomes ready.
    pub(super) fn finish(&mut self, held: &Held) {
        self.held_bytes = self.held_bytes.saturating_sub(held.bytes);
        if let Some(running) = self.running.get_mut(&held.tenure) {
            running.0 -= 1;
            running.1 -= held.bytes;
            if running.0 == 0 {
                self.running.remove(&held.tenure);
            }
        }
        if let Some(lane) = &held.lane {
            self.ready.extend(self.lanes.finish(lane));
        }
    }

    /// Whether records of a partition are held back.
    pub(super) fn is_stalled(&self, tp: &TopicPartition) -> bool {
        self.held_back.contains_key(tp)
    }

    /// Of the records held back of a partition those `below` an offset may start, or all.
    pub(super) fn release(&mut self, tp: &TopicPartition, below: Option<i64>) {
        let Some(mut back) = self.held_back.remove(tp) else { return };
        if let Some(below) = below {
            let rest = back.split_off(&below);
            if !rest.is_empty() {
                self.held_back.insert(tp.clone(), rest);
            }
        }
        // They were read before what is ready now.
        back.into_values().rev().for_each(|held| self.ready.push_front(held));
    }

    /// How many run on these partitions.
    pub(super) fn running_in(&self, partitions: &[TopicPartition]) -> usize {
        self.running.iter().filter(|(t, _)| partitions.contains(&t.tp)).map(|(_, (count, _))| count).sum()
    }

    /// Drops what has not started of these partitions: it will be delivered to their next owner.
    pub(super) fn drop_partitions(&mut self, partitions: &[TopicPartition]) {
        self.drop_if(|held| partitions.contains(&held.tenure.tp));
    }

    /// Drops all that has not started.
    pub(super) fn clear(&mut self) {
        self.drop_if(|_| true);
    }

    fn drop_if(&mut self, gone: impl Fn(&Held) -> bool) {
        self.lanes.drop_waiting(&gone);
        // A ready record holds its lane: dropping it frees the lane for what waits behind, if that stays.
        let held_back = std::mem::take(&mut self.held_back);
        let (back_gone, stays): (Vec<_>, Vec<_>) =
            held_back.into_values().flat_map(BTreeMap::into_values).partition(&gone);
        for held in stays {
            self.held_back.entry(held.tenure.tp.clone()).or_default().insert(held.offset, held);
        }
        for held in back_gone.into_iter().chain(std::mem::take(&mut self.ready)) {
            if gone(&held) {
                if let Some(lane) = &held.lane {
                    self.ready.extend(self.lanes.finish(lane));
                }
            } else {
                self.ready.push_back(held);
            }
        }
        self.recount();
    }

    fn recount(&mut self) {
        self.waiting.clear();
        self.held_bytes = self.running.values().map(|(_, bytes)| bytes).sum();
        let back = self.held_back.values().flat_map(BTreeMap::values);
        for held in self.ready.iter().chain(self.lanes.iter_waiting()).chain(back) {
            self.held_bytes += held.bytes;
            *self.waiting.entry(held.tenure.tp.clone()).or_default() += 1;
        }
    }

    /// Not started yet.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.values().sum()
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Enough is held.
    pub(super) fn is_full(&self) -> bool {
        self.ready.len() >= self.limits.concurrency * READY_PER_SLOT || self.held_bytes >= self.limits.max_held_bytes
    }

    /// A quarter is free again.
    pub(super) fn has_room(&self) -> bool {
        self.ready.len() <= self.limits.concurrency * READY_PER_SLOT * 3 / 4
            && self.held_bytes <= self.limits.max_held_bytes / 4 * 3
    }
}
