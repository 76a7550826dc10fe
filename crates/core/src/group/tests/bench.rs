//! One machine with everything around it that its rules speak of.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{HEARTBEAT, tps};
use crate::group::{Action, Config, Failure, JoinReply, Member, Membership, Notice, Subscription, TopicPartition};

/// A request that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    Coordinator,
    Join,
    Sync,
    Heartbeat,
}

/// What the consumer believes, told by notices alone.
#[derive(Debug, Default)]
pub(super) struct Consumer {
    pub(super) held: BTreeMap<TopicPartition, u64>,
    pub(super) drains: BTreeMap<u64, BTreeSet<TopicPartition>>,
    pub(super) epoch: u64,
    pub(super) fatal: bool,
}

impl Consumer {
    pub(super) fn hear(&mut self, notice: &Notice) {
        assert!(!self.fatal, "nothing comes after the end: {notice:?}");
        match notice {
            Notice::Assigned { epoch, partitions } => {
                assert_eq!(*epoch, self.epoch + 1, "epochs count up");
                self.epoch = *epoch;
                for tp in partitions {
                    assert_eq!(self.held.insert(tp.clone(), *epoch), None, "{tp} came although it is held");
                }
            }
            Notice::Revoked { drain, partitions } => {
                assert!(!partitions.is_empty());
                for tp in partitions {
                    assert!(self.held.contains_key(tp), "{tp} is revoked but not held");
                    assert!(!self.drains.values().any(|d| d.contains(tp)), "{tp} drains already");
                }
                assert_eq!(self.drains.insert(*drain, partitions.clone()), None);
            }
            Notice::Lost { partitions } => {
                assert!(!partitions.is_empty());
                for tp in partitions {
                    assert!(self.held.remove(tp).is_some(), "{tp} is lost but not held");
                }
                self.drains.retain(|_, d| d.is_disjoint(partitions));
            }
            Notice::Retrying(_) => {}
            Notice::Fatal(_) => self.fatal = true,
        }
    }

    pub(super) fn drained(&mut self, drain: u64) {
        for tp in self.drains.remove(&drain).unwrap_or_default() {
            self.held.remove(&tp);
        }
    }
}

/// A machine with everything around it that its rules speak of.
#[derive(Debug)]
pub(super) struct Bench {
    pub(super) machine: Membership,
    pub(super) now: Instant,
    pub(super) request: Option<Request>,
    pub(super) counting: Option<BTreeSet<Arc<str>>>,
    pub(super) consumer: Consumer,
    /// What the last good JoinGroup answer said, until the SyncGroup answer came.
    pub(super) between: bool,
    pub(super) last_join: Option<(String, Subscription)>,
    pub(super) generation: i32,
    pub(super) left: bool,
}

impl Bench {
    pub(super) fn new(config: Config) -> Self {
        let now = Instant::now();
        let mut bench = Self {
            machine: Membership::new(now, config),
            now,
            request: None,
            counting: None,
            consumer: Consumer::default(),
            between: false,
            last_join: None,
            generation: 0,
            left: false,
        };
        bench.poll();
        bench
    }

    pub(super) fn take(&mut self, actions: &[Action]) {
        for action in actions {
            match action {
                Action::FindCoordinator => self.start(Request::Coordinator),
                Action::Join(join) => {
                    assert_eq!(join.subscription.owned, self.held(), "all that is held is claimed, what drains too");
                    self.last_join = Some((join.member_id.clone(), join.subscription.clone()));
                    self.start(Request::Join);
                }
                Action::Sync(_) => self.start(Request::Sync),
                Action::Heartbeat { .. } => self.start(Request::Heartbeat),
                Action::LoadCounts(topics) => {
                    assert_eq!(self.counting.replace(topics.clone()), None, "counts are under way already");
                }
                Action::Leave { member_id } => assert!(!member_id.is_empty()),
                Action::Notify(notice) => self.consumer.hear(notice),
            }
        }
        self.check();
    }

    pub(super) fn start(&mut self, request: Request) {
        assert_eq!(self.request.replace(request), None, "a request is under way already");
        assert!(!self.left && !self.machine.is_over());
    }

    pub(super) fn check(&self) {
        let held: BTreeMap<_, _> = self.machine.committable().clone();
        assert_eq!(held, self.consumer.held, "machine and consumer agree on what is held");
        if self.machine.can_commit() {
            let (id, generation) = self.machine.identity().expect("commits need an identity");
            assert!(!id.is_empty() && generation == self.generation);
            assert!(!self.between, "no commit between the answers to JoinGroup and SyncGroup");
        }
        assert_eq!(self.machine.is_over(), self.left || self.consumer.fatal);
        let wake = self.machine.next_wake();
        if self.machine.is_over() {
            assert_eq!(wake, None);
            assert!(held.is_empty() && self.machine.identity().is_none());
            return;
        }
        assert!(wake.is_none_or(|wake| wake > self.now), "what is due now is done now: no busy loop");
        assert!(self.request.is_some() || self.counting.is_some() || wake.is_some(), "something is always to come");
    }

