//! A case as it is written to the state topic: JSON of a few hundred bytes that a person can read with `jq`, and that
//! reads quickly, as a million of them stand between a process and its work.

use std::borrow::Cow;
use std::collections::hash_map::DefaultHasher;

use anabranch_protocol::{PlanId, Step, Timestamp};
use serde::{Deserialize, Serialize};

use super::case::{Answer, Case, How, Phase, StepState};
use super::desk::Judged;
use super::place::{Log, Place};
use super::saved_desk::SavedDesk;
use super::shape::{Like, Shapes, hash_step};

/// `ce_type` of the dead letter of a case with a payload that cannot be read any more. Its value is a [`Saved`]: all that is
/// known of the case.
pub const LOST_CASE: &str = "anabranch.case.v1";

/// Where a case stands, as the state topic has it. Times are in milliseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved<'a> {
    phase: Word,
    /// Since when it is parked or closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since_ms: Option<i64>,
    /// Why it is parked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(borrow, default, skip_serializing_if = "is_empty")]
    plan_id: Cow<'a, str>,
    /// Where the plan lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    plan: Option<SavedPlace>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    opened_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deadline_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "is_zero")]
    round: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    outcomes: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    emitted: Vec<(Box<str>, u32)>,
    /// How often its request was sent back.
    #[serde(default, skip_serializing_if = "is_zero")]
    redrives: u32,
    /// It ended as a dead letter.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    given_up: bool,
    /// What concerns people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    people: Option<Box<SavedDesk>>,
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    steps: Vec<SavedStep<'a>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Joining,
    Parked,
    Closed,
}

/// A payload's place: at an offset of the results topic, or kept beside the case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedPlace {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    offset: Option<i64>,
    bytes: u32,
}

/// One step of a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedStep<'a> {
    #[serde(borrow)]
    agent: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    optional: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    after: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    asked: Option<u32>,
    /// The round of the latest answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answered: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    how: Option<How>,
    /// Where the answer lies on the results topic; not there: it is kept beside the case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    offset: Option<i64>,
    #[serde(default, skip_serializing_if = "is_zero")]
    bytes: u32,
}

