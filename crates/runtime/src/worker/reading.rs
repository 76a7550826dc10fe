//! Which partitions are read. One may be held up for several reasons at once; it is read again when none is left.

use std::collections::HashMap;

use anabranch_kafka::{GroupConsumer, TopicPartition};

/// Why one partition is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// So much is done above its frontier that a commit can hardly say it.
    Frontier = 1,
    /// What waits in its retry topics is looked at first.
    Tail = 2,
    /// It is a retry topic's, and its head is not due for a while.
    Head = 4,
}

/// The partitions that are not read.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// None is: enough is held, or the gate is.
    none: bool,
    held_up: HashMap<TopicPartition, u8>,
}

impl Reading {
    /// Whether nothing is read at all.
    pub(super) fn is_stopped(&self) -> bool {
        self.none
    }

    /// A partition is not read any more, for this reason.
    pub(super) fn hold_up(&mut self, consumer: &mut GroupConsumer, tp: &TopicPartition, why: Why) {
        *self.held_up.entry(tp.clone()).or_default() |= why as u8;
        consumer.pause(std::slice::from_ref(tp));
    }

    /// A reason is gone.
    pub(super) fn go_on(&mut self, consumer: &mut GroupConsumer, tp: &TopicPartition, why: Why) {
        let Some(reasons) = self.held_up.get_mut(tp) else { return };
        *reasons &= !(why as u8);
        if *reasons == 0 {
            self.held_up.remove(tp);
            if !self.none {
                consumer.resume(std::slice::from_ref(tp));
            }
        }
    }

    /// A partition came, or is read from another offset on: what holds it up holds it up anew.
    pub(super) fn begun(&self, consumer: &mut GroupConsumer, tp: &TopicPartition) {
        if self.none || self.held_up.contains_key(tp) {
            consumer.pause(std::slice::from_ref(tp));
        }
    }

    /// A partition left.
    pub(super) fn forget(&mut self, tp: &TopicPartition) {
        self.held_up.remove(tp);
    }

    /// Nothing is read any more.
    pub(super) fn stop(&mut self, consumer: &mut GroupConsumer, all: &[TopicPartition]) {
        self.none = true;
        consumer.pause(all);
    }

    /// What nothing else holds up is read again.
    pub(super) fn resume(&mut self, consumer: &mut GroupConsumer, all: &[TopicPartition]) {
        self.none = false;
        let free: Vec<TopicPartition> = all.iter().filter(|tp| !self.held_up.contains_key(tp)).cloned().collect();
        consumer.resume(&free);
    }
}
