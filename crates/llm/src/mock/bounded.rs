//! Counts by names that come from outside, in bounded memory.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;

/// Where names past the limit are counted.
pub(super) const OTHER: &str = "(other)";
/// Longest name kept, in characters.
const MAX_NAME_CHARS: usize = 128;

/// Counts by name. Names past the limit are counted together, under [`OTHER`].
#[derive(Debug)]
pub(super) struct Tally {
    limit: usize,
    counts: BTreeMap<String, u64>,
}

impl Tally {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, counts: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, name: &str) {
        let name: String = name.chars().take(MAX_NAME_CHARS).collect();
        if let Some(count) = self.counts.get_mut(&name) {
            *count += 1;
            return;
        }
        let name = if self.counts.len() < self.limit { name } else { OTHER.to_owned() };
        *self.counts.entry(name).or_default() += 1;
    }

    pub(super) fn counts(&self) -> &BTreeMap<String, u64> {
        &self.counts
    }
}

/// How often each key came, for the latest `limit` keys: an older one starts again from nothing.
#[derive(Debug)]
pub(super) struct Recent<K> {
    limit: usize,
    counts: HashMap<K, u32>,
    order: VecDeque<K>,
}

impl<K: Copy + Eq + Hash> Recent<K> {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, counts: HashMap::new(), order: VecDeque::new() }
    }

    pub(super) fn count(&self, key: K) -> u32 {
        self.counts.get(&key).copied().unwrap_or(0)
    }

    /// Counts once more; how often it came before.
    pub(super) fn next(&mut self, key: K) -> u32 {
        if let Some(count) = self.counts.get_mut(&key) {
            let before = *count;
            *count = count.saturating_add(1);
            return before;
        }
        if self.counts.len() >= self.limit
            && let Some(oldest) = self.order.pop_front()
        {
            self.counts.remove(&oldest);
        }
        self.counts.insert(key, 1);
        self.order.push_back(key);
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_past_the_limit_are_counted_together() {
        let mut tally = Tally::new(2);
        for name in ["a", "b", "c", "d", "a"] {
            tally.add(name);
        }
        let counts: Vec<_> = tally.counts().iter().map(|(name, n)| (name.as_str(), *n)).collect();
        assert_eq!(counts, [(OTHER, 2), ("a", 2), ("b", 1)]);
    }

    #[test]
    fn old_keys_are_forgotten() {
        let mut recent = Recent::new(2);
        assert_eq!([recent.next(1), recent.next(1), recent.next(2), recent.next(3)], [0, 1, 0, 0]);
        assert_eq!([recent.count(1), recent.count(2), recent.count(3)], [0, 1, 1]);
        assert_eq!(recent.order.len(), 2);
    }
}
