//! One partition of the join: applies records and timers, asks the author's composer, and gathers what is to be
//! written. Nothing here does I/O, so that all of it can be written at once (and, one day, in one transaction).

use std::collections::BTreeSet;
use std::sync::Arc;

use anabranch_core::join::{Case, Decision, Due, Effects, Join, LateReason, Unanswered};
use anabranch_kafka::{OutRecord, Record};
use anabranch_protocol::{
    CorrelationId, Envelope, EventId, FollowUp, FollowUpKind, Header, Partial, Plan, ReviewDecision, Timestamp, header,
};
use anabranch_sdk::composer::{Bands, Case as SdkCase, Composer, Outbound, Parts, Verdict};
use anabranch_sdk::error::{AgentError, Class};
use serde::Deserialize as _;

use super::state;
use super::view::{joined, part_of, voting_parts};
use crate::clock;
use crate::emit::{self, EmitError, GivenUp};
use crate::service::Service;

/// What is to be written because of a batch of records.
#[derive(Debug, Default)]
pub(super) struct Outputs {
    /// Outbound, follow-ups, late records, dead letters.
    pub(super) records: Vec<OutRecord>,
    /// Cases whose state is to be saved or removed.
    touched: BTreeSet<CorrelationId>,
}

impl Outputs {
    /// How many records this makes.
    pub(super) fn len(&self) -> usize {
        self.records.len() + self.touched.len()
    }
}

/// A fault that must stop the process.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("the composer cannot go on: {0}")]
    Composer(String),
    #[error(transparent)]
    Emit(#[from] EmitError),
}

/// One partition of the join.
pub(super) struct PartitionJoin<C> {
    pub(super) partition: i32,
    pub(super) join: Join,
    composer: Arc<C>,
    service: Service,
    bands: Bands,
    /// Partitions of the review topic, to tell a record that was keyed by other rules than Java's.
    review_partitions: i32,
}

impl<C: Composer> PartitionJoin<C> {
    pub(super) fn new(partition: i32, join: Join, composer: Arc<C>, service: Service, review_partitions: i32) -> Self {
        let bands = super::bands(&service.topology);
        Self { partition, join, composer, service, bands, review_partitions }
    }

