//! The breaker: a model that fails is left alone, and asked once in a while to see.
//!
//! Pure: `now` is an argument.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::settings::BreakerSettings;

/// The breaker of one model.
#[derive(Debug)]
pub(crate) struct Breaker {
    settings: BreakerSettings,
    state: State,
    /// Counts openings and closings: what began before the last one says nothing now.
    epoch: u64,
    in_a_row: u32,
    /// The last calls, whether they failed.
    recent: VecDeque<bool>,
    /// How often it opened since a call last succeeded.
    openings: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    /// Until then no call is made, after that one.
    Open(Instant),
    /// One call is under way, to see.
    Probing,
}

/// As seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    Closed,
    /// Until then, and on until somebody asks.
    Open(Instant),
    /// Somebody asks.
    HalfOpen,
}

/// The right to make one call; its result is to be reported with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket {
    epoch: u64,
}

/// How a call ended, as far as the breaker cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The endpoint works.
    Well,
    /// It does not.
    Badly,
    /// That is not known: the call was abandoned, limited, or not made.
    Unseen,
}

impl Breaker {
    pub(crate) fn new(settings: BreakerSettings) -> Self {
        Self { settings, state: State::Closed, epoch: 0, in_a_row: 0, recent: VecDeque::new(), openings: 0 }
    }

    /// Whether a call may be made.
    ///
    /// # Errors
    /// After how long it is worth asking again.
    pub(crate) fn admit(&mut self, now: Instant) -> Result<Ticket, Duration> {
        if let Some(wait) = self.wait(now) {
            return Err(wait);
        }
        if self.is_open() {
            self.turn(State::Probing);
        }
        Ok(Ticket { epoch: self.epoch })
    }

    /// Takes note of how a call ended.
    pub(crate) fn report(&mut self, ticket: Ticket, ended: Ended, now: Instant) {
        if ticket.epoch != self.epoch {
            return;
        }
        match (self.state, ended) {
            (State::Probing, Ended::Well) => {
                self.openings = 0;
                self.turn(State::Closed);
            }
            (State::Probing, Ended::Badly) => self.open(now),
            // Another one may see.
            (State::Probing, Ended::Unseen) => self.turn(State::Open(now)),
            (State::Closed, Ended::Well) => self.count(false),
            (State::Closed, Ended::Badly) => {
                self.count(true);
                if self.is_too_much() {
                    self.open(now);
                }
            }
            (State::Closed, Ended::Unseen) | (State::Open(_), _) => {}
        }
    }

    /// As seen from outside.
    pub(crate) fn seen(&self) -> Seen {
        match self.state {
            State::Closed => Seen::Closed,
            State::Open(until) => Seen::Open(until),
            State::Probing => Seen::HalfOpen,
        }
    }

    /// After how long it is worth asking again; `None` if now.
    pub(crate) fn wait(&self, now: Instant) -> Option<Duration> {
        match self.state {
            State::Closed => None,
            State::Open(until) => until.checked_duration_since(now).filter(|wait| !wait.is_zero()),
            State::Probing => Some(self.settings.open_for),
        }
    }

    /// Whether it is anything but closed.
    pub(crate) fn is_open(&self) -> bool {
        self.state != State::Closed
    }

    fn count(&mut self, failed: bool) {
        self.in_a_row = if failed { self.in_a_row.saturating_add(1) } else { 0 };
        self.recent.push_back(failed);
        if self.recent.len() > self.settings.window.max(1) {
            self.recent.pop_front();
        }
    }

    fn is_too_much(&self) -> bool {
        if self.in_a_row >= self.settings.failures.max(1) {
            return true;
        }
        let failed = self.recent.iter().filter(|failed| **failed).count();
        let percent = usize::try_from(self.settings.failing_percent).unwrap_or(usize::MAX);
        self.recent.len() >= self.settings.window.max(1) && failed * 100 >= self.recent.len().saturating_mul(percent)
    }

