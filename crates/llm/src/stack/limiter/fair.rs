//! Who is next: start-time fair queueing between tenants.
//!
//! What arrives gets a tag: the later of the queue's own time and of the end of what its tenant queued before; the
//! smallest tag is next. A tenant that queues ten times its part waits behind itself, and another's next call overtakes
//! all of that.

use std::collections::{BTreeMap, HashMap};

/// Past so many tenants, those whose turn is over are forgotten.
const MAX_IDLE_TENANTS: usize = 1_024;

/// A fair queue of `T`.
#[derive(Debug)]
pub(crate) struct Fair<T> {
    /// By tag, then by arrival.
    waiting: BTreeMap<(u64, u64), T>,
    /// Where the work that a tenant queued ends.
    ends: HashMap<String, u64>,
    /// The tag of what was last taken.
    time: u64,
    arrivals: u64,
}

impl<T> Default for Fair<T> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), ends: HashMap::new(), time: 0, arrivals: 0 }
    }
}

impl<T> Fair<T> {
    /// Queues `item` of `tenant`, which is `work` units of it.
    pub(crate) fn push(&mut self, tenant: &str, work: u64, item: T) {
        let start = self.ends.get(tenant).copied().unwrap_or(0).max(self.time);
        let end = start.saturating_add(work.max(1));
        match self.ends.get_mut(tenant) {
            Some(known) => *known = end,
            None => {
                self.forget();
                self.ends.insert(tenant.to_owned(), end);
            }
        }
        self.arrivals += 1;
        self.waiting.insert((start, self.arrivals), item);
    }

    /// What is next.
    pub(crate) fn first(&self) -> Option<&T> {
        self.waiting.first_key_value().map(|(_, item)| item)
    }

    /// Takes what is next.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let ((start, _), item) = self.waiting.pop_first()?;
        self.time = self.time.max(start);
        Some(item)
    }

    /// Drops what `keep` does not want.
    pub(crate) fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        self.waiting.retain(|_, item| keep(item));
    }

    /// All that waits, in no order of meaning.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.waiting.values()
    }

    fn forget(&mut self) {
        if self.ends.len() >= MAX_IDLE_TENANTS {
            let time = self.time;
            self.ends.retain(|_, end| *end > time);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(queue: &mut Fair<&'static str>) -> String {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn a_tenant_that_queues_much_waits_behind_itself() {
        let mut queue = Fair::default();
        for _ in 0..6 {
            queue.push("loud", 1, "L");
        }
        for _ in 0..2 {
            queue.push("quiet", 1, "q");
        }
        assert_eq!(order(&mut queue), "LqLqLLLL");
    }

    #[test]
    fn larger_work_counts_more_and_idle_time_gives_no_credit() {
        let mut queue = Fair::default();
        for _ in 0..4 {
            queue.push("small", 1, "s");
        }
        for _ in 0..2 {
            queue.push("large", 3, "L");
        }
        assert_eq!(order(&mut queue), "sLsssL");
        for _ in 0..3 {
            queue.push("small", 1, "s");
        }
        for _ in 0..3 {
            queue.push("new", 1, "n");
        }
        assert_eq!(order(&mut queue), "nsnsns", "who comes late has saved nothing up, and owes nothing");
    }

    #[test]
    fn tenants_are_forgotten_once_their_turn_is_over() {
        let mut queue = Fair::default();
        for tenant in 0..10_000 {
            queue.push(&tenant.to_string(), 1, "x");
            queue.push("busy", 1, "x");
            queue.pop();
            queue.pop();
        }
        assert!(queue.ends.len() <= MAX_IDLE_TENANTS + 1, "{}", queue.ends.len());
    }
}
