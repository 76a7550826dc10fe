//! The cases of one partition, and when each is due.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use anabranch_protocol::{CorrelationId, Envelope, Partial, Plan, Timestamp};

use super::case::{Case, Phase};
use super::effects::{Decision, DecisionError, Effects, LateReason};

/// What the topology says about joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JoinPolicy {
    /// Deadline of a case whose plan brings none.
    pub deadline: Duration,
    /// How long a closed case is remembered.
    pub closed_memory: Duration,
    /// Most follow-up rounds.
    pub max_follow_up_rounds: u32,
}

/// The cases of one partition.
#[derive(Debug)]
pub struct Join {
    policy: JoinPolicy,
    cases: HashMap<CorrelationId, Case>,
    due: BTreeSet<(Timestamp, CorrelationId)>,
}

/// What became due.
#[derive(Debug, Clone, PartialEq)]
pub enum Due {
    /// A deadline passed: see the effects.
    Overdue(CorrelationId, Effects),
    /// A closed case was forgotten: its state is to be removed.
    Forgotten(CorrelationId),
}

impl Join {
    /// An empty join.
    pub fn new(policy: JoinPolicy) -> Self {
        Self { policy, cases: HashMap::new(), due: BTreeSet::new() }
    }

    /// Puts back a case from the state topic.
    pub fn restore(&mut self, case: Case) {
        let id = case.envelope.correlation_id.clone();
        self.drop_case(&id);
        self.index(&id, &case);
        self.cases.insert(id, case);
    }

    /// Takes a case out (a tombstone on the state topic).
    pub fn drop_case(&mut self, id: &CorrelationId) {
        if let Some(case) = self.cases.remove(id) {
            self.unindex(id, &case);
        }
    }

    /// A case.
    pub fn case(&self, id: &CorrelationId) -> Option<&Case> {
        self.cases.get(id)
    }

    /// How many cases are known, closed ones included.
    pub fn len(&self) -> usize {
        self.cases.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.cases.is_empty()
    }

    /// How many cases stand in each phase: joining, parked, closed.
    pub fn phases(&self) -> (usize, usize, usize) {
        self.cases.values().fold((0, 0, 0), |(j, p, c), case| match case.phase {
            Phase::Joining => (j + 1, p, c),
            Phase::Parked { .. } => (j, p + 1, c),
            Phase::Closed { .. } => (j, p, c + 1),
        })
    }

    /// A plan came. The first of a case in log order counts.
    pub fn plan(&mut self, envelope: Envelope, plan: Plan) -> Effects {
        let id = envelope.correlation_id.clone();
        if let Some(case) = self.cases.get(&id) {
            return case.another_plan(&plan);
        }
        let deadline = envelope.deadline.unwrap_or_else(|| envelope.time.plus(self.policy.deadline));
        let case = Case::open(envelope, plan, deadline);
        let compose = case.is_complete().then(|| case.unanswered());
        self.index(&id, &case);
        self.cases.insert(id, case);
        Effects { changed: true, compose, ..Effects::default() }
    }

    /// An answer came.
    pub fn partial(&mut self, id: &CorrelationId, partial: Partial) -> Effects {
        match self.cases.get_mut(id) {
            Some(case) => case.partial(partial),
            None => Effects::late(LateReason::UnknownCase),
        }
    }

    /// A person decided. `None` if the case is parked and the composer is to be asked; else why it is not.
    pub fn review(&self, id: &CorrelationId) -> Option<LateReason> {
        match self.cases.get(id).map(|c| &c.phase) {
            Some(Phase::Parked { .. }) => None,
            Some(Phase::Joining) => Some(LateReason::NotParked),
            Some(Phase::Closed { .. }) => Some(LateReason::Closed),
            None => Some(LateReason::UnknownCase),
        }
    }

    /// Gives a parked case time again, for a round that a person asked for.
    pub fn extend(&mut self, id: &CorrelationId, now: Timestamp) {
        let deadline = now.plus(self.policy.deadline);
        self.change(id, |case| case.deadline = case.deadline.max(deadline));
    }

    /// The composer decided.
    ///
    /// # Errors
    /// [`DecisionError`]: the decision cannot be followed; nothing changed.
    pub fn decide(&mut self, id: &CorrelationId, decision: Decision, now: Timestamp) -> Result<Effects, DecisionError> {
        let rounds = self.policy.max_follow_up_rounds;
        self.change(id, |case| case.decide(decision, now, rounds)).unwrap_or_else(|| Ok(Effects::default()))
    }

    /// Closes a case that no composer could decide.
    pub fn abandon(&mut self, id: &CorrelationId, now: Timestamp) {
        self.change(id, |case| case.phase = Phase::Closed { at: now });
    }

    /// The next place for an outbound record of this topic and type.
    pub fn next_place(&mut self, id: &CorrelationId, topic: &str, kind: &str) -> u32 {
        self.cases.get_mut(id).map_or(0, |case| case.next_place(topic, kind))
    }

    /// Takes what is due by `now`, at most `limit`. An overdue case is due until it is decided: decide it before the
    /// next call.
    pub fn due(&mut self, now: Timestamp, limit: usize) -> Vec<Due> {
        let ids: Vec<CorrelationId> =
            self.due.iter().take_while(|(at, _)| *at <= now).take(limit).map(|(_, id)| id.clone()).collect();
        ids.into_iter()
            .filter_map(|id| {
                let case = self.cases.get(&id)?;
                if matches!(case.phase, Phase::Closed { .. }) {
                    self.drop_case(&id);
                    return Some(Due::Forgotten(id));
                }
                let effects = case.overdue();
                Some(Due::Overdue(id, effects))
            })
            .collect()
    }

    /// When something is due next.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    fn change<R>(&mut self, id: &CorrelationId, change: impl FnOnce(&mut Case) -> R) -> Option<R> {
        let mut case = self.cases.remove(id)?;
        self.unindex(id, &case);
        let result = change(&mut case);
        self.index(id, &case);
        self.cases.insert(id.clone(), case);
        Some(result)
    }

    fn due_time(&self, case: &Case) -> Option<Timestamp> {
        match case.phase {
            Phase::Joining => Some(case.deadline),
            Phase::Parked { .. } => None,
            Phase::Closed { at } => Some(at.plus(self.policy.closed_memory)),
        }
    }

    fn index(&mut self, id: &CorrelationId, case: &Case) {
        if let Some(at) = self.due_time(case) {
            self.due.insert((at, id.clone()));
        }
    }

    fn unindex(&mut self, id: &CorrelationId, case: &Case) {
        if let Some(at) = self.due_time(case) {
            self.due.remove(&(at, id.clone()));
        }
    }
}
