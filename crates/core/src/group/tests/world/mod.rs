//! Several members, a coordinator and a bad network, in one simulated world.
//!
//! **What is promised**, under cooperative rebalancing (KIP-429): of the members that the coordinator counts as members,
//! no two hold a partition at the same time, where a member holds what its consumer may work on and commit for, draining
//! included. A member that was evicted, paused or cut off beyond its session may still believe that it holds some, and so
//! two processes may work on a partition; but no commit of such a member is accepted. And when nothing disturbs
//! the group any more, every partition is held by exactly one member.
//!
//! The network delays and loses requests and answers. What it does not do, as one connection at a time carries a
//! member's requests, is to carry out a request after its member has given it up.

mod coordinator;
mod due;
mod messages;
mod node;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{first_seed, steps};
use crate::group::{Action, TopicPartition};
use coordinator::Coordinator;
use due::Due;
use messages::{Answer, From, Request};
use node::Node;

const PARTITIONS: i32 = 7;
const TOPICS: [&str; 2] = ["a", "b"];
const MEMBERS: usize = 4;
/// So many of them are static (KIP-345).
const STATIC: usize = 2;
const SESSION: Duration = Duration::from_secs(10);
const REBALANCE: Duration = Duration::from_secs(12);
/// How long the group may take to settle once it is left alone: evictions, overdue drains and what follows from them.
const QUIET: Duration = Duration::from_secs(240);

/// What happens at some time.
#[derive(Debug)]
enum Event {
    /// A request reaches the coordinator.
    Request(From, Request),
    /// An answer reaches a member.
    Answer(From, Answer),
    /// A member has waited long enough for an answer.
    GivenUp(From),
    Counts(usize, u64),
    Drained(usize, u64, u64),
    Poll(usize, u64),
    /// A process that has ended is started again.
    Restart(usize, u64),
    /// The coordinator looks at its clock.
    Tick,
    Trouble,
}

