//! Asking the author's composer, and following what it decides.

use std::collections::HashMap;

use anabranch_core::join::{Asks, Case, Decision, Effects, Log, Phase, Place, Unanswered};
use anabranch_kafka::Record;
use anabranch_protocol::{CorrelationId, Envelope, EventId, FollowUp, FollowUpKind, Partial, ReviewDecision};
use anabranch_sdk::composer::{Case as SdkCase, Composer, Outbound, Verdict};
use anabranch_sdk::error::{AgentError, Class};
use serde::Deserialize as _;
use serde_json::Value;

use super::outputs::Outputs;
use super::partition::{Fault, PartitionJoin};
use super::payloads::{Address, Loaded, Payloads};
use super::view::{Held, RequestOf, is_of, part_of};
use crate::clock;
use crate::emit::{self, EmitError};

/// What a decision follows.
pub(super) struct Following<'a> {
    pub(super) id: &'a CorrelationId,
    /// What led to it; `None`: the plan, whose time was up.
    pub(super) cause: Option<&'a Envelope>,
    pub(super) payloads: &'a Payloads,
}

/// What asks for a decision.
pub(super) enum Trigger<'a> {
    Join(Vec<Unanswered>),
    Review(&'a ReviewDecision),
}

impl<C: Composer> PartitionJoin<C> {
    /// The case with all its payloads; or why one of them cannot be read any more.
    pub(super) fn held(&self, following: &Following<'_>) -> Result<Result<Held, String>, Fault> {
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

    pub(super) fn show_part(
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

    pub(super) fn decide(
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
    pub(super) fn abandon(&mut self, id: &CorrelationId, held: &Held, why: &str, out: &mut Outputs) {
        let Some(case) = self.join.case(id) else { return };
        out.push(self.dead_letter(&self.plan_record(case, &held.written), why));
        self.join.abandon(id, clock::now());
        out.touch(id);
    }

    /// A case with a payload that cannot be read any more becomes a dead letter that says so.
    /// One that has its outcome stays as it is.
    pub(super) fn lose(&mut self, id: &CorrelationId, why: &str, out: &mut Outputs) -> Result<(), Fault> {
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

    pub(super) fn ask(
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
