//! Faults on demand: what a test double needs, and what a real broker's network does without being asked.

use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use kafka_protocol::{ResponseError, messages::ApiKey};

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It waits this long before anything is done with it. Other matching faults still apply after it.
    Delay(Duration),
    /// It is carried out, but instead of an answer the connection is closed.
    LoseAnswer,
    /// It is answered with this error, and not carried out.
    Fail(ResponseError),
    /// The connection is closed at once, and it is not carried out.
    Cut,
}

/// Which requests are hit, and how.
#[derive(Debug, Clone)]
#[must_use]
pub struct Fault {
    api: ApiKey,
    topic: Option<String>,
    skip: u32,
    times: Option<u32>,
    action: Action,
}

impl Fault {
    /// Hits every request of an API.
    pub fn new(api: ApiKey, action: Action) -> Self {
        Self { api, topic: None, skip: 0, times: None, action }
    }

    /// Only requests that name this topic.
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topic = Some(topic.into());
        self
    }

    /// Lets this many matching requests through first.
    pub fn skip(mut self, requests: u32) -> Self {
        self.skip = requests;
        self
    }

    /// Stops after this many hits.
    pub fn times(mut self, hits: u32) -> Self {
        self.times = Some(hits);
        self
    }
}

#[derive(Debug)]
struct Rule {
    fault: Fault,
    seen: AtomicU32,
    hits: AtomicU32,
    removed: AtomicBool,
}

impl Rule {
    fn hit(&self, api: ApiKey, topics: &[String]) -> Option<Action> {
        let named = self.fault.topic.as_ref().is_none_or(|topic| topics.contains(topic));
        if self.fault.api != api || !named || self.removed.load(Ordering::Acquire) {
            return None;
        }
        let seen = self.seen.fetch_add(1, Ordering::AcqRel);
        let after = seen.checked_sub(self.fault.skip)?;
        if self.fault.times.is_some_and(|times| after >= times) {
            return None;
        }
        self.hits.fetch_add(1, Ordering::AcqRel);
        Some(self.fault.action)
    }
}

/// A fault that is in force until it is removed. Dropping this leaves it in force.
#[derive(Debug, Clone)]
pub struct Injected {
    rule: Arc<Rule>,
    faults: Weak<Mutex<Vec<Arc<Rule>>>>,
}

impl Injected {
    /// How many requests it has hit.
    pub fn hits(&self) -> u32 {
        self.rule.hits.load(Ordering::Acquire)
    }

    /// How many requests have matched, hit or let through.
    pub fn seen(&self) -> u32 {
        self.rule.seen.load(Ordering::Acquire)
    }

    /// Takes it out of force. A request that is being hit at this moment stays hit.
    pub fn remove(&self) {
        self.rule.removed.store(true, Ordering::Release);
        if let Some(rules) = self.faults.upgrade() {
            let mut rules = rules.lock().unwrap_or_else(PoisonError::into_inner);
            rules.retain(|rule| !Arc::ptr_eq(rule, &self.rule));
        }
    }
}

/// The faults in force at a broker.
#[derive(Debug, Default)]
pub struct Faults {
    rules: Arc<Mutex<Vec<Arc<Rule>>>>,
}

impl Faults {
    /// Puts a fault in force. Faults are looked at in the order they came.
    pub fn inject(&self, fault: Fault) -> Injected {
        let (seen, hits, removed) = (AtomicU32::new(0), AtomicU32::new(0), AtomicBool::new(false));
        let rule = Arc::new(Rule { fault, seen, hits, removed });
        self.rules().push(Arc::clone(&rule));
        Injected { rule, faults: Arc::downgrade(&self.rules) }
    }

    /// Takes all faults out of force.
    pub fn clear(&self) {
        for rule in std::mem::take(&mut *self.rules()) {
            rule.removed.store(true, Ordering::Release);
        }
    }

    fn rules(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Rule>>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be done to a request: the time to wait, then at most one other thing.
    pub(crate) fn of(&self, api: ApiKey, topics: impl FnOnce() -> Vec<String>) -> (Duration, Option<Action>) {
        let rules = self.rules().clone();
        if rules.iter().all(|rule| rule.fault.api != api) {
            return (Duration::ZERO, None);
        }
        let (topics, mut delay) = (topics(), Duration::ZERO);
        for rule in rules {
            match rule.hit(api, &topics) {
                Some(Action::Delay(time)) => delay += time,
                Some(action) => return (delay, Some(action)),
                None => {}
            }
        }
        (delay, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_hits_what_it_names_and_counts() {
        let faults = Faults::default();
        let fault = Fault::new(ApiKey::Produce, Action::Cut).topic("a").skip(1).times(2);
        let injected = faults.inject(fault);
        let of = |api, topic: &str| faults.of(api, || vec![topic.to_owned()]).1;
        assert_eq!(of(ApiKey::Fetch, "a"), None);
        assert_eq!(of(ApiKey::Produce, "b"), None);
        let hits: Vec<_> = (0..4).map(|_| of(ApiKey::Produce, "a").is_some()).collect();
        assert_eq!(hits, [false, true, true, false]);
        assert_eq!((injected.hits(), injected.seen()), (2, 4));
    }

    #[test]
    fn delays_add_up_and_removed_faults_are_gone() {
        let faults = Faults::default();
        faults.inject(Fault::new(ApiKey::Fetch, Action::Delay(Duration::from_millis(1))));
        let second = faults.inject(Fault::new(ApiKey::Fetch, Action::Delay(Duration::from_millis(2))));
        faults.inject(Fault::new(ApiKey::Fetch, Action::LoseAnswer));
        assert_eq!(faults.of(ApiKey::Fetch, Vec::new), (Duration::from_millis(3), Some(Action::LoseAnswer)));
        second.remove();
        assert_eq!(faults.of(ApiKey::Fetch, Vec::new).0, Duration::from_millis(1));
        faults.clear();
        assert_eq!(faults.of(ApiKey::Fetch, Vec::new), (Duration::ZERO, None));
    }
}
