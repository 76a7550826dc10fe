//! What was due when and came when. Cases are numbers; times count from when the first one was due.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::schedule::Pace;
use crate::stats::Latencies;

/// What a record that was read is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The outcome of its case.
    Outcome,
    /// A dead letter that ends its case.
    DeadLetter,
    /// What follows the outcome.
    Message,
}

/// The cases of one run.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    /// When each was due. Of a run without a schedule: when it was sent.
    due: Vec<Option<Duration>>,
    /// When its first outcome or dead letter came.
    ended: Vec<Option<Duration>>,
    outcomes: Vec<u16>,
    dead_letters: Vec<u16>,
    open: u64,
    last_end: Duration,
    messages: u64,
    last_message: Duration,
    /// Outcomes of cases that were never sent.
    foreign: u64,
}

/// How the cases of a run ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Due, and so sent.
    pub due: u64,
    /// With exactly one outcome, and nothing else.
    pub decided: u64,
    /// With a dead letter and no outcome.
    pub dead_letters: u64,
    /// With neither.
    pub lost: u64,
    /// With more than one outcome, or with an outcome and a dead letter.
    pub doubled: u64,
    /// Outcomes of cases that were never sent.
    pub foreign: u64,
}

impl Ledger {
    pub(crate) fn new(cases: u64) -> Self {
        let cases = usize::try_from(cases).unwrap_or(usize::MAX);
        Self {
            due: vec![None; cases],
            ended: vec![None; cases],
            outcomes: vec![0; cases],
            dead_letters: vec![0; cases],
            open: 0,
            last_end: Duration::ZERO,
            messages: 0,
            last_message: Duration::ZERO,
            foreign: 0,
        }
    }

    /// As that, with all cases due as the pace says.
    pub(crate) fn paced(cases: u64, pace: &Pace) -> Self {
        let mut ledger = Self::new(cases);
        (0..cases).for_each(|number| ledger.due(number, pace.due_at(number)));
        ledger
    }

    /// A case is due.
    pub(crate) fn due(&mut self, number: u64, at: Duration) {
        if let Some(due @ None) = usize::try_from(number).ok().and_then(|n| self.due.get_mut(n)) {
            *due = Some(at);
            self.open += 1;
        }
    }

    /// A record was read.
    pub(crate) fn seen(&mut self, number: u64, role: Role, at: Duration) {
        let index = usize::try_from(number).ok().filter(|n| self.due.get(*n).is_some_and(Option::is_some));
        let Some(index) = index else {
            self.foreign += u64::from(role == Role::Outcome);
            return;
        };
        match role {
            Role::Message => {
                self.messages += 1;
                self.last_message = at;
                return;
            }
            Role::Outcome => self.outcomes[index] = self.outcomes[index].saturating_add(1),
            Role::DeadLetter => self.dead_letters[index] = self.dead_letters[index].saturating_add(1),
        }
        if self.ended[index].is_none() {
            self.ended[index] = Some(at);
            self.open -= 1;
            self.last_end = at;
        }
    }

    /// Cases that are due and have not ended.
    pub(crate) fn open(&self) -> u64 {
        self.open
    }

    /// Whether case `number` has ended.
    pub(crate) fn has_ended(&self, number: u64) -> bool {
        usize::try_from(number).ok().and_then(|n| self.ended.get(n)).is_some_and(Option::is_some)
    }

    /// Messages that were seen, and when the last one was.
    pub(crate) fn messages(&self) -> (u64, Duration) {
        (self.messages, self.last_message)
    }

