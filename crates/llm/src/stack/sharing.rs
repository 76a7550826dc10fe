//! One limit, several processes: what each wants, and so what each may use.
//!
//! Every process tells the others what it wants ([`Announcement`]) and hears what they want. All compute the same
//! [`divide`] from it. Two rules keep the sum under the limit while views differ: a share shrinks at once
//! and grows only when the larger share has been due for [`SETTLE`], and a process uses nothing before its own
//! announcement has come back to it and is that old. A process that is not heard of for [`LAPSE`] is gone; one that does
//! not hear *itself* knows that the line is down, and keeps the share it had.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::limiter::Share;
use super::settings::RateLimit;

/// How often a process says what it wants, at most.
pub const ANNOUNCE_EVERY: Duration = Duration::from_millis(250);
/// How long a larger share must have been due before it is used: longer than an announcement is under way.
pub const SETTLE: Duration = Duration::from_secs(2);
/// How long a process is counted after it was last heard of.
pub const LAPSE: Duration = Duration::from_secs(6);

/// What a process wants of one model, per window of the limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demand {
    /// Calls.
    pub requests: u64,
    /// Tokens.
    pub tokens: u64,
}

/// What one process tells the others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// The process: different after each start.
    pub process: String,
    /// What it wants, by model.
    pub demand: BTreeMap<String, Demand>,
    /// It ends, and wants nothing more.
    #[serde(default)]
    pub leaving: bool,
}

/// The latest announcement of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// What it said.
    pub announcement: Announcement,
    /// How long ago it arrived here, by this process's own clock.
    pub age: Duration,
}

/// The line to the agent's other processes. Neither method waits.
pub trait Sharing: Send + Sync {
    /// Tells the others. It may be dropped on the way: the next one says it all again.
    fn announce(&self, announcement: Announcement);

    /// The latest announcement of every process, this one's own included once it came back.
    fn heard(&self) -> Vec<Heard>;
}

/// What is due to process `me` of `limit` on `model`, by what is heard; `None` if it does not hear itself.
pub(crate) fn due(me: &str, heard: &[Heard], model: &str, limit: RateLimit) -> Option<Share> {
    let mut present: Vec<(&str, Demand)> = heard
        .iter()
        .filter(|h| h.age <= LAPSE && !h.announcement.leaving)
        .map(|h| (h.announcement.process.as_str(), h.announcement.demand.get(model).copied().unwrap_or_default()))
        .collect();
    // The same order everywhere, as what does not divide evenly goes to the first.
    present.sort_unstable_by(|a, b| a.0.cmp(b.0));
    present.dedup_by(|a, b| a.0 == b.0);
    let place = present.iter().position(|(process, _)| *process == me)?;
    let of = |limit: u64, wanted: fn(&Demand) -> u64| {
        let demands: Vec<u64> = present.iter().map(|(_, demand)| wanted(demand)).collect();
        divide(limit, &demands).get(place).copied().unwrap_or(0)
    };
    Some(Share {
        requests: limit.requests.map(|limit| of(limit, |demand| demand.requests)),
        tokens: limit.tokens.map(|limit| of(limit, |demand| demand.tokens)),
    })
}

/// Divides `limit`, all of it: nobody gets more than it wants while another lacks, and who lacks gets no less than any
/// other. What nobody wants is dealt out evenly, so that whoever is idle can begin at once.
pub(crate) fn divide(limit: u64, demands: &[u64]) -> Vec<u64> {
    let mut parts = vec![0; demands.len()];
    let mut left = limit;
    let mut by_demand: Vec<usize> = (0..demands.len()).collect();
    by_demand.sort_by_key(|i| demands[*i]);
    for (place, i) in by_demand.iter().enumerate() {
        let evenly = left.div_ceil((by_demand.len() - place) as u64);
        parts[*i] = demands[*i].min(evenly).min(left);
        left -= parts[*i];
    }
    let count = demands.len() as u64;
    for (place, part) in (0_u64..).zip(&mut parts) {
        *part += left / count + u64::from(place < left % count);
    }
    parts
}

