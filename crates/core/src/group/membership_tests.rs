//! The life of a member under answers of every kind.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::{Action, Config, Failure, JoinReply, Member, Membership, Notice, Subscription, TopicPartition, Verdict};

const HEARTBEAT: Duration = Duration::from_secs(3);
const REBALANCE: Duration = Duration::from_secs(60);
const COUNTS: Duration = Duration::from_secs(5);

fn config() -> Config {
    Config {
        topics: [Arc::from("a")].into(),
        instance_id: None,
        heartbeat_interval: HEARTBEAT,
        rebalance_timeout: REBALANCE,
        counts_interval: COUNTS,
        initial_backoff: Duration::from_millis(50),
        max_backoff: Duration::from_secs(1),
        seed: 42,
    }
}

fn tps(partitions: &[i32]) -> BTreeSet<TopicPartition> {
    partitions.iter().map(|p| TopicPartition::new("a", *p)).collect()
}

/// A request that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    Coordinator,
    Join,
    Sync,
    Heartbeat,
}

/// What the consumer believes, told by notices alone.
#[derive(Debug, Default)]
struct Consumer {
    held: BTreeMap<TopicPartition, u64>,
    drains: BTreeMap<u64, BTreeSet<TopicPartition>>,
    epoch: u64,
    fatal: bool,
}

