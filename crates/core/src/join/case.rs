//! One case: its plan, the answers so far, and the phase it is in.

use std::collections::BTreeMap;

use anabranch_protocol::{
    Completion, Envelope, FollowUp, FollowUpKind, Partial, PartialStatus, Plan, PriorPart, Step, Task, TaskId,
    Timestamp, Work,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::effects::{Decision, DecisionError, Effects, LateReason, Unanswered, WhyMissing};

/// A case. Serialized as it is into the composer's state topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// Envelope of the plan: correlation id, trace, cause.
    pub envelope: Envelope,
    /// The plan that counts.
    pub plan: Plan,
    /// When it must be decided.
    pub deadline: Timestamp,
    /// Where it stands.
    pub phase: Phase,
    /// Follow-up rounds so far.
    pub round: u32,
    /// The latest round each agent was asked in.
    pub asked: BTreeMap<String, u32>,
    /// The latest answer of each agent.
    pub answers: BTreeMap<String, Answer>,
    /// How many outbound records of each `topic/type` left, so that the next one's id derives from its place.
    #[serde(default)]
    pub emitted: BTreeMap<String, u32>,
    /// How many outcomes there were (parked, then decided: two).
    #[serde(default)]
    pub outcomes: u32,
}

/// Where a case stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
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

/// What an agent answered, or that it will not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The round it answers.
    pub round: u32,
    /// The agent's version.
    pub version: String,
    /// The answer.
    pub status: AnswerStatus,
    /// When the work was done.
    pub work: Work,
}

/// An answer, or why there is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerStatus {
    /// It answered.
    Completed(Completion),
    /// Its task became a dead letter.
    Failed(String),
    /// The deadline passed first.
    Expired,
}

impl Case {
    /// Opens a case with the first plan of it.
    pub(super) fn open(envelope: Envelope, plan: Plan, deadline: Timestamp) -> Self {
        let asked = plan.steps.iter().filter(|s| s.after.is_empty()).map(|s| (s.agent.clone(), 0)).collect();
        Self {
            envelope,
            plan,
            deadline,
            phase: Phase::Joining,
            round: 0,
            asked,
            answers: BTreeMap::new(),
            emitted: BTreeMap::new(),
            outcomes: 0,
        }
    }

    /// A later plan of the same case. If it differs, the supervisor that wrote the first may have died before it
    /// emitted the first one's tasks: ask for those that have not answered. Repeats are told by their task ids.
    pub(super) fn another_plan(&self, other: &Plan) -> Effects {
        if other.plan_id == self.plan.plan_id || self.phase != Phase::Joining {
            return Effects::late(LateReason::Repeated);
        }
        let tasks: Vec<Task> = self.open_asks().map(|agent| self.task(agent, 0, None, None)).collect();
        let mut effects = Effects::late(LateReason::OtherPlan);
        if !tasks.is_empty() {
            effects.follow_ups.push(self.follow_up(FollowUpKind::Replan, tasks));
        }
        effects
    }

    /// The plan's own tasks without an answer. Later rounds were asked for by a record of their own, which is not lost.
    fn open_asks(&self) -> impl Iterator<Item = &str> {
        let open = |(agent, round): &(&String, &u32)| **round == 0 && !self.answers.contains_key(*agent);
        self.asked.iter().filter(open).map(|(agent, _)| agent.as_str())
    }

    /// An answer came.
    pub(super) fn partial(&mut self, partial: Partial) -> Effects {
        if let Some(reason) = self.refuses(&partial) {
            return Effects::late(reason);
        }
        let agent = partial.agent.clone();
        let completed = matches!(partial.status, PartialStatus::Completed(_));
        let status = match partial.status {
            PartialStatus::Completed(completion) => AnswerStatus::Completed(completion),
            PartialStatus::Failed { reason } => AnswerStatus::Failed(reason),
            PartialStatus::Expired => AnswerStatus::Expired,
        };
        let answer = Answer { round: partial.round, version: partial.agent_version, status, work: partial.work };
        self.answers.insert(partial.agent, answer);
        let mut effects = Effects { changed: true, part: completed.then_some(agent), ..Effects::default() };
        if self.phase == Phase::Joining {
            effects.follow_ups.extend(self.ready_steps());
            effects.compose = self.is_complete().then(|| self.unanswered());
        }
        effects
    }

    fn refuses(&self, partial: &Partial) -> Option<LateReason> {
        if partial.plan_id != self.plan.plan_id {
            return Some(LateReason::OtherPlan);
        }
        let Some(step) = self.step(&partial.agent) else {
            return Some(LateReason::NotAsked);
        };
        match self.asked.get(&partial.agent) {
            Some(asked) if *asked == partial.round => {}
            Some(asked) if *asked > partial.round => return Some(LateReason::Superseded),
            _ => return Some(LateReason::NotAsked),
        }
        if self.answers.get(&partial.agent).is_some_and(|a| a.round >= partial.round) {
            return Some(LateReason::Repeated);
        }
        match self.phase {
            Phase::Joining => None,
            _ if step.follows_outcome() => None,
            Phase::Parked { .. } => Some(LateReason::Parked),
            Phase::Closed { .. } => Some(LateReason::Closed),
        }
    }

    /// Steps whose predecessors have all answered (or will not) and that were not asked yet.
    fn ready_steps(&mut self) -> Option<FollowUp> {
        let resolved = |agent: &String| self.is_resolved(agent);
        let ready: Vec<String> = self
            .plan
            .steps
            .iter()
            .filter(|s| !s.follows_outcome() && !self.asked.contains_key(&s.agent) && s.after.iter().all(resolved))
            .map(|s| s.agent.clone())
            .collect();
        if ready.is_empty() {
            return None;
        }
        let tasks = ready.iter().map(|agent| self.task(agent, 0, None, None)).collect();
        self.asked.extend(ready.into_iter().map(|agent| (agent, 0)));
        Some(self.follow_up(FollowUpKind::StepReady, tasks))
    }

