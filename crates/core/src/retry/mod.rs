//! What becomes of a failed attempt: whether there is another, when, and where the record waits for it.
//!
//! A short wait is spent in memory. From the shortest tier on it is spent in a retry topic: each tier is a topic with a
//! fixed delay, so that what was put in first comes out first and only the head is looked at ([`room`]). What a wait is
//! longer than its tier is spent in memory again, or in another round of a tier.

pub mod room;

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

/// Bounds of retries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Most attempts, from 1.
    pub max_attempts: u32,
    /// Wait after the first failure; each further one is four times as long.
    pub initial_backoff: Duration,
    /// Longest wait, unless the other side asks for a longer one.
    pub max_backoff: Duration,
    /// Delays of the retry topics, ascending; none: all waits are spent in memory.
    pub tiers: Vec<Duration>,
}

/// Where a record waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In this process.
    Memory,
    /// In the retry topic of this tier, counted from 0.
    Tier(usize),
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Try again, not before this time.
    Retry(Timestamp),
    /// Give up on the message.
    DeadLetter,
    /// The deadline would pass before the next attempt.
    Expire,
    /// Stop the agent and advance nothing.
    Halt,
}

/// How much longer each wait is than the one before.
const GROWTH: u32 = 4;
/// Timestamps are cut to milliseconds: one more, so that no wait is shorter than it was meant to be.
const CUT: Duration = Duration::from_millis(1);

