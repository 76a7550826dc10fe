//! What was seen of other cases: a sliding window, bounded in time and in number.
//!
//! Every process of the agent sees every task (`OBSERVES`), so what is known does not depend on which process works on
//! which case. After a restart the window is read again from the log.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use anabranch_sdk::protocol::Timestamp;

/// Most other cases that share something that are looked at for one case.
const MOST: usize = 200;

/// What is kept of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) case: String,
    pub(crate) at: Timestamp,
    pub(crate) traits: Traits,
}

/// What cases can share.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Traits {
    pub(crate) network: Option<String>,
    pub(crate) device: Option<String>,
    pub(crate) document: Option<String>,
    pub(crate) birth_date: Option<String>,
    pub(crate) name: String,
}

/// A trait that is searched by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Network(String),
    Device(String),
    Document(String),
    BirthDate(String),
}

impl Traits {
    fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        let network = self.network.clone().map(Key::Network);
        let device = self.device.clone().map(Key::Device);
        let document = self.document.clone().map(Key::Document);
        let born = self.birth_date.clone().map(Key::BirthDate);
        [network, device, document, born].into_iter().flatten()
    }
}

/// The window.
#[derive(Debug)]
pub(crate) struct History {
    window: Duration,
    max_cases: usize,
    /// By case: a case whose task comes again (a follow-up round, a redelivery) is one case.
    cases: HashMap<String, Seen>,
    by_key: HashMap<Key, HashSet<String>>,
    /// In order of arrival, to forget the oldest first.
    arrival: VecDeque<String>,
    newest: Timestamp,
}

impl History {
    pub(crate) fn new(window: Duration, max_cases: usize) -> Self {
        Self {
            window,
            max_cases,
            cases: HashMap::new(),
            by_key: HashMap::new(),
            arrival: VecDeque::new(),
            newest: Timestamp::from_millis(i64::MIN),
        }
    }

    /// A case's task was seen. The first sight of a case counts.
    pub(crate) fn add(&mut self, seen: Seen) {
        self.newest = self.newest.max(seen.at);
        if self.cases.contains_key(&seen.case) || self.newest.since(seen.at) > self.window {
            return;
        }
        for key in seen.traits.keys() {
            self.by_key.entry(key).or_default().insert(seen.case.clone());
        }
        self.arrival.push_back(seen.case.clone());
        self.cases.insert(seen.case.clone(), seen);
        self.forget();
    }

    fn forget(&mut self) {
        while let Some(oldest) = self.arrival.front() {
            let too_old = self.cases.get(oldest).is_none_or(|s| self.newest.since(s.at) > self.window);
            if !too_old && self.cases.len() <= self.max_cases {
                return;
            }
            let Some(oldest) = self.arrival.pop_front() else { return };
            let Some(seen) = self.cases.remove(&oldest) else { continue };
            for key in seen.traits.keys() {
                if let Some(cases) = self.by_key.get_mut(&key) {
                    cases.remove(&oldest);
                    if cases.is_empty() {
                        self.by_key.remove(&key);
                    }
                }
            }
        }
    }

    /// When a case was first seen.
    pub(crate) fn first_seen(&self, case: &str) -> Option<Timestamp> {
        self.cases.get(case).map(|s| s.at)
    }

    /// How many cases are remembered.
    pub(crate) fn len(&self) -> usize {
        self.cases.len()
    }

    /// Other cases within the window of this one that share a trait with it, in order of case.
    pub(crate) fn related(&self, case: &str, traits: &Traits, at: Timestamp) -> Vec<Seen> {
        let mut found: BTreeMap<&str, &Seen> = BTreeMap::new();
        for key in traits.keys() {
            let sharing = self.by_key.get(&key).into_iter().flatten().filter(|other| *other != case);
            let near = sharing.filter_map(|other| self.cases.get(other)).filter(|s| self.is_near(s.at, at));
            found.extend(near.take(MOST).map(|s| (s.case.as_str(), s)));
        }
        found.into_values().cloned().collect()
    }

    fn is_near(&self, one: Timestamp, other: Timestamp) -> bool {
        one.since(other) <= self.window && other.since(one) <= self.window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + seconds * 1000)
    }

    fn from(network: &str) -> Traits {
        Traits { network: Some(network.into()), ..Traits::default() }
    }

    fn seen(case: &str, seconds: i64, network: &str) -> Seen {
        Seen { case: case.into(), at: at(seconds), traits: from(network) }
    }

    fn related(history: &History, case: &str, seconds: i64, network: &str) -> Vec<String> {
        history.related(case, &from(network), at(seconds)).into_iter().map(|s| s.case).collect()
    }

    #[test]
    fn cases_are_found_by_what_they_share() {
        let mut history = History::new(Duration::from_secs(60), 10);
        for (case, network) in [("a", "n1"), ("b", "n1"), ("c", "n2")] {
            history.add(seen(case, 0, network));
        }
        assert_eq!(related(&history, "a", 0, "n1"), ["b"]);
        assert_eq!(related(&history, "new", 0, "n1"), ["a", "b"]);
        assert_eq!(related(&history, "c", 0, "n3"), Vec::<String>::new());
    }

    #[test]
    fn a_task_seen_twice_is_one_case() {
        let mut history = History::new(Duration::from_secs(60), 10);
        history.add(seen("a", 0, "n"));
        history.add(seen("a", 5, "n"));
        assert_eq!(related(&history, "b", 0, "n"), ["a"]);
        assert_eq!(history.first_seen("a"), Some(at(0)));
    }

    #[test]
    fn the_window_slides_and_stays_bounded() {
        let mut history = History::new(Duration::from_secs(60), 3);
        history.add(seen("old", 0, "n"));
        history.add(seen("a", 61, "n"));
        assert_eq!(related(&history, "x", 61, "n"), ["a"], "too old");
        for case in ["b", "c", "d"] {
            history.add(seen(case, 62, "n"));
        }
        assert_eq!(history.len(), 3);
        assert_eq!(related(&history, "x", 62, "n"), ["b", "c", "d"]);
        history.add(seen("late", -100, "n"));
        assert_eq!(history.len(), 3, "a record from before the window is not remembered");
        assert_eq!(history.by_key.len(), 1);
    }
}
