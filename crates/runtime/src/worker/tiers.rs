//! The partitions of retry topics that this process owns: who waits at their heads, and whom lanes wait for.
//!
//! A partition whose head is not due is not read: it costs no polling and no slot. Which records are *away*, waiting in a
//! retry topic while their lane waits for them, is known by offset: from the moment at which one is put there by this
//! process, and from a look at what waits when a partition comes ([`tail`](crate::retry::tail)).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use anabranch_core::retry::room::Room;
use anabranch_kafka::{Record, TopicPartition};
use anabranch_protocol::Timestamp;
use bytes::Bytes;

use super::partitions::Tenure;
use super::queue::{Lane, bytes_of};
use crate::retry::detached;

/// Of the bytes that a process may hold, this part is for the heads of retry topics.
pub(super) const SHARE: usize = 8;

#[derive(Debug)]
struct Tier {
    room: Room<(Tenure, Record)>,
    /// By offset.
    away: BTreeMap<i64, Lane>,
    /// What lies before this was read.
    read_to: i64,
    /// It is not read until its head is nearly due.
    rests: bool,
}

/// Out of a retry topic, its time there is over.
#[derive(Debug)]
pub(super) struct Out {
    pub(super) tenure: Tenure,
    pub(super) record: Record,
    /// Its lane waits for it.
    pub(super) awaited: bool,
}

/// The partitions of retry topics.
#[derive(Debug)]
pub(super) struct Tiers {
    /// The tasks topic.
    home: Arc<str>,
    /// Its retry topics.
    delays: BTreeMap<Arc<str>, Duration>,
    tiers: HashMap<TopicPartition, Tier>,
    /// Records that are not to be worked on, with their keys: there is a later record of the same origin.
    repeats: HashMap<TopicPartition, BTreeMap<i64, Option<Bytes>>>,
    /// Most bytes at all heads together.
    most_bytes: usize,
}

impl Tiers {
    pub(super) fn new(home: Arc<str>, delays: BTreeMap<Arc<str>, Duration>, most_bytes: usize) -> Self {
        Self { home, delays, tiers: HashMap::new(), repeats: HashMap::new(), most_bytes }
    }

    /// A partition came; reading starts at an offset. Whether it is a retry topic's.
    pub(super) fn assign(&mut self, tp: &TopicPartition, start: i64) -> bool {
        let Some(delay) = self.delays.get(&tp.topic) else { return false };
        let tier = Tier { room: Room::new(*delay), away: BTreeMap::new(), read_to: start, rests: false };
        self.tiers.insert(tp.clone(), tier);
        true
    }

    /// Whether a partition is a retry topic's.
    pub(super) fn contains(&self, tp: &TopicPartition) -> bool {
        self.tiers.contains_key(tp)
    }

    /// The partition of the tasks topic that a partition of a retry topic belongs to.
    pub(super) fn home(&self, tp: &TopicPartition) -> TopicPartition {
        TopicPartition { topic: self.home.clone(), partition: tp.partition }
    }

    /// A partition left, or its log is read anew: the lanes that need not wait any more.
    #[must_use]
    pub(super) fn remove(&mut self, tp: &TopicPartition) -> Vec<Lane> {
        self.repeats.remove(tp);
        self.tiers.remove(tp).map(|tier| tier.away.into_values().collect()).unwrap_or_default()
    }

    /// A record in a retry topic is waited for. `false` if that is known, or it came out already, or it is not read here.
    pub(super) fn awaits(&mut self, tp: &TopicPartition, offset: i64, lane: Option<&Lane>) -> bool {
        let Some(tier) = self.tiers.get_mut(tp) else { return false };
        let came_out = offset < tier.read_to && !tier.room.iter().any(|(_, record)| record.offset == offset);
        if came_out || tier.away.contains_key(&offset) {
            return false;
        }
        if let Some(lane) = lane {
            tier.away.insert(offset, lane.clone());
        }
        true
    }

