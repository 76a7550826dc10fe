//! What waits in retry topics: looked at when a partition comes, kept at the heads, brought back when it is due.

use anabranch_kafka::{AssignedPartition, Fetched, TopicPartition};

use super::partitions::Tenure;
use super::queue::{Held, Lane};
use super::reading::Why;
use super::tiers::Out;
use super::{Halt, Loop};
use crate::clock;
use crate::retry::Delivery;
use crate::retry::tail::{self, Seen};

/// A look at what waits has ended.
#[derive(Debug)]
pub(super) struct Looked {
    /// The partitions that waited for it.
    tenures: Vec<Tenure>,
    seen: Vec<Seen>,
}

impl Loop {
    /// Before tasks of a partition start, and before its retry topics are read, it must be known whose predecessors wait
    /// there. Partitions of one number come together.
    pub(super) fn look_at_tails(&mut self, came: &[AssignedPartition]) {
        let tiers: Vec<(TopicPartition, i64)> =
            came.iter().filter(|p| self.tiers.contains(&p.tp)).map(|p| (p.tp.clone(), p.start_offset)).collect();
        if tiers.is_empty() {
            return;
        }
        let concerned =
            came.iter().map(|p| &p.tp).filter(|tp| tiers.iter().any(|(tier, _)| tier.partition == tp.partition));
        let concerned: Vec<&TopicPartition> = concerned.collect();
        for tp in &concerned {
            self.reading.hold_up(&mut self.consumer, tp, Why::Tail);
        }
        let tenures = concerned.into_iter().filter_map(|tp| self.partitions.tenure(tp)).collect();
        let (cluster, home) = (self.bench.retries.cluster.clone(), self.bench.retries.home.clone());
        self.looks.spawn(async move { Looked { tenures, seen: tail::read(cluster, home, tiers).await } });
    }

    pub(super) fn on_looked(&mut self, looked: Result<Looked, tokio::task::JoinError>) {
        let Looked { tenures, seen } = match looked {
            Ok(looked) => looked,
            Err(error) => return self.halt = Some(Halt::Agent(format!("a task of the runtime ended: {error}"))),
        };
        // What left meanwhile is its next owner's.
        let is_ours = |tp: &TopicPartition| tenures.iter().any(|t| t.tp == *tp && self.partitions.holds(t));
        let seen = seen.into_iter().filter(|one| is_ours(&one.tp) && !self.partitions.was_done(&one.tp, one.offset));
        let sorted = tail::sort(seen.collect());
        for one in sorted.repeats {
            self.tiers.repeats(one.tp, one.offset, one.key);
        }
        for one in sorted.awaited {
            self.await_seen(one);
        }
        let ours: Vec<&Tenure> = tenures.iter().filter(|tenure| self.partitions.holds(tenure)).collect();
        for tenure in ours {
            self.reading.go_on(&mut self.consumer, &tenure.tp, Why::Tail);
        }
        self.worker.metrics.retry_away.set(self.queue.away() as i64);
    }

    /// The lane of a record that waits in a retry topic waits for it; where its own offset is not committed as done, it is
    /// not worked on there.
    fn await_seen(&mut self, seen: Seen) {
        let home = self.tiers.home(&seen.tp);
        let lane = self.queue.lane(home.clone(), seen.key.as_deref());
        if self.tiers.awaits(&seen.tp, seen.offset, lane.as_ref())
            && let Some(lane) = lane
        {
            self.queue.expect(lane);
        }
        let unread = |origin: &i64| self.partitions.position(&home).is_some_and(|position| *origin >= position);
        if let Some(origin) = seen.origin.map(|(offset, _)| offset).filter(unread) {
            self.tiers.repeats(home, origin, seen.key);
        }
    }

    /// Records of a retry topic. What does not fit at the head of its partition is left in the log.
    pub(super) fn on_waiting(&mut self, tp: &TopicPartition, fetched: Fetched) {
        let now = clock::now();
        let mut next = fetched.next_offset;
        let mut came = Vec::with_capacity(fetched.records.len());
        for record in fetched.records {
            if !self.tiers.fits(tp, &record) {
                next = record.offset;
                break;
            }
            came.push(record.offset);
            let Some(tenure) = self.partitions.receive(tp, record.offset) else { continue };
            if self.tiers.is_repeat(tp, &record) {
                self.partitions.done(&tenure, record.offset);
            } else {
                self.tiers.take_in(now, tenure, record);
            }
        }
        self.partitions.skip_to(tp, next);
        for lane in self.tiers.read_to(tp, next, |offset| came.binary_search(&offset).is_ok()) {
            tracing::warn!(%tp, "a record that waited to be tried again is not in the log any more");
            self.queue.give_up(&lane);
        }
        if next < fetched.next_offset {
            self.consumer.seek(tp, next);
            self.reading.begun(&mut self.consumer, tp);
        }
    }

    /// The log of a retry topic's partition is read anew: what was waited for there is of the old one.
    pub(super) fn begin_tier_anew(&mut self, tp: &TopicPartition, offset: i64) {
        if self.tiers.contains(tp) {
            self.tiers.remove(tp).iter().for_each(|lane| self.queue.give_up(lane));
            self.tiers.assign(tp, offset);
            self.reading.go_on(&mut self.consumer, tp, Why::Head);
        }
    }

    /// Takes what is due out of the retry topics, and decides which of them are read.
    pub(super) fn bring_back(&mut self) {
        let now = clock::now();
        if self.takes_more() {
            for out in self.tiers.come_out(now) {
                self.come_back(out);
            }
        }
        for tp in self.tiers.go_to_rest(now) {
            self.reading.hold_up(&mut self.consumer, &tp, Why::Head);
        }
        for tp in self.tiers.get_up(now) {
            self.reading.go_on(&mut self.consumer, &tp, Why::Head);
        }
        self.queue.wake(now);
    }

    fn come_back(&mut self, out: Out) {
        let Out { tenure, record, awaited } = out;
        let (offset, home) = (record.offset, self.tiers.home(&tenure.tp));
        let delivery = Delivery::again(record, &self.bench.retries.home);
        let due = delivery.tried().map(|tried| tried.due);
        // Another round of a tier begins at once.
        let due = due.filter(|due| !self.bench.retries.is_long(due.since(clock::now())));
        self.queue.come_back(Held::at(tenure, offset, delivery, due), home, awaited);
    }

    /// Whether what comes out of retry topics is taken.
    pub(super) fn takes_more(&self) -> bool {
        self.may_start() && !self.queue.is_heavy()
    }

    /// A record was put into a retry topic. Whoever reads it there does the rest; if that is this process, its lane waits.
    pub(super) fn went_away(&mut self, held: &Held, tp: &TopicPartition, offset: i64) {
        let lane: Option<&Lane> = held.lane.as_ref();
        match self.tiers.awaits(tp, offset, lane) {
            true => self.queue.depart(held),
            false => self.queue.finish(held),
        }
        self.partitions.done(&held.tenure, held.offset);
        self.unstall(&held.tenure.tp);
        self.worker.metrics.retry_away.set(self.queue.away() as i64);
    }
}
