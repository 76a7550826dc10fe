//! How much may pass, evenly and in a window: two meters without a clock of their own.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// By how much the pace stays under the quota: what leaves evenly arrives less evenly.
const HEADROOM: f64 = 1.02;
/// From this quota on two units may pass at once, so that a timer that fires late costs nothing.
const TWO_AT_ONCE: u64 = 50;
/// One more unit may pass at once for each so many of the quota: a fiftieth of what passes in a second of a minute.
const PER_BURST: u64 = 12_000;
/// Parts of a window that the log of tokens tells apart.
const SLOTS: u32 = 60;

/// Lets units pass evenly, and at most its quota in any window.
///
/// A bucket that leaks: what passed is a debt that is worked off at the pace, and a unit may pass while the debt is
/// smaller than the burst. In any window at most `burst + pace × window` pass, and the pace is chosen so that this is at
/// most the quota.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    quota: u64,
    burst: u64,
    per: Duration,
    debt: f64,
    at: Instant,
}

impl Pace {
    /// For requests: `quota` of them in a window `per`.
    pub(crate) fn of_requests(quota: u64, per: Duration, now: Instant) -> Self {
        Self { quota, burst: request_burst(quota), per, debt: 0.0, at: now }
    }

    /// For tokens. A call of more tokens than the burst passes when the debt allows one token, and is worked off after.
    pub(crate) fn of_tokens(quota: u64, per: Duration, now: Instant) -> Self {
        Self { quota, burst: token_burst(quota), per, debt: 0.0, at: now }
    }

    /// When the next unit may pass: in the past or `now` if it may at once, `None` while the quota is 0.
    pub(crate) fn ready_at(&mut self, now: Instant) -> Option<Instant> {
        self.work_off(now);
        if self.quota == 0 {
            return None;
        }
        let above = self.debt - float(self.burst - 1);
        if above <= 0.0 {
            return Some(now);
        }
        // Never in the past, and bounded: a debt of centuries cannot be added to an instant.
        Some(now + Duration::try_from_secs_f64((above / self.rate()).min(1e8)).unwrap_or(self.per))
    }

    /// Units pass.
    pub(crate) fn take(&mut self, units: u64, now: Instant) {
        self.work_off(now);
        self.debt += float(units);
    }

    /// Units that were taken did not pass after all.
    pub(crate) fn give_back(&mut self, units: u64, now: Instant) {
        self.work_off(now);
        self.debt = (self.debt - float(units)).max(0.0);
    }

    /// Another quota from now on; what passed before still counts.
    pub(crate) fn set_quota(&mut self, quota: u64, burst: u64, now: Instant) {
        self.work_off(now);
        (self.quota, self.burst) = (quota, burst);
    }

    fn work_off(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at);
        self.at = self.at.max(now);
        self.debt = (self.debt - passed.as_secs_f64() * self.rate()).max(0.0);
    }

    /// Units a second.
    fn rate(&self) -> f64 {
        if self.quota == 0 {
            return 0.0;
        }
        float(self.quota - self.burst + 1) / HEADROOM / self.per.as_secs_f64()
    }
}

/// How many requests of a quota may pass at once.
pub(crate) fn request_burst(quota: u64) -> u64 {
    if quota < TWO_AT_ONCE { 1 } else { 2 + quota / PER_BURST }
}

/// How many tokens of a quota may pass at once, beside a single call of more.
pub(crate) fn token_burst(quota: u64) -> u64 {
    (quota / 100).max(1)
}

#[allow(clippy::cast_precision_loss, reason = "quotas are far below 2^52")]
fn float(units: u64) -> f64 {
    units as f64
}

/// What passed in the window that ends now, by parts of it. Calls differ in size, so that an even pace alone could
/// exceed the quota by one large call: this log is what keeps it.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    quota: u64,
    per: Duration,
    slot: Duration,
    origin: Instant,
    slots: VecDeque<(u64, u64)>,
    total: u64,
}

impl Window {
    pub(crate) fn new(quota: u64, per: Duration, now: Instant) -> Self {
        let slot = (per / SLOTS).max(Duration::from_millis(1));
        Self { quota, per, slot, origin: now, slots: VecDeque::new(), total: 0 }
    }

    /// When `units` fit in: `now` if they do, `None` while the quota is 0. More than the whole quota fits into an empty
    /// window only.
    pub(crate) fn ready_at(&mut self, units: u64, now: Instant) -> Option<Instant> {
        self.forget(now);
        if self.quota == 0 {
            return None;
        }
        let mut excess = (self.total.saturating_add(units)).saturating_sub(self.quota).min(self.total);
        let mut at = now;
        for (number, passed) in &self.slots {
            if excess == 0 {
                break;
            }
            excess = excess.saturating_sub(*passed);
            at = self.forgotten_at(*number);
        }
        Some(at)
    }

    /// Units pass; which part of the window they are counted in.
    pub(crate) fn add(&mut self, units: u64, now: Instant) -> u64 {
        let number = self.number(now);
        self.total = self.total.saturating_add(units);
        match self.slots.back_mut() {
            Some((last, passed)) if *last >= number => *passed = passed.saturating_add(units),
            _ => self.slots.push_back((number, units)),
        }
        number
    }

    /// Of the units counted in part `number`, so many did not pass after all.
    pub(crate) fn give_back(&mut self, number: u64, units: u64) {
        if let Some((_, passed)) = self.slots.iter_mut().find(|(n, _)| *n == number) {
            let back = units.min(*passed);
            *passed -= back;
            self.total -= back;
        }
    }

    pub(crate) fn set_quota(&mut self, quota: u64) {
        self.quota = quota;
    }

    fn number(&self, now: Instant) -> u64 {
        let parts = now.saturating_duration_since(self.origin).as_nanos() / self.slot.as_nanos();
        u64::try_from(parts).unwrap_or(u64::MAX)
    }

    /// A part counts until its end is a window old.
    fn forgotten_at(&self, number: u64) -> Instant {
        let end = self.slot.as_nanos().saturating_mul(u128::from(number) + 1);
        self.origin + Duration::from_nanos(u64::try_from(end).unwrap_or(u64::MAX)) + self.per
    }

    fn forget(&mut self, now: Instant) {
        while let Some((number, passed)) = self.slots.front().copied() {
            if self.forgotten_at(number) > now {
                break;
            }
            self.total -= passed;
            self.slots.pop_front();
        }
    }
}
