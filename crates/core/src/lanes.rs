//! Order without serial partitions: work of one key runs one at a time, in log order; keys run side by side.
//!
//! An item that failed may be *away*: it waits elsewhere to be tried again. Its lane waits for it, and it goes first when
//! it comes back.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Lanes of work. An item without a lane key is never held back.
#[derive(Debug)]
pub struct Lanes<K, T> {
    /// A lane exists while an item of it runs, is away or waits.
    lanes: HashMap<K, Lane<T>>,
    waiting: usize,
    away: usize,
}

#[derive(Debug)]
struct Lane<T> {
    /// An item runs, or may start.
    busy: bool,
    /// Items that will come back.
    away: usize,
    /// Those that came back while another ran, then those behind.
    queue: VecDeque<T>,
}

impl<T> Default for Lane<T> {
    fn default() -> Self {
        Self { busy: false, away: 0, queue: VecDeque::new() }
    }
}

impl<K, T> Default for Lanes<K, T> {
    fn default() -> Self {
        Self { lanes: HashMap::new(), waiting: 0, away: 0 }
    }
}

impl<K: Eq + Hash + Clone, T> Lanes<K, T> {
    /// Offers an item: `Some` if it may start now, `None` if it waits behind another of its lane.
    pub fn offer(&mut self, key: Option<K>, item: T) -> Option<T> {
        let Some(key) = key else { return Some(item) };
        let lane = self.lanes.entry(key).or_default();
        if lane.busy || lane.away > 0 {
            lane.queue.push_back(item);
            self.waiting += 1;
            return None;
        }
        lane.busy = true;
        Some(item)
    }