struct World {
    rng: StdRng,
    now: Instant,
    due: BinaryHeap<Reverse<Due>>,
    count: u64,
    coordinator: Coordinator,
    nodes: Vec<Node>,
    /// Whether anything goes wrong.
    troubled: bool,
    steps: u64,
    stops: u64,
    restarts: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let now = Instant::now();
        let mut world = Self {
            rng: StdRng::seed_from_u64(seed),
            now,
            due: BinaryHeap::new(),
            count: 0,
            coordinator: Coordinator::default(),
            nodes: Vec::new(),
            troubled: true,
            steps: 0,
            stops: 0,
            restarts: 0,
        };
        for index in 0..MEMBERS {
            world.nodes.push(Node::new(index, now, seed));
            world.poll(index);
        }
        world.at(Duration::from_secs(1), Event::Tick);
        world.at(Duration::from_secs(2), Event::Trouble);
        world
    }

    fn at(&mut self, after: Duration, event: Event) {
        self.count += 1;
        self.due.push(Reverse(Due(self.now + after, self.count, event)));
    }

    fn latency(&mut self) -> Duration {
        let slow = self.troubled && self.rng.random_ratio(1, 50);
        Duration::from_millis(self.rng.random_range(if slow { 1_000..6_000 } else { 1..40 }))
    }

    fn lost(&mut self) -> bool {
        self.troubled && self.rng.random_ratio(1, 60)
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(Reverse(Due(at, _, event))) = self.due.pop() {
            if at > end {
                self.due.push(Reverse(Due(at, 0, event)));
                break;
            }
            self.now = at;
            self.steps += 1;
            self.happen(event);
            self.check();
        }
        self.now = end;
    }

    /// What is for a member that stands still comes when it goes on.
    fn postponed(&mut self, index: usize, event: Event) -> Option<Event> {
        let until = self.nodes[index].stopped_until;
        if until <= self.now {
            return Some(event);
        }
        self.at(until - self.now, event);
        None
    }

    fn happen(&mut self, event: Event) {
        let for_node = match &event {
            Event::Answer(from, _) | Event::GivenUp(from) => Some(from.node),
            Event::Counts(index, _) | Event::Drained(index, ..) | Event::Poll(index, _) => Some(*index),
            Event::Request(..) | Event::Restart(..) | Event::Tick | Event::Trouble => None,
        };
        let event = match for_node {
            Some(index) => self.postponed(index, event),
            None => Some(event),
        };
        match event {
            Some(Event::Request(from, request)) if self.nodes[from.node].awaits(from) => {
                let answers = self.coordinator.take(self.now, from, request);
                self.send(answers);
            }
            Some(Event::Answer(from, answer)) if self.nodes[from.node].awaits(from) => {
                let actions = self.nodes[from.node].answer(self.now, answer);
                self.act(from.node, actions);
            }
            Some(Event::GivenUp(from)) if self.nodes[from.node].awaits(from) => {
                self.coordinator.hang_up(from);
                let actions = self.nodes[from.node].give_up(self.now);
                self.act(from.node, actions);
            }
            Some(Event::Counts(index, life)) if self.nodes[index].life == life => {
                let fails = self.troubled && self.rng.random_ratio(1, 20);
                let actions = self.nodes[index].counts(self.now, (!fails).then_some(PARTITIONS));
                self.act(index, actions);
            }
            Some(Event::Drained(index, life, drain)) if self.nodes[index].life == life => {
                let actions = self.nodes[index].drained(self.now, drain);
                self.act(index, actions);
            }
            Some(Event::Poll(index, life)) if self.nodes[index].life == life => {
                self.poll(index);
            }
            Some(Event::Restart(index, life)) if self.nodes[index].life == life => self.restart(index),
            Some(Event::Tick) => {
                let answers = self.coordinator.tick(self.now);
                self.send(answers);
                self.at(Duration::from_millis(500), Event::Tick);
            }
            Some(Event::Trouble) => self.trouble(),
            // For a process that is no more, or no longer waits for it.
            Some(_) | None => {}
        }
    }

    fn poll(&mut self, index: usize) {
        let actions = self.nodes[index].poll(self.now);
        self.act(index, actions);
    }

    fn send(&mut self, answers: Vec<(From, Answer)>) {
        for (from, answer) in answers {
            if !self.lost() {
                let latency = self.latency();
                self.at(latency, Event::Answer(from, answer));
            }
        }
    }

    fn act(&mut self, index: usize, actions: Vec<Action>) {
        for action in actions {
            let drains = self.nodes[index].hear(&action);
            if let Some(drain) = drains {
                // Some are done at once, some take their time, and some never end.
                let life = self.nodes[index].life;
                let after = Duration::from_millis([0, 300, 5_000, 60_000][self.rng.random_range(0..4)]);
                self.at(after, Event::Drained(index, life, drain));
            }
            match action {
                Action::LoadCounts(_) => {
                    let (latency, life) = (self.latency(), self.nodes[index].life);
                    self.at(latency, Event::Counts(index, life));
                }
                Action::Leave { member_id } => {
                    let answers = self.coordinator.leave(self.now, &member_id);
                    self.send(answers);
                }
                Action::Notify(_) => {}
                request => self.ask(index, request),
            }
        }
        if self.nodes[index].machine.is_over() {
            // Fenced, as after a replacement that the coordinator has forgotten: the process ends, and is started again.
            self.at(Duration::from_secs(1), Event::Restart(index, self.nodes[index].life));
        }
        if let Some(wake) = self.nodes[index].machine.next_wake() {
            let life = self.nodes[index].life;
            self.at(wake.saturating_duration_since(self.now), Event::Poll(index, life));
        }
    }

    fn ask(&mut self, index: usize, action: Action) {
        let Some(request) = Request::of(action) else { return };
        let from = self.nodes[index].start(request.kind());
        self.at(request.patience(), Event::GivenUp(from));
        if !self.lost() {
            let latency = self.latency();
            self.at(latency, Event::Request(from, request));
        }
    }

    /// Something goes wrong, again and again while the world is troubled.
    fn trouble(&mut self) {
        if !self.troubled {
            return;
        }
        let index = self.rng.random_range(0..self.nodes.len());
        match self.rng.random_range(0..6) {
            // SIGSTOP, for less or more than a session.
            0 | 1 => {
                self.stops += 1;
                self.nodes[index].stopped_until = self.now + Duration::from_secs(self.rng.random_range(1..30));
            }
            // kill -9, and a new process in its place.
            2 => self.restart(index),
            3 => {
                let actions = self.nodes[index].machine.leave(true);
                self.act(index, actions);
                self.restart(index);
            }
            // The coordinator moves, and what was not written down is forgotten.
            4 => {
                let away = Duration::from_millis(self.rng.random_range(0..4_000));
                let answers = self.coordinator.move_away(self.now, self.now + away);
                self.send(answers);
            }
            _ => {
                let code = [-1, 7, 14, 15, 16, 22, 25, 27][self.rng.random_range(0..8)];
                self.coordinator.next_code = Some(code);
            }
        }
        let calm = Duration::from_millis(self.rng.random_range(100..15_000));
        self.at(calm, Event::Trouble);
    }

    fn restart(&mut self, index: usize) {
        self.restarts += 1;
        self.nodes[index].restart(self.now);
        self.poll(index);
    }

    /// Nobody holds what another member of the group holds, and no two commits are accepted for a partition.
    fn check(&self) {
        let mut holders: BTreeMap<&TopicPartition, usize> = BTreeMap::new();
        let mut committers: BTreeMap<&TopicPartition, usize> = BTreeMap::new();
        for (index, node) in self.nodes.iter().enumerate() {
            let identity = node.machine.identity();
            let member = identity.is_some_and(|(id, _)| self.coordinator.has(id));
            let accepted = identity.is_some_and(|(id, generation)| self.coordinator.accepts(id, generation));
            for tp in node.machine.committable().keys() {
                if member {
                    let other = holders.insert(tp, index);
                    assert_eq!(other, None, "{tp} is held by {other:?} and {index}, both members");
                }
                if accepted && node.machine.can_commit() {
                    let other = committers.insert(tp, index);
                    assert_eq!(other, None, "commits for {tp} are accepted from {other:?} and {index}");
                }
            }
        }
    }

    /// Left alone, the group settles: everything has one owner, and nothing drains.
    fn settles(&mut self) {
        self.troubled = false;
        self.coordinator.next_code = None;
        for node in &mut self.nodes {
            node.stopped_until = self.now;
        }
        self.run(QUIET);
        let mut owned: Vec<TopicPartition> = Vec::new();
        for node in &self.nodes {
            assert!(!node.machine.is_over() && node.machine.can_commit(), "{node:?}");
            assert!(node.consumer.drains.is_empty(), "{node:?}");
            owned.extend(node.machine.committable().keys().cloned());
        }
        owned.sort();
        let all: Vec<_> =
            TOPICS.iter().flat_map(|topic| (0..PARTITIONS).map(|p| TopicPartition::new(*topic, p))).collect();
        assert_eq!(owned, all, "every partition has one owner: {:?}", self.nodes);
        // Joined topics stay together, and nobody has more than one number more than another.
        let numbers = self.nodes.iter().map(|node| node.machine.committable().len() / TOPICS.len());
        let (least, most) = (numbers.clone().min().unwrap_or(0), numbers.max().unwrap_or(0));
        assert!(most - least <= 1, "{:?}", self.nodes);
    }
}

