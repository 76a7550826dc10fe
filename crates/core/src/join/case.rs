//! One case: what was planned and answered, by reference, and the phase it is in.

use std::sync::Arc;

use anabranch_protocol::{FollowUpKind, Partial, PartialStatus, PlanId, Step, Timestamp};
use anabranch_topology::WaitFor;

use super::desk::Desk;
use super::effects::{Ask, Asks, Decision, DecisionError, Effects, LateReason, Unanswered, WhyMissing};
use super::place::{Log, Piece, Place};
use super::policy::JoinPolicy;

/// A case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    pub(super) steps: Arc<[Step]>,
    /// By step.
    pub(super) states: Box<[StepState]>,
    /// The plan that counts.
    pub plan_id: PlanId,
    /// Where that plan lies.
    pub plan: Place,
    /// When the request was planned.
    pub opened_at: Timestamp,
    /// When it must be decided.
    pub deadline: Timestamp,
    /// Where it stands.
    pub phase: Phase,
    /// Follow-up rounds so far.
    pub round: u32,
    /// How many outcomes there were (parked, then decided: two).
    pub outcomes: u32,
    /// How many outbound records of each `topic/type` left, so that the next one's id derives from its place.
    pub(super) emitted: Vec<(Box<str>, u32)>,
    /// How often its request was sent back.
    pub redrives: u32,
    /// It ended as a dead letter.
    pub given_up: bool,
    /// What concerns people; most cases never have it.
    pub(super) desk: Option<Box<Desk>>,
}

/// Where a case stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Answers are coming in.
    Joining,
    /// It waits for a person.
    Parked {
        /// Since when.
        since: Timestamp,
        /// Why.
        reason: String,
    },
    /// It has its outcome, and is remembered so that late and repeated parts change nothing.
    Closed {
        /// Since when.
        at: Timestamp,
    },
}

/// What is known of a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StepState {
    /// The latest round it was asked in.
    pub asked: Option<u32>,
    /// Its latest answer.
    pub answer: Option<Answer>,
}

/// An answer, by reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The round it answers.
    pub round: u32,
    /// How it turned out.
    pub how: How,
    /// Where it lies.
    pub at: Place,
}

/// How a task turned out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// The agent answered.
    Completed,
    /// The task became a dead letter.
    Failed,
    /// The deadline passed first.
    Expired,
}

impl From<&PartialStatus> for How {
    fn from(status: &PartialStatus) -> Self {
        match status {
            PartialStatus::Completed(_) => Self::Completed,
            PartialStatus::Failed { .. } => Self::Failed,
            PartialStatus::Expired => Self::Expired,
        }
    }
}

/// What an answer led to.
pub(super) struct Taken {
    pub(super) effects: Effects,
    /// A copy that nothing refers to any more.
    pub(super) released: Option<Piece>,
}

impl Case {
    /// Opens a case with the first plan of it.
    pub(super) fn open(
        plan_id: PlanId,
        steps: Arc<[Step]>,
        at: Place,
        opened_at: Timestamp,
        deadline: Timestamp,
    ) -> Self {
        let asked = |step: &Step| StepState { asked: step.after.is_empty().then_some(0), answer: None };
        Self {
            states: steps.iter().map(asked).collect(),
            steps,
            plan_id,
            plan: at,
            opened_at,
            deadline,
            phase: Phase::Joining,
            round: 0,
            outcomes: 0,
            emitted: Vec::new(),
            redrives: 0,
            given_up: false,
            desk: None,
        }
    }

    /// The steps of the plan.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// What is known of each step, in the plan's order.
    pub fn states(&self) -> &[StepState] {
        &self.states
    }

