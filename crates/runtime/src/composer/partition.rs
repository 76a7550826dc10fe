//! One partition of the join: does what is to be done about records and deadlines, asks the author's composer, and gathers
//! what is to be written. Nothing here does I/O: payloads are at hand, or the work waits until they are.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use anabranch_core::join::{Due, Effects, Join, LateReason, Needs, Phase, Piece, Place};
use anabranch_kafka::{Record, TopicPartition};
use anabranch_protocol::{CorrelationId, Decoded, Partial, Timestamp, dead_letter};
use anabranch_sdk::composer::{Bands, Composer};

use super::deciding::{Following, Trigger};
use super::outputs::Outputs;
use super::payloads::{Address, Payload, Payloads};
use super::work::{Message, PlanHead, Work};
use crate::clock;
use crate::emit::EmitError;
use crate::site::Site;

/// Most things to do that payloads are fetched for at once.
const AHEAD: usize = 2_000;

/// A fault that must stop the process.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("the composer cannot go on: {0}")]
    Composer(String),
    #[error(transparent)]
    Emit(#[from] EmitError),
    #[error("a payload of case {case} is needed and was not fetched: {place:?}")]
    NotAtHand { case: CorrelationId, place: Place },
}

/// One partition of the join.
pub(super) struct PartitionJoin<C> {
    pub(super) partition: i32,
    pub(super) join: Join,
    pub(super) site: Site,
    /// The time for all of one thing that is done: what is written says it, so that the same can be done again.
    pub(super) now: Timestamp,
    /// Partitions of the review topic, to tell a record that was keyed by other rules than Java's.
    pub(super) review_partitions: i32,
    pub(super) composer: Arc<C>,
    pub(super) bands: Bands,
    work: VecDeque<Work>,
    /// Bytes of the records in it.
    queued_bytes: usize,
}

impl<C: Composer> PartitionJoin<C> {
    pub(super) fn new(partition: i32, join: Join, composer: Arc<C>, site: Site, review_partitions: i32) -> Self {
        let (bands, now, work) = (super::bands(&site.topology), clock::now(), VecDeque::new());
        Self { partition, join, site, now, review_partitions, composer, bands, work, queued_bytes: 0 }
    }

    /// Puts work at the end of what is to be done.
    pub(super) fn queue(&mut self, work: Work) {
        self.queued_bytes += work.bytes();
        self.work.push_back(work);
    }

    /// A topic's partition went away: what was read of it is its next owner's to do.
    pub(super) fn forget(&mut self, tp: &TopicPartition) {
        let is_of = |work: &Work| match work {
            Work::Record(record, _) => record.topic == tp.topic && record.partition == tp.partition,
            Work::ReadTo(read, _) => read == tp,
            Work::Overdue(..) | Work::Bell(..) => false,
        };
        self.work.retain(|work| !is_of(work));
        self.queued_bytes = self.work.iter().map(Work::bytes).sum();
    }

    /// Number and bytes of what is to be done.
    pub(super) fn queued(&self) -> (usize, usize) {
        (self.work.len(), self.queued_bytes)
    }

    /// Reads a record and puts it at the end of what is to be done.
    pub(super) fn queue_record(&mut self, record: &Record) {
        self.queue(self.read(record));
    }

    /// What is to be done about a record.
    pub(super) fn read(&self, record: &Record) -> Work {
        let is_review = self.site.topology.inbound.review.as_ref().is_some_and(|t| *t.name == *record.topic);
        Work::Record(record.clone(), Message::read(record, is_review))
    }

    /// Puts what became due at the end of what is to be done.
    pub(super) fn queue_due(&mut self, now: Timestamp, limit: usize, out: &mut Outputs) {
        for due in self.join.due(now, limit) {
            match due {
                Due::Forgotten(id) => out.touch(&id),
                Due::Overdue(id) => self.queue(Work::Overdue(id, now)),
                Due::Bell(id) => self.queue(Work::Bell(id, now)),
            }
        }
    }

    /// The next thing to do, if all payloads it needs are at hand.
    pub(super) fn next(&mut self, payloads: &Payloads) -> Option<Work> {
        let at_hand = |address| payloads.get(address).is_some();
        let (join, front) = (&mut self.join, self.work.front()?);
        needed(join, self.partition, front).into_iter().all(|(address, _)| at_hand(address)).then_some(())?;
        let work = self.work.pop_front()?;
        self.queued_bytes -= work.bytes();
        Some(work)
    }

    /// The payloads that the next things to do need: those of the first, and of more within `room` bytes. Returns what is left
    /// of that.
    pub(super) fn look_ahead(&mut self, mut room: usize, all: &mut BTreeSet<Address>) -> usize {
        for work in self.work.iter().take(AHEAD) {
            if room == 0 {
                break;
            }
            for (address, bytes) in needed(&mut self.join, self.partition, work) {
                if all.insert(address) {
                    room = room.saturating_sub(bytes);
                }
            }
        }
        room
    }