    /// The running item of a lane ended: the next one of the lane, if it may start now.
    pub fn finish(&mut self, key: &K) -> Option<T> {
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.busy = false;
        }
        self.go_on(key)
    }

    /// The running item of a lane went away, and will come back: the lane waits for it.
    pub fn depart(&mut self, key: &K) {
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.busy = false;
            lane.away += 1;
            self.away += 1;
        }
    }

    /// An item of this lane is known to be away, from before: the lane waits for it.
    pub fn expect(&mut self, key: K) {
        self.lanes.entry(key).or_default().away += 1;
        self.away += 1;
    }

    /// An item came back, or came that nobody knew of: `Some` if it may start now, ahead of all that wait.
    pub fn come_back(&mut self, key: Option<K>, item: T) -> Option<T> {
        let Some(key) = key else { return Some(item) };
        let lane = self.lanes.entry(key).or_default();
        if lane.away > 0 {
            lane.away -= 1;
            self.away -= 1;
        }
        if lane.busy {
            lane.queue.push_front(item);
            self.waiting += 1;
            return None;
        }
        lane.busy = true;
        Some(item)
    }

    /// An item that was away will not come back: the next one of the lane, if it may start now.
    pub fn give_up(&mut self, key: &K) -> Option<T> {
        if let Some(lane) = self.lanes.get_mut(key).filter(|lane| lane.away > 0) {
            lane.away -= 1;
            self.away -= 1;
        }
        self.go_on(key)
    }

    fn go_on(&mut self, key: &K) -> Option<T> {
        let lane = self.lanes.get_mut(key)?;
        if lane.busy || lane.away > 0 {
            return None;
        }
        let next = lane.queue.pop_front();
        match next {
            Some(_) => {
                lane.busy = true;
                self.waiting -= 1;
            }
            None => {
                self.lanes.remove(key);
            }
        }
        next
    }

    /// Drops the waiting items for which `gone` holds: their partition left. Running ones end by themselves.
    pub fn drop_waiting(&mut self, gone: impl Fn(&T) -> bool) -> usize {
        let before = self.waiting;
        for lane in self.lanes.values_mut() {
            lane.queue.retain(|item| !gone(item));
        }
        self.waiting = self.lanes.values().map(|lane| lane.queue.len()).sum();
        before - self.waiting
    }

    /// The items that wait.
    pub fn iter_waiting(&self) -> impl Iterator<Item = &T> {
        self.lanes.values().flat_map(|lane| &lane.queue)
    }

    /// Items that wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Items that are away.
    pub fn away(&self) -> usize {
        self.away
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

    #[test]
    fn a_lane_waits_for_what_is_away_and_others_pass() {
        let mut lanes = Lanes::default();
        assert_eq!(lanes.offer(Some("a"), 1), Some(1));
        lanes.depart(&"a");
        assert_eq!((lanes.offer(Some("a"), 2), lanes.away()), (None, 1));
        assert_eq!(lanes.offer(Some("b"), 3), Some(3));
        assert_eq!(lanes.come_back(Some("a"), 1), Some(1), "ahead of what came later");
        lanes.depart(&"a");
        assert_eq!(lanes.come_back(Some("a"), 1), Some(1));
        assert_eq!((lanes.finish(&"a"), lanes.away()), (Some(2), 0));
        assert_eq!(lanes.finish(&"a"), None);
    }

    #[test]
    fn what_was_away_before_is_waited_for_until_it_comes_or_is_given_up() {
        let mut lanes = Lanes::default();
        lanes.expect("a");
        lanes.expect("a");
        assert_eq!(lanes.offer(Some("a"), 3), None);
        assert_eq!(lanes.come_back(Some("a"), 1), Some(1));
        assert_eq!(lanes.finish(&"a"), None, "another is away");
        assert_eq!((lanes.give_up(&"a"), lanes.away()), (Some(3), 0));
        assert_eq!(lanes.finish(&"a"), None);
        assert_eq!(lanes.come_back(Some("b"), 9), Some(9), "nobody knew of it");
        assert_eq!(lanes.come_back(Some("b"), 8), None, "one at a time all the same");
        assert_eq!(lanes.finish(&"b"), Some(8));
        assert_eq!((lanes.give_up(&"b"), lanes.waiting()), (None, 0));
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

        /// Items end, or go away and come back, at random. Each key ends its items in the order in which they came.
        #[test]
        fn each_key_ends_in_order_through_retries(
            keys in prop::collection::vec(0u8..4, 1..40),
            steps in prop::collection::vec((0u8..4, any::<u8>()), 0..400),
        ) {
            let mut lanes = Lanes::default();
            let (mut running, mut away, mut ended) = (Vec::new(), Vec::new(), Vec::<(u8, usize)>::new());
            let mut items = keys.iter().copied().enumerate().map(|(i, key)| (key, i));
            // Then all come back and end.
            let tail: Vec<(u8, u8)> = (0..4 * keys.len()).flat_map(|_| [(0, 0), (2, 0), (1, 0)]).collect();
            for (step, pick) in steps.into_iter().chain(tail) {
                let at = |len: usize| usize::from(pick) % len;
                match step {
                    0 => {
                        let Some(item) = items.next() else { continue };
                        running.extend(lanes.offer(Some(item.0), item));
                    }
                    1 if !running.is_empty() => {
                        let item: (u8, usize) = running.remove(at(running.len()));
                        ended.push(item);
                        running.extend(lanes.finish(&item.0));
                    }
                    2 if !away.is_empty() => {
                        let item: (u8, usize) = away.remove(at(away.len()));
                        running.extend(lanes.come_back(Some(item.0), item));
                    }
                    3 if !running.is_empty() => {
                        let item: (u8, usize) = running.remove(at(running.len()));
                        lanes.depart(&item.0);
                        away.push(item);
                    }
                    _ => {}
                }
                for key in 0..4 {
                    prop_assert!(running.iter().chain(&away).filter(|(k, _)| *k == key).count() <= 1);
                }
            }
            prop_assert_eq!((ended.len(), lanes.waiting(), lanes.away()), (keys.len(), 0, 0));
            for key in 0..4 {
                prop_assert!(ended.iter().filter(|(k, _)| *k == key).map(|(_, i)| i).is_sorted());
            }
        }
    }
}
