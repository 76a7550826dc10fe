//! The cases of one partition, and when each is due.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use anabranch_protocol::{
    Answered, CorrelationId, Envelope, EventId, Partial, PartialStatus, PlanId, ReviewDecision, Standing, Step,
    Timestamp,
};
use anabranch_topology::WhenDeadlinePasses;

use super::case::{Case, Phase};
use super::desk::{Bell, Judged};
use super::effects::{Decision, DecisionError, Effects, Event, LateReason, Needs};
use super::entry::Entry;
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

/// What became due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// A deadline passed: see [`Join::overdue`].
    Overdue(CorrelationId),
    /// Something is due of a parked case: see [`Join::ring`].
    Bell(CorrelationId),
    /// A closed case was forgotten: its state is to be removed.
    Forgotten(CorrelationId),
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
        let over = match saved.phase()? {
            Phase::Closed { at } => Some((at, saved.judged())),
            _ => None,
        };
        let given_up = saved.given_up();
        let entry = match (saved.case(&mut self.shapes)?, over) {
            (Some(case), _) => Entry::Whole(Box::new(case)),
            (None, Some((at, judged))) => match given_up {
                Some(redrives) => Entry::GivenUp(at, redrives),
                None => Entry::over(at, judged),
            },
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
            Entry::Over(at) => Saved::closed(*at, None),
            Entry::Judged(over) => Saved::closed(over.0, Some(&over.1)),
            Entry::GivenUp(at, redrives) => Saved::given_up_at(*at, *redrives),
        })
    }

    fn settle(&mut self, id: &CorrelationId) {
        let Some((key, entry)) = self.cases.get_key_value(id.as_str()) else { return };
        let Some(case) = entry.whole() else { return };
        let Some(at) = case.is_over() else { return };
        let (key, judged) = (key.clone(), case.judged().cloned());
        self.released.extend(entry.copies().map(|piece| (key.clone(), piece)));
        let over = entry.given_up().map_or_else(|| Entry::over(at, judged), |redrives| Entry::GivenUp(at, redrives));
        // When it is due and how it counts stay the same.
        self.cases.insert(key, over);
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
            Event::Information => case.standing() == Standing::WaitsForInformation,
            Event::Bell => {
                return match case.next_bell().filter(|(at, _)| *at <= now) {
                    Some((_, Bell::Expiry)) => Needs::All,
                    Some((_, Bell::Notice(_))) => Needs::Plan,
                    None => Needs::Nothing,
                };
            }
            Event::Overdue => case.phase == Phase::Joining && case.deadline <= now,
        };
        if all { Needs::All } else { Needs::Nothing }
    }

    /// A plan came, and lies there. The first of a case in log order counts.
    pub fn plan(&mut self, envelope: &Envelope, plan_id: &PlanId, steps: &[Step], at: Place) -> Effects {
        self.plan_again(envelope, plan_id, steps, at, 0)
    }

    /// As [`plan`](Self::plan), of a request that was sent back so often. A case that ended as a dead letter begins anew
    /// with the first plan whose request was sent back more often than that which was given up; one that has its outcome
    /// never does.
    pub fn plan_again(
        &mut self,
        envelope: &Envelope,
        plan_id: &PlanId,
        steps: &[Step],
        at: Place,
        redrives: u32,
    ) -> Effects {
        let id = envelope.correlation_id.as_str();
        self.reopen(id, redrives);
        match self.cases.get(id) {
            Some(Entry::Whole(case)) => return case.another_plan(plan_id),
            Some(Entry::Over(_) | Entry::Judged(_) | Entry::GivenUp(..)) => return Effects::late(LateReason::Repeated),
            None => {}
        }
        let deadline = envelope.deadline.unwrap_or_else(|| envelope.time.plus(self.policy.deadline));
        let case = Case::open(plan_id.clone(), self.shapes.get(steps), at, envelope.time, deadline);
        let case = Case { redrives, ..case };
        // No step has a vote: nothing would ever come.
        let compose = case.voting().next().is_none().then(Vec::new);
        self.insert(id.into(), Entry::Whole(Box::new(case)));
        Effects { changed: true, compose, ..Effects::default() }
    }

    /// Whether a failure is that of a task from before the case began anew: its time, `due`, was over by then. Such a one
    /// says nothing of the task that was given since, though that has the same id.
    pub fn is_of_earlier_life(&self, id: &CorrelationId, partial: &Partial, due: Option<Timestamp>) -> bool {
        let failed = !matches!(partial.status, PartialStatus::Completed(_));
        let before = |case: &Case| case.redrives > 0 && due.is_some_and(|due| due <= case.opened_at);
        failed && self.case(id).is_some_and(before)
    }

    /// An answer came, and lies there.
    pub fn partial(&mut self, id: &CorrelationId, partial: &Partial, at: Place) -> Effects {
        let case = match self.cases.get_mut(id.as_str()) {
            Some(Entry::Whole(case)) => case,
            Some(Entry::Over(_) | Entry::Judged(_) | Entry::GivenUp(..)) => return Effects::late(LateReason::Closed),
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

    /// A person decided; the record's `ce_id` is `event`. `None` if the case is parked and the composer is to be asked;
    /// else what the person is told.
    pub fn review(&self, id: &CorrelationId, event: &EventId, decision: &ReviewDecision) -> Option<Answered> {
        match self.cases.get(id.as_str()) {
            Some(Entry::Whole(case)) => case.answer(event, decision),
            Some(Entry::Judged(over)) => Some(over.1.answer(event, decision)),
            Some(Entry::Over(_) | Entry::GivenUp(..)) => Some(Answered::NotParked { case: Standing::Closed }),
            None => Some(Answered::UnknownCase),
        }
    }

    /// From now on this decision is the one that counted.
    pub fn judged(&mut self, id: &CorrelationId, judged: Judged) {
        if let Some(Entry::Whole(case)) = self.cases.get_mut(id.as_str()) {
            case.desk.get_or_insert_default().judged = Some(judged);
        }
    }

    /// Something that was asked for came, and lies there: the agents that were to be asked then are asked.
    ///
    /// # Errors
    /// What whoever provides it is told; nothing changed.
    pub fn inform<V>(
        &mut self,
        id: &CorrelationId,
        fields: &BTreeMap<String, V>,
        at: Place,
        now: Timestamp,
    ) -> Result<Effects, Answered> {
        let policy = self.policy;
        let unknown = match self.cases.get(id.as_str()) {
            Some(_) => Answered::NotParked { case: Standing::Closed },
            None => Answered::UnknownCase,
        };
        self.change(id, |case| case.inform(fields, at, now, &policy)).unwrap_or(Err(unknown))
    }

    /// What became due of a parked case, which from then on it is not any more; an expiry is, until it is decided. Where
    /// several things are due, this is the first.
    pub fn ring(&mut self, id: &CorrelationId, now: Timestamp) -> Option<Bell> {
        self.change(id, |case| case.ring(now)).flatten()
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
        let policy = self.policy;
        self.change(id, |case| case.decide(decision, now, &policy)).unwrap_or_else(|| Ok(Effects::default()))
    }

    /// Forgets a case that ended as a dead letter, if its request was sent back since.
    fn reopen(&mut self, id: &str, redrives: u32) {
        let sent_back = |entry: &Entry| entry.given_up().is_some_and(|before| redrives > before);
        let Some((key, entry)) = self.cases.get_key_value(id).filter(|(_, entry)| sent_back(entry)) else { return };
        self.released.extend(entry.copies().map(|piece| (key.clone(), piece)));
        self.drop_case(id);
    }

    /// Closes a case that no composer could decide.
    pub fn abandon(&mut self, id: &CorrelationId, now: Timestamp) {
        self.change(id, |case| {
            case.close(now);
            case.given_up = true;
        });
    }

    /// The next place for an outbound record of this topic and type.
    pub fn next_place(&mut self, id: &CorrelationId, topic: &str, kind: &str) -> u32 {
        match self.cases.get_mut(id.as_str()) {
            Some(Entry::Whole(case)) => case.next_place(topic, kind),
            _ => 0,
        }
    }

    /// Takes what is due by `now`, at most `limit`. An overdue case is due until it is decided, a parked one until it was
    /// [rung](Self::ring): do so before the next call.
    pub fn due(&mut self, now: Timestamp, limit: usize) -> Vec<Due> {
        let ids: Vec<Arc<str>> =
            self.due.iter().take_while(|(at, _)| *at <= now).take(limit).map(|(_, id)| id.clone()).collect();
        ids.into_iter()
            .filter_map(|key| {
                let entry = self.cases.get(&key)?;
                let id = CorrelationId::new(&*key);
                match entry.phase() {
                    0 => return Some(Due::Overdue(id)),
                    1 => return Some(Due::Bell(id)),
                    _ => {}
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
            Entry::Over(_) | Entry::Judged(_) | Entry::GivenUp(..) => None,
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
