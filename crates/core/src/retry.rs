//! What becomes of a failed attempt.

use std::time::Duration;

use anabranch_protocol::Timestamp;

/// The class of a failure, as the agent or the model port gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// May work later, no sooner than `after` if the other side said so.
    Retryable {
        /// From `Retry-After`.
        after: Option<Duration>,
    },
    /// This message can never work.
    Terminal,
    /// This agent is broken.
    Fatal,
}

/// Bounds of in-place retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Most attempts, from 1.
    pub max_attempts: u32,
    /// Wait after the first failure; doubles each time.
    pub initial_backoff: Duration,
    /// Longest wait.
    pub max_backoff: Duration,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Wait, then try again.
    Retry(Duration),
    /// Give up on the message.
    DeadLetter,
    /// The deadline would pass before the next attempt.
    Expire,
    /// Stop the agent and advance nothing.
    Halt,
}

impl RetryPolicy {
    /// Decides after attempt `attempt` (from 1) failed. `jitter` is a random number from 0 to 1; half of a computed
    /// wait is fixed and half is jitter. A wait that the other side asked for is never shortened.
    pub fn after_failure(
        &self,
        class: Class,
        attempt: u32,
        now: Timestamp,
        deadline: Option<Timestamp>,
        jitter: f64,
    ) -> Next {
        let after = match class {
            Class::Fatal => return Next::Halt,
            Class::Terminal => return Next::DeadLetter,
            Class::Retryable { after } => after,
        };
        if attempt >= self.max_attempts {
            return Next::DeadLetter;
        }
        let doubled = self.initial_backoff.saturating_mul(1 << (attempt.saturating_sub(1)).min(20));
        let capped = doubled.min(self.max_backoff);
        let wait = capped / 2 + (capped / 2).mul_f64(jitter.clamp(0.0, 1.0));
        let wait = after.map_or(wait, |asked| asked.max(wait));
        if deadline.is_some_and(|d| now.plus(wait) >= d) { Next::Expire } else { Next::Retry(wait) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        max_attempts: 4,
        initial_backoff: Duration::from_millis(100),
        max_backoff: Duration::from_millis(300),
    };
    const SOON: Class = Class::Retryable { after: None };

    fn after(class: Class, attempt: u32, deadline_ms: Option<i64>) -> Next {
        POLICY.after_failure(class, attempt, Timestamp::from_millis(0), deadline_ms.map(Timestamp::from_millis), 1.0)
    }

    #[test]
    fn backs_off_doubling_to_the_cap_and_then_gives_up() {
        assert_eq!(after(SOON, 1, None), Next::Retry(Duration::from_millis(100)));
        assert_eq!(after(SOON, 2, None), Next::Retry(Duration::from_millis(200)));
        assert_eq!(after(SOON, 3, None), Next::Retry(Duration::from_millis(300)));
        assert_eq!(after(SOON, 4, None), Next::DeadLetter);
    }

    #[test]
    fn a_wait_that_was_asked_for_is_kept() {
        let class = Class::Retryable { after: Some(Duration::from_secs(7)) };
        assert_eq!(after(class, 1, None), Next::Retry(Duration::from_secs(7)));
    }

    #[test]
    fn does_not_wait_past_the_deadline() {
        assert_eq!(after(SOON, 1, Some(100)), Next::Expire);
        assert_eq!(after(SOON, 1, Some(101)), Next::Retry(Duration::from_millis(100)));
    }

    #[test]
    fn terminal_and_fatal_do_not_wait() {
        assert_eq!(after(Class::Terminal, 1, None), Next::DeadLetter);
        assert_eq!(after(Class::Fatal, 1, None), Next::Halt);
    }
}
