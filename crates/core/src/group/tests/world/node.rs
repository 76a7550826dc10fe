//! A process with one member in it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    REBALANCE, STATIC, TOPICS,
    messages::{Answer, From, Kind},
};
use crate::group::{Action, Config, Failure, Membership, Notice, tests::bench::Consumer};

#[derive(Debug)]
pub(super) struct Node {
    index: usize,
    seed: u64,
    /// Counts processes in this place.
    pub(super) life: u64,
    pub(super) machine: Membership,
    pub(super) consumer: Consumer,
    pub(super) stopped_until: Instant,
    /// The request under way, and how many there were.
    request: Option<(u64, Kind)>,
    requests: u64,
    pub(super) revocations: u64,
    pub(super) losses: u64,
}

fn machine(index: usize, life: u64, now: Instant, seed: u64) -> Membership {
    let config = Config {
        topics: TOPICS.iter().map(|topic| Arc::from(*topic)).collect(),
        instance_id: (index < STATIC).then(|| format!("instance-{index}")),
        heartbeat_interval: Duration::from_secs(3),
        rebalance_timeout: REBALANCE,
        counts_interval: Duration::from_secs(5),
        initial_backoff: Duration::from_millis(50),
        max_backoff: Duration::from_secs(1),
        seed: seed.wrapping_mul(31) ^ (index as u64) << 32 ^ life,
    };
    Membership::new(now, config)
}

impl Node {
    pub(super) fn new(index: usize, now: Instant, seed: u64) -> Self {
        Self {
            index,
            seed,
            life: 1,
            machine: machine(index, 1, now, seed),
            consumer: Consumer::default(),
            stopped_until: now,
            request: None,
            requests: 0,
            revocations: 0,
            losses: 0,
        }
    }

    /// A new process, which remembers nothing.
    pub(super) fn restart(&mut self, now: Instant) {
        let fresh = Self::new(self.index, now, self.seed);
        let life = self.life + 1;
        let machine = machine(self.index, life, now, self.seed);
        *self = Self { life, machine, revocations: self.revocations, losses: self.losses, ..fresh };
    }

    pub(super) fn start(&mut self, kind: Kind) -> From {
        assert_eq!(self.request, None, "a request is under way already");
        self.requests += 1;
        self.request = Some((self.requests, kind));
        From { node: self.index, life: self.life, request: self.requests, is_static: self.index < STATIC }
    }

    /// Whether an answer to this request is still waited for.
    pub(super) fn awaits(&self, from: From) -> bool {
        from.life == self.life && self.request.is_some_and(|(request, _)| request == from.request)
    }

    pub(super) fn answer(&mut self, now: Instant, answer: Answer) -> Vec<Action> {
        self.request = None;
        match answer {
            Answer::Coordinator(outcome) => self.machine.coordinator(now, outcome),
            Answer::Joined(outcome) => self.machine.joined(now, outcome),
            Answer::Synced(outcome) => self.machine.synced(now, outcome),
            Answer::Heartbeat(outcome) => self.machine.heartbeat(now, outcome),
        }
    }

    pub(super) fn give_up(&mut self, now: Instant) -> Vec<Action> {
        let Some((_, kind)) = self.request else { return Vec::new() };
        let failure = Failure::Transport("no answer in time".into());
        self.answer(now, Answer::failed(kind, failure))
    }

    pub(super) fn counts(&mut self, now: Instant, partitions: Option<i32>) -> Vec<Action> {
        let outcome = match partitions {
            Some(count) => Ok(TOPICS.iter().map(|topic| (Arc::from(*topic), count)).collect()),
            None => Err(Failure::Transport("counts".into())),
        };
        self.machine.counts(now, outcome)
    }

    pub(super) fn poll(&mut self, now: Instant) -> Vec<Action> {
        self.machine.poll(now)
    }

    pub(super) fn drained(&mut self, now: Instant, drain: u64) -> Vec<Action> {
        self.consumer.drained(drain);
        self.machine.drained(now, drain)
    }

    /// What the consumer hears. Returns the draining that it is to begin.
    pub(super) fn hear(&mut self, action: &Action) -> Option<u64> {
        let Action::Notify(notice) = action else { return None };
        self.consumer.hear(notice);
        match notice {
            Notice::Revoked { drain, .. } => {
                self.revocations += 1;
                Some(*drain)
            }
            Notice::Lost { .. } => {
                self.losses += 1;
                None
            }
            _ => None,
        }
    }
}
