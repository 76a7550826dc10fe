//! The limits of dead letters: past one, what would have become a dead letter is held, and nothing new is started.
//!
//! A record that is held keeps its slot and its offset: it waits in its handler's place until it is tried again, until
//! its deadline, or until the process drains, and then it is delivered again. So a drain or a restart loses nothing,
//! and a topic is never turned into dead letters past the limits.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anabranch_core::letters::{LetterLimits, Letters as Counted, Probe, Verdict};
use anabranch_protocol::Timestamp;
use anabranch_topology::DeadLetterSettings;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::gate::{Gate, Hold};

/// What becomes of a record that its handler gave up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Admitted {
    /// A dead letter.
    Emit,
    /// It is to be tried again: it was its turn, the hold was lifted, or its deadline has passed.
    Again,
    /// The process drains: neither done nor given up, it is delivered again.
    Back,
}

/// The dead letters of one process, counted. Clones count together.
#[derive(Debug, Clone)]
pub(crate) struct Letters(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    /// Something is held.
    held: Notify,
    gate: Gate,
    drain: CancellationToken,
}

#[derive(Debug)]
struct State {
    counted: Counted,
    /// Those that are held, the longest first.
    waiting: VecDeque<oneshot::Sender<()>>,
}

impl State {
    /// The one that is held longest has its turn. `false`: none is held any more.
    fn wake_first(&mut self) -> bool {
        // Those that did not wait for it are passed over.
        while let Some(first) = self.waiting.pop_front() {
            if first.send(()).is_ok() {
                return true;
            }
        }
        false
    }
}

impl Letters {
    /// Counts under these limits, from now on. Needs a tokio runtime.
    pub(crate) fn start(settings: &DeadLetterSettings, gate: Gate, drain: CancellationToken) -> Self {
        let limits = LetterLimits {
            max_share: settings.max_share,
            over: settings.over,
            max_in_a_row: settings.max_in_a_row,
            resume_after: settings.resume_after,
        };
        let state = Mutex::new(State { counted: Counted::new(limits), waiting: VecDeque::new() });
        let letters = Self(Arc::new(Inner { state, held: Notify::new(), gate, drain }));
        tokio::spawn(letters.clone().try_now_and_then());
        letters
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A record was done. If that shows that the agent works again, what is held is tried again.
    pub(crate) fn done(&self) {
        let mut state = self.lock();
        if state.counted.done() {
            while state.wake_first() {}
            self.0.gate.release(Hold::DeadLetters);
        }
    }

    /// A record is given up, and is due by `deadline`. Waits as long as it is held.
    pub(crate) async fn give_up(&self, deadline: Option<Timestamp>) -> Admitted {
        let Some(turn) = self.held() else { return Admitted::Emit };
        self.0.held.notify_one();
        let overdue = async {
            match deadline {
                Some(deadline) => tokio::time::sleep(deadline.since(clock::now())).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // The sender is gone with the process alone.
            _ = turn => Admitted::Again,
            () = overdue => Admitted::Again,
            () = self.0.drain.cancelled() => Admitted::Back,
        }
    }

    /// Its turn, if it is to be held.
    fn held(&self) -> Option<oneshot::Receiver<()>> {
        let mut state = self.lock();
        let Verdict::Hold(why) = state.counted.give_up(clock::now()) else { return None };
        let (sender, turn) = oneshot::channel();
        state.waiting.push_back(sender);
        self.0.gate.hold(Hold::DeadLetters, format!("{why}; one record is tried now and then, a restart begins anew"));
        Some(turn)
    }

    /// While something is held, lets one record at a time find out whether the agent works again.
    async fn try_now_and_then(self) {
        loop {
            let due = self.lock().counted.next_probe();
            match due {
                Some(due) => tokio::time::sleep(due.since(clock::now())).await,
                None => self.0.held.notified().await,
            }
            let mut state = self.lock();
            let probe = state.counted.probe(clock::now());
            match probe {
                Some(Probe::Held) if state.wake_first() => tracing::info!("a record that is held is tried again"),
                Some(_) => self.0.gate.let_one_through(),
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::metrics::Metrics;

    const LIMIT: Duration = Duration::from_secs(10);

    fn letters(max_in_a_row: u32, resume_after: Duration) -> (Letters, Gate, CancellationToken) {
        let (metrics, _) = Metrics::register("test");
        let gate = Gate::new("test", Arc::new(metrics));
        let drain = CancellationToken::new();
        let settings = DeadLetterSettings { max_share: 1.0, over: 100, max_in_a_row, resume_after };
        (Letters::start(&settings, gate.clone(), drain.clone()), gate, drain)
    }

    async fn soon<T>(future: impl Future<Output = T>) -> T {
        tokio::time::timeout(LIMIT, future).await.expect("it ends")
    }

    #[tokio::test]
    async fn past_the_limit_a_record_waits_for_its_turn_and_nothing_starts() {
        let (letters, gate, _) = letters(2, Duration::from_millis(20));
        for _ in 0..2 {
            assert_eq!(letters.give_up(None).await, Admitted::Emit);
        }
        assert!(gate.is_open());
        assert_eq!(soon(letters.give_up(None)).await, Admitted::Again, "its turn comes");
        assert!(!gate.is_open());
        assert!(gate.held()[0].1.contains("2 dead letters in a row"));
        // It fails again; then one that was not begun yet may start.
        let waiting = tokio::spawn({
            let letters = letters.clone();
            async move { letters.give_up(None).await }
        });
        soon(async {
            while !gate.lets_one_through() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        letters.done();
        assert_eq!(soon(waiting).await.unwrap(), Admitted::Again);
        assert!(gate.is_open() && !gate.lets_one_through());
        assert_eq!(letters.give_up(None).await, Admitted::Emit);
    }

    #[tokio::test]
    async fn what_is_held_waits_no_longer_than_its_deadline_or_a_drain() {
        let (letters, _, drain) = letters(1, Duration::from_secs(3_600));
        assert_eq!(letters.give_up(None).await, Admitted::Emit);
        let due = clock::now().plus(Duration::from_millis(30));
        assert_eq!(soon(letters.give_up(Some(due))).await, Admitted::Again);
        let waiting = tokio::spawn({
            let letters = letters.clone();
            async move { letters.give_up(None).await }
        });
        drain.cancel();
        assert_eq!(soon(waiting).await.unwrap(), Admitted::Back);
    }
}
