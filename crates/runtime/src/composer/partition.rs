//! One partition of the join: does what is to be done about records and deadlines, asks the author's composer, and gathers
//! what is to be written. Nothing here does I/O: payloads are at hand, or the work waits until they are.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use anabranch_core::join::{Asks, Case, Decision, Due, Effects, Join, Log, Needs, Phase, Piece, Place, Unanswered};
use anabranch_kafka::Record;
use anabranch_protocol::{
    CorrelationId, Decoded, Envelope, EventId, FollowUp, FollowUpKind, Partial, ReviewDecision, Timestamp,
};
use anabranch_sdk::composer::{Bands, Case as SdkCase, Composer, Outbound, Verdict};
use anabranch_sdk::error::{AgentError, Class};
use serde::Deserialize as _;
use serde_json::Value;

use super::outputs::Outputs;
use super::payloads::{Address, Loaded, Payload, Payloads};
use super::view::{Held, RequestOf, is_of, part_of};
use super::work::{Message, PlanHead, Work};
use crate::clock;
use crate::emit::{self, EmitError};
use crate::service::Service;

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
    pub(super) service: Service,
    /// Partitions of the review topic, to tell a record that was keyed by other rules than Java's.
    pub(super) review_partitions: i32,
    composer: Arc<C>,
    bands: Bands,
    work: VecDeque<Work>,
    /// Bytes of the records in it.
    queued_bytes: usize,
}

/// What a decision follows.
struct Following<'a> {
    id: &'a CorrelationId,
    /// What led to it; `None`: the plan, whose time was up.
    cause: Option<&'a Envelope>,
    payloads: &'a Payloads,
}

/// What asks for a decision.
enum Trigger<'a> {
    Join(Vec<Unanswered>),
    Review(&'a ReviewDecision),
}

impl<C: Composer> PartitionJoin<C> {
    pub(super) fn new(partition: i32, join: Join, composer: Arc<C>, service: Service, review_partitions: i32) -> Self {
        let bands = super::bands(&service.topology);
        Self { partition, join, service, review_partitions, composer, bands, work: VecDeque::new(), queued_bytes: 0 }
    }

    /// Puts work at the end of what is to be done.
    pub(super) fn queue(&mut self, work: Work) {
        self.queued_bytes += work.bytes();
        self.work.push_back(work);
    }

    /// Number and bytes of what is to be done.
    pub(super) fn queued(&self) -> (usize, usize) {
        (self.work.len(), self.queued_bytes)
    }

    /// Reads a record and puts it at the end of what is to be done.
    pub(super) fn queue_record(&mut self, record: &Record) {
        let is_review = self.service.topology.inbound.review.as_ref().is_some_and(|t| *t.name == *record.topic);
        self.queue(Work::Record(record.clone(), Message::read(record, is_review)));
    }

