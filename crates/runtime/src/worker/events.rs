//! Partitions that come and leave, and records that are read.

use std::time::Instant;

use anabranch_kafka::{AssignedPartition, Event, Fetched, TopicPartition};

use super::queue::Held;
use super::reading::Why;
use super::{Halt, Loop, Revocation, names};
use crate::metrics::TopicLabel;

impl Loop {
    pub(super) async fn on_event(&mut self, event: Event) {
        match event {
            Event::Assigned { epoch, partitions } => self.on_assigned(epoch, &partitions),
            Event::Revoked { epoch, partitions, done } => {
                tracing::info!(epoch, partitions = %names(partitions.iter()), "revoked, draining");
                self.drop_partitions(&partitions);
                let until = Instant::now() + self.worker.limits.drain_timeout;
                self.revocations.push(Revocation { partitions, done, until });
            }
            Event::Lost { partitions } => {
                tracing::warn!(partitions = %names(partitions.iter()), "lost: what they were working on commits nothing");
                self.drop_partitions(&partitions);
                partitions.iter().for_each(|tp| self.partitions.remove(tp));
                self.worker.processor.left(&partitions);
                self.worker.health.joined(false);
                self.worker.metrics.assigned.set(self.partitions.len() as i64);
            }
            Event::Records(fetched) => self.on_records(fetched),
            Event::Reconnecting { error } => tracing::warn!(error, "reconnecting"),
            Event::Fatal(error) if error.is_fenced_instance() => self.halt = Some(Halt::Fenced),
            Event::Fatal(error) => self.halt = Some(Halt::Group(error)),
            other => tracing::debug!(?other, "event of no concern"),
        }
    }

    fn on_assigned(&mut self, epoch: u64, partitions: &[AssignedPartition]) {
        for partition in partitions {
            self.partitions.assign(epoch, partition);
            self.tiers.assign(&partition.tp, partition.start_offset);
            self.reading.forget(&partition.tp);
            self.reading.begun(&mut self.consumer, &partition.tp);
        }
        tracing::info!(epoch, partitions = %names(partitions.iter().map(|p| &p.tp)), "assigned");
        self.worker.processor.assigned(epoch, partitions);
        self.look_at_tails(partitions);
        self.worker.health.joined(true);
        self.worker.metrics.assigned.set(self.partitions.len() as i64);
    }

    /// Nothing more of these starts: it will be delivered to their next owner.
    fn drop_partitions(&mut self, partitions: &[TopicPartition]) {
        self.queue.drop_partitions(partitions);
        for tp in partitions {
            self.tiers.remove(tp).iter().for_each(|lane| self.queue.give_up(lane));
            self.reading.forget(tp);
        }
    }

    fn on_records(&mut self, fetched: Fetched) {
        let tp = fetched.topic_partition();
        let next_offset = fetched.next_offset;
        let first = fetched.records.first().map_or(next_offset, |record| record.offset);
        if self.partitions.position(&tp).is_some_and(|position| first < position) {
            tracing::warn!(%tp, offset = first, "the log goes on at an earlier offset: made anew, or its end was lost");
            self.queue.drop_partitions(std::slice::from_ref(&tp));
            self.partitions.went_back(&tp, first);
            self.begin_tier_anew(&tp, first);
        }
        let label = TopicLabel { topic: fetched.topic.to_string() };
        self.worker.metrics.records.get_or_create(&label).inc_by(fetched.records.len() as u64);
        if self.tiers.contains(&tp) {
            return self.on_waiting(&tp, fetched);
        }
        for record in fetched.records {
            let Some(tenure) = self.partitions.receive(&tp, record.offset) else { continue };
            if self.tiers.is_repeat(&tp, &record) {
                // It waits in a retry topic: that it was put there was not committed any more.
                self.partitions.done(&tenure, record.offset);
            } else {
                self.queue.offer(Held::new(tenure, record));
            }
        }
        self.partitions.skip_to(&tp, next_offset);
    }

    /// Stops fetching when enough is held or the gate is, and goes on when there is room again.
    pub(super) fn throttle(&mut self) {
        let held = self.queue.held_bytes();
        self.worker.metrics.held_bytes.set((held + self.tiers.bytes()) as i64);
        self.bench.pressed.store(self.queue.is_half_full(), std::sync::atomic::Ordering::Relaxed);
        let open = self.may_start();
        let stopped = self.reading.is_stopped();
        if !stopped && (self.queue.is_full() || !open) {
            self.reading.stop(&mut self.consumer, &self.partitions.all());
        } else if stopped && open && self.queue.has_room() {
            self.reading.resume(&mut self.consumer, &self.partitions.all());
        }
    }

    /// A completion may have made room above the frontier.
    pub(super) fn unstall(&mut self, tp: &TopicPartition) {
        if !self.queue.is_stalled(tp) {
            return;
        }
        self.queue.release(tp, self.partitions.startable_below(tp));
        if !self.queue.is_stalled(tp) {
            self.reading.go_on(&mut self.consumer, tp, Why::Frontier);
        }
    }
}