/// A state record that is JSON, but no case.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is missing")]
pub struct Unsound(pub(super) &'static str);

fn is_empty(text: &str) -> bool {
    text.is_empty()
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl SavedPlace {
    pub(super) fn of(place: Place) -> Self {
        Self { offset: (place.log != Log::State).then_some(place.offset), bytes: place.bytes }
    }

    /// Where it is, of what was written to `log`.
    pub(super) fn place(self, log: Log) -> Place {
        match self.offset {
            Some(offset) => Place { log, offset, bytes: self.bytes },
            // Its own record tells where it is.
            None => Place { log: Log::State, offset: Place::UNKNOWN, bytes: self.bytes },
        }
    }
}

fn place(offset: Option<i64>, bytes: u32) -> Place {
    SavedPlace { offset, bytes }.place(Log::Results)
}

impl Like for SavedStep<'_> {
    fn is(&self, step: &Step) -> bool {
        self.agent == step.agent
            && self.optional != step.required
            && self.after == step.after
            && self.version == step.version
    }

    fn hash(&self, hasher: &mut DefaultHasher) {
        hash_step(hasher, &self.agent, !self.optional, &self.after, self.version.as_deref());
    }

    fn step(&self) -> Step {
        Step {
            agent: self.agent.clone().into_owned(),
            required: !self.optional,
            after: self.after.clone(),
            // Tasks are made of the plan's own record, which has it.
            sees: None,
            version: self.version.clone(),
        }
    }
}

impl<'a> Saved<'a> {
    /// Reads the value of a state record.
    ///
    /// # Errors
    /// If it is not such a value.
    pub fn read(value: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(value)
    }

    /// A case that is remembered only so that what comes late is known as such.
    pub(super) fn closed(at: Timestamp, judged: Option<&Judged>) -> Self {
        Self {
            people: judged.map(|judged| Box::new(SavedDesk::judged(judged))),
            phase: Word::Closed,
            since_ms: Some(at.as_millis()),
            reason: None,
            plan_id: Cow::Borrowed(""),
            plan: None,
            opened_ms: None,
            deadline_ms: None,
            round: 0,
            outcomes: 0,
            emitted: Vec::new(),
            redrives: 0,
            given_up: false,
            steps: Vec::new(),
        }
    }

    /// A case that ended as a dead letter, after its request was sent back so often.
    pub(super) fn given_up_at(at: Timestamp, redrives: u32) -> Self {
        Self { redrives, given_up: true, ..Self::closed(at, None) }
    }

    /// A whole case.
    pub(super) fn of(case: &'a Case) -> Self {
        let (phase, since, reason) = match &case.phase {
            Phase::Joining => (Word::Joining, None, None),
            Phase::Parked { since, reason } => (Word::Parked, Some(*since), Some(reason.clone())),
            Phase::Closed { at } => (Word::Closed, Some(*at), None),
        };
        let step = |(step, state): (&'a Step, &StepState)| SavedStep {
            agent: Cow::Borrowed(step.agent.as_str()),
            optional: !step.required,
            after: step.after.clone(),
            version: step.version.clone(),
            asked: state.asked,
            answered: state.answer.map(|a| a.round),
            how: state.answer.map(|a| a.how),
            offset: state.answer.and_then(|a| SavedPlace::of(a.at).offset),
            bytes: state.answer.map_or(0, |a| a.at.bytes),
        };
        Self {
            phase,
            since_ms: since.map(Timestamp::as_millis),
            reason,
            plan_id: Cow::Borrowed(case.plan_id.as_str()),
            plan: Some(SavedPlace::of(case.plan)),
            opened_ms: Some(case.opened_at.as_millis()),
            deadline_ms: Some(case.deadline.as_millis()),
            round: case.round,
            outcomes: case.outcomes,
            emitted: case.emitted.clone(),
            redrives: case.redrives,
            given_up: case.given_up,
            people: case.desk().map(|desk| Box::new(SavedDesk::of(desk))),
            steps: case.steps.iter().zip(case.states.iter()).map(step).collect(),
        }
    }

    /// Where the case stands.
    ///
    /// # Errors
    /// If it does not say since when.
    pub fn phase(&self) -> Result<Phase, Unsound> {
        let since = self.since_ms.map(Timestamp::from_millis).ok_or(Unsound("since_ms"));
        Ok(match self.phase {
            Word::Joining => Phase::Joining,
            Word::Parked => Phase::Parked { since: since?, reason: self.reason.clone().unwrap_or_default() },
            Word::Closed => Phase::Closed { at: since? },
        })
    }

    /// Of a case that ended as a dead letter, how often its request was sent back before that.
    pub fn given_up(&self) -> Option<u32> {
        self.given_up.then_some(self.redrives)
    }

    /// Follow-up rounds so far.
    pub fn round(&self) -> u32 {
        self.round
    }

    /// How many steps were asked, and how many of those have answered.
    pub fn progress(&self) -> (usize, usize) {
        let asked = self.steps.iter().filter(|s| s.asked.is_some());
        let answered = asked.clone().filter(|s| s.answered.is_some()).count();
        (asked.count(), answered)
    }

    /// The decision of a person that counted, of a closed case of which nothing more is known.
    pub(super) fn judged(&self) -> Option<Judged> {
        self.people.as_ref()?.judgement()
    }

    /// The case; `None` if it is closed and nothing more is known of it than when.
    ///
    /// # Errors
    /// If it is no case.
    pub fn whole(self) -> Result<Option<Case>, Unsound> {
        self.case(&mut Shapes::new())
    }

    /// The case; `None` if it is closed and nothing more is known of it than when.
    pub(super) fn case(self, shapes: &mut Shapes) -> Result<Option<Case>, Unsound> {
        let phase = self.phase()?;
        let Some(plan) = self.plan else {
            return if self.phase == Word::Closed { Ok(None) } else { Err(Unsound("plan")) };
        };
        let time = |ms: Option<i64>, name| ms.map(Timestamp::from_millis).ok_or(Unsound(name));
        let steps = shapes.get(&self.steps);
        if steps.len() != self.steps.len() {
            return Err(Unsound("a step of its own for each agent"));
        }
        let states = self.steps.iter().map(|step| {
            let answer = match (step.answered, step.how) {
                (None, _) => None,
                (Some(_), None) => return Err(Unsound("how")),
                (Some(round), Some(how)) => Some(Answer { round, how, at: place(step.offset, step.bytes) }),
            };
            Ok(StepState { asked: step.asked, answer })
        });
        Ok(Some(Case {
            states: states.collect::<Result<_, _>>()?,
            steps,
            plan_id: PlanId::new(self.plan_id),
            plan: place(plan.offset, plan.bytes),
            opened_at: time(self.opened_ms, "opened_ms")?,
            deadline: time(self.deadline_ms, "deadline_ms")?,
            phase,
            round: self.round,
            outcomes: self.outcomes,
            emitted: self.emitted,
            redrives: self.redrives,
            given_up: self.given_up,
            desk: self.people.map(|people| Box::new(people.desk())),
        }))
    }
}