/// The share in effect: it shrinks at once, and grows when the larger one has been due for [`SETTLE`].
#[derive(Debug)]
pub(crate) struct Settling {
    /// What was due from when on, oldest first; the first may have begun before what counts.
    due: VecDeque<(Instant, Share)>,
}

impl Settling {
    /// Nothing is in effect yet.
    pub(crate) fn new(limit: RateLimit, now: Instant) -> Self {
        Self { due: VecDeque::from([(now, Share::none(limit))]) }
    }

    /// What is in effect now that `share` is due.
    pub(crate) fn update(&mut self, share: Share, now: Instant) -> Share {
        if self.due.back().is_none_or(|(_, last)| *last != share) {
            self.due.push_back((now, share));
        }
        // One that ended before what counts.
        while self.due.get(1).is_some_and(|(began, _)| *began + SETTLE <= now) {
            self.due.pop_front();
        }
        let least = |part: fn(&Share) -> Option<u64>| self.due.iter().filter_map(|(_, share)| part(share)).min();
        Share { requests: least(|share| share.requests), tokens: least(|share| share.tokens) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn heard(process: &str, requests: u64, age_s: u64) -> Heard {
        let demand = BTreeMap::from([("m".to_owned(), Demand { requests, tokens: 0 })]);
        let announcement = Announcement { process: process.into(), demand, leaving: false };
        Heard { announcement, age: Duration::from_secs(age_s) }
    }

    fn requests(me: &str, all: &[Heard]) -> Option<u64> {
        due(me, all, "m", RateLimit::requests_per_minute(100)).and_then(|share| share.requests)
    }

    #[test]
    fn who_wants_little_gets_it_and_the_others_share_the_rest() {
        assert_eq!(divide(100, &[10, 200, 50, 300]), [10, 30, 30, 30]);
        assert_eq!(divide(100, &[0, 0, 0]), [34, 33, 33]);
        assert_eq!(divide(100, &[10, 20]), [45, 55]);
        assert_eq!(divide(3, &[9, 9, 9, 9]), [1, 1, 1, 0]);
        assert_eq!(divide(100, &[]), [0_u64; 0]);
    }

    #[test]
    fn the_silent_and_the_leaving_are_not_counted_and_who_hears_not_itself_knows_nothing() {
        let mut all = vec![heard("a", 500, 0), heard("b", 500, 1), heard("c", 500, 7)];
        assert_eq!(requests("a", &all), Some(50));
        assert_eq!(requests("c", &all), None);
        assert_eq!(requests("d", &all), None);
        all[1].announcement.leaving = true;
        assert_eq!(requests("a", &all), Some(100));
    }

    #[test]
    fn a_share_shrinks_at_once_and_grows_when_it_has_settled() {
        let (limit, start) = (RateLimit::requests_per_minute(100), Instant::now());
        let mut settling = Settling::new(limit, start);
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut update = |requests: u64, ms: u64| {
            settling.update(Share { requests: Some(requests), tokens: None }, at(ms)).requests.unwrap()
        };
        assert_eq!(update(100, 100), 0);
        assert_eq!(update(100, 2099), 0);
        assert_eq!(update(100, 2100), 100);
        assert_eq!(update(50, 3000), 50);
        assert_eq!(update(80, 3100), 50);
        assert_eq!(update(70, 4000), 50);
        assert_eq!(update(70, 5100), 70, "80 was due too, but not for long enough");
        assert_eq!(update(70, 5999), 70);
    }

    proptest! {
        #[test]
        fn all_of_it_is_divided_and_nobody_is_better_off_while_another_lacks(
            limit in 0_u64..10_000, demands in prop::collection::vec(0_u64..5_000, 1..20)
        ) {
            let parts = divide(limit, &demands);
            prop_assert_eq!(parts.iter().sum::<u64>(), limit);
            for (part, demand) in parts.iter().zip(&demands) {
                if part < demand {
                    let most = parts.iter().max().copied().unwrap_or(0);
                    prop_assert!(most <= part + 1, "{:?} of {:?}", parts, demands);
                }
            }
        }
    }
}
