//! How many dead letters are too many, and what is done then. An agent whose model answers nonsense would turn a whole
//! topic into dead letters; past a limit it makes no more of them, holds on to what it would have given up, and tries
//! with one record at a time whether it works again.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use anabranch_protocol::Timestamp;

/// How many are too many.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LetterLimits {
    /// Largest share of the last `over` records, 0 to 1. Records that there were none of yet count as good.
    pub max_share: f64,
    /// Over how many records the share is taken.
    pub over: usize,
    /// Most in a row.
    pub max_in_a_row: u32,
    /// Past a limit, one record is tried so long after, and again after each time that it does not work.
    pub resume_after: Duration,
}

/// Which limit would be passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Excess {
    /// So many in a row.
    InARow(u32),
    /// So many of the last so many.
    Share {
        /// Dead letters.
        dead: usize,
        /// Records.
        of: usize,
    },
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InARow(count) => write!(f, "{count} dead letters in a row"),
            Self::Share { dead, of } => write!(f, "{dead} dead letters among the last {of} records"),
        }
    }
}

/// What becomes of a record that is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// It may become a dead letter, and counts as one.
    Emit,
    /// It must not: there were too many. It is neither done nor given up, and is tried again when its turn comes.
    Hold(Excess),
}

/// Which record is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// The one that is held longest.
    Held,
    /// One that was not begun yet: those that are held may be bad themselves.
    Fresh,
}

#[derive(Debug, Clone, Copy)]
struct Hold {
    why: Excess,
    probe_at: Timestamp,
    next: Probe,
    /// A record was tried since.
    tried: bool,
}

/// What became of the last records of one process.
#[derive(Debug)]
pub struct Letters {
    limits: LetterLimits,
    /// The last records, the latest last: whether each became a dead letter.
    last: VecDeque<bool>,
    dead: usize,
    in_a_row: u32,
    hold: Option<Hold>,
}

impl Letters {
    /// No record yet.
    pub fn new(limits: LetterLimits) -> Self {
        Self { limits, last: VecDeque::new(), dead: 0, in_a_row: 0, hold: None }
    }

