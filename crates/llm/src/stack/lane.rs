//! One model with its own rate limit and breaker.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::breaker::{Breaker, Ended, Ticket};
use super::gate::Gate;
use super::limiter::{Limiter, Permit, Share};
use super::settings::ModelLimits;
use crate::error::{ErrorClass, ModelError, OpenCause};
use crate::port::Model;

/// How long everybody waits after a 429 that says nothing, and the longest they wait after one that does: a single
/// answer from outside holds a process no longer.
const HOLD: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(120));

/// One model: its rate limit, its breaker, and who carries calls to it.
pub(crate) struct Lane {
    pub(crate) limits: ModelLimits,
    /// The model that this one stands in for.
    pub(crate) stands_in_for: Option<String>,
    pub(crate) transport: Arc<dyn Model>,
    limiter: Option<Limiter>,
    breaker: Mutex<Breaker>,
    index: usize,
    gate: Arc<Gate>,
}

impl Lane {
    /// Starts the limiter's task, so it must be called within a tokio runtime. `shared` is whether the limit is divided
    /// between processes: nothing passes then before a share is known.
    pub(crate) fn start(
        limits: ModelLimits,
        stands_in_for: Option<String>,
        transport: Arc<dyn Model>,
        shared: bool,
        (index, gate): (usize, Arc<Gate>),
    ) -> Self {
        let share = if shared { Share::none(limits.rate) } else { Share::whole(limits.rate) };
        let limiter = limits.rate.is_bounded().then(|| Limiter::start(limits.rate, share));
        let breaker = Mutex::new(Breaker::new(limits.breaker.clone()));
        Self { limits, stands_in_for, transport, limiter, breaker, index, gate }
    }

    pub(crate) fn limiter(&self) -> Option<&Limiter> {
        self.limiter.as_ref()
    }

    /// Waits for the rate limit, unless the breaker is open.
    pub(crate) async fn permit(
        &self,
        tenant: &str,
        tokens: u64,
        max_wait: Duration,
    ) -> Result<Option<Permit>, ModelError> {
        let wait = self.breaker().wait(Instant::now());
        if let Some(wait) = wait {
            return Err(left_alone(wait, self.limits.name.as_str()));
        }
        let Some(limiter) = &self.limiter else { return Ok(None) };
        match limiter.acquire(tenant, tokens, max_wait).await {
            Some(permit) => Ok(Some(permit)),
            None => Err(ModelError::BreakerOpen {
                cause: OpenCause::Limit,
                after: max_wait,
                message: format!("{} was not to be asked within {max_wait:?}", self.limits.name),
            }),
        }
    }

    /// Whether a call may be made now.
    pub(crate) fn admit(&self) -> Result<Ticket, ModelError> {
        let mut breaker = self.breaker();
        let admitted = breaker.admit(Instant::now());
        self.gate.lane(self.index, breaker.seen());
        drop(breaker);
        admitted.map_err(|wait| left_alone(wait, self.limits.name.as_str()))
    }

    /// Takes note of how a call ended.
    pub(crate) fn report(&self, ticket: Ticket, ended: Ended) {
        let mut breaker = self.breaker();
        breaker.report(ticket, ended, Instant::now());
        self.gate.lane(self.index, breaker.seen());
    }

    /// The error as the caller sees it: if the breaker is open now, a failure that speaks of the model says nothing about
    /// the message.
    pub(crate) fn judged(&self, error: ModelError) -> ModelError {
        if let (ModelError::RateLimited { after, .. }, Some(limiter)) = (&error, &self.limiter) {
            limiter.hold(after.unwrap_or(HOLD.0).min(HOLD.1));
        }
        let breaker = self.breaker();
        if ended(&error) != Ended::Badly || !breaker.is_open() {
            return error;
        }
        let wait = breaker.wait(Instant::now()).unwrap_or_default();
        left_alone(wait, &error.to_string())
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Not all that wait shall come back at the same moment, nor always the same one first.
fn left_alone(wait: Duration, message: &str) -> ModelError {
    let after = wait + wait.mul_f64(rand::random::<f64>() / 10.0);
    ModelError::BreakerOpen { cause: OpenCause::Failures, after, message: message.to_owned() }
}

/// What a failure says about the model: that it does not work, that it does, or nothing.
pub(crate) fn ended(error: &ModelError) -> Ended {
    match error {
        ModelError::RateLimited { .. } | ModelError::BreakerOpen { .. } | ModelError::Journal(_) => Ended::Unseen,
        other => match other.class() {
            ErrorClass::Retryable { .. } => Ended::Badly,
            ErrorClass::Terminal => Ended::Well,
            ErrorClass::Fatal => Ended::Unseen,
        },
    }
}