    /// Applies one record.
    pub(super) fn apply(&mut self, record: &Record, out: &mut Outputs) -> Result<(), Fault> {
        let is_review = self.service.topology.inbound.review.as_ref().is_some_and(|t| *t.name == *record.topic);
        let applied = if is_review { self.review(record, out) } else { self.result(record, out) };
        match applied {
            Err(Unreadable::Fault(fault)) => Err(fault),
            Err(Unreadable::Record(why)) => {
                out.records.push(self.dead_letter(record, &why));
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn result(&mut self, record: &Record, out: &mut Outputs) -> Result<(), Unreadable> {
        let decoded = Envelope::decode(&record.view()).map_err(Unreadable::record)?;
        let envelope = decoded.envelope.clone();
        let id = envelope.correlation_id.clone();
        let effects = match envelope.kind.as_str() {
            Plan::TYPE => {
                let plan: Plan = decoded.json().map_err(Unreadable::record)?;
                tracing::debug!(correlation_id = %id, plan_id = %plan.plan_id, "plan");
                self.join.plan(envelope.clone(), plan)
            }
            Partial::TYPE => {
                let partial: Partial = decoded.json().map_err(Unreadable::record)?;
                tracing::debug!(correlation_id = %id, from = partial.agent, round = partial.round, "partial");
                self.join.partial(&id, partial)
            }
            other => return Err(Unreadable::Record(format!("{other:?} is no type that belongs on this topic"))),
        };
        self.follow(&id, effects, &envelope, Some(record), out)?;
        Ok(())
    }

    fn review(&mut self, record: &Record, out: &mut Outputs) -> Result<(), Unreadable> {
        let (envelope, decision) = Service::decode::<ReviewDecision>(record).map_err(Unreadable::record)?;
        let id = envelope.correlation_id.clone();
        if let Some(moved) = self.move_to_its_partition(record, &id) {
            out.records.push(moved);
            return Ok(());
        }
        if let Some(reason) = self.join.review(&id) {
            out.records.push(self.late(record, reason));
            return Ok(());
        }
        tracing::info!(correlation_id = %id, reviewer = decision.reviewer, decision = decision.decision, "review decision");
        self.decide(&id, &envelope, Trigger::Review(&decision), out)?;
        Ok(())
    }

    /// A producer that does not place keys as Java clients do (kcat, by default) puts a decision beside another
    /// partition of the join than its case. It is written again, where it belongs.
    fn move_to_its_partition(&self, record: &Record, id: &CorrelationId) -> Option<OutRecord> {
        let home = anabranch_protocol::partition::partition_for_key(id.as_str().as_bytes(), self.review_partitions);
        (home != self.partition).then(|| {
            tracing::info!(correlation_id = %id, from = self.partition, to = home, "a review decision in another partition, moving it");
            OutRecord {
                topic: record.topic.to_string(),
                partition: Some(home),
                key: Some(id.as_str().to_owned().into()),
                value: record.value.clone(),
                headers: record.headers.clone(),
                timestamp_ms: Some(record.timestamp_ms),
            }
        })
    }

    /// Applies what became due.
    pub(super) fn due(&mut self, now: Timestamp, limit: usize, out: &mut Outputs) -> Result<(), Fault> {
        for due in self.join.due(now, limit) {
            match due {
                Due::Forgotten(id) => {
                    out.touched.insert(id);
                }
                Due::Overdue(id, effects) => {
                    let Some(cause) = self.join.case(&id).map(|c| c.envelope.clone()) else { continue };
                    tracing::warn!(correlation_id = %id, "the deadline passed");
                    self.follow(&id, effects, &cause, None, out)?;
                }
            }
        }
        Ok(())
    }

    /// Does what an event asks for.
    fn follow(
        &mut self,
        id: &CorrelationId,
        effects: Effects,
        cause: &Envelope,
        record: Option<&Record>,
        out: &mut Outputs,
    ) -> Result<(), Fault> {
        if let (Some(reason), Some(record)) = (effects.late, record) {
            out.records.push(self.late(record, reason));
        }
        if effects.changed {
            out.touched.insert(id.clone());
        }
        for follow_up in &effects.follow_ups {
            self.ask(id, follow_up, cause, out)?;
        }
        if let Some(agent) = &effects.part {
            self.show_part(id, agent, cause, out)?;
        }
        if let Some(missing) = effects.compose {
            self.decide(id, cause, Trigger::Join(missing), out)?;
        }
        Ok(())
    }

    fn show_part(&mut self, id: &CorrelationId, agent: &str, cause: &Envelope, out: &mut Outputs) -> Result<(), Fault> {
        let Some(case) = self.join.case(id) else { return Ok(()) };
        let seen = self.sdk_case(case).and_then(|sdk| match part_of(case, agent) {
            Some(part) => self.composer.on_part(&sdk, part),
            None => Ok(Vec::new()),
        });
        match seen {
            Ok(outbound) => self.emit(id, &outbound, cause, out),
            Err(error) if error.class() == Class::Fatal => Err(Fault::Composer(error.to_string())),
            // The part still counts; only what would have left early is lost, and the operator is told.
            Err(error) => {
                tracing::error!(correlation_id = %id, from = agent, %error, "the composer cannot look at a part");
                Ok(())
            }
        }
    }

    fn decide(
        &mut self,
        id: &CorrelationId,
        cause: &Envelope,
        trigger: Trigger<'_>,
        out: &mut Outputs,
    ) -> Result<(), Fault> {
        let Some(case) = self.join.case(id) else { return Ok(()) };
        let is_review = matches!(trigger, Trigger::Review(_));
        let verdict = self.sdk_case(case).and_then(|sdk| {
            let parts = Parts::new(&case.plan.steps, voting_parts(case));
            match trigger {
                Trigger::Join(missing) => self.composer.compose(&sdk, joined(parts, missing)),
                Trigger::Review(decision) => self.composer.review(&sdk, joined(parts, case.unanswered()), decision),
            }
        });
        let followed = verdict.and_then(|verdict| self.follow_verdict(id, verdict, is_review));
        match followed {
            Ok((outbound, effects)) => {
                self.emit(id, &outbound, cause, out)?;
                out.touched.insert(id.clone());
                for follow_up in &effects.follow_ups {
                    self.ask(id, follow_up, cause, out)?;
                }
                Ok(())
            }
            Err(error) if error.class() == Class::Fatal => Err(Fault::Composer(error.to_string())),
            Err(error) => self.abandon(id, &error, out),
        }
    }

    fn follow_verdict(
        &mut self,
        id: &CorrelationId,
        verdict: Verdict,
        is_review: bool,
    ) -> Result<(Vec<Outbound>, Effects), AgentError> {
        let now = clock::now();
        let outcome = |outbound: &[Outbound]| outbound.first().map(|o| o.data().clone());
        let (outbound, decision) = match verdict {
            Verdict::Publish(outbound) => {
                let outcome = outcome(&outbound);
                (outbound, Decision::Close { outcome })
            }
            Verdict::Park { outbound, reason } => {
                let outcome = outcome(&outbound);
                (outbound, Decision::Park { outcome, reason })
            }
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

    /// A case that the composer cannot decide becomes a dead letter: its plan, with the request in it.
    fn abandon(&mut self, id: &CorrelationId, error: &AgentError, out: &mut Outputs) -> Result<(), Fault> {
        let Some(case) = self.join.case(id) else { return Ok(()) };
        tracing::error!(correlation_id = %id, %error, "the composer cannot decide the case, dead letter");
        let plan = emit::record(&self.service.topology.results_topic(), &case.envelope, &case.plan)?;
        let record = Record {
            topic: plan.topic.into(),
            partition: self.partition,
            offset: -1,
            timestamp_ms: case.envelope.time.as_millis(),
            key: plan.key,
            value: plan.value,
            headers: plan.headers,
        };
        out.records.push(self.dead_letter(&record, &error.to_string()));
        self.join.abandon(id, clock::now());
        out.touched.insert(id.clone());
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
            let topic = match self.outbound_topic(record) {
                Ok(topic) => topic,
                Err(error) => return Err(Fault::Composer(error.to_string())),
            };
            let place = self.join.next_place(id, &topic, record.kind());
            let event = EventId::outbound(id, &topic, record.kind(), place);
            let envelope = cause.caused(event, &self.service.source(), record.kind(), clock::now());
            out.records.push(emit::record(&topic, &envelope, record.data())?);
            out.touched.insert(id.clone());
        }
        Ok(())
    }

    fn ask(&self, id: &CorrelationId, follow_up: &FollowUp, cause: &Envelope, out: &mut Outputs) -> Result<(), Fault> {
        let Some(case) = self.join.case(id) else { return Ok(()) };
        let Some(first) = follow_up.tasks.first() else { return Ok(()) };
        let event =
            EventId::derive(&EventId::from(&first.task_id), C::NAME, FollowUp::TYPE, kind_index(follow_up.kind));
        let mut envelope = cause.caused(event, &self.service.source(), FollowUp::TYPE, clock::now());
        envelope.deadline = Some(match follow_up.kind {
            // What follows the outcome has time of its own: the case's deadline may have led to the outcome.
            FollowUpKind::Outcome => case.deadline.max(clock::now().plus(self.service.topology.join.deadline)),
            _ => case.deadline,
        });
        out.records.push(emit::record(&self.service.topology.followups_topic(), &envelope, follow_up)?);
        Ok(())
    }

    fn late(&self, record: &Record, reason: LateReason) -> OutRecord {
        tracing::debug!(correlation_id = %Service::case_of(record), reason = reason.as_str(), "late");
        self.service.metrics.handled("late");
        let mut headers = record.headers.clone();
        headers.push(Header::text(header::LATE_REASON, reason.as_str()));
        OutRecord {
            topic: self.service.topology.late_topic(),
            partition: None,
            key: record.key.clone(),
            value: record.value.clone(),
            headers,
            timestamp_ms: Some(record.timestamp_ms),
        }
    }

    fn dead_letter(&self, record: &Record, why: &str) -> OutRecord {
        let case = Service::case_of(record);
        self.service.metrics.handled("dead-letter");
        tracing::warn!(
            correlation_id = %case, agent = C::NAME, topic = &*record.topic, partition = record.partition,
            offset = record.offset, error = why, "dead letter"
        );
        let dlq_topic = self.service.topology.dlq_topic(&record.topic);
        let given_up = GivenUp {
            dlq_topic: &dlq_topic,
            group: &self.service.group(),
            agent: C::NAME,
            agent_version: C::VERSION,
            attempts: 1,
            class: "terminal",
            message: why,
            correlation_id: &case,
        };
        emit::dead_letter(record, &given_up)
    }

    /// The state records of all cases that changed.
    pub(super) fn state(&self, out: &Outputs) -> Result<Vec<OutRecord>, EmitError> {
        let topic = self.service.topology.state_topic();
        out.touched.iter().map(|id| state::record(&topic, self.partition, id, self.join.case(id))).collect()
    }

    fn sdk_case<'a>(&self, case: &'a Case) -> Result<SdkCase<'a, C::Request>, AgentError> {
        let request = C::Request::deserialize(&case.plan.request)
            .map_err(|e| AgentError::terminal("the request cannot be read").with_source(e))?;
        Ok(SdkCase {
            correlation_id: &case.envelope.correlation_id,
            request,
            deadline: Some(case.deadline),
            opened_at: case.envelope.time,
            now: clock::now(),
            round: case.round,
            bands: self.bands,
        })
    }
}

/// What asks for a decision.
enum Trigger<'a> {
    Join(Vec<Unanswered>),
    Review(&'a ReviewDecision),
}

/// A record that cannot be read, or a fault met on the way.
enum Unreadable {
    Record(String),
    Fault(Fault),
}

impl Unreadable {
    #[allow(clippy::needless_pass_by_value, reason = "for map_err")]
    fn record(error: anabranch_protocol::EnvelopeError) -> Self {
        Self::Record(error.to_string())
    }
}

impl From<Fault> for Unreadable {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

fn decision_word(decision: &Decision) -> &'static str {
    match decision {
        Decision::Close { .. } => "closed",
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