    /// Puts what became due at the end of what is to be done.
    pub(super) fn queue_due(&mut self, now: Timestamp, limit: usize, out: &mut Outputs) {
        for due in self.join.due(now, limit) {
            match due {
                Due::Forgotten(id) => out.touch(&id),
                Due::Overdue(id) => self.queue(Work::Overdue(id, now)),
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

    /// Does one thing. Returns how far reading went on, if that is what it says.
    pub(super) fn apply(&mut self, work: &Work, payloads: &mut Payloads, out: &mut Outputs) -> Result<(), Fault> {
        match work {
            Work::Record(record, Message::Plan(decoded, plan)) => self.plan(record, decoded, plan, payloads, out),
            Work::Record(record, Message::Partial(decoded, partial)) => {
                self.partial(record, decoded, partial, payloads, out)
            }
            Work::Record(record, Message::Review(envelope, decision)) => {
                self.review(record, envelope, decision, payloads, out)
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
        let effects = self.join.plan(envelope, &plan.plan_id, &plan.steps, at);
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

    fn review(
        &mut self,
        record: &Record,
        envelope: &Envelope,
        decision: &ReviewDecision,
        payloads: &Payloads,
        out: &mut Outputs,
    ) -> Result<(), Fault> {
        let id = &envelope.correlation_id;
        if let Some(moved) = self.move_to_its_partition(record, id) {
            out.push(moved);
            return Ok(());
        }
        if let Some(reason) = self.join.review(id) {
            out.push(self.late(record, reason));
            return Ok(());
        }
        tracing::info!(correlation_id = %id, reviewer = decision.reviewer, decision = decision.decision, "review decision");
        let following = Following { id, cause: Some(envelope), payloads };
        match self.held(&following)? {
            Ok(held) => self.decide(&following, &held, Trigger::Review(decision), out),
            Err(why) => self.lose(id, &why, out),
        }
    }

    /// Does what an event asks for.
    fn follow(
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
            Some(missing) => self.decide(following, &held, Trigger::Join(missing), out),
            None => Ok(()),
        }
    }

    /// The case with all its payloads; or why one of them cannot be read any more.
    fn held(&self, following: &Following<'_>) -> Result<Result<Held, String>, Fault> {
        let Some(case) = self.join.case(following.id) else { return Ok(Err("the case is over".to_owned())) };
        let mut found = HashMap::new();
        for (_, place) in case.places() {
            found.insert(place, self.payload(following, place)?);
        }
        let not_there = || Err("it was not asked for".to_owned());
        Ok(Held::read(following.id, case, |place| found.get(&place).cloned().unwrap_or_else(not_there)))
    }

    /// A payload. One that was not fetched is a fault of this program, and must not look like one that is lost.
    fn payload(&self, following: &Following<'_>, place: Place) -> Result<Loaded, Fault> {
        let loaded = following.payloads.get(Address::of(self.partition, place));
        loaded.ok_or_else(|| Fault::NotAtHand { case: following.id.clone(), place })
    }

    fn show_part(
        &mut self,
        following: &Following<'_>,
        (partial, cause): (&Partial, &Envelope),
        record: &Record,
        out: &mut Outputs,
    ) -> Result<(), Fault> {
        let id = following.id;
        let (Some(case), Some(part)) = (self.join.case(id), part_of(partial)) else { return Ok(()) };
        let sdk = match self.request(following, case)? {
            Ok(request) => request.map(|request| self.sdk_case(id, case, request)),
            // Without its plan a case cannot be decided either.
            Err(why) if case.phase == Phase::Joining => return self.lose(id, &why, out),
            Err(why) => {
                out.push(self.dead_letter(record, &why));
                return Ok(());
            }
        };
        match sdk.and_then(|sdk| self.composer.on_part(&sdk, part)) {
            Ok(outbound) => self.emit(id, &outbound, cause, out),
            Err(error) if error.class() == Class::Fatal => Err(Fault::Composer(error.to_string())),
            // The part still counts; only what would have left early is lost, and the operator is told.
            Err(error) => {
                tracing::error!(correlation_id = %id, from = partial.agent, %error, "the composer cannot look at a part");
                Ok(())
            }
        }
    }

    /// The request of a case, from its plan; or why that cannot be read any more.
    fn request(
        &self,
        following: &Following<'_>,
        case: &Case,
    ) -> Result<Result<Result<C::Request, AgentError>, String>, Fault> {
        let payload = self.payload(following, case.plan)?.and_then(|p| is_of(&p, following.id).map(|()| p));
        Ok(payload.map_err(|why| format!("the plan cannot be read: {why}")).and_then(|payload| {
            match serde_json::from_slice::<RequestOf<C::Request>>(&payload.data) {
                Ok(plan) if plan.is_of(case) => Ok(Ok(plan.request)),
                Ok(_) => Err("the plan cannot be read: what lies there is another one".to_owned()),
                Err(error) => Ok(Err(AgentError::terminal("the request cannot be read").with_source(error))),
            }
        }))
    }

    fn decide(
        &mut self,
        following: &Following<'_>,
        held: &Held,
        trigger: Trigger<'_>,
        out: &mut Outputs,
    ) -> Result<(), Fault> {
        let id = following.id;
        let Some(case) = self.join.case(id) else { return Ok(()) };
        let is_review = matches!(trigger, Trigger::Review(_));
        let verdict = self.typed_request(held).and_then(|request| {
            let sdk = self.sdk_case(id, case, request);
            let late = sdk.now >= case.deadline;
            match trigger {
                Trigger::Join(missing) => self.composer.compose(&sdk, held.joined(case, missing)),
                Trigger::Review(decision) => {
                    self.composer.review(&sdk, held.joined(case, case.unanswered(late)), decision)
                }
            }
        });
        match verdict.and_then(|verdict| self.follow_verdict(id, verdict, is_review)) {
            Ok((outbound, effects)) => {
                let cause = following.cause.unwrap_or(&held.written.envelope);
                self.emit(id, &outbound, cause, out)?;
                out.touch(id);
                self.copy_if_parked(id, held, out);
                let outcome = outbound.first().map(Outbound::data);
                effects.asks.iter().try_for_each(|asks| self.ask(following, held, asks, outcome, out))
            }
            Err(error) if error.class() == Class::Fatal => Err(Fault::Composer(error.to_string())),
            Err(error) => {
                tracing::error!(correlation_id = %id, %error, "the composer cannot decide the case, dead letter");
                self.abandon(id, held, &error.to_string(), out);
                Ok(())
            }
        }
    }

    fn follow_verdict(
        &mut self,
        id: &CorrelationId,
        verdict: Verdict,
        is_review: bool,
    ) -> Result<(Vec<Outbound>, Effects), AgentError> {
        let now = clock::now();
        let (outbound, decision) = match verdict {
            Verdict::Publish(outbound) => (outbound, Decision::Close),
            Verdict::Park { outbound, reason } => (outbound, Decision::Park { reason }),
            Verdict::FollowUp(asks) => {
                if is_review {
                    self.join.extend(id, now);
                }
                (Vec::new(), Decision::FollowUp(asks.into_iter().map(|a| (a.agent, a.question)).collect()))
            }
        };
        // Checked before anything is decided: an alias that is not there is a fault of the composer.
        for record in &outbound {
            self.outbound_topic(record)?;
        }
        tracing::info!(correlation_id = %id, decision = decision_word(&decision), "decided");
        self.service.metrics.handled(decision_word(&decision));
        let effects = self
            .join
            .decide(id, decision, now)
            .map_err(|e| AgentError::terminal("the verdict cannot be followed").with_source(e))?;
        Ok((outbound, effects))
    }

    /// A parked case may outlive the results: its payloads are copied to the state.
    fn copy_if_parked(&self, id: &CorrelationId, held: &Held, out: &mut Outputs) {
        let parked = self.join.case(id).filter(|case| matches!(case.phase, Phase::Parked { .. }));
        let places = parked.into_iter().flat_map(Case::places).filter(|(_, place)| place.log == Log::Results);
        for (piece, place) in places {
            if let Some(payload) = held.payload(piece) {
                out.copy(id, piece, place, payload);
            }
        }
    }

    /// A case that cannot be decided becomes a dead letter: its plan, with the request in it.
    fn abandon(&mut self, id: &CorrelationId, held: &Held, why: &str, out: &mut Outputs) {
        let Some(case) = self.join.case(id) else { return };
        out.push(self.dead_letter(&self.plan_record(case, &held.written), why));
        self.join.abandon(id, clock::now());
        out.touch(id);
    }

    /// A case with a payload that cannot be read any more becomes a dead letter that says so.
    /// One that has its outcome stays as it is.
    fn lose(&mut self, id: &CorrelationId, why: &str, out: &mut Outputs) -> Result<(), Fault> {
        if self.join.case(id).is_none_or(|case| matches!(case.phase, Phase::Closed { .. })) {
            return Ok(());
        }
        tracing::error!(correlation_id = %id, error = why, "a payload of the case is lost, dead letter");
        let saved = self.join.save(id).map(|saved| serde_json::to_vec(&saved)).transpose().map_err(EmitError::from)?;
        let Some(case) = self.join.case(id) else { return Ok(()) };
        out.push(self.dead_letter(&self.lost_record(id, case, saved.unwrap_or_default()), why));
        self.join.abandon(id, clock::now());
        out.touch(id);
        Ok(())
    }

    fn outbound_topic(&self, record: &Outbound) -> Result<String, AgentError> {
        let topic = self.service.topology.outbound.get(record.topic()).map(|t| t.name.to_string());
        topic.ok_or_else(|| AgentError::terminal(format!("topics.yaml has no outbound topic {:?}", record.topic())))
    }

    fn emit(
        &mut self,
        id: &CorrelationId,
        outbound: &[Outbound],
        cause: &Envelope,
        out: &mut Outputs,
    ) -> Result<(), Fault> {
        for record in outbound {
            let topic = self.outbound_topic(record).map_err(|error| Fault::Composer(error.to_string()))?;
            let place = self.join.next_place(id, &topic, record.kind());
            let event = EventId::outbound(id, &topic, record.kind(), place);
            let envelope = cause.caused(event, &self.service.source(), record.kind(), clock::now());
            out.push(emit::record(&topic, &envelope, record.data())?);
            out.touch(id);
        }
        Ok(())
    }

    fn ask(
        &self,
        following: &Following<'_>,
        held: &Held,
        asks: &Asks,
        outcome: Option<&Value>,
        out: &mut Outputs,
    ) -> Result<(), Fault> {
        let Some(case) = self.join.case(following.id) else { return Ok(()) };
        let follow_up = held.follow_up(case, asks, outcome);
        let Some(first) = follow_up.tasks.first() else { return Ok(()) };
        let kind = kind_index(follow_up.kind);
        let event = EventId::derive(&EventId::from(&first.task_id), C::NAME, FollowUp::TYPE, kind);
        let cause = following.cause.unwrap_or(&held.written.envelope);
        let mut envelope = cause.caused(event, &self.service.source(), FollowUp::TYPE, clock::now());
        envelope.deadline = Some(match follow_up.kind {
            // What follows the outcome has time of its own: the case's deadline may have led to the outcome.
            FollowUpKind::Outcome => case.deadline.max(clock::now().plus(self.service.topology.join.deadline)),
            _ => case.deadline,
        });
        out.push(emit::record(&self.service.topology.followups_topic(), &envelope, &follow_up)?);
        Ok(())
    }

    fn typed_request(&self, held: &Held) -> Result<C::Request, AgentError> {
        C::Request::deserialize(&held.plan.request)
            .map_err(|e| AgentError::terminal("the request cannot be read").with_source(e))
    }

    fn sdk_case<'a>(&self, id: &'a CorrelationId, case: &Case, request: C::Request) -> SdkCase<'a, C::Request> {
        SdkCase {
            correlation_id: id,
            request,
            deadline: Some(case.deadline),
            opened_at: case.opened_at,
            now: clock::now(),
            round: case.round,
            bands: self.bands,
        }
    }
}

/// The payloads that must be at hand for this, with their sizes.
fn needed(join: &mut Join, partition: i32, work: &Work) -> Vec<(Address, usize)> {
    let Some((id, event)) = work.event() else { return Vec::new() };
    let now = if let Work::Overdue(_, now) = work { *now } else { clock::now() };
    let needs = join.needs(id, event, now);
    let Some(case) = join.case(id).filter(|_| needs != Needs::Nothing) else { return Vec::new() };
    let wanted = case.places().filter(|(piece, _)| needs == Needs::All || *piece == Piece::Plan);
    wanted.map(|(_, place)| (Address::of(partition, place), place.bytes as usize)).collect()
}

fn decision_word(decision: &Decision) -> &'static str {
    match decision {
        Decision::Close => "closed",
        Decision::FollowUp(_) => "follow-up-round",
        Decision::Park { .. } => "parked",
    }
}

fn kind_index(kind: FollowUpKind) -> u32 {
    match kind {
        FollowUpKind::StepReady => 0,
        FollowUpKind::Round => 1,
        FollowUpKind::Outcome => 2,
        FollowUpKind::Replan => 3,
    }
}
