//! Asking the author's composer, and following what it decides.

use std::collections::{BTreeMap, HashMap};

use anabranch_core::join::{Asks, Case, Decision, Effects, Log, Parking, Phase, Piece, Place, Request, Unanswered};
use anabranch_kafka::Record;
use anabranch_protocol::{CorrelationId, Envelope, EventId, FollowUp, FollowUpKind, Partial, ReviewDecision};
use anabranch_sdk::composer::{Ask, Bands, Case as SdkCase, Composer, Outbound, Park, Verdict};
use anabranch_sdk::error::{AgentError, Class};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::outputs::Outputs;
use super::partition::{Fault, PartitionJoin};
use super::payloads::{Address, Loaded, Payload, Payloads};
use super::view::{Held, RequestOf, fields, inform, is_of, part_of};
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
    /// What is to come has come.
    Join(Vec<Unanswered>),
    /// A person decided.
    Review(&'a ReviewDecision),
    /// No person did in time.
    Expiry,
}

/// What became of it.
#[derive(Debug)]
pub(super) enum Decided {
    /// The case is where the composer wants it.
    Followed,
    /// It is where it was, for this reason; only of a review.
    Refused(String),
    /// It became a dead letter, for this reason.
    DeadLetter(String),
}

/// A verdict that can be followed, or not.
enum Ruling {
    Follow(Vec<Outbound>, Effects),
    Refuse(String),
}

/// A request as the composer reads it, and what came into it since.
type Informed<R> = (R, BTreeMap<String, Value>);

/// That, or why the composer cannot read it; or why nobody can any more.
type Readable<R> = Result<Result<Informed<R>, AgentError>, String>;

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
    pub(super) fn payload(&self, following: &Following<'_>, place: Place) -> Result<Loaded, Fault> {
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

    /// The request of a case, from its plan and what came since; or why that cannot be read any more.
    fn request(&self, following: &Following<'_>, case: &Case) -> Result<Readable<C::Request>, Fault> {
        let written = self.payload(following, case.plan)?;
        let information = case.places().filter(|(piece, _)| matches!(piece, Piece::Information(_)));
        let information =
            information.map(|(_, place)| self.payload(following, place)).collect::<Result<Vec<_>, _>>()?;
        let of_case = |loaded: Loaded| loaded.and_then(|p| is_of(&p, following.id).map(|()| p));
        let read = || {
            let payload = of_case(written).map_err(|why| format!("the plan cannot be read: {why}"))?;
            let mut informed = BTreeMap::new();
            for loaded in information {
                let payload =
                    of_case(loaded).map_err(|why| format!("the information that came cannot be read: {why}"))?;
                informed.extend(fields(&payload)?);
            }
            typed_plan(&payload, case, informed)
        };
        Ok(read())
    }

    /// Lets the composer decide.
    ///
    /// # Errors
    /// What must stop the process.
    pub(super) fn decide(
        &mut self,
        following: &Following<'_>,
        held: &Held,
        trigger: Trigger<'_>,
        out: &mut Outputs,
    ) -> Result<Decided, Fault> {
        let id = following.id;
        let Some(case) = self.join.case(id) else { return Ok(Decided::Followed) };
        let by_person = matches!(trigger, Trigger::Review(_));
        let was_parked = matches!(case.phase, Phase::Parked { .. });
        let verdict = typed_request(held).and_then(|request| {
            let sdk = self.sdk_case(id, case, request);
            let so_far = case.unanswered(sdk.now >= case.deadline);
            match trigger {
                Trigger::Join(missing) => self.composer.compose(&sdk, held.joined(case, missing)),
                Trigger::Review(decision) => self.composer.review(&sdk, held.joined(case, so_far), decision),
                Trigger::Expiry => self.composer.expired(&sdk, held.joined(case, so_far)),
            }
        });
        match verdict.and_then(|verdict| self.rule(id, verdict, was_parked, by_person)) {
            Ok(Ruling::Refuse(why)) => Ok(Decided::Refused(why)),
            Ok(Ruling::Follow(outbound, effects)) => {
                let cause = following.cause.unwrap_or(&held.written.envelope);
                self.emit(id, &outbound, cause, out)?;
                out.touch(id);
                self.copy_if_parked(id, held, out);
                let outcome = outbound.first().map(Outbound::data);
                effects.asks.iter().try_for_each(|asks| self.ask(following, held, asks, outcome, out))?;
                Ok(Decided::Followed)
            }
            Err(error) if error.class() == Class::Fatal => Err(Fault::Composer(error.to_string())),
            Err(error) => {
                tracing::error!(correlation_id = %id, %error, "the composer cannot decide the case, dead letter");
                let why = error.to_string();
                self.abandon(id, held, &why, out);
                Ok(Decided::DeadLetter(why))
            }
        }
    }

    /// Does with the case what the composer says. A person is told what cannot be done; for anybody else that is a fault of
    /// the composer.
    fn rule(
        &mut self,
        id: &CorrelationId,
        verdict: Verdict,
        was_parked: bool,
        by_person: bool,
    ) -> Result<Ruling, AgentError> {
        let now = self.now;
        let (outbound, decision) = match verdict {
            Verdict::Publish(outbound) => (outbound, Decision::Close),
            Verdict::Park(park) => parked(park),
            Verdict::FollowUp(asks) => (Vec::new(), Decision::FollowUp(questions(asks))),
            Verdict::Refuse(why) if by_person => return Ok(Ruling::Refuse(why)),
            Verdict::Refuse(why) => {
                return Err(AgentError::terminal(format!("the composer refuses, and nobody asked: {why}")));
            }
        };
        // Checked before anything is decided: an alias that is not there is a fault of the composer.
        for record in &outbound {
            self.outbound_topic(record)?;
        }
        if was_parked && matches!(decision, Decision::FollowUp(_)) {
            self.join.extend(id, now);
        }
        let word = decision_word(&decision);
        let effects = match self.join.decide(id, decision, now) {
            Ok(effects) => effects,
            Err(error) if by_person => return Ok(Ruling::Refuse(error.to_string())),
            Err(error) => return Err(AgentError::terminal("the verdict cannot be followed").with_source(error)),
        };
        tracing::info!(correlation_id = %id, decision = word, "decided");
        self.site.metrics.handled(word);
        Ok(Ruling::Follow(outbound, effects))
    }

    /// A parked case may outlive the results: its payloads are copied to the state.
    fn copy_if_parked(&self, id: &CorrelationId, held: &Held, out: &mut Outputs) {
        let parked = self.join.case(id).filter(|case| matches!(case.phase, Phase::Parked { .. }));
        let places = parked.into_iter().flat_map(Case::places).filter(|(_, place)| place.log != Log::State);
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
        self.join.abandon(id, self.now);
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
        self.join.abandon(id, self.now);
        out.touch(id);
        Ok(())
    }

    fn outbound_topic(&self, record: &Outbound) -> Result<String, AgentError> {
        let topic = self.site.topology.outbound.get(record.topic()).map(|t| t.name.to_string());
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
            let envelope = cause.caused(event, &self.site.source(), record.kind(), self.now);
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
        let follow_up = held.follow_up(&self.site.topology, case, asks, outcome);
        let Some(first) = follow_up.tasks.first() else { return Ok(()) };
        let kind = kind_index(follow_up.kind);
        let event = EventId::derive(&EventId::from(&first.task_id), C::NAME, FollowUp::TYPE, kind);
        let cause = following.cause.unwrap_or(&held.written.envelope);
        let mut envelope = cause.caused(event, &self.site.source(), FollowUp::TYPE, self.now);
        envelope.deadline = Some(match follow_up.kind {
            // What follows the outcome has time of its own: the case's deadline may have led to the outcome.
            FollowUpKind::Outcome => case.deadline.max(self.now.plus(self.site.topology.join.deadline)),
            _ => case.deadline,
        });
        out.push(emit::record(&self.site.topology.followups_topic(), &envelope, &follow_up)?);
        Ok(())
    }

    fn sdk_case<'a>(
        &self,
        id: &'a CorrelationId,
        case: &Case,
        (request, information): Informed<C::Request>,
    ) -> SdkCase<'a, C::Request> {
        let max_follow_up_rounds = case.rounds_allowed(self.bands.max_follow_up_rounds);
        SdkCase {
            correlation_id: id,
            request,
            information,
            deadline: Some(case.deadline),
            opened_at: case.opened_at,
            now: self.now,
            round: case.round,
            bands: Bands { max_follow_up_rounds, ..self.bands },
        }
    }
}

