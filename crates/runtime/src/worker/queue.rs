//! What has been read and is not done: waiting in lanes, ready for a slot, running, or waiting to be tried again. Bounded
//! in number and bytes. What waits in a retry topic is not here, but its lane waits for it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hasher as _};
use std::time::{Duration, Instant};

use anabranch_core::lanes::Lanes;
use anabranch_kafka::{Record, TopicPartition};
use anabranch_protocol::Timestamp;
use anabranch_topology::Order;
use bytes::Bytes;

use super::Limits;
use super::partitions::Tenure;
use crate::retry::Delivery;

/// Ready records per slot before fetching stops: enough to keep every slot busy between two fetches. What waits behind
/// its own key is bounded in bytes alone: a few slow keys must not keep the others from being read.
const READY_PER_SLOT: usize = 4;
/// What a held record takes beside its own bytes, roughly.
pub(super) const OVERHEAD: usize = 256;

/// What order is kept within; the partition is that of the tasks topic, also of what comes out of a retry topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Lane {
    /// A key, by its hash: a lane may wait for long, and keys are as long as others make them. Two keys of one hash
    /// wait for each other, which does no harm.
    Key(TopicPartition, u64),
    Partition(TopicPartition),
}

/// A record on its way through.
#[derive(Debug)]
pub(crate) struct Held {
    pub(super) tenure: Tenure,
    pub(super) offset: i64,
    pub(super) started: Instant,
    pub(super) lane: Option<Lane>,
    /// Not to be started before.
    due: Option<Timestamp>,
    bytes: usize,
    delivery: Option<Delivery>,
}

/// What a record takes in memory, roughly.
pub(super) fn bytes_of(record: &Record) -> usize {
    let headers: usize = record.headers.iter().map(|h| h.name.len() + h.value.as_ref().map_or(0, Bytes::len)).sum();
    let own = record.value.as_ref().map_or(0, Bytes::len) + record.key.as_ref().map_or(0, Bytes::len);
    own + headers + OVERHEAD
}

impl Held {
    /// A record of its own topic.
    pub(super) fn new(tenure: Tenure, record: Record) -> Self {
        let offset = record.offset;
        Self::at(tenure, offset, Delivery::first(record), None)
    }

    /// A record that was read at `offset` of its tenure's partition, and is not to be started before `due`.
    pub(super) fn at(tenure: Tenure, offset: i64, delivery: Delivery, due: Option<Timestamp>) -> Self {
        let bytes = bytes_of(delivery.record());
        Self { tenure, offset, started: Instant::now(), lane: None, due, bytes, delivery: Some(delivery) }
    }
}

