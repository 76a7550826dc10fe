//! A task that sleeps until the next deadline and wakes for nothing else.
//!
//! Deadlines that move later (every heartbeat moves one) cost no wake-up: the task wakes at the one it knew, looks
//! again and sleeps on.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Instant,
};

use tokio::{runtime::Handle, sync::Notify, time::sleep_until};

/// Something that does its due work when told the time.
pub(crate) trait Timed: Send + Sync + 'static {
    /// Does what is due at `now`, and says when to call again.
    fn fire(&self, now: Instant) -> Option<Instant>;
}

/// The handle of the task; dropping it ends the task.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    armed: Mutex<Option<Instant>>,
    changed: Notify,
}

/// The time as the alarm sees it; a test may pause it.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl Alarm {
    /// Starts the task. It keeps no strong reference to `owner`, and ends with it.
    ///
    /// # Errors
    /// When called outside a tokio runtime.
    pub(crate) fn start<T: Timed>(&self, owner: &Arc<T>) -> io::Result<()> {
        let runtime = Handle::try_current().map_err(io::Error::other)?;
        runtime.spawn(run(Arc::downgrade(owner), Arc::clone(&self.shared)));
        Ok(())
    }

    /// Sees to it that the owner fires at `at` or earlier.
    pub(crate) fn arm(&self, at: Option<Instant>) {
        if self.shared.bring_forward(at) {
            self.shared.changed.notify_one();
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.shared.changed.notify_one();
    }
}

impl Shared {
    /// Whether that changed anything.
    fn bring_forward(&self, at: Option<Instant>) -> bool {
        let Some(at) = at else { return false };
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        let earlier = armed.is_none_or(|armed| at < armed);
        if earlier {
            *armed = Some(at);
        }
        earlier
    }

    fn armed(&self) -> Option<Instant> {
        *self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn disarm(&self) {
        *self.armed.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

async fn run<T: Timed>(owner: Weak<T>, shared: Arc<Shared>) {
    while owner.strong_count() > 0 {
        if let Some(at) = shared.armed() {
            tokio::select! {
                () = sleep_until(at.into()) => {}
                () = shared.changed.notified() => continue,
            }
        } else {
            shared.changed.notified().await;
            continue;
        }
        // Before the owner looks at its deadlines, so that one set meanwhile is not lost.
        shared.disarm();
        let Some(owner) = owner.upgrade() else { return };
        let next = owner.fire(now());
        shared.bring_forward(next);
    }
}
