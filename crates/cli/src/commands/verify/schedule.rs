//! Which faults happen when, drawn from a seed: the same seed and the same settings give the same faults at the same
//! times of the run. (What the run makes of them depends on the machine.) Pure.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde::Serialize;

/// One in so many stops and silences is longer than the session time; the first is.
const ONE_IN_LONG: u32 = 3;
/// So much longer than the session time, in milliseconds.
const BEYOND_SESSION_MS: std::ops::Range<u64> = 1_000..3_000;
/// Those that are not, in milliseconds.
const SHORT_MS: std::ops::Range<u64> = 100..3_000;

/// What faults are drawn from.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) seed: u64,
    /// The faults begin within this time.
    pub(super) span: Duration,
    pub(super) kills: u32,
    pub(super) stops: u32,
    pub(super) cuts: u32,
    /// The session time of each process, by its number.
    pub(super) sessions: Vec<Duration>,
}

/// A fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Fault {
    /// After the beginning of the run.
    pub(super) at: Duration,
    /// Zero: it is over as soon as it happens.
    pub(super) lasts: Duration,
    pub(super) blow: Blow,
    /// The processes that it hits, by their numbers.
    pub(super) targets: Vec<usize>,
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Blow {
    /// kill -9; the process is started again.
    Kill,
    /// SIGSTOP, and SIGCONT when it is over.
    Stop,
    /// Connections to the brokers break, and new ones do not come about.
    Cut,
    /// Connections to the brokers stay, and nothing passes.
    Silence,
}

impl Fault {
    /// When it is over.
    pub(super) fn until(&self) -> Duration {
        self.at + self.lasts
    }
}

/// Draws the faults, in order of time.
pub(super) fn draw(settings: &Settings) -> Vec<Fault> {
    if settings.sessions.is_empty() {
        return Vec::new();
    }
    // Dice of its own for each kind: with another number of kills, the stops stay what they are.
    let dice = |kind: u64| StdRng::seed_from_u64(settings.seed.wrapping_mul(3).wrapping_add(kind));
    let mut faults = Vec::new();
    let mut kills = Targets::new(dice(0), settings.sessions.len());
    faults.extend((0..settings.kills).map(|_| kill(settings, &mut kills)));
    let mut stops = Targets::new(dice(1), settings.sessions.len());
    faults.extend((0..settings.stops).map(|number| stop(settings, &mut stops, number)));
    let mut cuts = Targets::new(dice(2), settings.sessions.len());
    faults.extend((0..settings.cuts).map(|number| cut(settings, &mut cuts, number)));
    faults.sort_by_key(|fault| fault.at);
    faults
}

/// Whom a kind of fault hits: everybody once, in an order of chance, before anybody again.
struct Targets {
    dice: StdRng,
    count: usize,
    left: Vec<usize>,
}

impl Targets {
    fn new(dice: StdRng, count: usize) -> Self {
        Self { dice, count, left: Vec::new() }
    }

    fn next(&mut self) -> usize {
        if self.left.is_empty() {
            self.left = (0..self.count).collect();
            self.left.shuffle(&mut self.dice);
        }
        self.left.pop().unwrap_or_default()
    }
}

fn kill(settings: &Settings, targets: &mut Targets) -> Fault {
    let target = targets.next();
    let at = begin(settings, &mut targets.dice, Duration::ZERO);
    Fault { at, lasts: Duration::ZERO, blow: Blow::Kill, targets: vec![target] }
}

fn stop(settings: &Settings, targets: &mut Targets, number: u32) -> Fault {
    let target = targets.next();
    let lasts = length(&mut targets.dice, number, settings.sessions[target]);
    Fault { at: begin(settings, &mut targets.dice, lasts), lasts, blow: Blow::Stop, targets: vec![target] }
}

/// One process or, one time in four, all of them; cut and silent by turns.
fn cut(settings: &Settings, targets: &mut Targets, number: u32) -> Fault {
    let target = targets.next();
    let blow = if number.is_multiple_of(2) { Blow::Cut } else { Blow::Silence };
    let lasts = length(&mut targets.dice, number / 2, settings.sessions[target]);
    let all = targets.dice.random_ratio(1, 4);
    let at = begin(settings, &mut targets.dice, lasts);
    let targets = if all { (0..settings.sessions.len()).collect() } else { vec![target] };
    Fault { at, lasts, blow, targets }
}