    fn is_resolved(&self, agent: &str) -> bool {
        let Some(asked) = self.asked.get(agent) else {
            return false;
        };
        self.answers.get(agent).is_some_and(|a| a.round >= *asked)
    }

    fn voting(&self) -> impl Iterator<Item = &Step> {
        self.plan.steps.iter().filter(|s| !s.follows_outcome())
    }

    pub(super) fn is_complete(&self) -> bool {
        self.voting().all(|s| self.is_resolved(&s.agent))
    }

    /// The voting steps without a usable answer.
    pub fn unanswered(&self) -> Vec<Unanswered> {
        let missing = |step: &Step| {
            let why = match self.answers.get(&step.agent).map(|a| &a.status) {
                Some(AnswerStatus::Completed(_)) if self.is_resolved(&step.agent) => return None,
                Some(AnswerStatus::Failed(reason)) => WhyMissing::Failed(reason.clone()),
                _ => WhyMissing::Late,
            };
            Some(Unanswered { agent: step.agent.clone(), required: step.required, why })
        };
        self.voting().filter_map(missing).collect()
    }

    /// The deadline passed.
    pub(super) fn overdue(&self) -> Effects {
        Effects { compose: Some(self.unanswered()), ..Effects::default() }
    }

    /// Follows a decision.
    pub(super) fn decide(
        &mut self,
        decision: Decision,
        now: Timestamp,
        max_rounds: u32,
    ) -> Result<Effects, DecisionError> {
        let mut effects = Effects { changed: true, ..Effects::default() };
        match decision {
            Decision::Close { outcome } => {
                self.phase = Phase::Closed { at: now };
                effects.follow_ups.extend(self.after_outcome(outcome.as_ref()));
            }
            Decision::Park { outcome, reason } => {
                self.phase = Phase::Parked { since: now, reason };
                effects.follow_ups.extend(self.after_outcome(outcome.as_ref()));
            }
            Decision::FollowUp(asks) => effects.follow_ups.push(self.ask_again(asks, now, max_rounds)?),
        }
        Ok(effects)
    }

    fn ask_again(
        &mut self,
        asks: Vec<(String, String)>,
        now: Timestamp,
        max_rounds: u32,
    ) -> Result<FollowUp, DecisionError> {
        if asks.is_empty() {
            return Err(DecisionError::Empty);
        }
        if now >= self.deadline {
            return Err(DecisionError::TooLate);
        }
        if self.round >= max_rounds {
            return Err(DecisionError::TooManyRounds(self.round + 1));
        }
        if let Some((agent, _)) = asks.iter().find(|(agent, _)| !self.voting().any(|s| s.agent == *agent)) {
            return Err(DecisionError::NoSuchStep(agent.clone()));
        }
        self.phase = Phase::Joining;
        self.round += 1;
        let round = self.round;
        let tasks = asks.iter().map(|(agent, question)| self.task(agent, round, Some(question), None)).collect();
        self.asked.extend(asks.into_iter().map(|(agent, _)| (agent, round)));
        Ok(self.follow_up(FollowUpKind::Round, tasks))
    }

    fn after_outcome(&mut self, outcome: Option<&Value>) -> Option<FollowUp> {
        let round = self.outcomes;
        self.outcomes += 1;
        let steps: Vec<String> =
            self.plan.steps.iter().filter(|s| s.follows_outcome()).map(|s| s.agent.clone()).collect();
        if steps.is_empty() {
            return None;
        }
        let tasks = steps.iter().map(|agent| self.task(agent, round, None, outcome)).collect();
        self.asked.extend(steps.into_iter().map(|agent| (agent, round)));
        Some(self.follow_up(FollowUpKind::Outcome, tasks))
    }

    fn step(&self, agent: &str) -> Option<&Step> {
        self.plan.steps.iter().find(|s| s.agent == agent)
    }

    /// A task sees the answers it waits for, and its own agent's earlier one.
    fn task(&self, agent: &str, round: u32, question: Option<&String>, outcome: Option<&Value>) -> Task {
        let after = self.step(agent).map(|s| s.after.as_slice()).unwrap_or_default();
        let parts: BTreeMap<String, PriorPart> = self
            .answers
            .iter()
            .filter(|(name, _)| *name == agent || after.contains(name))
            .filter_map(|(name, answer)| match &answer.status {
                AnswerStatus::Completed(completion) => Some((name.clone(), completion.clone())),
                _ => None,
            })
            .collect();
        Task {
            task_id: TaskId::derive(&self.plan.plan_id, agent, round),
            plan_id: self.plan.plan_id.clone(),
            agent: agent.to_owned(),
            round,
            question: question.cloned(),
            request: self.plan.request.clone(),
            parts,
            outcome: outcome.cloned(),
        }
    }

    fn follow_up(&self, kind: FollowUpKind, tasks: Vec<Task>) -> FollowUp {
        FollowUp { plan_id: self.plan.plan_id.clone(), kind, tasks }
    }

    /// Takes the next place for an outbound record of this topic and type.
    pub fn next_place(&mut self, topic: &str, kind: &str) -> u32 {
        let count = self.emitted.entry(format!("{topic}/{kind}")).or_insert(0);
        let place = *count;
        *count += 1;
        place
    }
}