    pub(super) fn poll(&mut self) {
        let actions = self.machine.poll(self.now);
        self.take(&actions);
    }

    pub(super) fn advance(&mut self, by: Duration) {
        self.now += by;
        self.poll();
    }

    /// Lets time pass until there is a request to answer.
    pub(super) fn until_request(&mut self) -> Request {
        for _ in 0..50 {
            if let Some(request) = self.request {
                return request;
            }
            if self.counting.is_some() {
                self.answer_counts(Ok(4));
                continue;
            }
            self.now = self.machine.next_wake().expect("something is to come");
            self.poll();
        }
        panic!("no request comes: {self:?}");
    }

    pub(super) fn answer_counts(&mut self, partitions: Result<i32, ()>) {
        let topics = self.counting.take().expect("counts were asked for");
        let outcome = match partitions {
            Ok(n) => Ok(topics.into_iter().map(|t| (t, n)).collect()),
            Err(()) => Err(Failure::Transport("counts".into())),
        };
        let actions = self.machine.counts(self.now, outcome);
        self.take(&actions);
    }

    pub(super) fn join_reply(&mut self, leading: bool) -> JoinReply {
        self.generation += 1;
        let id = match self.last_join.as_ref().map(|(id, _)| id.as_str()) {
            Some("") | None => format!("member-{}", self.generation),
            Some(id) => id.to_owned(),
        };
        let me = Member {
            member_id: id.clone(),
            instance_id: None,
            subscription: self.last_join.clone().map(|(_, s)| s).unwrap_or_default(),
        };
        JoinReply {
            leader: if leading { id.clone() } else { "other".into() },
            members: if leading { vec![me] } else { Vec::new() },
            member_id: id,
            generation: self.generation,
            skip_assignment: false,
        }
    }

    pub(super) fn good(&mut self, leading: bool, assigned: &BTreeSet<TopicPartition>) {
        let now = self.now;
        let actions = match self.request.take().expect("a request is under way") {
            Request::Coordinator => self.machine.coordinator(now, Ok(())),
            Request::Join => {
                let reply = self.join_reply(leading);
                self.between = true;
                self.machine.joined(now, Ok(reply))
            }
            Request::Sync => {
                self.between = false;
                self.machine.synced(now, Ok(assigned.clone()))
            }
            Request::Heartbeat => self.machine.heartbeat(now, Ok(())),
        };
        self.take(&actions);
    }

    pub(super) fn bad(&mut self, failure: Failure) {
        let now = self.now;
        let request = self.request.take().expect("a request is under way");
        if request == Request::Sync {
            self.between = false;
        }
        let actions = match request {
            Request::Coordinator => self.machine.coordinator(now, Err(failure)),
            Request::Join => self.machine.joined(now, Err(failure)),
            Request::Sync => self.machine.synced(now, Err(failure)),
            Request::Heartbeat => self.machine.heartbeat(now, Err(failure)),
        };
        self.take(&actions);
    }

    pub(super) fn drained(&mut self, drain: u64) {
        self.consumer.drained(drain);
        let actions = self.machine.drained(self.now, drain);
        self.take(&actions);
    }

    pub(super) fn leave(&mut self, for_good: bool) -> Vec<Action> {
        self.left = true;
        self.request = None;
        let actions = self.machine.leave(for_good);
        self.consumer = Consumer { fatal: self.consumer.fatal, ..Consumer::default() };
        self.take(&actions);
        actions
    }

    /// Good answers until the next request is `wanted`.
    pub(super) fn reach(&mut self, wanted: Request, assigned: &[i32]) {
        for _ in 0..50 {
            if self.until_request() == wanted {
                return;
            }
            self.good(true, &tps(assigned));
        }
        panic!("{wanted:?} never comes: {self:?}");
    }

    /// Good answers until the group is settled.
    pub(super) fn settle(&mut self, assigned: &[i32]) {
        self.reach(Request::Heartbeat, assigned);
        self.good(true, &tps(assigned));
    }

    pub(super) fn held(&self) -> BTreeSet<TopicPartition> {
        self.consumer.held.keys().cloned().collect()
    }
}

impl Bench {
    /// A rebalance is announced while counts are under way.
    pub(super) fn reach_with_counts_open(&mut self) {
        if self.request.is_none() {
            self.advance(HEARTBEAT);
        }
        assert_eq!(self.request, Some(Request::Heartbeat));
        self.bad(Failure::Code(27, None));
        assert_eq!(self.request, Some(Request::Join));
    }
}
