//! What is to go wrong, and what has been seen.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::Notify;

/// Faults to come and counts of what was, of all connections.
pub(super) struct Book {
    dice: StdRng,
    /// How many more answers to an API get lost.
    lose: HashMap<i16, u32>,
    /// Which share of the answers to an API gets lost.
    share: HashMap<i16, f64>,
    /// How many answers were lost.
    lost: BTreeMap<i16, u64>,
    /// How many more requests of an API break their connection before the broker hears of them.
    cut: HashMap<i16, u32>,
    /// The codes with which the next requests of an API are answered, instead of by the broker.
    refuse: HashMap<i16, VecDeque<i16>>,
    requests: BTreeMap<i16, u64>,
    versions: BTreeMap<i16, (i16, i16)>,
    open: Vec<(u64, Arc<Notify>)>,
    next: u64,
}

/// What is done with a request.
pub(super) enum Fate {
    /// The broker gets it.
    Pass,
    /// Its connection breaks.
    Cut,
    /// It is answered with this code, and the broker hears nothing of it.
    Refuse(i16),
}

fn spend(left: Option<&mut u32>) -> bool {
    left.filter(|left| **left > 0).map(|left| *left -= 1).is_some()
}

impl Book {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            dice: StdRng::seed_from_u64(seed),
            lose: HashMap::new(),
            share: HashMap::new(),
            lost: BTreeMap::new(),
            cut: HashMap::new(),
            refuse: HashMap::new(),
            requests: BTreeMap::new(),
            versions: BTreeMap::new(),
            open: Vec::new(),
            next: 0,
        }
    }

    pub(super) fn lose(&mut self, api: i16, times: u32) {
        self.lose.insert(api, times);
    }

    pub(super) fn lose_share(&mut self, api: i16, share: f64) {
        self.share.insert(api, share);
    }

    pub(super) fn cut(&mut self, api: i16, times: u32) {
        self.cut.insert(api, times);
    }

    pub(super) fn refuse(&mut self, api: i16, codes: &[i16]) {
        self.refuse.insert(api, codes.iter().copied().collect());
    }

    pub(super) fn to_refuse(&self, api: i16) -> usize {
        let cut = self.cut.get(&api).map_or(0, |left| usize::try_from(*left).unwrap_or(usize::MAX));
        cut.saturating_add(self.refuse.get(&api).map_or(0, VecDeque::len))
    }

    pub(super) fn to_lose(&self, api: i16) -> u32 {
        self.lose.get(&api).copied().unwrap_or(0)
    }

    pub(super) fn lost(&self) -> BTreeMap<i16, u64> {
        self.lost.clone()
    }

    pub(super) fn requests(&self) -> BTreeMap<i16, u64> {
        self.requests.clone()
    }

    pub(super) fn versions(&self) -> BTreeMap<i16, (i16, i16)> {
        self.versions.clone()
    }

    /// A request has come.
    pub(super) fn asked(&mut self, api: i16, version: i16) -> Fate {
        *self.requests.entry(api).or_default() += 1;
        let (low, high) = self.versions.entry(api).or_insert((version, version));
        (*low, *high) = ((*low).min(version), (*high).max(version));
        if spend(self.cut.get_mut(&api)) {
            return Fate::Cut;
        }
        match self.refuse.get_mut(&api).and_then(VecDeque::pop_front) {
            Some(code) => Fate::Refuse(code),
            None => Fate::Pass,
        }
    }

    /// Whether this answer gets lost.
    pub(super) fn loses(&mut self, api: i16) -> bool {
        let share = self.share.get(&api).copied().unwrap_or(0.0);
        let lost = spend(self.lose.get_mut(&api)) || (share > 0.0 && self.dice.random_bool(share));
        if lost {
            *self.lost.entry(api).or_default() += 1;
        }
        lost
    }

    pub(super) fn opened(&mut self) -> (u64, Arc<Notify>) {
        let (id, end) = (self.next, Arc::new(Notify::new()));
        self.next += 1;
        self.open.push((id, end.clone()));
        (id, end)
    }

    /// The number of the next connection.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn closed(&mut self, id: u64) {
        self.open.retain(|(open, _)| *open != id);
    }

    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    pub(super) fn cut_one(&mut self) -> bool {
        if self.open.is_empty() {
            return false;
        }
        let index = self.dice.random_range(0..self.open.len());
        // The connection takes itself off the list when it ends.
        self.open[index].1.notify_one();
        true
    }
}
