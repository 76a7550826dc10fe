//! The rate limit: at most so many requests and tokens in any window, fair between tenants.
//!
//! `governor` would do for the pace alone. It has no queue and so no fairness, no correction once a call's tokens are
//! known, and no quota that changes while it runs, as a share of a limit does.

mod core;
mod fair;
mod pace;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub(crate) use self::core::Share;
use self::core::{Charge, Core, Next};
use super::settings::RateLimit;
use super::sharing::Demand;

type Waiter = oneshot::Sender<Charge>;

#[derive(Debug)]
struct State {
    core: Mutex<Core<Waiter>>,
    changed: Notify,
}

impl State {
    fn core(&self) -> MutexGuard<'_, Core<Waiter>> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets through who may pass; when the next one may.
    fn dispatch(&self) -> Option<Instant> {
        let mut core = self.core();
        loop {
            let now = Instant::now();
            match core.next(now) {
                Next::Admit(waiter, charge) => {
                    // Who has stopped waiting is charged nothing.
                    if let Err(charge) = waiter.send(charge) {
                        core.undo(charge, now);
                    }
                }
                Next::WaitUntil(at) => return Some(at),
                Next::Idle => return None,
            }
        }
    }
}

/// The rate limit of one model. Dropping it ends its task.
#[derive(Debug)]
pub(crate) struct Limiter {
    limit: RateLimit,
    state: Arc<State>,
    task: JoinHandle<()>,
}

impl Drop for Limiter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Limiter {
    /// Starts its task, so it must be called within a tokio runtime.
    pub(crate) fn start(limit: RateLimit, share: Share) -> Self {
        let core = Mutex::new(Core::new(limit, share, Instant::now()));
        let state = Arc::new(State { core, changed: Notify::new() });
        let task = tokio::spawn(run(state.clone()));
        Self { limit, state, task }
    }

    /// Waits until a call of so many tokens, as estimated, may be made; `None` if that takes longer than `max_wait`.
    /// Dropping the future gives up the place in the queue.
    pub(crate) async fn acquire(&self, tenant: &str, tokens: u64, max_wait: Duration) -> Option<Permit> {
        let (waiter, passed) = oneshot::channel();
        self.state.core().push(tenant, tokens, waiter);
        self.state.changed.notify_one();
        let mut waiting = Admission { state: &self.state, passed, over: false };
        let charge = tokio::time::timeout(max_wait, &mut waiting.passed).await.ok()?.ok()?;
        waiting.over = true;
        Some(Permit { state: self.state.clone(), charge })
    }

    /// Nobody is let through for `wait`: the endpoint said so.
    pub(crate) fn hold(&self, wait: Duration) {
        self.state.core().hold(Instant::now() + wait);
    }

    /// The limit, of which this process has a share.
    pub(crate) fn limit(&self) -> RateLimit {
        self.limit
    }

    /// Another share of the limit from now on.
    pub(crate) fn set_share(&self, share: Share) {
        self.state.core().set_share(share, Instant::now());
        self.state.changed.notify_one();
    }

    /// What this process wants of the limit.
    pub(crate) fn demand(&self) -> Demand {
        self.state.core().demand(Instant::now())
    }
}

async fn run(state: Arc<State>) {
    loop {
        match state.dispatch() {
            Some(at) => {
                tokio::select! {
                    () = tokio::time::sleep_until(at) => {}
                    () = state.changed.notified() => {}
                }
            }
            None => state.changed.notified().await,
        }
    }
}

/// A place in the queue. If it was let through just as its owner gave up, it is charged nothing.
struct Admission<'a> {
    state: &'a State,
    passed: oneshot::Receiver<Charge>,
    over: bool,
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        self.passed.close();
        match self.passed.try_recv() {
            Ok(charge) => self.state.core().undo(charge, Instant::now()),
            // However long nobody is let through, the queue holds no more than who waits.
            Err(_) => self.state.core().retain(|waiter| !waiter.is_closed()),
        }
    }
}

/// The right to make one call.
#[derive(Debug)]
#[must_use]
pub(crate) struct Permit {
    state: Arc<State>,
    charge: Charge,
}

impl Permit {
    /// The call took so many tokens.
    pub(crate) fn took(self, tokens: u64) {
        self.state.core().correct(self.charge, tokens, Instant::now());
        self.state.changed.notify_one();
    }

    /// The call was never made.
    pub(crate) fn unused(self) {
        self.state.core().undo(self.charge, Instant::now());
        self.state.changed.notify_one();
    }
}

#[cfg(test)]
mod tests;
