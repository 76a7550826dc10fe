//! What the limiter decides, without a clock of its own: who may ask now, and when the next one may.

use tokio::time::Instant;

use super::fair::Fair;
use super::pace::{Pace, Window, request_burst, token_burst};
use crate::stack::settings::RateLimit;
use crate::stack::sharing::Demand;

/// A whole window of work, in the fair queue's units.
const WORK: u64 = 1_000_000_000;
/// Over how many seconds the demand is averaged.
const DEMAND_SECONDS: f64 = 2.0;
/// What a process wants beyond what it used, so that it can grow.
const DEMAND_SLACK: f64 = 1.1;

/// What waits to be let through.
#[derive(Debug)]
struct Waiting<W> {
    tokens: u64,
    waiter: W,
}

/// What was charged for one call, for when it turns out otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Charge {
    tokens: u64,
    slot: u64,
}

/// What to do next.
#[derive(Debug)]
pub(crate) enum Next<W> {
    /// Let this one through: it is charged.
    Admit(W, Charge),
    /// Nobody before then.
    WaitUntil(Instant),
    /// Nobody until something changes.
    Idle,
}

/// The limiter's state.
#[derive(Debug)]
pub(crate) struct Core<W> {
    limit: RateLimit,
    requests: Option<Pace>,
    tokens: Option<(Pace, Window)>,
    held_until: Option<Instant>,
    queue: Fair<Waiting<W>>,
    used: Used,
}

impl<W> Core<W> {
    /// `share` is what of the limit this process may use from the start.
    pub(crate) fn new(limit: RateLimit, share: Share, now: Instant) -> Self {
        let tokens = |quota| (Pace::of_tokens(quota, limit.per, now), Window::new(quota, limit.per, now));
        Self {
            limit,
            requests: share.requests.map(|quota| Pace::of_requests(quota, limit.per, now)),
            tokens: share.tokens.map(tokens),
            held_until: None,
            queue: Fair::default(),
            used: Used::new(now),
        }
    }

    /// Queues a call of so many tokens, as estimated.
    pub(crate) fn push(&mut self, tenant: &str, tokens: u64, waiter: W) {
        let part = |amount: u64, limit: Option<u64>| {
            limit.map_or(0, |limit| u128::from(WORK) * u128::from(amount) / u128::from(limit.max(1)))
        };
        let work = part(1, self.limit.requests).max(part(tokens, self.limit.tokens));
        let work = u64::try_from(work).unwrap_or(u64::MAX);
        self.queue.push(tenant, work, Waiting { tokens, waiter });
    }

    /// Drops who waits no more.
    pub(crate) fn retain(&mut self, waits: impl Fn(&W) -> bool) {
        self.queue.retain(|waiting| waits(&waiting.waiter));
    }

    /// Who is let through now, if anybody.
    pub(crate) fn next(&mut self, now: Instant) -> Next<W> {
        let Some(first) = self.queue.first() else { return Next::Idle };
        let units = first.tokens;
        let mut ready = self.held_until.unwrap_or(now);
        let meters = [
            self.requests.as_mut().map(|pace| pace.ready_at(now)),
            self.tokens.as_mut().map(|(pace, _)| pace.ready_at(now)),
            self.tokens.as_mut().map(|(_, window)| window.ready_at(units, now)),
        ];
        for at in meters.into_iter().flatten() {
            match at {
                Some(at) => ready = ready.max(at),
                None => return Next::Idle,
            }
        }
        if ready > now {
            return Next::WaitUntil(ready);
        }
        let Some(Waiting { tokens, waiter }) = self.queue.pop() else { return Next::Idle };
        Next::Admit(waiter, self.charge(tokens, now))
    }

    fn charge(&mut self, tokens: u64, now: Instant) -> Charge {
        self.used.add(1.0, tokens, now);
        if let Some(pace) = &mut self.requests {
            pace.take(1, now);
        }
        let mut slot = 0;
        if let Some((pace, window)) = &mut self.tokens {
            pace.take(tokens, now);
            slot = window.add(tokens, now);
        }
        Charge { tokens, slot }
    }

    /// The call was charged and never made.
    pub(crate) fn undo(&mut self, charge: Charge, now: Instant) {
        self.used.add(-1.0, 0, now);
        if let Some(pace) = &mut self.requests {
            pace.give_back(1, now);
        }
        self.correct(charge, 0, now);
    }

    /// The call took `actual` tokens, not those estimated.
    pub(crate) fn correct(&mut self, charge: Charge, actual: u64, now: Instant) {
        let Some((pace, window)) = &mut self.tokens else { return };
        match actual.checked_sub(charge.tokens) {
            Some(0) => {}
            Some(more) => {
                pace.take(more, now);
                window.add(more, now);
            }
            None => {
                let less = charge.tokens - actual;
                pace.give_back(less, now);
                window.give_back(charge.slot, less);
            }
        }
    }

    /// Nobody is let through before `until`: the endpoint said so.
    pub(crate) fn hold(&mut self, until: Instant) {
        self.held_until = Some(self.held_until.map_or(until, |held| held.max(until)));
    }

    /// Another share of the limit from now on.
    pub(crate) fn set_share(&mut self, share: Share, now: Instant) {
        if let (Some(pace), Some(quota)) = (&mut self.requests, share.requests) {
            pace.set_quota(quota, request_burst(quota), now);
        }
        if let (Some((pace, window)), Some(quota)) = (&mut self.tokens, share.tokens) {
            pace.set_quota(quota, token_burst(quota), now);
            window.set_quota(quota);
        }
    }

    /// What this process wants of the limit: a little more than it used lately, and what waits, which wants to be through
    /// in as long as the average is taken over.
    pub(crate) fn demand(&mut self, now: Instant) -> Demand {
        let waiting = self.queue.iter().fold((0_u64, 0_u64), |(n, t), w| (n + 1, t.saturating_add(w.tokens)));
        self.used.fade(now);
        let scale = self.limit.per.as_secs_f64() / DEMAND_SECONDS;
        let wanted = |used: f64, waiting: u64| whole((used * DEMAND_SLACK + float(waiting)) * scale);
        Demand { requests: wanted(self.used.requests, waiting.0), tokens: wanted(self.used.tokens, waiting.1) }
    }
}

#[allow(clippy::cast_precision_loss, reason = "an average")]
fn float(amount: u64) -> f64 {
    amount as f64
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast of floats saturates")]
fn whole(amount: f64) -> u64 {
    amount.round() as u64
}

/// What of a limit one process may use, in whole units per window; `None`: not limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) requests: Option<u64>,
    pub(crate) tokens: Option<u64>,
}

impl Share {
    /// All of it.
    pub(crate) fn whole(limit: RateLimit) -> Self {
        Self { requests: limit.requests, tokens: limit.tokens }
    }

    /// Nothing of it.
    pub(crate) fn none(limit: RateLimit) -> Self {
        Self { requests: limit.requests.map(|_| 0), tokens: limit.tokens.map(|_| 0) }
    }
}

/// What was used lately, fading.
#[derive(Debug)]
struct Used {
    requests: f64,
    tokens: f64,
    at: Instant,
}

impl Used {
    fn new(now: Instant) -> Self {
        Self { requests: 0.0, tokens: 0.0, at: now }
    }

    fn fade(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        let left = (-passed / DEMAND_SECONDS).exp();
        self.at = self.at.max(now);
        (self.requests, self.tokens) = (self.requests * left, self.tokens * left);
    }

    fn add(&mut self, requests: f64, tokens: u64, now: Instant) {
        self.fade(now);
        self.requests = (self.requests + requests).max(0.0);
        self.tokens += float(tokens);
    }
}