    /// Does one thing, at this time.
    pub(super) fn apply(
        &mut self,
        work: &Work,
        now: Timestamp,
        payloads: &mut Payloads,
        out: &mut Outputs,
    ) -> Result<(), Fault> {
        self.now = now;
        match work {
            Work::Record(record, Message::Plan(decoded, plan)) => self.plan(record, decoded, plan, payloads, out),
            Work::Record(record, Message::Partial(decoded, partial)) => {
                self.partial(record, decoded, partial, payloads, out)
            }
            Work::Record(record, Message::Review(envelope, decision)) => {
                self.review(record, envelope, decision, payloads, out)
            }
            Work::Record(record, Message::Information(decoded, given)) => {
                self.information(record, decoded, given, payloads, out)
            }
            Work::Record(record, Message::Unreadable(why)) => {
                out.push(self.dead_letter(record, why));
                Ok(())
            }
            Work::Overdue(id, now) => {
                let effects = self.join.overdue(id, *now);
                if effects != Effects::default() {
                    tracing::warn!(correlation_id = %id, "the deadline passed");
                }
                self.follow(&Following { id, cause: None, payloads }, effects, None, out)
            }
            Work::Bell(id, now) => self.bell(id, *now, payloads, out),
            Work::ReadTo(..) => Ok(()),
        }
    }

    fn plan(
        &mut self,
        record: &Record,
        decoded: &Decoded,
        plan: &PlanHead,
        payloads: &mut Payloads,
        out: &mut Outputs,
    ) -> Result<(), Fault> {
        let (envelope, id) = (&decoded.envelope, &decoded.envelope.correlation_id);
        tracing::debug!(correlation_id = %id, plan_id = %plan.plan_id, "plan");
        let at = Place::results(record.offset, decoded.data.len());
        let redrives = dead_letter::redrives(&record.headers);
        let effects = self.join.plan_again(envelope, &plan.plan_id, &plan.steps, at, redrives);
        if redrives > 0 && effects.changed {
            tracing::info!(correlation_id = %id, redrives, "a case that was sent back begins anew");
        }
        if effects.changed {
            payloads.came(Address::of(self.partition, at), Arc::new(Payload::of(decoded)));
        }
        self.follow(&Following { id, cause: Some(envelope), payloads }, effects, Some(record), out)
    }

    fn partial(
        &mut self,
        record: &Record,
        decoded: &Decoded,
        partial: &Partial,
        payloads: &mut Payloads,
        out: &mut Outputs,
    ) -> Result<(), Fault> {
        let (envelope, id) = (&decoded.envelope, &decoded.envelope.correlation_id);
        tracing::debug!(correlation_id = %id, from = partial.agent, round = partial.round, "partial");
        if self.join.is_of_earlier_life(id, partial, envelope.deadline) {
            out.push(self.late(record, LateReason::Superseded));
            return Ok(());
        }
        let at = Place::results(record.offset, decoded.data.len());
        let effects = self.join.partial(id, partial, at);
        if effects.changed {
            let payload = Arc::new(Payload::of(decoded));
            payloads.came(Address::of(self.partition, at), payload.clone());
            let parked = self.join.case(id).filter(|case| matches!(case.phase, Phase::Parked { .. }));
            if let Some((piece, _)) = parked.and_then(|case| case.places().find(|(_, place)| *place == at)) {
                out.copy(id, piece, at, &payload);
            }
        }
        let following = Following { id, cause: Some(envelope), payloads };
        if effects.part.is_some() {
            self.show_part(&following, (partial, envelope), record, out)?;
        }
        self.follow(&following, effects, Some(record), out)
    }

    /// Does what an event asks for.
    pub(super) fn follow(
        &mut self,
        following: &Following<'_>,
        effects: Effects,
        record: Option<&Record>,
        out: &mut Outputs,
    ) -> Result<(), Fault> {
        if let (Some(reason), Some(record)) = (effects.late, record) {
            out.push(self.late(record, reason));
        }
        if effects.changed {
            out.touch(following.id);
        }
        if effects.asks.is_empty() && effects.compose.is_none() && effects.give_up.is_none() {
            return Ok(());
        }
        let held = match self.held(following)? {
            Ok(held) => held,
            Err(why) => return self.lose(following.id, &why, out),
        };
        for asks in &effects.asks {
            self.ask(following, &held, asks, None, out)?;
        }
        if let Some(missing) = effects.give_up {
            let why = format!("the deadline passed without {}", held.named(&missing));
            self.abandon(following.id, &held, &why, out);
        }
        match effects.compose {
            Some(missing) => self.decide(following, &held, Trigger::Join(missing), out).map(drop),
            None => Ok(()),
        }
    }
}

/// The payloads that must be at hand for this, with their sizes.
fn needed(join: &mut Join, partition: i32, work: &Work) -> Vec<(Address, usize)> {
    let Some((id, event)) = work.event() else { return Vec::new() };
    let now = if let Work::Overdue(_, now) | Work::Bell(_, now) = work { *now } else { clock::now() };
    let needs = join.needs(id, event, now);
    let Some(case) = join.case(id).filter(|_| needs != Needs::Nothing) else { return Vec::new() };
    let wanted = case.places().filter(|(piece, _)| needs == Needs::All || !matches!(piece, Piece::Answer(_)));
    wanted.map(|(_, place)| (Address::of(partition, place), place.bytes as usize)).collect()
}