/// The queue of one process.
#[derive(Debug)]
pub(super) struct Queue {
    limits: Limits,
    lanes: Lanes<Lane, Held>,
    ready: VecDeque<Held>,
    /// Not due yet, by time and by arrival. They keep their lanes, and take no slot.
    later: BTreeMap<(Timestamp, u64), Held>,
    arrivals: u64,
    /// Ready, but above what their partition may start now, by offset.
    held_back: HashMap<TopicPartition, BTreeMap<i64, Held>>,
    /// How many wait of each partition, whether ready, in a lane, for their time or held back.
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
            later: BTreeMap::new(),
            arrivals: 0,
            held_back: HashMap::new(),
            waiting: HashMap::new(),
            running: HashMap::new(),
            held_bytes: 0,
        }
    }

    /// The lane of a record with this key, of this partition of the tasks topic.
    pub(super) fn lane(&self, home: TopicPartition, key: Option<&[u8]>) -> Option<Lane> {
        match self.limits.order {
            Order::None => None,
            Order::Partition => Some(Lane::Partition(home)),
            // A record without a key has no order to keep.
            Order::Key => key.map(|key| {
                let mut hasher = DefaultHasher::new();
                hasher.write(key);
                Lane::Key(home, hasher.finish())
            }),
        }
    }

    /// Takes a record of the tasks topic in.
    pub(super) fn offer(&mut self, mut held: Held) {
        let key = held.delivery.as_ref().and_then(|delivery| delivery.record().key.as_deref());
        held.lane = self.lane(held.tenure.tp.clone(), key);
        self.take(&held);
        self.ready.extend(self.lanes.offer(held.lane.clone(), held));
    }

    /// Takes a record in that comes out of a retry topic: ahead of those that wait behind it. `home` is its partition of
    /// the tasks topic. Of one that nobody waited for its lane knows nothing yet.
    pub(super) fn come_back(&mut self, mut held: Held, home: TopicPartition, awaited: bool) {
        let key = held.delivery.as_ref().and_then(|delivery| delivery.record().key.as_deref());
        held.lane = self.lane(home, key);
        self.take(&held);
        if let Some(lane) = held.lane.clone().filter(|_| !awaited) {
            self.lanes.expect(lane);
        }
        if let Some(held) = self.lanes.come_back(held.lane.clone(), held) {
            self.ready.push_front(held);
        }
    }

    /// A running record waits here until it is due: it keeps its lane, and gives up its slot.
    pub(super) fn wait_here(&mut self, mut held: Held, delivery: Delivery, due: Timestamp) {
        self.stopped(&held);
        held.bytes = bytes_of(delivery.record());
        held.due = Some(due);
        held.delivery = Some(delivery);
        self.take(&held);
        self.put_off(held, due);
    }

    /// A running record was put into a retry topic: its lane waits for it.
    pub(super) fn depart(&mut self, held: &Held) {
        self.stopped(held);
        if let Some(lane) = &held.lane {
            self.lanes.depart(lane);
        }
    }

    /// A record of this lane waits in a retry topic.
    pub(super) fn expect(&mut self, lane: Lane) {
        self.lanes.expect(lane);
    }

    /// A record that was waited for will not come.
    pub(super) fn give_up(&mut self, lane: &Lane) {
        self.ready.extend(self.lanes.give_up(lane));
    }

    /// How many are waited for that are in retry topics.
    pub(super) fn away(&self) -> usize {
        self.lanes.away()
    }

    fn take(&mut self, held: &Held) {
        self.held_bytes += held.bytes;
        *self.waiting.entry(held.tenure.tp.clone()).or_default() += 1;
    }

    fn put_off(&mut self, held: Held, due: Timestamp) {
        self.arrivals += 1;
        self.later.insert((due, self.arrivals), held);
    }

    /// What is due goes first.
    pub(super) fn wake(&mut self, now: Timestamp) {
        // Asked at every turn of the loop.
        if self.next_due().is_none_or(|due| due > now) {
            return;
        }
        let not_yet = self.later.split_off(&(now.plus(Duration::from_millis(1)), 0));
        let due = std::mem::replace(&mut self.later, not_yet);
        due.into_values().rev().for_each(|held| self.ready.push_front(held));
    }

    /// When the next one is due.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.later.first_key_value().map(|((due, _), _)| *due)
    }

    /// The next record to start. Those that may not start are held back until [`release`](Self::release); `stalled` hears
    /// of a partition when that begins.
    pub(super) fn next(
        &mut self,
        now: Timestamp,
        may_start: impl Fn(&Held) -> bool,
        mut stalled: impl FnMut(&TopicPartition),
    ) -> Option<(Held, Delivery)> {
        let mut held = loop {
            let held = self.ready.pop_front()?;
            if let Some(due) = held.due.filter(|due| *due > now) {
                self.put_off(held, due);
                continue;
            }
            if may_start(&held) {
                break held;
            }
            let back = self.held_back.entry(held.tenure.tp.clone()).or_default();
            if back.is_empty() {
                stalled(&held.tenure.tp);
            }
            back.insert(held.offset, held);
        };
        let delivery = held.delivery.take()?;
        if let Some(waiting) = self.waiting.get_mut(&held.tenure.tp) {
            *waiting -= 1;
        }
        let running = self.running.entry(held.tenure.clone()).or_default();
        running.0 += 1;
        running.1 += held.bytes;
        Some((held, delivery))
    }

    /// A running record ended; the next one of its lane becomes ready.
    pub(super) fn finish(&mut self, held: &Held) {
        self.stopped(held);
        if let Some(lane) = &held.lane {
            self.ready.extend(self.lanes.finish(lane));
        }
    }

    /// A record runs no more.
    fn stopped(&mut self, held: &Held) {
        self.held_bytes = self.held_bytes.saturating_sub(held.bytes);
        if let Some(running) = self.running.get_mut(&held.tenure) {
            running.0 -= 1;
            running.1 -= held.bytes;
            if running.0 == 0 {
                self.running.remove(&held.tenure);
            }
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
        // A ready record holds its lane, and so does one that is not due: dropping it frees the lane for what waits
        // behind, if that stays.
        let held_back = std::mem::take(&mut self.held_back);
        let (mut dropped, stays): (Vec<_>, Vec<_>) =
            held_back.into_values().flat_map(BTreeMap::into_values).partition(&gone);
        for held in stays {
            self.held_back.entry(held.tenure.tp.clone()).or_default().insert(held.offset, held);
        }
        dropped.extend(self.later.extract_if(.., |_, held| gone(held)).map(|(_, held)| held));
        for held in dropped.into_iter().chain(std::mem::take(&mut self.ready)) {
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
        for held in self.ready.iter().chain(self.later.values()).chain(self.lanes.iter_waiting()).chain(back) {
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

    /// So many bytes are held that nothing more is taken in, however few records they are.
    pub(super) fn is_heavy(&self) -> bool {
        self.held_bytes >= self.limits.max_held_bytes
    }

    /// Half of the bytes that may be held are.
    pub(super) fn is_half_full(&self) -> bool {
        self.held_bytes >= self.limits.max_held_bytes / 2
    }

    /// A quarter is free again.
    pub(super) fn has_room(&self) -> bool {
        self.ready.len() <= self.limits.concurrency * READY_PER_SLOT * 3 / 4
            && self.held_bytes <= self.limits.max_held_bytes / 4 * 3
    }
}