impl RetryPolicy {
    /// Decides after attempt `attempt` (from 1) failed. `jitter` is a random number from 0 to 1: of a wait in memory
    /// half is jitter, of a tier's delay up to a tenth comes on top. A wait that the other side asked for is never
    /// shortened.
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
        let own = self.backoff(attempt, jitter);
        self.not_past(deadline, now.plus(after.map_or(own, |asked| asked.max(own)) + CUT))
    }

    /// Decides after a failure that was no attempt (nothing was asked of the outside world): it uses none up.
    pub fn after_no_attempt(&self, after: Option<Duration>, now: Timestamp, deadline: Option<Timestamp>) -> Next {
        self.not_past(deadline, now.plus(after.unwrap_or(self.initial_backoff) + CUT))
    }

    fn not_past(&self, deadline: Option<Timestamp>, due: Timestamp) -> Next {
        if deadline.is_some_and(|deadline| due >= deadline) { Next::Expire } else { Next::Retry(due) }
    }

    /// The wait after this attempt: shorter than the shortest tier, or as long as one.
    fn backoff(&self, attempt: u32, jitter: f64) -> Duration {
        let factor = GROWTH.saturating_pow(attempt.saturating_sub(1));
        let grown = self.initial_backoff.saturating_mul(factor).min(self.max_backoff);
        let jitter = jitter.clamp(0.0, 1.0);
        match self.place(grown) {
            Place::Memory => grown / 2 + (grown / 2).mul_f64(jitter),
            Place::Tier(tier) => self.tiers[tier] + (self.tiers[tier] / 10).mul_f64(jitter),
        }
    }

    /// Where a wait is spent, or begun: in the longest tier that is not longer.
    pub fn place(&self, wait: Duration) -> Place {
        self.tiers.iter().rposition(|tier| *tier <= wait).map_or(Place::Memory, Place::Tier)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SOON: Class = Class::Retryable { after: None };

    fn policy(tiers: &[u64]) -> RetryPolicy {
        RetryPolicy {
            max_attempts: 6,
            initial_backoff: Duration::from_millis(200),
            max_backoff: Duration::from_secs(30),
            tiers: tiers.iter().copied().map(Duration::from_secs).collect(),
        }
    }

    fn after(policy: &RetryPolicy, class: Class, attempt: u32, deadline_ms: Option<i64>, jitter: f64) -> Next {
        let deadline = deadline_ms.map(Timestamp::from_millis);
        policy.after_failure(class, attempt, Timestamp::from_millis(0), deadline, jitter)
    }

    fn in_ms(millis: i64) -> Next {
        Next::Retry(Timestamp::from_millis(millis))
    }

    #[test]
    fn waits_grow_from_memory_through_the_tiers_and_then_it_gives_up() {
        let policy = policy(&[5, 30]);
        let waits: Vec<Next> = (1..=6).map(|attempt| after(&policy, SOON, attempt, None, 0.0)).collect();
        let expected = [in_ms(101), in_ms(401), in_ms(1_601), in_ms(5_001), in_ms(30_001), Next::DeadLetter];
        assert_eq!(waits, expected);
        assert_eq!(after(&policy, SOON, 4, None, 1.0), in_ms(5_501), "a tenth on top");
    }

    #[test]
    fn without_tiers_waits_grow_to_the_longest() {
        let waits = [4, 5].map(|attempt| after(&policy(&[]), SOON, attempt, None, 1.0));
        assert_eq!(waits, [in_ms(12_801), in_ms(30_001)]);
    }

    #[test]
    fn a_longest_wait_keeps_longer_tiers_for_what_is_asked() {
        let policy = RetryPolicy { max_backoff: Duration::from_secs(5), ..policy(&[5, 30]) };
        assert_eq!(after(&policy, SOON, 5, None, 0.0), in_ms(5_001));
        assert_eq!(policy.place(Duration::from_secs(40)), Place::Tier(1));
    }

    #[test]
    fn a_wait_that_was_asked_for_is_kept() {
        let class = Class::Retryable { after: Some(Duration::from_secs(7)) };
        assert_eq!(after(&policy(&[5, 30]), class, 1, None, 0.5), in_ms(7_001));
        assert_eq!(after(&policy(&[5, 30]), class, 5, None, 0.0), in_ms(30_001), "its own is longer");
    }

    #[test]
    fn does_not_wait_past_the_deadline() {
        assert_eq!(after(&policy(&[]), SOON, 1, Some(201), 1.0), Next::Expire);
        assert_eq!(after(&policy(&[]), SOON, 1, Some(202), 1.0), in_ms(201));
    }

    #[test]
    fn terminal_and_fatal_do_not_wait() {
        assert_eq!(after(&policy(&[]), Class::Terminal, 1, None, 0.0), Next::DeadLetter);
        assert_eq!(after(&policy(&[]), Class::Fatal, 1, None, 0.0), Next::Halt);
    }

    #[test]
    fn what_was_no_attempt_is_tried_again_however_often() {
        let next = policy(&[]).after_no_attempt(Some(Duration::from_secs(2)), Timestamp::from_millis(0), None);
        assert_eq!(next, in_ms(2_001));
    }

    proptest! {
        /// However a wait is cut into rounds of tiers and a rest in memory: it ends when it is due, never before.
        #[test]
        fn rounds_add_up(wait_ms in 0u64..2_000_000, mut tiers in prop::collection::vec(1u64..300, 0..5)) {
            tiers.sort_unstable();
            tiers.dedup();
            let policy = policy(&tiers);
            let mut left = Duration::from_millis(wait_ms);
            let mut rounds = 0;
            while let Place::Tier(tier) = policy.place(left) {
                prop_assert!(policy.tiers[tier] <= left);
                left -= policy.tiers[tier];
                rounds += 1;
                prop_assert!(rounds <= 2_001);
            }
            prop_assert!(policy.tiers.first().is_none_or(|shortest| left < *shortest));
        }

        #[test]
        fn no_wait_is_shorter_than_asked(attempt in 1u32..6, asked_ms in 0u64..100_000, jitter in 0.0f64..1.0) {
            let class = Class::Retryable { after: Some(Duration::from_millis(asked_ms)) };
            let Next::Retry(due) = after(&policy(&[5, 30]), class, attempt, None, jitter) else { panic!("gave up") };
            prop_assert!(due.as_millis() > asked_ms.cast_signed());
        }
    }
}
