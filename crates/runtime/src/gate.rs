//! What keeps a process from starting work: too many dead letters, or a dependency that is down.
//!
//! While anything holds the gate, the worker starts nothing new and stops fetching. Membership, heartbeats, commits and
//! what runs go on, and the partitions are kept: nobody else is asked to walk into the same wall. Whoever holds it lets
//! go; a hold is never lifted by time alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use crate::metrics::{HoldLabel, Metrics};

/// Who holds the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Hold {
    /// Too many records became dead letters.
    DeadLetters,
    /// A dependency does not work: its breaker is open.
    Breaker,
}

impl Hold {
    /// The word in `/metrics` and in the logs.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::DeadLetters => "dead_letters",
            Self::Breaker => "breaker",
        }
    }
}

/// The gate of one process. Clones are the same gate.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    holds: Arc<watch::Sender<BTreeMap<Hold, String>>>,
    /// One piece of work may start although it is held.
    one: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
    agent: &'static str,
}

impl Gate {
    /// An open gate.
    pub(crate) fn new(agent: &'static str, metrics: Arc<Metrics>) -> Self {
        [Hold::DeadLetters, Hold::Breaker].into_iter().for_each(|hold| show(&metrics, hold, false));
        Self { holds: Arc::new(watch::Sender::new(BTreeMap::new())), one: Arc::default(), metrics, agent }
    }

    /// Closes the gate, or says anew why it is closed. Logged when that is news.
    pub(crate) fn hold(&self, hold: Hold, why: String) {
        if self.holds.borrow().get(&hold) == Some(&why) {
            return;
        }
        show(&self.metrics, hold, true);
        tracing::error!(agent = self.agent, held_by = hold.word(), why, "paused: no new work is started");
        self.holds.send_modify(|holds| drop(holds.insert(hold, why)));
    }

    /// Lets go; the gate opens if nobody else holds it.
    pub(crate) fn release(&self, hold: Hold) {
        self.one.store(false, Ordering::Relaxed);
        if self.holds.send_if_modified(|holds| holds.remove(&hold).is_some()) {
            show(&self.metrics, hold, false);
            let open = self.is_open();
            tracing::info!(agent = self.agent, held_by = hold.word(), open, "a hold is lifted");
        }
    }

    /// Whether nobody holds it.
    pub(crate) fn is_open(&self) -> bool {
        self.holds.borrow().is_empty()
    }

    /// Lets one piece of work start although it is held, to find out whether things work again.
    pub(crate) fn let_one_through(&self) {
        self.one.store(true, Ordering::Relaxed);
        // Wakes whoever waits to start it.
        self.holds.send_modify(|_| {});
    }

    /// Whether one piece of work may start although it is held. Not yet taken: see [`one_started`](Self::one_started).
    pub(crate) fn lets_one_through(&self) -> bool {
        self.one.load(Ordering::Relaxed)
    }

    /// That one has started.
    pub(crate) fn one_started(&self) {
        self.one.store(false, Ordering::Relaxed);
    }

    /// Who holds it, and why.
    pub(crate) fn held(&self) -> Vec<(Hold, String)> {
        self.holds.borrow().iter().map(|(hold, why)| (*hold, why.clone())).collect()
    }

    /// Hears of every change.
    pub(crate) fn watch(&self) -> watch::Receiver<BTreeMap<Hold, String>> {
        self.holds.subscribe()
    }
}

fn show(metrics: &Metrics, hold: Hold, held: bool) {
    metrics.paused.get_or_create(&HoldLabel { by: hold.word() }).set(i64::from(held));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn gate() -> Gate {
        let (metrics, _) = Metrics::register("test");
        Gate::new("test", Arc::new(metrics))
    }

    #[tokio::test]
    async fn it_opens_when_the_last_hold_is_lifted() {
        let gate = gate();
        assert!(gate.is_open());
        gate.hold(Hold::Breaker, "no answer".to_owned());
        gate.hold(Hold::DeadLetters, "five in a row".to_owned());
        gate.hold(Hold::DeadLetters, "six in a row".to_owned());
        let held = gate.held();
        assert_eq!(held[0], (Hold::DeadLetters, "six in a row".to_owned()));
        assert_eq!(held[1].0, Hold::Breaker);
        let waiter = tokio::spawn({
            let gate = gate.clone();
            async move { gate.watch().wait_for(BTreeMap::is_empty).await.map(drop) }
        });
        gate.release(Hold::Breaker);
        assert!(!gate.is_open());
        gate.release(Hold::Breaker);
        gate.release(Hold::DeadLetters);
        tokio::time::timeout(Duration::from_secs(5), waiter).await.unwrap().unwrap().unwrap();
        assert!(gate.is_open() && gate.held().is_empty());
    }

    #[tokio::test]
    async fn only_news_wakes_the_watchers() {
        let gate = gate();
        let watch = gate.watch();
        gate.release(Hold::Breaker);
        assert!(!watch.has_changed().unwrap());
        gate.hold(Hold::Breaker, "down".to_owned());
        assert!(watch.has_changed().unwrap());
        assert_eq!(gate.metrics.paused.get_or_create(&HoldLabel { by: "breaker" }).get(), 1);
    }
}
