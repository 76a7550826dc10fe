//! What was acknowledged, and what the topics hold against it. Pure: records in, in any order; violations out.
//!
//! | violation | when |
//! |---|---|
//! | twice | a case has more than one end: two outcomes, an outcome and a dead letter, two dead letters of different records |
//! | repeated | an outbound topic holds two records with the same `ce_id` |
//! | stranger | an outbound record, or a dead letter that ends a case, is of a case that was never sent |
//! | lost | nothing is to be expected any more, and an acknowledged case has no end |
//!
//! Ends are told apart by where they lie, not by what they say of themselves: two outcomes with different ids are as
//! wrong as two with the same. Only dead letters may lie there twice, if they are of the same record: what writes them
//! is no transaction, and nobody is promised one.

use std::collections::{BTreeMap, HashMap};

use anabranch_protocol::{CorrelationId, EventId, Timestamp};
use serde::Serialize;

use crate::hop::Hop;

/// Where a record lies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub(super) struct Place {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) offset: i64,
}

impl Place {
    /// Whether the record lies here.
    pub(super) fn is_of(&self, hop: &Hop) -> bool {
        (&self.topic, self.partition, self.offset) == (&hop.topic, hop.partition, hop.offset)
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}@{}", self.topic, self.partition, self.offset)
    }
}

/// What a record is to the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Role {
    /// It ends its case.
    Outcome,
    /// It left, and is no outcome: an alert, a message.
    Other,
    /// It ends its case as a dead letter; where the record lay that was given up.
    DeadLetter(Place),
}

/// A record of an outbound topic, or a dead letter that ends a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) case: CorrelationId,
    pub(super) role: Role,
    pub(super) place: Place,
    pub(super) id: EventId,
    pub(super) time: Timestamp,
}

/// How a case was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Sending {
    /// It is on its way.
    #[default]
    UnderWay,
    /// The broker has it.
    Acknowledged,
    /// The broker may have it: it may have an outcome, and need not.
    InDoubt,
}

#[derive(Debug, Default)]
struct Case {
    sending: Sending,
    /// Sent after the faults.
    fresh: bool,
    sent_at: Option<Timestamp>,
    outcomes: Vec<Seen>,
    dead_letters: BTreeMap<Place, Seen>,
}

impl Case {
    fn ends(&self) -> usize {
        self.outcomes.len() + self.dead_letters.len()
    }
}

/// What is not as promised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub(super) enum Violation {
    /// A case has more than one end.
    Twice { case: CorrelationId, at: Vec<Place> },
    /// Two outbound records with the same id.
    Repeated { case: CorrelationId, id: EventId, at: Vec<Place> },
    /// A record of a case that was never sent.
    Stranger { case: CorrelationId, at: Vec<Place> },
    /// An acknowledged case without an end.
    Lost { case: CorrelationId },
    /// Something does not move any more.
    Stuck { case: Option<CorrelationId>, what: String },
}

impl Violation {
    /// The case it is about.
    pub(super) fn case(&self) -> Option<&CorrelationId> {
        match self {
            Self::Twice { case, .. } | Self::Repeated { case, .. } | Self::Stranger { case, .. } => Some(case),
            Self::Lost { case } => Some(case),
            Self::Stuck { case, .. } => case.as_ref(),
        }
    }

    /// Where the records lie that make it one.
    pub(super) fn places(&self) -> &[Place] {
        match self {
            Self::Twice { at, .. } | Self::Repeated { at, .. } | Self::Stranger { at, .. } => at,
            Self::Lost { .. } | Self::Stuck { .. } => &[],
        }
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Twice { case, at } => write!(f, "{case} has {} ends, and may have one", at.len()),
            Self::Repeated { case, id, at } => {
                write!(f, "{case} has {} records with ce_id {id}, and read_committed promises one", at.len())
            }
            Self::Stranger { case, at } => {
                write!(f, "{case} was never sent, and yet there is")?;
                at.iter().try_for_each(|place| write!(f, " {place}"))
            }
            Self::Lost { case } => write!(f, "{case} was acknowledged, and has neither an outcome nor a dead letter"),
            Self::Stuck { what, .. } => write!(f, "it does not move any more: {what}"),
        }
    }
}

/// How many of what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    /// Cases that the broker has acknowledged, those after the faults apart.
    pub(super) acknowledged: usize,
    /// Cases after the faults that it has acknowledged.
    pub(super) fresh: usize,
    /// Cases that it may have.
    pub(super) in_doubt: usize,
    /// Outcomes by topic.
    pub(super) outcomes: BTreeMap<String, usize>,
    /// Dead letters that ended a case.
    pub(super) dead_letters: usize,
    /// Dead letters that were there before: written again after a crash.
    pub(super) dead_letters_repeated: usize,
    /// Acknowledged cases without an end.
    pub(super) open: usize,
}

