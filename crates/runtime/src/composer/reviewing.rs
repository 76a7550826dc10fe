//! People and parked cases: what they decide or provide is answered, each record once, and they are told when nobody decides.

use anabranch_core::join::{Bell, Judged, Phase, Place, unfit};
use anabranch_kafka::{OutRecord, Record};
use anabranch_protocol::{
    Answered, CorrelationId, Decoded, Envelope, EventId, InformationProvided, NoticeKind, ParkedNotice, ReviewAnswer,
    ReviewDecision, Timestamp,
};
use anabranch_sdk::composer::Composer;
use std::sync::Arc;

use super::deciding::{Decided, Following, Trigger};
use super::outputs::Outputs;
use super::partition::{Fault, PartitionJoin};
use super::payloads::{Address, Payload, Payloads};
use super::view::is_of;
use crate::emit;

/// Longest reason of a decision, and most bytes of information: both go on in records that hold more, and a broker takes
/// only so much.
const LONGEST_REASON: usize = 16 * 1024;
const MOST_INFORMATION: usize = 64 * 1024;
/// Most that a decision may ask for.
const MOST_NEEDS: usize = 100;
/// Longest word that is said again in an answer, in characters.
const LONGEST_ECHO: usize = 256;

impl<C: Composer> PartitionJoin<C> {
    pub(super) fn review(
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
        let refused = unfit(decision).or_else(|| too_long(decision)).map(|why| Answered::Refused { why });
        let answered = match refused.or_else(|| self.join.review(id, &envelope.id, decision)) {
            Some(answered) => answered,
            None => self.judge(envelope, decision, payloads, out)?,
        };
        tracing::info!(
            correlation_id = %id, reviewer = decision.reviewer, decision = decision.decision, answer = %answered,
            "review decision"
        );
        out.push(self.answer(record, envelope, Some(decision), None, answered)?);
        Ok(())
    }

    /// A decision about a parked case.
    fn judge(
        &mut self,
        envelope: &Envelope,
        decision: &ReviewDecision,
        payloads: &Payloads,
        out: &mut Outputs,
    ) -> Result<Answered, Fault> {
        let id = &envelope.correlation_id;
        let following = Following { id, cause: Some(envelope), payloads };
        let held = match self.held(&following)? {
            Ok(held) => held,
            Err(why) => {
                self.lose(id, &why, out)?;
                return Ok(Answered::DeadLetter { why });
            }
        };
        Ok(match self.decide(&following, &held, Trigger::Review(decision), out)? {
            Decided::Refused(why) => Answered::Refused { why },
            Decided::DeadLetter(why) => Answered::DeadLetter { why },
            Decided::Followed => {
                self.join.judged(id, Judged::new(&envelope.id, decision, self.now));
                self.accepted(id)
            }
        })
    }

    fn accepted(&self, id: &CorrelationId) -> Answered {
        self.join.case(id).map_or(Answered::UnknownCase, |case| Answered::Accepted { case: case.standing() })
    }

    /// What was asked for came, or something that was not.
    pub(super) fn information(
        &mut self,
        record: &Record,
        decoded: &Decoded,
        given: &InformationProvided,
        payloads: &mut Payloads,
        out: &mut Outputs,
    ) -> Result<(), Fault> {
        let (envelope, id) = (&decoded.envelope, &decoded.envelope.correlation_id);
        if let Some(moved) = self.move_to_its_partition(record, id) {
            out.push(moved);
            return Ok(());
        }
        let answered = if decoded.data.len() > MOST_INFORMATION {
            let why =
                format!("it has more than {MOST_INFORMATION} bytes: leave large documents elsewhere and refer to them");
            Answered::Refused { why }
        } else {
            self.take_in(record, decoded, given, payloads, out)?
        };
        tracing::info!(correlation_id = %id, answer = %answered, "information");
        out.push(self.answer(record, envelope, None, given.provided_by.as_deref(), answered)?);
        Ok(())
    }