    /// When the last case ended.
    pub(crate) fn last_end(&self) -> Duration {
        self.last_end
    }

    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts { foreign: self.foreign, ..Counts::default() };
        let ends = self.outcomes.iter().zip(&self.dead_letters).zip(&self.due);
        for ((outcomes, dead_letters), _) in ends.filter(|(_, due)| due.is_some()) {
            counts.due += 1;
            match (*outcomes, *dead_letters) {
                (0, 0) => counts.lost += 1,
                (0, _) => counts.dead_letters += 1,
                (1, 0) => counts.decided += 1,
                _ => counts.doubled += 1,
            }
        }
        counts
    }

    /// From due to ended, of cases that have an outcome; `within` chooses by when they were due.
    pub(crate) fn latencies(&self, within: impl Fn(Duration) -> bool) -> Latencies {
        let cases = self.due.iter().zip(&self.ended).zip(&self.outcomes);
        Latencies::of(cases.filter(|(_, outcomes)| **outcomes > 0).filter_map(|((due, ended), _)| {
            let due = due.filter(|due| within(*due))?;
            Some(ended.as_ref()?.saturating_sub(due))
        }))
    }

    /// How many cases ended in each second, and how long they took.
    pub(crate) fn timeline(&self) -> Vec<Second> {
        let mut by_second: Vec<Vec<Duration>> = Vec::new();
        for (due, ended) in self.due.iter().zip(&self.ended) {
            let (Some(due), Some(ended)) = (due, ended) else { continue };
            let second = usize::try_from(ended.as_secs()).unwrap_or(usize::MAX - 1);
            if by_second.len() <= second {
                by_second.resize(second + 1, Vec::new());
            }
            by_second[second].push(ended.saturating_sub(*due));
        }
        let of = |(second, latencies): (usize, &mut Vec<Duration>)| {
            latencies.sort_unstable();
            Second {
                second: second as u64,
                ended: latencies.len() as u64,
                p50_ms: millis_at(latencies, 50),
                p99_ms: millis_at(latencies, 99),
            }
        };
        by_second.iter_mut().enumerate().map(of).collect()
    }
}

/// Of sorted values, the one that so many in a hundred do not exceed; 0 of none.
fn millis_at(sorted: &[Duration], percent: usize) -> f64 {
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).map_or(0.0, |value| value.as_secs_f64() * 1000.0)
}

/// One second of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// From when the first case was due.
    pub second: u64,
    /// Cases that ended in it.
    pub ended: u64,
    /// Their median latency.
    pub p50_ms: f64,
    /// Their latency at the 99th percentile.
    pub p99_ms: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_case_is_decided_once_lost_doubled_or_a_dead_letter() {
        let mut ledger = Ledger::paced(5, &Pace::new(5, None));
        assert_eq!(ledger.open(), 5);
        ledger.seen(0, Role::Outcome, ms(10));
        ledger.seen(1, Role::Outcome, ms(20));
        ledger.seen(1, Role::Outcome, ms(21));
        ledger.seen(2, Role::DeadLetter, ms(30));
        ledger.seen(3, Role::Outcome, ms(31));
        ledger.seen(3, Role::DeadLetter, ms(32));
        ledger.seen(7, Role::Outcome, ms(33));
        let counts = Counts { due: 5, decided: 1, dead_letters: 1, lost: 1, doubled: 2, foreign: 1 };
        assert_eq!(ledger.counts(), counts);
        assert_eq!((ledger.open(), ledger.last_end()), (1, ms(31)));
        assert!(ledger.has_ended(2) && !ledger.has_ended(4));
    }

    #[test]
    fn a_dead_letter_twice_is_one_end() {
        let mut ledger = Ledger::paced(1, &Pace::new(1, None));
        ledger.seen(0, Role::DeadLetter, ms(1));
        ledger.seen(0, Role::DeadLetter, ms(2));
        assert_eq!(ledger.counts(), Counts { due: 1, dead_letters: 1, ..Counts::default() });
    }

    #[test]
    fn latency_counts_from_when_a_case_was_due() {
        let pace = Pace::new(3, Some(10.0));
        let mut ledger = Ledger::paced(3, &pace);
        (0..3).for_each(|number| ledger.seen(number, Role::Outcome, ms(1000)));
        let all = ledger.latencies(|_| true).percentiles().unwrap();
        assert_eq!(all.count, 3);
        assert!((all.max - 1000.0).abs() < 1.0 && (all.p50 - 900.0).abs() < 1.0, "{all:?}");
        let late = ledger.latencies(|due| due >= ms(200)).percentiles().unwrap();
        assert!(late.count == 1 && (late.max - 800.0).abs() < 1.0, "{late:?}");
    }

    #[test]
    fn messages_end_nothing() {
        let mut ledger = Ledger::paced(1, &Pace::new(1, None));
        ledger.seen(0, Role::Message, ms(5));
        assert_eq!((ledger.open(), ledger.messages()), (1, (1, ms(5))));
    }

    #[test]
    fn the_timeline_has_every_second() {
        let mut ledger = Ledger::paced(3, &Pace::new(3, None));
        ledger.seen(0, Role::Outcome, ms(200));
        ledger.seen(1, Role::Outcome, ms(2500));
        let ended: Vec<u64> = ledger.timeline().iter().map(|second| second.ended).collect();
        assert_eq!(ended, [1, 0, 1]);
        assert!(Ledger::new(3).timeline().is_empty());
    }
}
