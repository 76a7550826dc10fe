//! What starts, and what becomes of it when its turn ends.

use std::time::Instant;

use anabranch_kafka::TopicPartition;
use anabranch_protocol::Timestamp;
use futures::FutureExt as _;

use super::queue::Held;
use super::reading::Why;
use super::work::Turn;
use super::{Halt, Loop};
use crate::clock;
use crate::retry::Delivery;

impl Loop {
    pub(super) fn start_work(&mut self) {
        while self.may_start() && self.running.len() < self.worker.limits.concurrency {
            let Some((held, delivery)) = self.next_record() else { break };
            self.worker.gate.one_started();
            self.start(held, delivery);
        }
        self.worker.metrics.in_flight.set(self.running.len() as i64);
        self.worker.metrics.waiting.set(self.queue.waiting() as i64);
    }

    fn start(&mut self, mut held: Held, delivery: Delivery) {
        if let Some(due) = delivery.tried().map(|tried| tried.due).filter(|due| *due <= clock::now()) {
            self.worker.metrics.retry_late_seconds.observe(clock::now().since(due).as_secs_f64());
        }
        let key = delivery.record().key.as_deref().unwrap_or_default();
        let correlation = String::from_utf8_lossy(key).into_owned();
        let entry = self.worker.in_flight.enter(held.tenure.tp.clone(), held.offset, correlation);
        let now = self.worker.shutdown.now.clone();
        let bench = self.bench.clone();
        held.started = Instant::now();
        self.running.spawn(async move {
            let _entry = entry;
            let turn = std::panic::AssertUnwindSafe(bench.turn(delivery)).catch_unwind();
            let ended = tokio::select! {
                ended = turn => Some(ended.unwrap_or_else(|panic| Turn::Halt(panic_words(&*panic)))),
                () = now.cancelled() => None,
            };
            (held, ended)
        });
    }

    /// Whether the gate is open, for all or for one.
    pub(super) fn may_start(&self) -> bool {
        self.worker.gate.is_open() || self.worker.gate.lets_one_through()
    }

    /// The next record to start. A partition with so much done above its frontier that a commit can hardly say it starts
    /// nothing more up there, and is not read on, until its frontier moves.
    fn next_record(&mut self) -> Option<(Held, Delivery)> {
        let (partitions, consumer, reading) = (&self.partitions, &mut self.consumer, &mut self.reading);
        self.queue.next(
            clock::now(),
            |held| partitions.may_start(&held.tenure, held.offset),
            |tp| {
                tracing::info!(%tp, "too much is done above the lowest open offset, waiting for it");
                reading.hold_up(consumer, tp, Why::Frontier);
            },
        )
    }

    pub(super) fn on_ended(&mut self, ended: Result<(Held, Option<Turn>), tokio::task::JoinError>) {
        let (held, turn) = match ended {
            Ok(ended) => ended,
            Err(error) => return self.halt = Some(Halt::Agent(format!("a task of the runtime ended: {error}"))),
        };
        match turn {
            Some(Turn::Done) => {
                self.queue.finish(&held);
                self.worker.metrics.work_seconds.observe(held.started.elapsed().as_secs_f64());
                self.partitions.done(&held.tenure, held.offset);
                self.unstall(&held.tenure.tp);
            }
            Some(Turn::Later(delivery, due)) => self.wait_here(held, *delivery, due),
            Some(Turn::Away(tp, offset)) => {
                self.went_away(&held, &tp, offset);
            }
            Some(Turn::Halt(why)) => {
                self.queue.finish(&held);
                self.halt = self.halt.take().or(Some(Halt::Agent(why)));
            }
            Some(Turn::Back) | None => {
                tracing::debug!(offset = held.offset, "given back, will be delivered again");
                self.queue.finish(&held);
            }
        }
    }

    /// What belongs to a partition that leaves or has left does not wait: its next owner gets it.
    fn wait_here(&mut self, held: Held, delivery: Delivery, due: Timestamp) {
        let leaves = |tp: &TopicPartition| self.revocations.iter().any(|r| r.partitions.contains(tp));
        if self.partitions.holds(&held.tenure) && !leaves(&held.tenure.tp) {
            self.queue.wait_here(held, delivery, due);
        } else {
            self.queue.finish(&held);
        }
    }
}

fn panic_words(panic: &(dyn std::any::Any + Send)) -> String {
    let words =
        panic.downcast_ref::<&str>().map(|s| (*s).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
    format!("the runtime panicked: {}", words.unwrap_or_default())
}
