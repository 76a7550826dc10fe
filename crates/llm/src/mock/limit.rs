//! A rate that is enforced, as endpoints do it: a bucket that fills evenly and holds a burst.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::refusal::Refusal;

/// How often the mock lets itself be asked; what is more gets a 429 with `Retry-After`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Requests a second, on the long run; above 0.
    pub requests_per_second: f64,
    /// So many at once after a silence; at least 1.
    pub burst: u32,
}

impl RateLimit {
    pub(super) fn check(self) -> Result<(), String> {
        if self.requests_per_second.is_finite() && self.requests_per_second > 0.0 && self.burst > 0 {
            return Ok(());
        }
        let Self { requests_per_second, burst } = self;
        Err(format!(
            "a limit of {requests_per_second} requests a second with a burst of {burst}; write numbers above 0"
        ))
    }
}

/// What is left of a limit.
#[derive(Debug)]
pub(super) struct Bucket {
    limit: RateLimit,
    left: f64,
    at: Instant,
}

impl Bucket {
    pub(super) fn new(limit: RateLimit, now: Instant) -> Self {
        Self { limit, left: f64::from(limit.burst), at: now }
    }

    /// Takes one request.
    ///
    /// # Errors
    /// The 429, with the whole seconds until one is let through again.
    pub(super) fn take(&mut self, now: Instant) -> Result<(), Refusal> {
        let rate = self.limit.requests_per_second;
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + since * rate).min(f64::from(self.limit.burst));
        self.at = now;
        // What adds up to a whole in decimals need not in binary.
        if self.left >= 1.0 - 1e-9 {
            self.left -= 1.0;
            return Ok(());
        }
        let wait = Duration::from_secs_f64(((1.0 - self.left) / rate).min(3600.0));
        let refusal = Refusal::new(429, "requests", "Rate limit reached.").code("rate_limit_exceeded");
        Err(Refusal { retry_after: Some(wait.as_secs_f64().ceil().to_string()), ..refusal })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(RateLimit { requests_per_second: 10.0, burst: 3 }, start);
        let taken = (0..5).filter(|_| bucket.take(start).is_ok()).count();
        assert_eq!(taken, 3);
        assert_eq!(bucket.take(start).unwrap_err().retry_after.as_deref(), Some("1"));
        let later = |ms| start + Duration::from_millis(ms);
        let taken = (1..=100).filter(|i| bucket.take(later(i * 10)).is_ok()).count();
        assert_eq!(taken, 10, "a second's worth");
        let taken = (0..10).filter(|_| bucket.take(later(60_000)).is_ok()).count();
        assert_eq!(taken, 3, "a silence gives a burst, not more");
    }

    #[test]
    fn limits_that_cannot_be_meant_are_refused() {
        for (requests_per_second, burst) in [(0.0, 1), (-1.0, 1), (f64::NAN, 1), (5.0, 0)] {
            assert!(RateLimit { requests_per_second, burst }.check().is_err());
        }
    }
}
