//! One attempt at one message: bounded in time, never begun past the deadline, and what becomes of it if it fails.
//!
//! Nothing waits here. A message that is to be tried again is handed back ([`Ended::Retry`]), and whoever runs the loop
//! sees to it that it comes again when it is due.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use anabranch_core::retry::{Class as CoreClass, Next, RetryPolicy};
use anabranch_protocol::Timestamp;
use anabranch_sdk::error::{AgentError, Class};
use futures::FutureExt as _;

use crate::clock;

/// How an attempt ended.
#[derive(Debug)]
pub(crate) enum Ended<T> {
    /// It succeeded.
    Completed(T),
    /// It failed, and there is to be another.
    Retry(Retry),
    /// The message is given up on.
    DeadLetter(AgentError),
    /// The deadline passed, or would before the next attempt.
    Expired,
    /// The agent is broken.
    Fatal(AgentError),
}

/// A message that is to be tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Retry {
    /// Not before.
    pub(crate) due: Timestamp,
    /// Not from here on.
    pub(crate) deadline: Option<Timestamp>,
    /// What failed, with its causes on one line.
    pub(crate) error: String,
    /// Whether it was an attempt. It was none if nothing was asked of the outside world.
    pub(crate) counts: bool,
}

/// Bounds of the attempts at one message.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    pub(crate) policy: RetryPolicy,
    /// Longest one attempt may take.
    pub(crate) timeout: Duration,
    pub(crate) deadline: Option<Timestamp>,
}

/// Makes an attempt after `before` others. Returns how it ended, and how many there were with it. A span of the caller
/// names the message in the logs.
pub(crate) async fn once<T>(
    bounds: &Bounds,
    before: u32,
    attempt: impl Future<Output = Result<T, AgentError>>,
) -> (Ended<T>, u32) {
    if bounds.deadline.is_some_and(|d| clock::now() >= d) {
        return (Ended::Expired, before);
    }
    let number = before + 1;
    match run(bounds, attempt).await {
        Ok(value) => (Ended::Completed(value), number),
        Err(error) => (after_failure(bounds, number, error), number),
    }
}

fn after_failure<T>(bounds: &Bounds, attempt: u32, error: AgentError) -> Ended<T> {
    let class = match error.class() {
        Class::Retryable { after } => CoreClass::Retryable { after },
        Class::Terminal => CoreClass::Terminal,
        Class::Fatal => CoreClass::Fatal,
    };
    let (now, deadline) = (clock::now(), bounds.deadline);
    let counts = !error.is_breaker_open();
    let next = match class {
        CoreClass::Retryable { after } if !counts => bounds.policy.after_no_attempt(after, now, deadline),
        class => bounds.policy.after_failure(class, attempt, now, deadline, rand::random()),
    };
    match next {
        Next::Retry(due) => {
            let retry_in_ms = u64::try_from(due.since(now).as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(attempt, counts, %error, retry_in_ms, "attempt failed");
            Ended::Retry(Retry { due, deadline, error: error.to_string(), counts })
        }
        Next::DeadLetter => Ended::DeadLetter(error),
        Next::Expire => {
            tracing::warn!(attempt, %error, "attempt failed, and the deadline leaves no time for another");
            Ended::Expired
        }
        Next::Halt => Ended::Fatal(error),
    }
}

/// Bounded in time, and a panic is an error like another.
async fn run<T>(bounds: &Bounds, attempt: impl Future<Output = Result<T, AgentError>>) -> Result<T, AgentError> {
    let left = bounds.deadline.map_or(bounds.timeout, |d| d.since(clock::now()).min(bounds.timeout));
    match tokio::time::timeout(left, AssertUnwindSafe(attempt).catch_unwind()).await {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => {
            let words = panic.downcast_ref::<&str>().copied().map(str::to_owned);
            let words = words.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            Err(AgentError::retryable(format!("the handler panicked: {words}")))
        }
        Err(_) => Err(AgentError::retryable(format!("the handler did not end within {} ms", left.as_millis()))),
    }
}

#[cfg(test)]
mod tests {
    use anabranch_llm::{ModelError, OpenCause};

    use super::*;

    fn bounds(deadline: Option<Timestamp>) -> Bounds {
        let policy = RetryPolicy {
            max_attempts: 3,
            initial_backoff: Duration::from_millis(1),
            max_backoff: Duration::from_millis(2),
            tiers: Vec::new(),
        };
        Bounds { policy, timeout: Duration::from_secs(5), deadline }
    }

    async fn ends(before: u32, result: Result<u8, AgentError>) -> (Ended<u8>, u32) {
        once(&bounds(None), before, async { result }).await
    }

    #[tokio::test]
    async fn it_is_tried_again_until_it_works_or_the_attempts_are_used_up() {
        assert!(matches!(ends(0, Ok(7)).await, (Ended::Completed(7), 1)));
        let flaky = || Err(AgentError::retryable("a"));
        let (Ended::Retry(retry), 2) = ends(1, flaky()).await else { panic!("no retry") };
        assert!(retry.counts && retry.error == "a" && retry.due > clock::now().plus(Duration::ZERO));
        assert!(matches!(ends(2, flaky()).await, (Ended::DeadLetter(_), 3)));
    }

    #[tokio::test]
    async fn terminal_and_fatal_end_on_the_first_attempt() {
        assert!(matches!(ends(0, Err(AgentError::terminal("a"))).await, (Ended::DeadLetter(_), 1)));
        assert!(matches!(ends(0, Err(AgentError::fatal("a"))).await, (Ended::Fatal(_), 1)));
    }

    #[tokio::test]
    async fn what_was_no_attempt_uses_none_up() {
        let after = Duration::from_secs(9);
        let open = ModelError::BreakerOpen { cause: OpenCause::Failures, after, message: "down".into() };
        let before = clock::now();
        let (Ended::Retry(retry), _) = ends(2, Err(AgentError::from(open))).await else { panic!("no retry") };
        assert!(!retry.counts && retry.due >= before.plus(after));
    }

    #[tokio::test]
    async fn expired_work_is_not_begun() {
        let past = Some(Timestamp::from_millis(1));
        let (ended, attempts) = once(&bounds(past), 1, async { Ok::<u8, AgentError>(1) }).await;
        assert!(matches!(ended, Ended::Expired));
        assert_eq!(attempts, 1);
    }

    #[tokio::test]
    async fn a_retry_past_the_deadline_expires_now() {
        let soon = Some(clock::now().plus(Duration::from_secs(2)));
        let late = AgentError::retry_after("busy", Duration::from_secs(7));
        let (ended, _) = once(&bounds(soon), 0, async { Err::<u8, _>(late) }).await;
        assert!(matches!(ended, Ended::Expired));
    }

    #[tokio::test]
    async fn a_panic_is_an_attempt_that_failed() {
        let panics = async { if clock::now().as_millis() > 0 { panic!("breaks") } else { Ok::<u8, AgentError>(1) } };
        let (ended, attempts) = once(&bounds(None), 0, panics).await;
        assert!(matches!(&ended, Ended::Retry(retry) if retry.error == "the handler panicked: breaks"), "{ended:?}");
        assert_eq!(attempts, 1);
    }
}