    /// Where its payloads lie. An answer that only says that the time was up has none.
    pub fn places(&self) -> impl Iterator<Item = (Piece, Place)> + '_ {
        let answers = self.states.iter().map(|s| s.answer.filter(|a| a.how != How::Expired)).enumerate();
        let answers = answers.filter_map(|(i, answer)| Some((Piece::Answer(i), answer?.at)));
        std::iter::once((Piece::Plan, self.plan)).chain(answers).chain(self.information_places())
    }

    pub(super) fn place_mut(&mut self, piece: Piece) -> Option<&mut Place> {
        match piece {
            Piece::Plan => Some(&mut self.plan),
            Piece::Answer(step) => self.states.get_mut(step)?.answer.as_mut().map(|answer| &mut answer.at),
            Piece::Information(index) => self.desk.as_mut()?.information.get_mut(index),
        }
    }

    /// Whether a plan that is not the first asks for the first one's tasks again: the supervisor that wrote the first
    /// may have died before it emitted them. Repeats are told by their task ids.
    pub(super) fn asks_again(&self, other: &PlanId) -> bool {
        *other != self.plan_id && self.phase == Phase::Joining && self.open_asks().next().is_some()
    }

    /// A later plan of the same case.
    pub(super) fn another_plan(&self, other: &PlanId) -> Effects {
        if *other == self.plan_id || self.phase != Phase::Joining {
            return Effects::late(LateReason::Repeated);
        }
        let tasks: Vec<Ask> = self.open_asks().map(|step| Ask { step, round: 0, question: None }).collect();
        let mut effects = Effects::late(LateReason::OtherPlan);
        if !tasks.is_empty() {
            effects.asks.push(Asks { kind: FollowUpKind::Replan, tasks });
        }
        effects
    }

    /// The plan's own tasks without an answer. Later rounds were asked for by a record of their own, which is not lost.
    fn open_asks(&self) -> impl Iterator<Item = usize> {
        let open = |(_, state): &(usize, &StepState)| state.asked == Some(0) && state.answer.is_none();
        self.states.iter().enumerate().filter(open).map(|(i, _)| i)
    }

    /// An answer came.
    pub(super) fn partial(&mut self, partial: &Partial, at: Place, wait_for: WaitFor) -> Taken {
        let step = match self.accepts(partial) {
            Ok(step) => step,
            Err(reason) => return Taken { effects: Effects::late(reason), released: None },
        };
        let how = How::from(&partial.status);
        let before = self.states[step].answer.replace(Answer { round: partial.round, how, at });
        let released = before.filter(|a| a.at.log == Log::State).map(|_| Piece::Answer(step));
        let mut effects =
            Effects { changed: true, part: (how == How::Completed).then_some(step), ..Effects::default() };
        if self.phase == Phase::Joining {
            effects.asks.extend(self.ask_ready_steps());
            effects.compose = self.is_decidable(wait_for).then(|| self.unanswered(false));
        }
        Taken { effects, released }
    }

    /// The step that an answer is for, or why it does not count.
    fn accepts(&self, partial: &Partial) -> Result<usize, LateReason> {
        if partial.plan_id != self.plan_id {
            return Err(LateReason::OtherPlan);
        }
        let Some(index) = self.step(&partial.agent) else { return Err(LateReason::NotAsked) };
        let state = &self.states[index];
        match state.asked {
            Some(asked) if asked == partial.round => {}
            Some(asked) if asked > partial.round => return Err(LateReason::Superseded),
            _ => return Err(LateReason::NotAsked),
        }
        // An answer after a failure counts: its task was sent back from the dead letters. Nothing else replaces an answer.
        let mended = |before: Answer| {
            before.round == partial.round
                && before.how != How::Completed
                && How::from(&partial.status) == How::Completed
        };
        if state.answer.is_some_and(|before| before.round >= partial.round && !mended(before)) {
            return Err(LateReason::Repeated);
        }
        match self.phase {
            Phase::Joining => Ok(index),
            _ if self.steps[index].follows_outcome() => Ok(index),
            Phase::Parked { .. } => Err(LateReason::Parked),
            Phase::Closed { .. } => Err(LateReason::Closed),
        }
    }

    /// What taking an answer in would need: the plan to show it, all of it to ask or to decide.
    pub(super) fn needs_for(&mut self, partial: &Partial, wait_for: WaitFor) -> super::Needs {
        let Ok(step) = self.accepts(partial) else { return super::Needs::Nothing };
        let how = How::from(&partial.status);
        let at = Place::results(Place::UNKNOWN, 0);
        let before = self.states[step].answer.replace(Answer { round: partial.round, how, at });
        let joining = self.phase == Phase::Joining;
        let all = joining && (self.ready_steps().next().is_some() || self.is_decidable(wait_for));
        self.states[step].answer = before;
        match (all, how) {
            (true, _) => super::Needs::All,
            (false, How::Completed) => super::Needs::Plan,
            (false, _) => super::Needs::Nothing,
        }
    }

    /// Steps whose predecessors have all answered (or will not) and that were not asked yet.
    fn ready_steps(&self) -> impl Iterator<Item = usize> {
        // One that waits for a step that is not in the plan waits for the deadline.
        let resolved = |agent: &String| self.step(agent).is_some_and(|i| self.is_resolved(i));
        let ready = move |i: &usize| self.states[*i].asked.is_none() && self.steps[*i].after.iter().all(resolved);
        self.voting().filter(ready)
    }

    fn ask_ready_steps(&mut self) -> Option<Asks> {
        let ready: Vec<usize> = self.ready_steps().collect();
        ready.iter().for_each(|step| self.states[*step].asked = Some(0));
        let tasks = ready.into_iter().map(|step| Ask { step, round: 0, question: None });
        let tasks: Vec<Ask> = tasks.collect();
        (!tasks.is_empty()).then_some(Asks { kind: FollowUpKind::StepReady, tasks })
    }

    /// Whether nothing more is to be expected of a step.
    pub(super) fn is_resolved(&self, step: usize) -> bool {
        let state = &self.states[step];
        state.asked.is_some_and(|asked| state.answer.is_some_and(|a| a.round >= asked))
    }

    /// Whether a step has given an answer to what it was last asked.
    pub(super) fn is_answered(&self, step: usize) -> bool {
        self.is_resolved(step) && self.states[step].answer.is_some_and(|a| a.how == How::Completed)
    }

    pub(super) fn voting(&self) -> impl Iterator<Item = usize> {
        self.steps.iter().enumerate().filter(|(_, s)| !s.follows_outcome()).map(|(i, _)| i)
    }

    /// The voting steps without a usable answer; `late` if the deadline has passed.
    pub fn unanswered(&self, late: bool) -> Vec<Unanswered> {
        let missing = |i: usize| {
            let why = match self.states[i].answer.map(|a| a.how) {
                _ if self.is_answered(i) => return None,
                Some(How::Failed) => WhyMissing::Failed,
                _ if late || self.is_resolved(i) => WhyMissing::Late,
                _ => WhyMissing::NotWaitedFor,
            };
            let step = &self.steps[i];
            Some(Unanswered { step: i, agent: step.agent.clone(), required: step.required, why })
        };
        self.voting().filter_map(missing).collect()
    }

    /// Follows a decision.
    pub(super) fn decide(
        &mut self,
        decision: Decision,
        now: Timestamp,
        policy: &JoinPolicy,
    ) -> Result<Effects, DecisionError> {
        let mut effects = Effects { changed: true, ..Effects::default() };
        match decision {
            Decision::Close => {
                self.close(now);
                effects.asks.extend(self.after_outcome());
            }
            Decision::Park(parking) => {
                self.park(parking, now, &policy.parking)?;
                effects.asks.extend(self.after_outcome());
            }
            Decision::FollowUp(asks) => effects.asks.push(self.ask_again(asks, now, policy.max_follow_up_rounds)?),
        }
        Ok(effects)
    }

    /// It is over; what answers may still come are those of steps after the outcome.
    pub(super) fn close(&mut self, now: Timestamp) {
        self.unpark();
        self.phase = Phase::Closed { at: now };
    }

    fn after_outcome(&mut self) -> Option<Asks> {
        let round = self.outcomes;
        self.outcomes += 1;
        let follows = self.steps.iter().enumerate().filter(|(_, s)| s.follows_outcome()).map(|(i, _)| i);
        let tasks: Vec<Ask> = follows.map(|step| Ask { step, round, question: None }).collect();
        tasks.iter().for_each(|ask| self.states[ask.step].asked = Some(round));
        (!tasks.is_empty()).then_some(Asks { kind: FollowUpKind::Outcome, tasks })
    }

    /// When it was closed, if nothing is to be expected any more that would still count.
    pub(super) fn is_over(&self) -> Option<Timestamp> {
        let Phase::Closed { at } = self.phase else { return None };
        let outstanding = |(i, step): (usize, &Step)| {
            step.follows_outcome() && self.states[i].asked.is_some() && !self.is_resolved(i)
        };
        (!self.steps.iter().enumerate().any(outstanding)).then_some(at)
    }

    pub(super) fn step(&self, agent: &str) -> Option<usize> {
        self.steps.iter().position(|s| s.agent == agent)
    }

    /// Takes the next place for an outbound record of this topic and type.
    pub(super) fn next_place(&mut self, topic: &str, kind: &str) -> u32 {
        let name = format!("{topic}/{kind}");
        match self.emitted.iter_mut().find(|(known, _)| **known == *name) {
            Some((_, count)) => {
                *count += 1;
                *count - 1
            }
            None => {
                self.emitted.push((name.into_boxed_str(), 1));
                0
            }
        }
    }
}
