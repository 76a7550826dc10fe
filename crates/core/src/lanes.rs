//! Order without serial partitions: work of one key runs one at a time, in log order; keys run side by side.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Lanes of work. An item without a lane key is never held back.
#[derive(Debug)]
pub struct Lanes<K, T> {
    /// A lane exists while an item of it runs; the queue holds those behind it.
    lanes: HashMap<K, VecDeque<T>>,
    waiting: usize,
}

impl<K, T> Default for Lanes<K, T> {
    fn default() -> Self {
        Self { lanes: HashMap::new(), waiting: 0 }
    }
}

impl<K: Eq + Hash + Clone, T> Lanes<K, T> {
    /// Offers an item: `Some` if it may start now, `None` if it waits behind another of its lane.
    pub fn offer(&mut self, key: Option<K>, item: T) -> Option<T> {
        let Some(key) = key else { return Some(item) };
        match self.lanes.get_mut(&key) {
            Some(queue) => {
                queue.push_back(item);
                self.waiting += 1;
                None
            }
            None => {
                self.lanes.insert(key, VecDeque::new());
                Some(item)
            }
        }
    }

    /// The running item of a lane ended: the next one of the lane, which may start now.
    pub fn finish(&mut self, key: &K) -> Option<T> {
        let queue = self.lanes.get_mut(key)?;
        let next = queue.pop_front();
        match next {
            Some(_) => self.waiting -= 1,
            None => {
                self.lanes.remove(key);
            }
        }
        next
    }

    /// Drops the waiting items for which `gone` holds: their partition left. Running ones end by themselves.
    pub fn drop_waiting(&mut self, gone: impl Fn(&T) -> bool) -> usize {
        let before = self.waiting;
        for queue in self.lanes.values_mut() {
            queue.retain(|item| !gone(item));
        }
        self.waiting = self.lanes.values().map(VecDeque::len).sum();
        before - self.waiting
    }

    /// The items that wait.
    pub fn iter_waiting(&self) -> impl Iterator<Item = &T> {
        self.lanes.values().flatten()
    }

    /// Items that wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_slow_item_blocks_its_own_key_and_nothing_else() {
        let mut lanes = Lanes::default();
        assert_eq!(lanes.offer(Some("a"), 1), Some(1));
        assert_eq!(lanes.offer(Some("a"), 2), None);
        assert_eq!(lanes.offer(Some("b"), 3), Some(3));
        assert_eq!(lanes.offer(None, 4), Some(4));
        assert_eq!(lanes.finish(&"a"), Some(2));
        assert_eq!(lanes.finish(&"a"), None);
        assert_eq!(lanes.offer(Some("a"), 5), Some(5));
    }

    proptest! {
        #[test]
        fn each_key_starts_in_order(items in prop::collection::vec(0u8..4, 1..80), picks in any::<u64>()) {
            let mut lanes = Lanes::default();
            let mut running: Vec<(u8, usize)> = Vec::new();
            let mut started: HashMap<u8, Vec<usize>> = HashMap::new();
            let mut seed = picks;
            let mut end_one = |running: &mut Vec<(u8, usize)>, lanes: &mut Lanes<u8, (u8, usize)>, started: &mut HashMap<u8, Vec<usize>>| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let (key, _) = running.remove((seed >> 33) as usize % running.len());
                if let Some(next) = lanes.finish(&key) {
                    started.entry(next.0).or_default().push(next.1);
                    running.push(next);
                }
            };
            for (i, key) in items.iter().enumerate() {
                if let Some(item) = lanes.offer(Some(*key), (*key, i)) {
                    prop_assert!(running.iter().all(|(k, _)| k != key));
                    started.entry(*key).or_default().push(i);
                    running.push(item);
                } else if i % 3 == 0 {
                    end_one(&mut running, &mut lanes, &mut started);
                }
            }
            while !running.is_empty() {
                end_one(&mut running, &mut lanes, &mut started);
            }
            prop_assert_eq!(lanes.waiting(), 0);
            prop_assert_eq!(started.values().map(Vec::len).sum::<usize>(), items.len());
            prop_assert!(started.values().all(|s| s.is_sorted()));
        }
    }
}