    fn take_in(
        &mut self,
        record: &Record,
        decoded: &Decoded,
        given: &InformationProvided,
        payloads: &mut Payloads,
        out: &mut Outputs,
    ) -> Result<Answered, Fault> {
        let (envelope, id) = (&decoded.envelope, &decoded.envelope.correlation_id);
        let at = Place::review(record.offset, decoded.data.len());
        let effects = match self.join.inform(id, &given.fields, at, self.now) {
            Ok(effects) => effects,
            Err(answered) => return Ok(answered),
        };
        payloads.came(Address::of(self.partition, at), Arc::new(Payload::of(decoded)));
        let following = Following { id, cause: Some(envelope), payloads };
        self.follow(&following, effects, None, out)?;
        Ok(self.accepted(id))
    }

    /// Something may have become due of a parked case.
    pub(super) fn bell(
        &mut self,
        id: &CorrelationId,
        now: Timestamp,
        payloads: &Payloads,
        out: &mut Outputs,
    ) -> Result<(), Fault> {
        let following = Following { id, cause: None, payloads };
        match self.join.ring(id, now) {
            None => Ok(()),
            Some(Bell::Notice(kind)) => self.notice(&following, kind, out),
            Some(Bell::Expiry) => {
                tracing::warn!(correlation_id = %id, "nobody decided in time");
                match self.held(&following)? {
                    Ok(held) => self.decide(&following, &held, Trigger::Expiry, out).map(drop),
                    Err(why) => self.lose(id, &why, out),
                }
            }
        }
    }

    fn notice(&mut self, following: &Following<'_>, notice: NoticeKind, out: &mut Outputs) -> Result<(), Fault> {
        let id = following.id;
        let Some(case) = self.join.case(id) else { return Ok(()) };
        let Phase::Parked { since, reason } = &case.phase else { return Ok(()) };
        let plan = match self.payload(following, case.plan)?.and_then(|plan| is_of(&plan, id).map(|()| plan)) {
            Ok(plan) => plan,
            Err(why) => return self.lose(id, &format!("the plan cannot be read: {why}"), out),
        };
        let desk = case.desk();
        let awaited = desk.and_then(|desk| desk.awaited.as_ref());
        let notice = ParkedNotice {
            notice,
            parked_since: *since,
            parking: case.parking(),
            reason: reason.clone(),
            codes: desk.map(|desk| desk.codes.clone()).unwrap_or_default(),
            needs: awaited.map(|awaited| awaited.needs.clone()).unwrap_or_default(),
        };
        tracing::info!(correlation_id = %id, notice = ?notice.notice, "a parked case that nobody has decided");
        let (topic, kind) = (self.site.topology.inbox_topic(), notice.notice.event_type());
        let event = EventId::outbound(id, &topic, kind, notice.parking);
        let envelope = plan.envelope.caused(event, &self.site.source(), kind, self.now);
        out.push(emit::record(&topic, &envelope, &notice)?);
        out.touch(id);
        self.site.metrics.handled("notice");
        Ok(())
    }

    /// What whoever decided or provided something is told. Its id derives from where that lay: a redelivery is answered
    /// with the same one, a repeat with another.
    fn answer(
        &self,
        record: &Record,
        envelope: &Envelope,
        decision: Option<&ReviewDecision>,
        provided_by: Option<&str>,
        answer: Answered,
    ) -> Result<OutRecord, Fault> {
        let echo = |text: &str| text.chars().take(LONGEST_ECHO).collect::<String>();
        let answer = ReviewAnswer {
            to: envelope.id.clone(),
            partition: record.partition,
            offset: record.offset,
            reviewer: decision.map(|said| said.reviewer.as_str()).or(provided_by).map(echo),
            decision: decision.map(|said| echo(&said.decision)),
            answer,
        };
        self.site.metrics.handled("answered");
        let place = EventId::mint(&record.topic, record.partition, record.offset);
        let event = EventId::derive(&place, C::NAME, ReviewAnswer::TYPE, 0);
        let envelope = envelope.caused(event, &self.site.source(), ReviewAnswer::TYPE, self.now);
        Ok(emit::record(&self.site.topology.inbox_topic(), &envelope, &answer)?)
    }
}

fn too_long(decision: &ReviewDecision) -> Option<String> {
    if decision.reason.as_ref().is_some_and(|reason| reason.len() > LONGEST_REASON) {
        return Some(format!("its reason is longer than {LONGEST_REASON} bytes"));
    }
    let needs = decision.needs.len() > MOST_NEEDS || decision.needs.iter().any(|need| need.len() > LONGEST_ECHO);
    needs.then(|| format!("it asks for more than {MOST_NEEDS} things, or for one whose name is too long"))
}
