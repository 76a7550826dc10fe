//! The one place that reads the wall clock.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anabranch_protocol::Timestamp;
use anabranch_protocol::replay::MOST_READINGS;
use anabranch_sdk::context::Clock;

/// Now.
pub(crate) fn now() -> Timestamp {
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis());
    Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
}

/// The clock, as one attempt reads it: what was read is kept with its answer.
#[derive(Debug, Default)]
pub(crate) struct Watched(Mutex<Vec<Timestamp>>);

impl Watched {
    /// What was read, in order; the first [`MOST_READINGS`] of it.
    pub(crate) fn readings(&self) -> Vec<Timestamp> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Clock for Watched {
    fn now(&self) -> Timestamp {
        let mut readings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that the order is that of the readings.
        let now = now();
        if readings.len() < MOST_READINGS {
            readings.push(now);
        }
        now
    }
}

/// A clock that shows what was read before, in that order, and the last of it from then on.
#[derive(Debug)]
pub(crate) struct Shown {
    readings: Vec<Timestamp>,
    /// Where nothing was read.
    otherwise: Timestamp,
    next: AtomicUsize,
}

impl Shown {
    pub(crate) fn new(readings: Vec<Timestamp>, otherwise: Timestamp) -> Self {
        Self { readings, otherwise, next: AtomicUsize::new(0) }
    }
}

impl Clock for Shown {
    fn now(&self) -> Timestamp {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        self.readings.get(next).or(self.readings.last()).copied().unwrap_or(self.otherwise)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_is_shown_again() {
        let watched = Watched::default();
        let read: Vec<Timestamp> = (0..3).map(|_| watched.now()).collect();
        assert_eq!(watched.readings(), read);
        let at = |ms| Timestamp::from_millis(ms);
        let shown = Shown::new(vec![at(7), at(9)], at(1));
        assert_eq!([shown.now(), shown.now(), shown.now()], [at(7), at(9), at(9)]);
        assert_eq!(Shown::new(Vec::new(), at(1)).now(), at(1));
        for _ in 0..2 * MOST_READINGS {
            watched.now();
        }
        assert_eq!(watched.readings().len(), MOST_READINGS);
    }
}
