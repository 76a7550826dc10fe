//! The cases of one partition, and when each is due.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use anabranch_protocol::{CorrelationId, Envelope, Partial, PlanId, Step, Timestamp};
use anabranch_topology::WhenDeadlinePasses;

use super::case::{Case, Phase};
use super::effects::{Decision, DecisionError, Effects, Event, LateReason, Needs};
use super::place::{Log, Piece, Place};
use super::policy::JoinPolicy;
use super::saved::{Saved, Unsound};
use super::shape::Shapes;

/// The cases of one partition.
#[derive(Debug)]
pub struct Join {
    policy: JoinPolicy,
    shapes: Shapes,
    cases: HashMap<Arc<str>, Entry>,
    due: BTreeSet<(Timestamp, Arc<str>)>,
    /// Joining, parked, closed.
    phases: [usize; 3],
    /// Copies that nothing refers to any more.
    released: Vec<(Arc<str>, Piece)>,
}

/// What is known of a case.
#[derive(Debug)]
enum Entry {
    Whole(Box<Case>),
    /// It closed then, and nothing can come that would still count.
    Over(Timestamp),
}

/// What became due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// A deadline passed: see [`Join::overdue`].
    Overdue(CorrelationId),
    /// A closed case was forgotten: its state is to be removed.
    Forgotten(CorrelationId),
}

impl Entry {
    fn whole(&self) -> Option<&Case> {
        match self {
            Self::Whole(case) => Some(case),
            Self::Over(_) => None,
        }
    }

    fn phase(&self) -> usize {
        match self.whole().map(|case| &case.phase) {
            Some(Phase::Joining) => 0,
            Some(Phase::Parked { .. }) => 1,
            Some(Phase::Closed { .. }) | None => 2,
        }
    }

    fn due(&self, policy: &JoinPolicy) -> Option<Timestamp> {
        match self {
            Self::Over(at) => Some(at.plus(policy.closed_memory)),
            Self::Whole(case) => match case.phase {
                Phase::Joining => Some(case.deadline),
                Phase::Parked { .. } => None,
                Phase::Closed { at } => Some(at.plus(policy.closed_memory)),
            },
        }
    }

    fn copies(&self) -> impl Iterator<Item = Piece> + '_ {
        let places = self.whole().into_iter().flat_map(Case::places);
        places.filter(|(_, place)| place.log == Log::State).map(|(piece, _)| piece)
    }
}

impl Join {
    /// An empty join.
    pub fn new(policy: JoinPolicy) -> Self {
        Self {
            policy,
            shapes: Shapes::new(),
            cases: HashMap::new(),
            due: BTreeSet::new(),
            phases: [0; 3],
            released: Vec::new(),
        }
    }

    /// Puts back a case from the state topic. Where its copies lie is told by [`found`](Self::found), once all is read.
    ///
    /// # Errors
    /// If the record is no case; nothing changed.
    pub fn restore(&mut self, id: &str, saved: Saved<'_>) -> Result<(), Unsound> {
        let at = match saved.phase()? {
            Phase::Closed { at } => Some(at),
            _ => None,
        };
        let entry = match (saved.case(&mut self.shapes)?, at) {
            (Some(case), _) => Entry::Whole(Box::new(case)),
            (None, Some(at)) => Entry::Over(at),
            (None, None) => return Err(Unsound("plan")),
        };
        self.drop_case(id);
        self.insert(id.into(), entry);
        Ok(())
    }

    /// Takes a case out (a tombstone on the state topic).
    pub fn drop_case(&mut self, id: &str) {
        if let Some((key, entry)) = self.cases.remove_entry(id) {
            self.unindex(&key, &entry);
        }
    }

    /// The copy of a piece lies here. `false`: the case does not refer to it.
    pub fn found(&mut self, id: &str, piece: Piece, offset: i64) -> bool {
        let Some(Entry::Whole(case)) = self.cases.get_mut(id) else { return false };
        match case.place_mut(piece).filter(|place| place.log == Log::State) {
            Some(place) => {
                place.offset = offset;
                true
            }
            None => false,
        }
    }

    /// From now on a piece is the copy that is about to be written; where that is, [`found`](Self::found) tells. `false`:
    /// the case is closed or does not have the piece at `from` any more, and no copy is to be written.
    pub fn keep(&mut self, id: &CorrelationId, piece: Piece, from: Place) -> bool {
        let open = |case: &&mut Box<Case>| !matches!(case.phase, Phase::Closed { .. });
        let case = match self.cases.get_mut(id.as_str()) {
            Some(Entry::Whole(case)) => Some(case).filter(open),
            _ => None,
        };
        match case.and_then(|case| case.place_mut(piece)).filter(|place| **place == from) {
            Some(place) => {
                *place = Place { log: Log::State, offset: Place::UNKNOWN, ..from };
                true
            }
            None => false,
        }
    }

    /// Copies that nothing refers to any more: their records are to be removed.
    pub fn take_released(&mut self) -> Vec<(Arc<str>, Piece)> {
        std::mem::take(&mut self.released)
    }

    /// A case; `None` also for a closed one to which nothing can come any more that would still count.
    pub fn case(&self, id: &CorrelationId) -> Option<&Case> {
        self.cases.get(id.as_str())?.whole()
    }