/// When something begins that is to be over within the span, if it can be.
fn begin(settings: &Settings, dice: &mut StdRng, lasts: Duration) -> Duration {
    let latest = millis(settings.span.saturating_sub(lasts));
    // Something is to be under way when the first fault comes.
    let earliest = millis(settings.span) / 20;
    Duration::from_millis(dice.random_range(earliest.min(latest)..=latest))
}

fn length(dice: &mut StdRng, number: u32, session: Duration) -> Duration {
    match number.is_multiple_of(ONE_IN_LONG) {
        true => session + Duration::from_millis(dice.random_range(BEYOND_SESSION_MS)),
        false => Duration::from_millis(dice.random_range(SHORT_MS)),
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn settings(seed: u64, kills: u32, stops: u32, cuts: u32) -> Settings {
        let sessions = vec![Duration::from_secs(10); 7];
        Settings { seed, span: Duration::from_secs(60), kills, stops, cuts, sessions }
    }

    fn of(faults: &[Fault], blow: Blow) -> Vec<&Fault> {
        faults.iter().filter(|fault| fault.blow == blow).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_faults() {
        let faults = draw(&settings(42, 10, 5, 5));
        assert_eq!(faults, draw(&settings(42, 10, 5, 5)));
        assert_ne!(faults, draw(&settings(43, 10, 5, 5)));
        let more_kills = draw(&settings(42, 20, 5, 5));
        assert_eq!(of(&faults, Blow::Stop), of(&more_kills, Blow::Stop), "each kind has dice of its own");
    }

    #[test]
    fn a_seed_keeps_its_faults_from_version_to_version() {
        let faults = draw(&settings(1, 2, 1, 1));
        let told: Vec<_> =
            faults.iter().map(|f| (f.at.as_millis(), f.lasts.as_millis(), f.blow, f.targets[0])).collect();
        let expected = [
            (11_125, 0, Blow::Kill, 6),
            (33_838, 11_167, Blow::Stop, 2),
            (40_943, 11_359, Blow::Cut, 4),
            (58_895, 0, Blow::Kill, 2),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn everybody_is_hit_and_now_and_then_for_longer_than_the_session() {
        let faults = draw(&settings(7, 14, 9, 12));
        let killed: Vec<usize> = of(&faults, Blow::Kill).iter().map(|f| f.targets[0]).collect();
        for process in 0..7 {
            assert_eq!(killed.iter().filter(|k| **k == process).count(), 2, "{killed:?}");
        }
        let long = |f: &&&Fault| f.lasts > Duration::from_secs(10);
        assert_eq!(of(&faults, Blow::Stop).iter().filter(long).count(), 3);
        assert_eq!((of(&faults, Blow::Cut).len(), of(&faults, Blow::Silence).len()), (6, 6));
        assert!(of(&faults, Blow::Silence).iter().filter(long).count() == 2);
        let widths: BTreeSet<usize> = faults.iter().map(|f| f.targets.len()).collect();
        assert_eq!(widths, [1, 7].into(), "one process, or all of them");
    }

    #[test]
    fn nobody_there_nothing_to_hit() {
        assert_eq!(draw(&Settings { sessions: vec![], ..settings(1, 3, 3, 3) }), []);
    }

    proptest! {
        #[test]
        fn faults_are_as_many_as_asked_in_order_and_within_the_span(
            seed: u64, kills in 0..40u32, stops in 0..40u32, cuts in 0..40u32, span in 0..120u64, processes in 1..20usize,
        ) {
            let (span, session) = (Duration::from_secs(span), Duration::from_secs(6));
            let settings = Settings { seed, span, kills, stops, cuts, sessions: vec![session; processes] };
            let faults = draw(&settings);
            prop_assert_eq!(of(&faults, Blow::Kill).len(), kills as usize);
            prop_assert_eq!(of(&faults, Blow::Stop).len(), stops as usize);
            prop_assert_eq!(of(&faults, Blow::Cut).len() + of(&faults, Blow::Silence).len(), cuts as usize);
            prop_assert!(faults.windows(2).all(|pair| pair[0].at <= pair[1].at));
            for fault in &faults {
                prop_assert!(fault.at <= span);
                prop_assert!(fault.until() <= span.max(fault.lasts), "over in time, where there is time for it");
                prop_assert!(!fault.targets.is_empty() && fault.targets.iter().all(|t| *t < processes));
            }
        }
    }
}