    /// A record is not to be worked on: there is a later one of the same origin.
    pub(super) fn repeats(&mut self, tp: TopicPartition, offset: i64, key: Option<Bytes>) {
        self.repeats.entry(tp).or_default().insert(offset, key);
    }

    /// Whether a record is such a one. Asked once for each.
    pub(super) fn is_repeat(&mut self, tp: &TopicPartition, record: &Record) -> bool {
        let Some(of_partition) = self.repeats.get_mut(tp) else { return false };
        let key = of_partition.remove(&record.offset);
        if of_partition.is_empty() {
            self.repeats.remove(tp);
        }
        // Offsets of a topic that was made anew are of other records.
        key.is_some_and(|key| key == record.key)
    }

    /// Whether there is room for a record at the head of its partition.
    pub(super) fn fits(&self, tp: &TopicPartition, record: &Record) -> bool {
        let most = self.most_bytes / self.tiers.len().max(1);
        self.tiers.get(tp).is_some_and(|tier| tier.room.fits(bytes_of(record), most))
    }

    /// A record was read, and waits for its time.
    pub(super) fn take_in(&mut self, now: Timestamp, tenure: Tenure, record: Record) {
        if let Some(tier) = self.tiers.get_mut(&tenure.tp) {
            let written = Timestamp::from_millis(record.timestamp_ms);
            let record = detached(record);
            tier.room.take_in(now, written, bytes_of(&record), (tenure, record));
        }
    }

    /// A partition was read up to `next`; `came` says which of its offsets were there. The lanes that wait for one that
    /// was not: it is gone.
    #[must_use]
    pub(super) fn read_to(&mut self, tp: &TopicPartition, next: i64, came: impl Fn(i64) -> bool) -> Vec<Lane> {
        let Some(tier) = self.tiers.get_mut(tp) else { return Vec::new() };
        let (from, to) = (tier.read_to, next.max(tier.read_to));
        tier.read_to = to;
        let gone: Vec<i64> = tier.away.range(from..to).map(|(offset, _)| *offset).filter(|o| !came(*o)).collect();
        gone.iter().filter_map(|offset| tier.away.remove(offset)).collect()
    }

    /// What comes out now.
    pub(super) fn come_out(&mut self, now: Timestamp) -> Vec<Out> {
        let mut out = Vec::new();
        for tier in self.tiers.values_mut() {
            while let Some((tenure, record)) = tier.room.next_out(now) {
                let awaited = tier.away.remove(&record.offset).is_some();
                out.push(Out { tenure, record, awaited });
            }
        }
        out
    }

    /// Partitions that are to rest, as their heads are not due for a while.
    pub(super) fn go_to_rest(&mut self, now: Timestamp) -> Vec<TopicPartition> {
        let tired = self.tiers.iter_mut().filter(|(_, tier)| !tier.rests && !tier.room.wants_more(now));
        tired
            .map(|(tp, tier)| {
                tier.rests = true;
                tp.clone()
            })
            .collect()
    }

    /// Partitions that are to be read again.
    pub(super) fn get_up(&mut self, now: Timestamp) -> Vec<TopicPartition> {
        let rested = self.tiers.iter_mut().filter(|(_, tier)| tier.rests && tier.room.wants_more(now));
        rested
            .map(|(tp, tier)| {
                tier.rests = false;
                tp.clone()
            })
            .collect()
    }

    /// When there is something to do: `heads` says whether what is due may come out.
    pub(super) fn wake_at(&self, heads: bool) -> Option<Timestamp> {
        let outs = self.tiers.values().filter(|_| heads).filter_map(|tier| tier.room.out_at());
        let reads = self.tiers.values().filter(|tier| tier.rests).filter_map(|tier| tier.room.read_at());
        outs.chain(reads).min()
    }

    /// Bytes at the heads.
    pub(super) fn bytes(&self) -> usize {
        self.tiers.values().map(|tier| tier.room.bytes()).sum()
    }
}