    fn open(&mut self, now: Instant) {
        let doubled = self.settings.open_for.saturating_mul(1 << self.openings.min(16));
        self.openings = self.openings.saturating_add(1);
        self.turn(State::Open(now + doubled.min(self.settings.max_open_for)));
    }

    fn turn(&mut self, state: State) {
        self.state = state;
        self.epoch += 1;
        self.in_a_row = 0;
        self.recent.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> BreakerSettings {
        BreakerSettings {
            failures: 3,
            failing_percent: 50,
            window: 10,
            open_for: Duration::from_secs(1),
            max_open_for: Duration::from_secs(5),
        }
    }

    fn call(breaker: &mut Breaker, ended: Ended, now: Instant) {
        let ticket = breaker.admit(now).unwrap();
        breaker.report(ticket, ended, now);
    }

    #[test]
    fn failures_in_a_row_open_it_and_a_probe_that_works_closes_it() {
        let (mut breaker, start) = (Breaker::new(settings()), Instant::now());
        for _ in 0..2 {
            call(&mut breaker, Ended::Badly, start);
        }
        call(&mut breaker, Ended::Well, start);
        for _ in 0..3 {
            assert_eq!(breaker.seen(), Seen::Closed);
            call(&mut breaker, Ended::Badly, start);
        }
        assert_eq!(breaker.admit(start), Err(Duration::from_secs(1)));
        let later = start + Duration::from_secs(1);
        let probe = breaker.admit(later).unwrap();
        assert_eq!(breaker.seen(), Seen::HalfOpen);
        assert!(breaker.admit(later).is_err(), "one at a time");
        breaker.report(probe, Ended::Well, later);
        assert_eq!(breaker.seen(), Seen::Closed);
    }

    #[test]
    fn a_share_of_failures_opens_it_too_but_not_of_too_few_calls() {
        let (mut breaker, start) = (Breaker::new(settings()), Instant::now());
        for _ in 0..4 {
            call(&mut breaker, Ended::Badly, start);
            call(&mut breaker, Ended::Well, start);
        }
        assert_eq!(breaker.seen(), Seen::Closed);
        call(&mut breaker, Ended::Well, start);
        call(&mut breaker, Ended::Badly, start);
        assert!(matches!(breaker.seen(), Seen::Open(_)), "5 of 10");
    }

    #[test]
    fn each_failed_probe_doubles_the_wait_up_to_the_most() {
        let (mut breaker, mut now) = (Breaker::new(settings()), Instant::now());
        for _ in 0..3 {
            call(&mut breaker, Ended::Badly, now);
        }
        for seconds in [1, 2, 4, 5, 5] {
            let wait = breaker.admit(now).unwrap_err();
            assert_eq!(wait, Duration::from_secs(seconds));
            now += wait;
            call(&mut breaker, Ended::Badly, now);
        }
        now += Duration::from_secs(5);
        call(&mut breaker, Ended::Well, now);
        for _ in 0..3 {
            call(&mut breaker, Ended::Badly, now);
        }
        assert_eq!(breaker.admit(now), Err(Duration::from_secs(1)), "a success starts it over");
    }

    #[test]
    fn late_news_of_earlier_calls_changes_nothing_and_an_abandoned_probe_frees_the_place() {
        let (mut breaker, start) = (Breaker::new(settings()), Instant::now());
        let early = breaker.admit(start).unwrap();
        for _ in 0..3 {
            call(&mut breaker, Ended::Badly, start);
        }
        breaker.report(early, Ended::Well, start);
        assert!(matches!(breaker.seen(), Seen::Open(_)));
        let later = start + Duration::from_secs(1);
        let probe = breaker.admit(later).unwrap();
        breaker.report(early, Ended::Badly, later);
        breaker.report(probe, Ended::Unseen, later);
        assert_eq!(breaker.seen(), Seen::Open(later));
        assert!(breaker.admit(later).is_ok());
    }
}
