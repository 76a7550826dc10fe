//! When a case is due, who is killed when. Drawn from a seed; nothing here looks at a clock.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// When cases are due, from the first one on. Open: nothing that becomes of a case moves the next one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Pace {
    cases: u64,
    /// `None`: all at once.
    rate: Option<f64>,
}

impl Pace {
    pub(crate) fn new(cases: u64, rate: Option<f64>) -> Self {
        Self { cases, rate: rate.filter(|rate| *rate > 0.0) }
    }

    /// When case `number`, from 0, is due.
    pub(crate) fn due_at(&self, number: u64) -> Duration {
        match self.rate {
            Some(rate) => Duration::try_from_secs_f64(number as f64 / rate).unwrap_or(Duration::MAX),
            None => Duration::ZERO,
        }
    }

    /// How many cases are due by then.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded by the number of cases")]
    pub(crate) fn due_by(&self, elapsed: Duration) -> u64 {
        match self.rate {
            Some(rate) => ((elapsed.as_secs_f64() * rate).floor() as u64).saturating_add(1).min(self.cases),
            None => self.cases,
        }
    }

    /// When the last one is due.
    pub(crate) fn span(&self) -> Duration {
        self.due_at(self.cases.saturating_sub(1))
    }
}

/// A process is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kill {
    /// After the first case was due.
    pub(crate) at: Duration,
    /// Which of the processes.
    pub(crate) target: usize,
}

/// One kill after each `every` for as long as cases come.
pub(crate) fn kills(seed: u64, every: Option<Duration>, span: Duration, processes: usize) -> Vec<Kill> {
    let Some(every) = every.filter(|every| !every.is_zero() && processes > 0) else { return Vec::new() };
    let mut rng = StdRng::seed_from_u64(seed);
    let times = (1u32..).map_while(|n| every.checked_mul(n)).take_while(|at| *at <= span);
    times.map(|at| Kill { at, target: rng.random_range(0..processes) }).collect()
}

/// Whether request `number` is one that nobody can read.
pub(crate) fn is_poison(seed: u64, number: u64, share: f64) -> bool {
    share > 0.0 && StdRng::seed_from_u64(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).random_bool(share)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cases_are_due_evenly() {
        let pace = Pace::new(10, Some(4.0));
        assert_eq!(pace.due_at(0), Duration::ZERO);
        assert_eq!(pace.due_at(6), Duration::from_millis(1500));
        assert_eq!(pace.due_by(Duration::ZERO), 1);
        assert_eq!(pace.due_by(Duration::from_millis(749)), 3);
        assert_eq!(pace.due_by(Duration::from_millis(750)), 4);
        assert_eq!(pace.due_by(Duration::from_secs(99)), 10);
        assert_eq!(pace.span(), Duration::from_millis(2250));
    }

    #[test]
    fn without_a_rate_all_are_due_at_once() {
        let pace = Pace::new(10, None);
        assert_eq!((pace.due_by(Duration::ZERO), pace.due_at(9), pace.span()), (10, Duration::ZERO, Duration::ZERO));
    }

    #[test]
    fn kills_come_while_cases_do() {
        let kills = kills(7, Some(Duration::from_secs(10)), Duration::from_secs(35), 7);
        let times: Vec<u64> = kills.iter().map(|kill| kill.at.as_secs()).collect();
        assert_eq!(times, [10, 20, 30]);
        assert!(kills.iter().all(|kill| kill.target < 7));
        assert_eq!(kills, super::kills(7, Some(Duration::from_secs(10)), Duration::from_secs(35), 7), "from the seed");
        assert!(super::kills(7, None, Duration::from_secs(35), 7).is_empty());
        assert!(super::kills(7, Some(Duration::ZERO), Duration::from_secs(35), 7).is_empty());
    }

    #[test]
    fn the_share_of_poison_is_met() {
        let count = (0..100_000).filter(|number| is_poison(3, *number, 0.01)).count();
        assert!((900..1100).contains(&count), "{count}");
        assert_eq!((0..1000).filter(|number| is_poison(3, *number, 0.0)).count(), 0);
    }

    proptest! {
        #[test]
        fn a_case_is_due_when_it_is_counted_as_due(cases in 1u64..5000, rate in 0.1f64..5000.0, number in 0u64..5000) {
            let pace = Pace::new(cases, Some(rate));
            let number = number % cases;
            // A microsecond for what floating point loses.
            let due = pace.due_at(number) + Duration::from_micros(1);
            prop_assert!(pace.due_by(due) > number);
            if number > 0 {
                prop_assert!(pace.due_by(pace.due_at(number).saturating_sub(Duration::from_micros(1))) <= number);
            }
        }
    }
}
