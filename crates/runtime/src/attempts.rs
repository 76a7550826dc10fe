//! Attempts at one message: in-place backoff, bounded by count and by the deadline.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use anabranch_core::retry::{Class as CoreClass, Next, RetryPolicy};
use anabranch_protocol::Timestamp;
use anabranch_sdk::error::{AgentError, Class};
use futures::FutureExt as _;

use crate::clock;
use crate::metrics::Metrics;

/// How the attempts ended.
#[derive(Debug)]
pub(crate) enum Ended<T> {
    /// One succeeded.
    Completed(T),
    /// The message is given up on.
    DeadLetter(AgentError),
    /// The deadline passed, or would before the next attempt.
    Expired,
    /// The agent is broken.
    Fatal(AgentError),
}

/// Bounds of the attempts at one message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) policy: RetryPolicy,
    /// Longest one attempt may take.
    pub(crate) timeout: Duration,
    pub(crate) deadline: Option<Timestamp>,
}

/// Runs `attempt` with its number, from 1, until it ends. Returns how, and how many there were. A span of the caller
/// names the message in the logs.
pub(crate) async fn run<T, F, Fut>(bounds: Bounds, metrics: &Metrics, mut attempt: F) -> (Ended<T>, u32)
where
    F: FnMut(u32) -> Fut,
    Fut: Future<Output = Result<T, AgentError>>,
{
    let mut number = 0;
    loop {
        if bounds.deadline.is_some_and(|d| clock::now() >= d) {
            return (Ended::Expired, number);
        }
        number += 1;
        let error = match once(bounds, attempt(number)).await {
            Ok(value) => return (Ended::Completed(value), number),
            Err(error) => error,
        };
        let class = match error.class() {
            Class::Retryable { after } => CoreClass::Retryable { after },
            Class::Terminal => CoreClass::Terminal,
            Class::Fatal => CoreClass::Fatal,
        };
        match bounds.policy.after_failure(class, number, clock::now(), bounds.deadline, rand::random()) {
            Next::Retry(wait) => {
                tracing::warn!(attempt = number, %error, retry_in_ms = wait.as_millis() as u64, "attempt failed");
                metrics.retries.inc();
                tokio::time::sleep(wait).await;
            }
            Next::DeadLetter => return (Ended::DeadLetter(error), number),
            Next::Expire => {
                tracing::warn!(attempt = number, %error, "attempt failed, and the deadline leaves no time for another");
                return (Ended::Expired, number);
            }
            Next::Halt => return (Ended::Fatal(error), number),
        }
    }
}

/// One attempt: bounded in time, and a panic is an error like another.
async fn once<T>(bounds: Bounds, attempt: impl Future<Output = Result<T, AgentError>>) -> Result<T, AgentError> {
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
    use super::*;

    fn bounds(deadline: Option<Timestamp>) -> Bounds {
        let policy = RetryPolicy {
            max_attempts: 3,
            initial_backoff: Duration::from_millis(1),
            max_backoff: Duration::from_millis(2),
        };
        Bounds { policy, timeout: Duration::from_secs(5), deadline }
    }

    async fn ends(results: Vec<Result<u8, AgentError>>) -> (Ended<u8>, u32) {
        let (metrics, _) = Metrics::register("test");
        let results = std::sync::Mutex::new(results.into_iter());
        run(bounds(None), &metrics, |_| {
            let next = results.lock().unwrap().next().unwrap();
            async move { next }
        })
        .await
    }

    #[tokio::test]
    async fn retries_until_it_works_or_the_attempts_are_used_up() {
        let flaky = vec![Err(AgentError::retryable("a")), Ok(7)];
        assert!(matches!(ends(flaky).await, (Ended::Completed(7), 2)));
        let broken = (0..3).map(|_| Err(AgentError::retryable("a"))).collect();
        assert!(matches!(ends(broken).await, (Ended::DeadLetter(_), 3)));
    }

    #[tokio::test]
    async fn terminal_and_fatal_end_on_the_first_attempt() {
        assert!(matches!(ends(vec![Err(AgentError::terminal("a"))]).await, (Ended::DeadLetter(_), 1)));
        assert!(matches!(ends(vec![Err(AgentError::fatal("a"))]).await, (Ended::Fatal(_), 1)));
    }

    #[tokio::test]
    async fn expired_work_is_not_begun() {
        let (metrics, _) = Metrics::register("test");
        let past = Some(Timestamp::from_millis(1));
        let (ended, attempts) = run(bounds(past), &metrics, |_| async { Ok::<u8, AgentError>(1) }).await;
        assert!(matches!(ended, Ended::Expired));
        assert_eq!(attempts, 0);
    }

    #[tokio::test]
    async fn a_panic_is_an_attempt_that_failed() {
        let (metrics, _) = Metrics::register("test");
        let (ended, attempts) = run(bounds(None), &metrics, |n| async move {
            assert!(n > 1, "first attempt breaks");
            Ok::<u32, AgentError>(n)
        })
        .await;
        assert!(matches!(ended, Ended::Completed(2)), "{ended:?} after {attempts}");
    }
}