impl Consumer {
    fn hear(&mut self, notice: &Notice) {
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

    fn drained(&mut self, drain: u64) {
        for tp in self.drains.remove(&drain).unwrap_or_default() {
            self.held.remove(&tp);
        }
    }
}

/// A machine with everything around it that its rules speak of.
#[derive(Debug)]
struct Bench {
    machine: Membership,
    now: Instant,
    request: Option<Request>,
    counting: Option<BTreeSet<Arc<str>>>,
    consumer: Consumer,
    /// What the last good JoinGroup answer said, until the SyncGroup answer came.
    between: bool,
    last_join: Option<(String, Subscription)>,
    generation: i32,
    left: bool,
}

impl Bench {
    fn new(config: Config) -> Self {
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

    fn take(&mut self, actions: &[Action]) {
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

    fn start(&mut self, request: Request) {
        assert_eq!(self.request.replace(request), None, "a request is under way already");
        assert!(!self.left && !self.machine.is_over());
    }

    fn check(&self) {
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

    fn poll(&mut self) {
        let actions = self.machine.poll(self.now);
        self.take(&actions);
    }

    fn advance(&mut self, by: Duration) {
        self.now += by;
        self.poll();
    }

    /// Lets time pass until there is a request to answer.
    fn until_request(&mut self) -> Request {
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

    fn answer_counts(&mut self, partitions: Result<i32, ()>) {
        let topics = self.counting.take().expect("counts were asked for");
        let outcome = match partitions {
            Ok(n) => Ok(topics.into_iter().map(|t| (t, n)).collect()),
            Err(()) => Err(Failure::Transport("counts".into())),
        };
        let actions = self.machine.counts(self.now, outcome);
        self.take(&actions);
    }

    fn join_reply(&mut self, leading: bool) -> JoinReply {
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

    fn good(&mut self, leading: bool, assigned: &BTreeSet<TopicPartition>) {
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

    fn bad(&mut self, failure: Failure) {
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

    fn drained(&mut self, drain: u64) {
        self.consumer.drained(drain);
        let actions = self.machine.drained(self.now, drain);
        self.take(&actions);
    }

    fn leave(&mut self, for_good: bool) -> Vec<Action> {
        self.left = true;
        self.request = None;
        let actions = self.machine.leave(for_good);
        self.consumer = Consumer { fatal: self.consumer.fatal, ..Consumer::default() };
        self.take(&actions);
        actions
    }

    /// Good answers until the next request is `wanted`.
    fn reach(&mut self, wanted: Request, assigned: &[i32]) {
        for _ in 0..50 {
            if self.until_request() == wanted {
                return;
            }
            self.good(true, &tps(assigned));
        }
        panic!("{wanted:?} never comes: {self:?}");
    }

    /// Good answers until the group is settled.
    fn settle(&mut self, assigned: &[i32]) {
        self.reach(Request::Heartbeat, assigned);
        self.good(true, &tps(assigned));
    }

    fn held(&self) -> BTreeSet<TopicPartition> {
        self.consumer.held.keys().cloned().collect()
    }
}

#[derive(Debug, Clone)]
enum Event {
    Good { leading: bool, assigned: BTreeSet<i32> },
    Code(i16, bool),
    Transport,
    Counts(Option<i32>),
    Advance(u64),
    Drained(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let code = prop_oneof![
        2 => -2..140_i16,
        3 => prop::sample::select(vec![-1_i16, 7, 14, 15, 16, 22, 25, 27, 79, 89, 111]),
    ];
    prop_oneof![
        12 => (any::<bool>(), prop::collection::btree_set(0..5_i32, 0..5))
            .prop_map(|(leading, assigned)| Event::Good { leading, assigned }),
        2 => (code, any::<bool>()).prop_map(|(code, with_id)| Event::Code(code, with_id)),
        1 => Just(Event::Transport),
        4 => prop::option::weighted(0.8, 0..6_i32).prop_map(Event::Counts),
        6 => prop_oneof![0..200_u64, 1_000..70_000_u64].prop_map(Event::Advance),
        4 => (1..8_u64).prop_map(Event::Drained),
    ]
}

fn happen(bench: &mut Bench, event: Event) {
    match event {
        Event::Good { leading, assigned } if bench.request.is_some() => {
            let assigned: Vec<i32> = assigned.into_iter().collect();
            bench.good(leading, &tps(&assigned));
        }
        Event::Code(code, with_id) if bench.request.is_some() && code != 0 => {
            bench.bad(Failure::Code(code, with_id.then(|| "from-broker".into())));
        }
        Event::Transport if bench.request.is_some() => bench.bad(Failure::Transport("cut".into())),
        Event::Counts(counts) if bench.counting.is_some() => bench.answer_counts(counts.ok_or(())),
        Event::Advance(ms) => {
            bench.now += Duration::from_millis(ms);
            // Drains that are overdue are told as lost, which the consumer hears; nothing else is known to it.
            bench.poll();
        }
        Event::Drained(drain) => bench.drained(drain),
        _ => bench.poll(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_answered_the_rules_hold(events in prop::collection::vec(event(), 1..120), leaves: bool) {
        let mut bench = Bench::new(config());
        for event in events {
            if bench.machine.is_over() {
                // Late answers and polls change nothing.
                prop_assert_eq!(bench.machine.poll(bench.now), vec![]);
                prop_assert_eq!(bench.machine.heartbeat(bench.now, Ok(())), vec![]);
                prop_assert_eq!(bench.machine.counts(bench.now, Ok(BTreeMap::new())), vec![]);
                break;
            }
            happen(&mut bench, event);
        }
        if leaves && !bench.machine.is_over() {
            bench.leave(true);
            prop_assert!(bench.machine.is_over());
        }
    }

    /// After any history that did not end it, a member under good answers gets back into its group.
    #[test]
    fn it_always_comes_back(events in prop::collection::vec(event(), 1..60)) {
        let mut bench = Bench::new(config());
        for event in events {
            if !bench.machine.is_over() {
                happen(&mut bench, event);
            }
        }
        if !bench.machine.is_over() {
            bench.reach(Request::Heartbeat, &[0, 1]);
            bench.bad(Failure::Code(27, None));
            bench.settle(&[0, 1]);
            let drains: Vec<u64> = bench.consumer.drains.keys().copied().collect();
            drains.into_iter().for_each(|d| bench.drained(d));
            bench.settle(&[0, 1]);
            prop_assert_eq!(bench.held(), tps(&[0, 1]));
            prop_assert!(bench.machine.can_commit());
        }
    }
}

#[test]
fn every_error_code_in_every_state_ends_it_or_lets_it_come_back() {
    for wanted in [Request::Coordinator, Request::Join, Request::Sync, Request::Heartbeat] {
        for code in (-2..=140_i16).filter(|code| *code != 0) {
            for id in [None, Some("given".to_owned())] {
                let mut bench = Bench::new(config());
                bench.reach(wanted, &[0, 1]);
                bench.bad(Failure::Code(code, id));
                if Verdict::of(code) == Verdict::Fatal {
                    assert!(bench.consumer.fatal && bench.machine.is_over(), "{code} in {wanted:?}");
                } else {
                    assert!(!bench.machine.is_over(), "{code} in {wanted:?}");
                    bench.settle(&[0, 1]);
                    assert_eq!(bench.held(), tps(&[0, 1]), "{code} in {wanted:?}");
                }
            }
        }
    }
}

#[test]
fn being_fenced_loses_everything_at_once() {
    for (code, keeps_id) in [(22, true), (25, false)] {
        let mut bench = Bench::new(config());
        bench.settle(&[0, 1]);
        bench.reach(Request::Heartbeat, &[0, 1]);
        bench.bad(Failure::Code(code, None));
        assert!(bench.held().is_empty() && !bench.machine.can_commit());
        bench.reach(Request::Join, &[0, 1]);
        let (id, subscription) = bench.last_join.clone().unwrap();
        assert_eq!(!id.is_empty(), keeps_id, "code {code}");
        assert!(subscription.owned.is_empty() && subscription.generation == -1);
    }
}

#[test]
fn a_rebalance_that_is_announced_is_joined_at_once_and_interrupts_nothing() {
    let mut bench = Bench::new(config());
    bench.settle(&[0, 1]);
    bench.reach(Request::Heartbeat, &[0, 1]);
    bench.bad(Failure::Code(27, None));
    assert_eq!(bench.request, Some(Request::Join), "no wait");
    assert!(bench.machine.can_commit(), "what is done meanwhile can be committed");
    assert_eq!(bench.last_join.clone().unwrap().1.owned, tps(&[0, 1]));
    bench.good(false, &tps(&[]));
    assert!(!bench.machine.can_commit());
    bench.good(false, &tps(&[0]));
    assert_eq!(bench.held(), tps(&[0, 1]), "what stays is not told, what goes is still held until it is drained");
    let drain = *bench.consumer.drains.keys().next().expect("partition 1 drains");
    assert_eq!(bench.consumer.drains[&drain], tps(&[1]));
    assert!(bench.machine.can_commit());
    assert!(bench.request.is_none(), "nothing more to say until it is drained");
    bench.drained(drain);
    assert_eq!(bench.request, Some(Request::Join), "drained: the next owner is waiting");
    assert_eq!(bench.last_join.clone().unwrap().1.owned, tps(&[0]));
    assert_eq!(bench.consumer.epoch, 1, "partition 0 never left");
}

#[test]
fn a_drain_that_takes_too_long_is_lost() {
    let mut bench = Bench::new(config());
    bench.settle(&[0, 1]);
    bench.reach(Request::Heartbeat, &[0, 1]);
    bench.bad(Failure::Code(27, None));
    bench.good(false, &tps(&[]));
    bench.good(false, &tps(&[0]));
    let started = bench.now;
    while bench.now < started + REBALANCE {
        assert_eq!(bench.held(), tps(&[0, 1]));
        match bench.request {
            Some(_) => bench.good(false, &tps(&[0])),
            None => {
                bench.now = bench.machine.next_wake().unwrap();
                bench.poll();
            }
        }
    }
    assert_eq!(bench.held(), tps(&[0]));
    assert!(bench.consumer.drains.is_empty());
    bench.reach(Request::Join, &[0]);
    assert_eq!(bench.last_join.clone().unwrap().1.owned, tps(&[0]));
}

#[test]
fn what_comes_back_while_it_drains_comes_anew_afterwards() {
    let mut bench = Bench::new(config());
    bench.settle(&[0, 1]);
    let rebalance = |bench: &mut Bench, assigned: &[i32]| {
        bench.reach(Request::Heartbeat, assigned);
        bench.bad(Failure::Code(27, None));
        bench.good(false, &tps(assigned));
        bench.good(false, &tps(assigned));
    };
    rebalance(&mut bench, &[0]);
    rebalance(&mut bench, &[0, 1]);
    assert_eq!(bench.consumer.epoch, 1, "still draining: not told yet");
    let drain = *bench.consumer.drains.keys().next().unwrap();
    bench.drained(drain);
    assert_eq!(bench.held(), tps(&[0, 1]));
    assert_eq!(bench.consumer.held[&TopicPartition::new("a", 1)], 2, "in an epoch of its own");
    assert_eq!(bench.consumer.held[&TopicPartition::new("a", 0)], 1);
    bench.drained(drain);
    assert_eq!(bench.held(), tps(&[0, 1]), "said twice is said once");
}

#[test]
fn a_new_member_takes_the_id_it_is_given() {
    let mut bench = Bench::new(config());
    bench.reach(Request::Join, &[]);
    assert_eq!(bench.last_join.clone().unwrap().0, "");
    bench.bad(Failure::Code(79, Some("given".into())));
    assert_eq!(bench.request, Some(Request::Join), "at once");
    assert_eq!(bench.last_join.clone().unwrap().0, "given");
    bench.bad(Failure::Code(79, Some("another".into())));
    assert_eq!(bench.request, None, "a broker that says it again is not asked in a loop");
}

#[test]
fn a_coordinator_that_keeps_refusing_is_asked_less_and_less() {
    let mut bench = Bench::new(config());
    let start = bench.now;
    let mut asked = 0;
    while bench.now < start + Duration::from_secs(30) {
        match bench.until_request() {
            Request::Join => {
                asked += 1;
                bench.bad(Failure::Code(16, None));
            }
            _ => bench.good(false, &tps(&[])),
        }
    }
    assert!((20..=80).contains(&asked), "{asked} tries in 30 s");
}

#[test]
fn the_leader_sees_topics_grow_and_nobody_else_asks() {
    let mut bench = Bench::new(config());
    bench.settle(&[0, 1]);
    bench.now += COUNTS;
    bench.poll();
    assert!(bench.counting.is_some(), "the leader asks");
    bench.answer_counts(Ok(4));
    assert!(bench.request != Some(Request::Join), "nothing has changed");
    bench.now += COUNTS;
    bench.poll();
    if bench.request.is_some() {
        bench.good(true, &tps(&[]));
    }
    bench.answer_counts(Err(()));
    assert!(bench.request != Some(Request::Join), "not known is not changed");
    bench.now += COUNTS;
    bench.poll();
    if bench.request.is_some() {
        bench.good(true, &tps(&[]));
    }
    bench.answer_counts(Ok(6));
    if bench.request == Some(Request::Heartbeat) {
        bench.good(true, &tps(&[]));
    }
    assert_eq!(bench.request, Some(Request::Join));

    let mut follower = Bench::new(config());
    while follower.until_request() != Request::Heartbeat {
        follower.good(false, &tps(&[0]));
    }
    for _ in 0..20 {
        follower.now += COUNTS;
        follower.poll();
        assert!(follower.counting.is_none());
        if follower.request.is_some() {
            follower.good(false, &tps(&[0]));
        }
    }
}

#[test]
fn counts_asked_for_before_the_groups_topics_changed_decide_nothing() {
    let mut bench = Bench::new(config());
    bench.settle(&[0, 1]);
    bench.now += COUNTS;
    bench.poll();
    let asked = bench.counting.clone().expect("the leader asks");
    // While that is under way a member with another topic joins.
    bench.reach_with_counts_open();
    let mut reply = bench.join_reply(true);
    let both: BTreeSet<Arc<str>> = [Arc::from("a"), Arc::from("b")].into();
    reply.members[0].subscription.topics = both.clone();
    bench.request = None;
    bench.between = true;
    let actions = bench.machine.joined(bench.now, Ok(reply));
    bench.take(&actions);
    assert_eq!(bench.counting, Some(asked), "still the old question");
    bench.answer_counts(Ok(4));
    assert_eq!(bench.request, None, "nothing is decided on it");
    assert_eq!(bench.counting, Some(both), "but asked anew");
    bench.answer_counts(Ok(4));
    assert_eq!(bench.request, Some(Request::Sync));
}

impl Bench {
    /// A rebalance is announced while counts are under way.
    fn reach_with_counts_open(&mut self) {
        if self.request.is_none() {
            self.advance(HEARTBEAT);
        }
        assert_eq!(self.request, Some(Request::Heartbeat));
        self.bad(Failure::Code(27, None));
        assert_eq!(self.request, Some(Request::Join));
    }
}

#[test]
fn leaving_tells_the_group_but_a_static_member_only_for_good() {
    let mut bench = Bench::new(config());
    bench.settle(&[0]);
    assert!(matches!(bench.leave(false)[..], [Action::Leave { .. }]));

    let static_config = Config { instance_id: Some("i1".into()), ..config() };
    let mut bench = Bench::new(static_config.clone());
    bench.settle(&[0]);
    assert_eq!(bench.leave(false), vec![]);
    let mut bench = Bench::new(static_config);
    bench.settle(&[0]);
    assert!(matches!(bench.leave(true)[..], [Action::Leave { .. }]));

    let mut unborn = Bench::new(config());
    assert_eq!(unborn.leave(true), vec![], "nobody knows it yet");
}

#[test]
fn a_static_leader_whose_assignment_was_kept_does_not_decide() {
    let mut bench = Bench::new(config());
    bench.reach(Request::Join, &[]);
    let reply = JoinReply { skip_assignment: true, ..bench.join_reply(true) };
    bench.request = None;
    bench.between = true;
    let actions = bench.machine.joined(bench.now, Ok(reply));
    bench.take(&actions);
    assert_eq!(bench.request, Some(Request::Sync));
    assert!(bench.counting.is_none());
    bench.good(true, &tps(&[3]));
    assert_eq!(bench.held(), tps(&[3]));
}

#[test]
fn an_idle_member_sends_one_heartbeat_an_interval() {
    let mut bench = Bench::new(config());
    bench.settle(&[0]);
    let start = bench.now;
    let mut sent = 0;
    while bench.now < start + HEARTBEAT * 10 {
        assert_eq!(bench.until_request(), Request::Heartbeat);
        sent += 1;
        bench.good(true, &tps(&[0]));
    }
    assert!((9..=11).contains(&sent), "{sent}");
}
