//! Whether a model may be asked now, for whoever feeds the agent.

use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;

use super::breaker::Seen;
use crate::error::OpenCause;

/// Whether the model may be asked now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Yes.
    Closed,
    /// No: starting work that needs the model is pointless before `until`. From then on it is worth one call; the state
    /// stays open until somebody makes it.
    Open {
        /// When it is worth trying again.
        until: Instant,
        /// Why.
        cause: OpenCause,
    },
    /// One call is under way, to see. What it shows is the next state.
    HalfOpen,
}

/// A watch on [`BreakerState`]. A worker holds its partitions while it is open, and keeps its group membership.
pub type BreakerWatch = watch::Receiver<BreakerState>;

/// Puts together what the lanes' breakers and the budget say. A model is down only if its fallback is too.
#[derive(Debug)]
pub(crate) struct Gate {
    parts: Mutex<Parts>,
    state: watch::Sender<BreakerState>,
}

#[derive(Debug)]
struct Parts {
    lanes: Vec<Seen>,
    out_of_budget_until: Option<Instant>,
}

impl Gate {
    pub(crate) fn new(lanes: usize) -> Self {
        let parts = Parts { lanes: vec![Seen::Closed; lanes], out_of_budget_until: None };
        Self { parts: Mutex::new(parts), state: watch::Sender::new(BreakerState::Closed) }
    }

    pub(crate) fn watch(&self) -> BreakerWatch {
        self.state.subscribe()
    }

    pub(crate) fn lane(&self, index: usize, seen: Seen) {
        self.set(|parts| {
            if let Some(lane) = parts.lanes.get_mut(index) {
                *lane = seen;
            }
        });
    }

    pub(crate) fn budget(&self, out_until: Option<Instant>) {
        self.set(|parts| parts.out_of_budget_until = out_until);
    }

    fn set(&self, change: impl FnOnce(&mut Parts)) {
        // Told under the lock: states come in the order in which they were.
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut parts);
        let next = parts.state();
        self.state.send_if_modified(|state| std::mem::replace(state, next) != next);
    }
}

impl Parts {
    fn state(&self) -> BreakerState {
        if let Some(until) = self.out_of_budget_until {
            return BreakerState::Open { until, cause: OpenCause::Budget };
        }
        let mut soonest = None;
        for lane in &self.lanes {
            match lane {
                Seen::Closed => return BreakerState::Closed,
                Seen::HalfOpen => {}
                Seen::Open(until) => soonest = Some(soonest.map_or(*until, |other: Instant| other.min(*until))),
            }
        }
        match soonest {
            Some(until) if !self.lanes.contains(&Seen::HalfOpen) => {
                BreakerState::Open { until, cause: OpenCause::Failures }
            }
            _ => BreakerState::HalfOpen,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_model_is_down_only_if_its_fallback_is_too_and_the_budget_comes_first() {
        let (gate, now) = (Gate::new(2), Instant::now());
        let watch = gate.watch();
        let (sooner, later) = (now + Duration::from_secs(1), now + Duration::from_secs(2));
        gate.lane(0, Seen::Open(later));
        assert_eq!(*watch.borrow(), BreakerState::Closed);
        gate.lane(1, Seen::Open(sooner));
        assert_eq!(*watch.borrow(), BreakerState::Open { until: sooner, cause: OpenCause::Failures });
        gate.lane(1, Seen::HalfOpen);
        assert_eq!(*watch.borrow(), BreakerState::HalfOpen);
        gate.budget(Some(later));
        assert_eq!(*watch.borrow(), BreakerState::Open { until: later, cause: OpenCause::Budget });
        gate.budget(None);
        gate.lane(0, Seen::Closed);
        assert_eq!(*watch.borrow(), BreakerState::Closed);
    }
}