/// Everything that was sent, and what became of it.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    cases: BTreeMap<CorrelationId, Case>,
    /// Where an outbound record with this id lies.
    ids: HashMap<(String, EventId), Place>,
    dead_letters_repeated: usize,
    /// Acknowledged cases without an end.
    open: usize,
}

impl Ledger {
    /// A case is about to be sent.
    pub(super) fn sending(&mut self, case: CorrelationId, fresh: bool, now: Timestamp) {
        self.cases.insert(case, Case { fresh, sent_at: Some(now), ..Case::default() });
    }

    /// How the sending ended.
    pub(super) fn sent(&mut self, id: &CorrelationId, sending: Sending) {
        if let Some(case) = self.cases.get_mut(id) {
            let was_open = case.sending == Sending::Acknowledged && case.ends() == 0;
            case.sending = sending;
            let is_open = case.sending == Sending::Acknowledged && case.ends() == 0;
            self.open = self.open + usize::from(is_open) - usize::from(was_open);
        }
    }

    /// A record was read. Reading one again changes nothing.
    pub(super) fn take(&mut self, seen: Seen) -> Option<Violation> {
        let Some(case) = self.cases.get_mut(&seen.case) else {
            return Some(Violation::Stranger { case: seen.case, at: vec![seen.place] });
        };
        let ended = case.ends() > 0;
        let repeated = match &seen.role {
            Role::DeadLetter(_) => None,
            Role::Outcome | Role::Other => {
                let id = (seen.place.topic.clone(), seen.id.clone());
                let first = self.ids.entry(id).or_insert_with(|| seen.place.clone());
                (*first != seen.place).then(|| first.clone())
            }
        };
        let (id, place, name) = (seen.id.clone(), seen.place.clone(), seen.case.clone());
        match &seen.role {
            Role::Outcome if case.outcomes.iter().all(|known| known.place != seen.place) => case.outcomes.push(seen),
            Role::DeadLetter(origin) => match case.dead_letters.get(origin) {
                None => drop(case.dead_letters.insert(origin.clone(), seen)),
                Some(known) if known.place != seen.place => self.dead_letters_repeated += 1,
                Some(_) => {}
            },
            Role::Outcome | Role::Other => {}
        }
        if case.sending == Sending::Acknowledged && !ended && case.ends() > 0 {
            self.open -= 1;
        }
        if case.ends() > 1 {
            return Some(twice(name, case));
        }
        repeated.map(|first| Violation::Repeated { case: name, id, at: vec![first, place] })
    }

    /// The same cases, sent as they were, of which nothing has been read.
    pub(super) fn unread(&self) -> Self {
        let unread = |case: &Case| Case { outcomes: Vec::new(), dead_letters: BTreeMap::new(), ..*case };
        let cases: BTreeMap<_, _> = self.cases.iter().map(|(id, case)| (id.clone(), unread(case))).collect();
        let open = cases.values().filter(|case| case.sending == Sending::Acknowledged).count();
        Self { cases, open, ..Self::default() }
    }

    /// How many cases were sent, whatever came of that.
    pub(super) fn sent_so_far(&self) -> usize {
        self.cases.len()
    }

    /// Acknowledged cases without an end.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// The first of them, in the order of their names.
    pub(super) fn first_open(&self) -> Option<&CorrelationId> {
        self.cases.iter().find(|(_, c)| c.sending == Sending::Acknowledged && c.ends() == 0).map(|(id, _)| id)
    }

    /// Nothing more is to be expected: the first case that is lost.
    pub(super) fn lost(&self) -> Option<Violation> {
        self.first_open().map(|case| Violation::Lost { case: case.clone() })
    }

    /// How many of what.
    pub(super) fn counts(&self) -> Counts {
        let mut counts =
            Counts { open: self.open, dead_letters_repeated: self.dead_letters_repeated, ..Counts::default() };
        for case in self.cases.values() {
            match case.sending {
                Sending::Acknowledged if case.fresh => counts.fresh += 1,
                Sending::Acknowledged => counts.acknowledged += 1,
                Sending::InDoubt => counts.in_doubt += 1,
                Sending::UnderWay => {}
            }
            counts.dead_letters += case.dead_letters.len();
            for outcome in &case.outcomes {
                *counts.outcomes.entry(outcome.place.topic.clone()).or_default() += 1;
            }
        }
        counts
    }

    /// From sending to outcome, in milliseconds, sorted.
    pub(super) fn latencies(&self) -> Vec<u64> {
        let of = |case: &Case| {
            let (sent, outcome) = (case.sent_at?, case.outcomes.first()?);
            u64::try_from(outcome.time.as_millis().saturating_sub(sent.as_millis()).max(0)).ok()
        };
        let mut all: Vec<u64> = self.cases.values().filter_map(of).collect();
        all.sort_unstable();
        all
    }
}

fn twice(name: CorrelationId, case: &Case) -> Violation {
    let ends = case.outcomes.iter().chain(case.dead_letters.values());
    Violation::Twice { case: name, at: ends.map(|end| end.place.clone()).collect() }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