    /// A case as it is to be saved. Call it when all is done that an event led to: a case that is over then shrinks.
    pub fn save(&mut self, id: &CorrelationId) -> Option<Saved<'_>> {
        self.settle(id);
        Some(match self.cases.get(id.as_str())? {
            Entry::Whole(case) => Saved::of(case),
            Entry::Over(at) => Saved::closed(*at),
        })
    }

    fn settle(&mut self, id: &CorrelationId) {
        let Some((key, entry)) = self.cases.get_key_value(id.as_str()) else { return };
        let Some(at) = entry.whole().and_then(Case::is_over) else { return };
        let key = key.clone();
        self.released.extend(entry.copies().map(|piece| (key.clone(), piece)));
        // When it is due and how it counts stay the same.
        self.cases.insert(key, Entry::Over(at));
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
        (self.phases[0], self.phases[1], self.phases[2])
    }

    /// Which payloads must be at hand before this event is applied.
    pub fn needs(&mut self, id: &CorrelationId, event: Event<'_>, now: Timestamp) -> Needs {
        let wait_for = self.policy.wait_for;
        let Some(Entry::Whole(case)) = self.cases.get_mut(id.as_str()) else { return Needs::Nothing };
        let all = match event {
            Event::Partial(partial) => return case.needs_for(partial, wait_for),
            Event::Plan(plan_id) => case.asks_again(plan_id),
            Event::Review => matches!(case.phase, Phase::Parked { .. }),
            Event::Overdue => case.phase == Phase::Joining && case.deadline <= now,
        };
        if all { Needs::All } else { Needs::Nothing }
    }

    /// A plan came, and lies there. The first of a case in log order counts.
    pub fn plan(&mut self, envelope: &Envelope, plan_id: &PlanId, steps: &[Step], at: Place) -> Effects {
        let id = envelope.correlation_id.as_str();
        match self.cases.get(id) {
            Some(Entry::Whole(case)) => return case.another_plan(plan_id),
            Some(Entry::Over(_)) => return Effects::late(LateReason::Repeated),
            None => {}
        }
        let deadline = envelope.deadline.unwrap_or_else(|| envelope.time.plus(self.policy.deadline));
        let case = Case::open(plan_id.clone(), self.shapes.get(steps), at, envelope.time, deadline);
        // No step has a vote: nothing would ever come.
        let compose = case.voting().next().is_none().then(Vec::new);
        self.insert(id.into(), Entry::Whole(Box::new(case)));
        Effects { changed: true, compose, ..Effects::default() }
    }

    /// An answer came, and lies there.
    pub fn partial(&mut self, id: &CorrelationId, partial: &Partial, at: Place) -> Effects {
        let case = match self.cases.get_mut(id.as_str()) {
            Some(Entry::Whole(case)) => case,
            Some(Entry::Over(_)) => return Effects::late(LateReason::Closed),
            None => return Effects::late(LateReason::UnknownCase),
        };
        let taken = case.partial(partial, at, self.policy.wait_for);
        if let Some(piece) = taken.released
            && let Some((key, _)) = self.cases.get_key_value(id.as_str())
        {
            self.released.push((key.clone(), piece));
        }
        taken.effects
    }

    /// A person decided. `None` if the case is parked and the composer is to be asked; else why it is not.
    pub fn review(&self, id: &CorrelationId) -> Option<LateReason> {
        match self.cases.get(id.as_str()).map(Entry::phase) {
            Some(0) => Some(LateReason::NotParked),
            Some(1) => None,
            Some(_) => Some(LateReason::Closed),
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
        match self.cases.get_mut(id.as_str()) {
            Some(Entry::Whole(case)) => case.next_place(topic, kind),
            _ => 0,
        }
    }

    /// Takes what is due by `now`, at most `limit`. An overdue case is due until it is decided: decide it before the
    /// next call.
    pub fn due(&mut self, now: Timestamp, limit: usize) -> Vec<Due> {
        let ids: Vec<Arc<str>> =
            self.due.iter().take_while(|(at, _)| *at <= now).take(limit).map(|(_, id)| id.clone()).collect();
        ids.into_iter()
            .filter_map(|key| {
                let entry = self.cases.get(&key)?;
                let id = CorrelationId::new(&*key);
                if entry.phase() == 0 {
                    return Some(Due::Overdue(id));
                }
                self.released.extend(entry.copies().map(|piece| (key.clone(), piece)));
                self.drop_case(&key);
                Some(Due::Forgotten(id))
            })
            .collect()
    }

    /// What is to be done about a case whose deadline passed. Nothing if it is not joining any more.
    pub fn overdue(&self, id: &CorrelationId, now: Timestamp) -> Effects {
        let joining = |case: &&Case| case.phase == Phase::Joining && case.deadline <= now;
        let Some(case) = self.case(id).filter(joining) else { return Effects::default() };
        let missing = case.unanswered(true);
        let gives_up = self.policy.when_deadline_passes == WhenDeadlinePasses::DeadLetter;
        if gives_up && !case.is_decidable(self.policy.wait_for) {
            return Effects { give_up: Some(missing), ..Effects::default() };
        }
        Effects { compose: Some(missing), ..Effects::default() }
    }

    /// When something is due next.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    #[cfg(test)]
    pub(super) fn due_count(&self) -> usize {
        self.due.len()
    }

    fn change<R>(&mut self, id: &CorrelationId, change: impl FnOnce(&mut Case) -> R) -> Option<R> {
        self.case(id)?;
        let (key, mut entry) = self.cases.remove_entry(id.as_str())?;
        self.unindex(&key, &entry);
        let result = match &mut entry {
            Entry::Whole(case) => Some(change(case)),
            Entry::Over(_) => None,
        };
        self.insert(key, entry);
        result
    }

    fn insert(&mut self, key: Arc<str>, entry: Entry) {
        self.phases[entry.phase()] += 1;
        if let Some(at) = entry.due(&self.policy) {
            self.due.insert((at, key.clone()));
        }
        self.cases.insert(key, entry);
    }

    fn unindex(&mut self, key: &Arc<str>, entry: &Entry) {
        self.phases[entry.phase()] -= 1;
        if let Some(at) = entry.due(&self.policy) {
            self.due.remove(&(at, key.clone()));
        }
    }
}
