//! One record's turn in a slot: an attempt, and where it waits if there is to be another.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anabranch_kafka::TopicPartition;
use anabranch_protocol::Timestamp;
use anabranch_protocol::retry::Tried;

use super::{Processed, Processor};
use crate::clock;
use crate::metrics::Metrics;
use crate::retry::{Delivery, Put, Retries};

/// How a turn ended.
#[derive(Debug)]
pub(super) enum Turn {
    /// The record is done.
    Done,
    /// It waits in memory until it is due.
    Later(Box<Delivery>, Timestamp),
    /// It is in a retry topic, at this offset.
    Away(TopicPartition, i64),
    /// It is given back.
    Back,
    /// This process cannot go on.
    Halt(String),
}

/// What a turn works with.
#[derive(Clone)]
pub(super) struct Bench {
    pub(super) processor: Arc<dyn Processor>,
    pub(super) retries: Arc<Retries>,
    /// Memory is short: waits are spent in retry topics, even if they get longer by it.
    pub(super) pressed: Arc<AtomicBool>,
    pub(super) metrics: Arc<Metrics>,
}

impl Bench {
    /// Does all there is to do about a record now.
    pub(super) async fn turn(self, delivery: Delivery) -> Turn {
        let now = clock::now();
        // It was asked to wait for longer than its tier does: another round, or the rest of it here.
        if let Some(tried) = delivery.tried().filter(|tried| tried.due > now).cloned() {
            return self.wait(delivery, tried, now).await;
        }
        match self.processor.process(&delivery).await {
            Processed::Done => Turn::Done,
            Processed::Back => Turn::Back,
            Processed::Halt(why) => Turn::Halt(why),
            Processed::Retry(retry) => {
                self.metrics.retries.inc();
                let now = clock::now();
                let mut tried = delivery.failed(&retry, now);
                if self.pressed.load(Ordering::Relaxed) {
                    tried.due = self.retries.postponed(tried.due, now, retry.deadline);
                }
                self.wait(delivery, tried, now).await
            }
        }
    }

    async fn wait(&self, delivery: Delivery, tried: Tried, now: Timestamp) -> Turn {
        let due = tried.due;
        match self.retries.put(delivery, tried, now).await {
            Ok(Put::Here(delivery)) => Turn::Later(delivery, due),
            Ok(Put::Away(tp, offset)) => Turn::Away(tp, offset),
            Err(error) => Turn::Halt(format!("cannot emit to a retry topic: {error}")),
        }
    }
}