    /// A record is given up.
    pub fn give_up(&mut self, now: Timestamp) -> Verdict {
        if let Some(hold) = &self.hold {
            return Verdict::Hold(hold.why);
        }
        if let Some(why) = self.excess() {
            let probe_at = now.plus(self.limits.resume_after);
            self.hold = Some(Hold { why, probe_at, next: Probe::Held, tried: false });
            return Verdict::Hold(why);
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.count(true);
        Verdict::Emit
    }

    /// A record is done. `true`: the hold ends with it, and what is held is to be tried again.
    ///
    /// One that is done ends a row at once. Where too many of the last ones failed it takes one that is done after the
    /// first was tried: those that were under way when the limit was reached say nothing new.
    pub fn done(&mut self) -> bool {
        self.in_a_row = 0;
        self.count(false);
        let ends = match self.hold {
            Some(Hold { why: Excess::InARow(_), .. }) => true,
            Some(Hold { tried, .. }) => tried,
            None => false,
        };
        if ends {
            if matches!(self.hold, Some(Hold { why: Excess::Share { .. }, .. })) {
                self.last.clear();
                self.dead = 0;
            }
            self.hold = None;
        }
        ends
    }

    /// Which record is to be tried now, if one is. The next is due so long after, if nothing comes of this one.
    pub fn probe(&mut self, now: Timestamp) -> Option<Probe> {
        let hold = self.hold.as_mut().filter(|hold| hold.probe_at <= now)?;
        hold.probe_at = now.plus(self.limits.resume_after);
        hold.tried = true;
        let other = if hold.next == Probe::Held { Probe::Fresh } else { Probe::Held };
        Some(std::mem::replace(&mut hold.next, other))
    }

    /// When a record is to be tried next; `None`: nothing is held.
    pub fn next_probe(&self) -> Option<Timestamp> {
        self.hold.map(|hold| hold.probe_at)
    }

    /// The limit that one more dead letter would pass.
    fn excess(&self) -> Option<Excess> {
        if self.in_a_row >= self.limits.max_in_a_row {
            return Some(Excess::InARow(self.in_a_row));
        }
        let over = self.limits.over;
        let leaves = usize::from(self.last.len() >= over && self.last.front() == Some(&true));
        let dead = self.dead - leaves;
        let too_many = (dead + 1) as f64 > self.limits.max_share * over as f64;
        too_many.then_some(Excess::Share { dead, of: over })
    }

    fn count(&mut self, dead: bool) {
        self.last.push_back(dead);
        self.dead += usize::from(dead);
        while self.last.len() > self.limits.over {
            self.dead -= usize::from(self.last.pop_front() == Some(true));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: LetterLimits =
        LetterLimits { max_share: 0.2, over: 20, max_in_a_row: 3, resume_after: Duration::from_secs(60) };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn emit(letters: &mut Letters, count: usize) {
        for _ in 0..count {
            assert_eq!(letters.give_up(at(0)), Verdict::Emit);
        }
    }

    #[test]
    fn so_many_in_a_row_and_no_more() {
        let mut letters = Letters::new(LIMITS);
        emit(&mut letters, 2);
        assert!(!letters.done(), "there was nothing to end");
        emit(&mut letters, 2);
        let mut letters = Letters::new(LIMITS);
        emit(&mut letters, 3);
        for _ in 0..3 {
            assert_eq!(letters.give_up(at(1)), Verdict::Hold(Excess::InARow(3)), "held, and not counted");
        }
        assert_eq!(letters.next_probe(), Some(at(61)));
        assert!(letters.done(), "one that was under way works: the row is over");
        assert_eq!((letters.next_probe(), letters.give_up(at(2))), (None, Verdict::Emit));
    }

    #[test]
    fn a_share_of_the_last_ones_and_no_more() {
        let limits = LetterLimits { max_in_a_row: 100, ..LIMITS };
        let mut letters = Letters::new(limits);
        emit(&mut letters, 4);
        (0..16).for_each(|_| assert!(!letters.done()));
        // The oldest leaves as the new one comes: there are four among the last twenty again.
        emit(&mut letters, 4);
        let why = Excess::Share { dead: 4, of: 20 };
        assert_eq!(letters.give_up(at(0)), Verdict::Hold(why));
        assert_eq!(why.to_string(), "4 dead letters among the last 20 records");
        (0..30).for_each(|_| assert!(!letters.done(), "they were under way, and there is no limit to them"));
        assert_eq!(letters.give_up(at(0)), Verdict::Hold(why));
    }

    #[test]
    fn held_and_fresh_ones_are_tried_in_turn_until_one_is_done() {
        let mut letters = Letters::new(LetterLimits { max_in_a_row: 100, ..LIMITS });
        emit(&mut letters, 4);
        assert!(matches!(letters.give_up(at(10)), Verdict::Hold(_)));
        assert_eq!(letters.probe(at(69)), None);
        assert_eq!(letters.probe(at(70)), Some(Probe::Held));
        assert_eq!(letters.probe(at(71)), None, "one at a time");
        assert!(matches!(letters.give_up(at(72)), Verdict::Hold(_)));
        assert_eq!(letters.probe(at(130)), Some(Probe::Fresh));
        assert_eq!(letters.probe(at(190)), Some(Probe::Held));
        assert!(letters.done());
        emit(&mut letters, 4);
    }

    #[test]
    fn limits_can_be_set_so_that_there_are_none() {
        let mut letters = Letters::new(LetterLimits { max_share: 1.0, max_in_a_row: u32::MAX, ..LIMITS });
        emit(&mut letters, 1_000);
        let mut none = Letters::new(LetterLimits { max_share: 0.0, ..LIMITS });
        assert_eq!(none.give_up(at(0)), Verdict::Hold(Excess::Share { dead: 0, of: 20 }));
    }

    proptest! {
        /// Whatever happens, no more leaves than the limits say, and a hold always ends with the first that works after
        /// a try.
        #[test]
        fn no_limit_is_ever_passed(
            events in proptest::collection::vec(0u8..10, 1..400),
            max_share in 0.0f64..=1.0,
            over in 1usize..50,
            max_in_a_row in 1u32..30,
        ) {
            let limits = LetterLimits { max_share, over, max_in_a_row, resume_after: Duration::from_secs(1) };
            let mut letters = Letters::new(limits);
            let (mut row, mut now, mut last) = (0u32, 0, Vec::new());
            for event in events {
                now += i64::from(event);
                match event {
                    0..6 => match letters.give_up(at(now)) {
                        Verdict::Emit => {
                            row += 1;
                            last.push(true);
                        }
                        Verdict::Hold(_) => prop_assert!(letters.next_probe().is_some()),
                    },
                    6..8 => {
                        let held = letters.next_probe().is_some();
                        if letters.done() {
                            prop_assert!(held && letters.next_probe().is_none());
                            // A share starts again from nothing.
                            last.clear();
                        }
                        row = 0;
                        last.push(false);
                    }
                    _ => {
                        let due = letters.next_probe().is_some_and(|due| due <= at(now));
                        prop_assert_eq!(letters.probe(at(now)).is_some(), due);
                        if due {
                            prop_assert!(letters.next_probe() > Some(at(now)));
                        }
                    }
                }
                prop_assert!(row <= max_in_a_row);
                let dead = last.iter().rev().take(over).filter(|dead| **dead).count();
                prop_assert!(dead as f64 <= max_share * over as f64);
            }
        }
    }
}