/// The request in a plan, with what came since.
fn typed_plan<R: DeserializeOwned>(payload: &Payload, case: &Case, informed: BTreeMap<String, Value>) -> Readable<R> {
    let unreadable = |error| AgentError::terminal("the request cannot be read").with_source(error);
    let is_its_own = |is_its_own: bool| match is_its_own {
        true => Ok(()),
        false => Err("the plan cannot be read: what lies there is another one".to_owned()),
    };
    if informed.is_empty() {
        return match serde_json::from_slice::<RequestOf<R>>(&payload.data) {
            Ok(plan) => is_its_own(plan.is_of(case)).map(|()| Ok((plan.request, informed))),
            Err(error) => Ok(Err(unreadable(error))),
        };
    }
    match serde_json::from_slice::<RequestOf<Value>>(&payload.data) {
        Ok(mut plan) => {
            is_its_own(plan.is_of(case))?;
            inform(&mut plan.request, &informed);
            Ok(R::deserialize(plan.request).map(|request| (request, informed)).map_err(unreadable))
        }
        Err(error) => Ok(Err(unreadable(error))),
    }
}

fn typed_request<R: DeserializeOwned>(held: &Held) -> Result<Informed<R>, AgentError> {
    R::deserialize(&held.plan.request).map(|request| (request, held.informed.clone())).map_err(|e| {
        AgentError::terminal("the request cannot be read").with_source(anabranch_sdk::mask::serde_words(&e))
    })
}

fn questions(asks: Vec<Ask>) -> Vec<(String, String)> {
    asks.into_iter().map(|ask| (ask.agent, ask.question)).collect()
}

fn parked(park: Park) -> (Vec<Outbound>, Decision) {
    let request = park.information.map(|request| Request {
        needs: request.needs,
        asks: questions(request.asks),
        within: request.within,
    });
    let parking = Parking {
        reason: park.reason,
        codes: park.codes,
        remind_after: park.remind_after,
        escalate_after: park.escalate_after,
        expire_after: park.expire_after,
        request,
    };
    (park.outbound, Decision::Park(parking))
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