/// What went on, so that a world in which nothing happens is noticed.
#[derive(Debug, Default)]
struct Tally {
    steps: u64,
    stops: u64,
    restarts: u64,
    generations: u64,
    evictions: u64,
    moves: u64,
    replacements: u64,
    revocations: u64,
    losses: u64,
}

impl Tally {
    fn add(&mut self, world: &World) {
        self.steps += world.steps;
        self.stops += world.stops;
        self.restarts += world.restarts;
        self.generations += world.coordinator.generations;
        self.evictions += world.coordinator.evictions;
        self.moves += world.coordinator.moves;
        self.replacements += world.coordinator.replacements;
        self.revocations += world.nodes.iter().map(|node| node.revocations).sum::<u64>();
        self.losses += world.nodes.iter().map(|node| node.losses).sum::<u64>();
    }
}

#[test]
fn no_two_members_hold_a_partition_and_every_one_finds_its_owner() {
    let (most, mut seed, mut tally) = (steps(80_000), first_seed(), Tally::default());
    println!("first seed {seed}, {most} steps");
    while tally.steps < most {
        let mut world = World::new(seed);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            world.run(Duration::from_secs(600));
            world.settles();
        }));
        if let Err(panic) = result {
            eprintln!("seed {seed}, step {}", world.steps);
            std::panic::resume_unwind(panic);
        }
        tally.add(&world);
        seed += 1;
    }
    println!("{tally:?}");
    let Tally { stops, restarts, generations, evictions, moves, replacements, revocations, losses, .. } = tally;
    let rarest = [stops, restarts, evictions, moves, replacements, revocations, losses].into_iter().min().unwrap_or(0);
    assert!(rarest * 4_000 > most && generations * 400 > most, "too little went on: {rarest}, {generations}");
}

/// The test's own test.
#[test]
#[should_panic(expected = "both members")]
fn a_world_in_which_claims_are_not_told_is_found_out() {
    let mut world = World::new(1);
    world.coordinator.hides_claims = true;
    world.run(Duration::from_secs(600));
}
