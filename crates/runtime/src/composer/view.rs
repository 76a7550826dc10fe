//! A case with its payloads, as the author's composer sees it and as tasks are made of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_core::join::{Ask, Asks, Case, How, Piece, Place, Unanswered, WhyMissing};
use anabranch_core::visibility::Sight;
use anabranch_protocol::{
    Completion, CorrelationId, FollowUp, InformationProvided, Partial, PartialStatus, Plan, PlanId, Task, TaskId,
};
use anabranch_sdk::composer::{Joined, Missing, MissingReason, Part, Parts};
use anabranch_topology::Topology;
use serde::Deserialize;
use serde_json::Value;

use super::payloads::{Loaded, Payload};

/// What names the payload of information.
const INFORMATION: &str = "the information that came";

/// A case with its plan, answers and information.
pub(super) struct Held {
    /// The plan as it was written.
    pub(super) written: Arc<Payload>,
    /// The plan; in its request is what came since.
    pub(super) plan: Plan,
    /// By step. `None`: there is no answer, or one without a payload.
    answers: Vec<Option<(Arc<Payload>, Partial)>>,
    /// What came of what was asked for.
    information: Vec<Arc<Payload>>,
    /// All of that by name; the latest counts.
    pub(super) informed: BTreeMap<String, Value>,
}

/// The part of a plan that a composer sees.
#[derive(Deserialize)]
pub(super) struct RequestOf<R> {
    plan_id: PlanId,
    pub(super) request: R,
}

/// What lies where the case's plan lay, if it is that plan.
pub(super) fn is_of(payload: &Payload, id: &CorrelationId) -> Result<(), String> {
    if payload.envelope.correlation_id == *id {
        return Ok(());
    }
    Err(format!("what lies there is a record of case {}", payload.envelope.correlation_id))
}

impl<R> RequestOf<R> {
    pub(super) fn is_of(&self, case: &Case) -> bool {
        self.plan_id == case.plan_id
    }
}

/// The answer of a step, from its payload.
fn answer(case: &Case, step: usize, read: impl Fn(&str) -> Loaded) -> Result<(Arc<Payload>, Partial), String> {
    let agent = &case.steps()[step].agent;
    let name = format!("the answer of {agent}");
    let payload = read(&name)?;
    let partial: Partial = serde_json::from_slice(&payload.data).map_err(|e| format!("{name} cannot be read: {e}"))?;
    if partial.plan_id != case.plan_id || partial.agent != *agent {
        return Err(format!("{name} cannot be read: what lies there is an answer of {}", partial.agent));
    }
    Ok((payload, partial))
}

/// What was provided, by name.
pub(super) fn fields(payload: &Payload) -> Result<BTreeMap<String, Value>, String> {
    let given = serde_json::from_slice::<InformationProvided>(&payload.data);
    given.map(|given| given.fields).map_err(|e| format!("{INFORMATION} cannot be read: {e}"))
}

