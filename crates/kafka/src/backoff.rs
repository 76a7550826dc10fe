//! Exponential backoff with jitter, bounded by a deadline.

use std::time::{Duration, Instant};

use rand::RngExt;

use crate::{config::ClusterConfig, error::Error};

/// The waits between tries.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    initial: Duration,
    next: Duration,
    max: Duration,
}

impl Backoff {
    pub(crate) fn new(config: &ClusterConfig) -> Self {
        Self { initial: config.initial_backoff, next: config.initial_backoff, max: config.max_backoff }
    }

    /// Waits from `initial` on, doubling up to `max`.
    pub(crate) fn between(initial: Duration, max: Duration) -> Self {
        Self { initial, next: initial, max }
    }

    /// The next wait: between half of the current step and all of it.
    pub(crate) fn next_wait(&mut self) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(self.max);
        step.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    pub(crate) fn reset(&mut self) {
        self.next = self.initial;
    }
}

/// Repeats `try_once` while its error is retryable and the deadline leaves room for another try.
pub(crate) async fn retry<T, F>(
    config: &ClusterConfig,
    deadline: Instant,
    mut try_once: impl FnMut() -> F,
) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut backoff = Backoff::new(config);
    loop {
        let error = match try_once().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let wait = backoff.next_wait();
        if !error.is_retryable() || Instant::now() + wait >= deadline {
            return Err(error);
        }
        tracing::debug!(%error, wait_ms = wait.as_millis(), "trying again");
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_the_maximum_and_keep_jitter() {
        let config = ClusterConfig::new(vec![], "t");
        let mut backoff = Backoff::new(&config);
        for step_ms in [50, 100, 200, 400, 800, 1000, 1000] {
            let wait = backoff.next_wait();
            assert!(wait >= Duration::from_millis(step_ms / 2) && wait <= Duration::from_millis(step_ms), "{wait:?}");
        }
        backoff.reset();
        assert!(backoff.next_wait() <= Duration::from_millis(50));
    }
}
