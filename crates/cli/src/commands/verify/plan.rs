//! What the options come to: how many cases, for how long, which faults. Pure.

use std::time::Duration;

use super::schedule::{self, Fault};
use super::{Faults, Load};
use crate::usage::usage;

const DEFAULT_CASES: u64 = 500;
const DEFAULT_SPAN: Duration = Duration::from_secs(60);
/// Longest run: what counts in milliseconds must not overflow.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// What is to happen.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) cases: u64,
    /// For how long cases are sent and faults begin.
    pub(super) span: Duration,
    pub(super) kills: u32,
    pub(super) stops: u32,
    pub(super) cuts: u32,
    /// How long to wait for what is open; as the topology says if nobody says otherwise.
    pub(super) patience: Option<Duration>,
}

impl Plan {
    /// # Errors
    /// If the options contradict each other.
    pub(super) fn of(load: &Load, faults: &Faults) -> anyhow::Result<Self> {
        let over = |cases: u64, rate: f64| Duration::try_from_secs_f64(cases as f64 / rate).unwrap_or(Duration::MAX);
        let (cases, span) = match (load.cases, load.rate, load.span) {
            (Some(_), Some(_), Some(_)) => {
                return Err(usage("of --cases, --rate and --for two give the third; leave one out"));
            }
            (Some(cases), Some(rate), None) => (cases, over(cases, rate)),
            (None, Some(rate), span) => {
                let span = span.unwrap_or(DEFAULT_SPAN);
                // Bounded by the options: a week at a million a second.
                (((rate * span.as_secs_f64()).round() as u64).max(1), span)
            }
            (cases, None, span) => (cases.unwrap_or(DEFAULT_CASES), span.unwrap_or(DEFAULT_SPAN)),
        };
        if span > LONGEST {
            return Err(usage(format!("it would take {} days; at most 7", span.as_secs() / 86_400)));
        }
        let Faults { seed, kills, stops, cuts } = *faults;
        // A number that can be typed.
        let seed = seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
        Ok(Self { seed, cases, span, kills, stops, cuts, patience: load.patience })
    }

    /// How many cases are to be sent by now.
    pub(super) fn due(&self, elapsed: Duration) -> u64 {
        if elapsed >= self.span || self.span.is_zero() {
            return self.cases;
        }
        let share = elapsed.as_secs_f64() / self.span.as_secs_f64();
        ((self.cases as f64 * share) as u64 + 1).min(self.cases)
    }

    /// The faults, on processes with these session times.
    pub(super) fn faults(&self, sessions: Vec<Duration>) -> Vec<Fault> {
        let Self { seed, span, kills, stops, cuts, .. } = *self;
        schedule::draw(&schedule::Settings { seed, span, kills, stops, cuts, sessions })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(cases: Option<u64>, rate: Option<f64>, span: Option<u64>) -> anyhow::Result<(u64, u64)> {
        let load = Load {
            cases,
            rate,
            span: span.map(Duration::from_secs),
            request: None,
            outcomes: vec![],
            patience: None,
            mock_script: None,
            real_model: false,
        };
        let faults = Faults { seed: Some(1), kills: 0, stops: 0, cuts: 0 };
        Plan::of(&load, &faults).map(|plan| (plan.cases, plan.span.as_secs()))
    }

    #[test]
    fn two_of_cases_rate_and_time_give_the_third() {
        assert_eq!(plan(None, None, None).unwrap(), (500, 60));
        assert_eq!(plan(Some(1000), None, None).unwrap(), (1000, 60));
        assert_eq!(plan(None, None, Some(10)).unwrap(), (500, 10));
        assert_eq!(plan(Some(100), Some(5.0), None).unwrap(), (100, 20));
        assert_eq!(plan(None, Some(0.5), Some(20)).unwrap(), (10, 20));
        assert_eq!(plan(None, Some(2.0), None).unwrap(), (120, 60));
        assert_eq!(plan(None, Some(0.001), Some(1)).unwrap(), (1, 1), "at least one");
        assert!(plan(Some(1), Some(1.0), Some(1)).unwrap_err().to_string().contains("leave one out"));
        assert!(plan(Some(10_000_000), Some(0.001), None).unwrap_err().to_string().contains("days"));
    }

    #[test]
    fn cases_are_spread_over_the_time() {
        let load = |span| Plan { seed: 1, cases: 100, span, kills: 0, stops: 0, cuts: 0, patience: None };
        let plan = load(Duration::from_secs(10));
        let due = |seconds| plan.due(Duration::from_secs(seconds));
        assert_eq!((due(0), due(5), due(9), due(10), due(99)), (1, 51, 91, 100, 100));
        assert_eq!(load(Duration::ZERO).due(Duration::ZERO), 100, "all at once");
    }
}