/// Puts what came into a request. One that is no object stays as it is.
pub(super) fn inform(request: &mut Value, informed: &BTreeMap<String, Value>) {
    if let Some(request) = request.as_object_mut() {
        request.extend(informed.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
}

impl Held {
    /// Puts a case together from its payloads.
    ///
    /// # Errors
    /// Why one of them cannot be read any more.
    pub(super) fn read(id: &CorrelationId, case: &Case, get: impl Fn(Place) -> Loaded) -> Result<Self, String> {
        let read = |piece: &str, place: Place| {
            let payload = get(place).and_then(|payload| is_of(&payload, id).map(|()| payload));
            payload.map_err(|why| format!("{piece} cannot be read: {why}"))
        };
        let written = read("the plan", case.plan)?;
        let mut plan: Plan =
            serde_json::from_slice(&written.data).map_err(|e| format!("the plan cannot be read: {e}"))?;
        if plan.plan_id != case.plan_id {
            return Err(format!("the plan cannot be read: what lies there is plan {}", plan.plan_id));
        }
        let mut answers: Vec<Option<(Arc<Payload>, Partial)>> = case.steps().iter().map(|_| None).collect();
        let (mut information, mut informed) = (Vec::new(), BTreeMap::new());
        for (piece, place) in case.places() {
            match piece {
                Piece::Plan => {}
                Piece::Answer(step) => answers[step] = Some(answer(case, step, |name| read(name, place))?),
                Piece::Information(_) => {
                    let payload = read(INFORMATION, place)?;
                    informed.extend(fields(&payload)?);
                    information.push(payload);
                }
            }
        }
        inform(&mut plan.request, &informed);
        Ok(Self { written, plan, answers, information, informed })
    }

    /// A piece as it was written.
    pub(super) fn payload(&self, piece: Piece) -> Option<&Arc<Payload>> {
        match piece {
            Piece::Plan => Some(&self.written),
            Piece::Answer(step) => self.answers.get(step)?.as_ref().map(|(payload, _)| payload),
            Piece::Information(index) => self.information.get(index),
        }
    }

    fn completion(&self, step: usize) -> Option<(&Partial, &Completion)> {
        let (_, partial) = self.answers.get(step)?.as_ref()?;
        match &partial.status {
            PartialStatus::Completed(completion) => Some((partial, completion)),
            _ => None,
        }
    }

    /// The answers of the voting steps.
    pub(super) fn parts<'a>(&'a self, case: &'a Case) -> Parts<'a> {
        let voting = case.steps().iter().enumerate().filter(|(_, step)| !step.follows_outcome());
        let answered = voting.filter(|(i, _)| case.states()[*i].answer.is_some_and(|a| a.how == How::Completed));
        let parts = answered.filter_map(|(i, _)| self.completion(i).map(|(partial, _)| part_of(partial))).flatten();
        Parts::new(case.steps(), parts)
    }

    /// The parts there are, and what is missing.
    pub(super) fn joined<'a>(&'a self, case: &'a Case, unanswered: Vec<Unanswered>) -> Joined<'a> {
        let parts = self.parts(case);
        if unanswered.is_empty() {
            return Joined::All(parts);
        }
        Joined::Incomplete { missing: unanswered.into_iter().map(|u| self.missing(u)).collect(), parts }
    }

    fn missing(&self, unanswered: Unanswered) -> Missing {
        let reason = match unanswered.why {
            WhyMissing::Late => MissingReason::Late,
            WhyMissing::NotWaitedFor => MissingReason::NotWaitedFor,
            WhyMissing::Failed => MissingReason::Failed(self.failure(unanswered.step).to_owned()),
        };
        Missing { agent: unanswered.agent, required: unanswered.required, reason }
    }

    fn failure(&self, step: usize) -> &str {
        match self.answers.get(step).and_then(Option::as_ref).map(|(_, partial)| &partial.status) {
            Some(PartialStatus::Failed { reason }) => reason,
            _ => "it did not say why",
        }
    }

    /// Which answers are missing, in words.
    pub(super) fn named(&self, missing: &[Unanswered]) -> String {
        let name = |u: &Unanswered| {
            let need = if u.required { "required" } else { "optional" };
            match u.why {
                WhyMissing::Failed => format!("{} ({need}, failed: {})", u.agent, self.failure(u.step)),
                WhyMissing::Late | WhyMissing::NotWaitedFor => format!("{} ({need}, no answer)", u.agent),
            }
        };
        missing.iter().map(name).collect::<Vec<_>>().join(", ")
    }

    /// The tasks that are asked for, complete: the supervisor keeps no state to look anything up in.
    pub(super) fn follow_up(&self, topology: &Topology, case: &Case, asks: &Asks, outcome: Option<&Value>) -> FollowUp {
        let tasks = asks.tasks.iter().map(|ask| self.task(topology, case, ask, outcome));
        FollowUp { plan_id: case.plan_id.clone(), kind: asks.kind, tasks: tasks.collect() }
    }

    /// A task with what its agent may see: the plan says so, and the topology has the last word.
    fn task(&self, topology: &Topology, case: &Case, ask: &Ask, outcome: Option<&Value>) -> Task {
        let step = &case.steps()[ask.step];
        let planned = self.plan.steps.iter().find(|planned| planned.agent == step.agent).unwrap_or(step);
        let settings = topology.agent(&step.agent);
        let sight = Sight::new(planned, &settings);
        let parts: BTreeMap<String, Completion> = case
            .steps()
            .iter()
            .enumerate()
            .filter(|(_, other)| sight.answer_of(&other.agent))
            .filter_map(|(i, other)| Some((other.agent.clone(), self.completion(i)?.1.clone())))
            .collect();
        Task {
            task_id: TaskId::derive(&case.plan_id, &step.agent, ask.round),
            plan_id: case.plan_id.clone(),
            agent: step.agent.clone(),
            round: ask.round,
            question: ask.question.clone(),
            request: sight.request(&self.plan.request),
            parts,
            outcome: outcome.filter(|_| sight.outcome()).cloned(),
            case: Some(sight.context(&self.plan.steps)),
        }
    }
}

/// An answer as a part; `None` if it is none.
pub(super) fn part_of(partial: &Partial) -> Option<Part<'_>> {
    match &partial.status {
        PartialStatus::Completed(completion) => {
            Some(Part { agent: &partial.agent, version: &partial.agent_version, round: partial.round, completion })
        }
        _ => None,
    }
}
