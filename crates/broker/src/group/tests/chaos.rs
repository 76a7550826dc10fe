//! Any sequence of requests and silences: the state machine keeps its invariants, and answers every request once.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use bytes::Bytes;
use proptest::prelude::*;

use super::super::{
    answer::{Answer, Token},
    machine::{Claim, Group, Limits, State, Syncing},
    member::{About, Joining, Protocol},
};

#[derive(Debug, Clone)]
enum Step {
    /// A client joins with the id it has; `forget` makes it a new process first.
    Join {
        client: usize,
        forget: bool,
        subscription: u8,
    },
    Sync(usize),
    Heartbeat(usize),
    Commit(usize),
    Leave(usize),
    Wait(u64),
}

const CLIENTS: usize = 5;

fn step() -> impl Strategy<Value = Step> {
    let client = 0..CLIENTS;
    prop_oneof![
        4 => (client.clone(), prop::bool::weighted(0.2), 0..2u8)
            .prop_map(|(client, forget, subscription)| Step::Join { client, forget, subscription }),
        3 => client.clone().prop_map(Step::Sync),
        3 => client.clone().prop_map(Step::Heartbeat),
        1 => client.clone().prop_map(Step::Commit),
        1 => client.prop_map(Step::Leave),
        2 => (1..20_000u64).prop_map(Step::Wait),
    ]
}

#[derive(Debug, Clone, Default)]
struct Client {
    /// Which process it is.
    process: u64,
    id: String,
    generation: i32,
}

struct World {
    group: Group,
    now: Instant,
    clients: Vec<Client>,
    /// By whom, and what it was then.
    waiting: BTreeMap<Token, (usize, Client)>,
    last_token: Token,
}

/// Every second client is a static member.
fn instance(client: usize) -> Option<String> {
    (client % 2 == 1).then(|| format!("instance-{client}"))
}

impl World {
    fn new(initial_delay: u64) -> Self {
        let limits = Limits { initial_delay: Duration::from_millis(initial_delay), members: 4 };
        Self {
            group: Group::new(limits),
            now: Instant::now(),
            clients: vec![Client::default(); CLIENTS],
            waiting: BTreeMap::new(),
            last_token: 0,
        }
    }

    fn token(&mut self, client: usize) -> Token {
        self.last_token += 1;
        self.waiting.insert(self.last_token, (client, self.clients[client].clone()));
        self.last_token
    }

    fn claim(&self, client: usize) -> Claim {
        let Client { id, generation, .. } = self.clients[client].clone();
        Claim { member_id: id, instance: instance(client), generation }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Join { client, forget, subscription } => self.join(client, forget, subscription),
            Step::Sync(client) => {
                let token = self.token(client);
                let part = |id: &String| (id.clone(), Bytes::from(id.clone()));
                let assignments = self.group.members.keys().map(part).collect();
                let syncing = Syncing { claim: self.claim(client), assignments, ..Syncing::default() };
                self.group.sync(self.now, token, syncing);
            }
            Step::Heartbeat(client) => {
                let answer = self.group.heartbeat(self.now, &self.claim(client));
                let is_member = self.group.members.contains_key(&self.clients[client].id);
                assert!(is_member || answer.is_err());
            }
            Step::Commit(client) => {
                let answer = self.group.may_commit(self.now, &self.claim(client), false);
                let current = self.clients[client].generation == self.group.generation;
                assert!(current || answer.is_err());
            }
            Step::Leave(client) => {
                let id = std::mem::take(&mut self.clients[client].id);
                let was_member = self.group.members.contains_key(&id);
                let left = self.group.leave(self.now, &id, instance(client).as_deref());
                assert!(left.is_err() || !was_member || !self.group.members.contains_key(&id));
            }
            Step::Wait(millis) => self.wait(self.now + Duration::from_millis(millis)),
        }
        self.hear();
        self.check();
    }

    fn join(&mut self, client: usize, forget: bool, subscription: u8) {
        if forget {
            self.clients[client] = Client { process: self.clients[client].process + 1, ..Client::default() };
        }
        let token = self.token(client);
        let about = About {
            instance: instance(client),
            client_id: "c".to_owned(),
            client_host: "h".to_owned(),
            session: Duration::from_secs(6 + client as u64),
            rebalance: Duration::from_secs(10),
        };
        let joining = Joining {
            member_id: self.clients[client].id.clone(),
            fresh_id: format!("{client}-{token}"),
            about,
            protocol_type: "consumer".to_owned(),
            protocols: vec![Protocol { name: "range".to_owned(), metadata: Bytes::from(vec![subscription]) }],
            must_know_id: client.is_multiple_of(3),
            can_skip: client % 4 == 1,
        };
        self.group.join(self.now, token, joining);
    }

    /// Lets time pass, with the group called at each of its deadlines.
    fn wait(&mut self, until: Instant) {
        let mut calls = 0;
        while let Some(at) = self.group.next_deadline().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.group.advance(self.now);
            self.hear();
            self.check();
            calls += 1;
            assert!(calls < 1000, "the group never rests");
        }
        self.now = until;
    }

    fn hear(&mut self) {
        for (token, answer) in self.group.take_answers() {
            let (client, then) = self.waiting.remove(&token).expect("a request is answered once");
            let now = &mut self.clients[client];
            let is_heard = now.process == then.process;
            match answer {
                Answer::Join(Ok(joined)) => {
                    assert_eq!(joined.generation, self.group.generation);
                    if is_heard {
                        (now.id, now.generation) = (joined.member_id, joined.generation);
                    }
                }
                Answer::Join(Err(refusal)) if is_heard => now.id = refusal.member_id,
                Answer::Sync(Ok(synced)) => {
                    let is_own = synced.assignment.is_empty() || synced.assignment == then.id;
                    assert!(is_own || instance(client).is_some(), "only a static member inherits an assignment");
                }
                Answer::Join(Err(_)) | Answer::Sync(Err(_)) => {}
            }
        }
    }

    fn check(&self) {
        let group = &self.group;
        let leads = group.leader.as_ref().is_some_and(|leader| group.members.contains_key(leader));
        assert_eq!(leads, !group.members.is_empty(), "a group with members has a leader among them");
        let instances: Vec<_> = group.members.values().filter_map(|m| m.about.instance.as_ref()).collect();
        assert_eq!(instances.len(), instances.iter().collect::<BTreeSet<_>>().len(), "one member for each instance");
        assert!(group.members.len() <= group.limits.members);
        let joining = group.members.values().filter(|m| m.joining.is_some()).count();
        let syncing = group.members.values().filter(|m| m.syncing.is_some()).count();
        assert_eq!(joining + syncing, self.waiting.len(), "nobody waits whom the group has forgotten");
        match group.state {
            State::Empty => assert!(group.members.is_empty()),
            State::Preparing { .. } => assert_eq!(syncing, 0),
            State::Completing => assert!(joining == 0 && group.sync_until.is_some()),
            State::Stable => assert_eq!(joining + syncing, 0),
        }
        // Somebody may yet come: within the initial delay, or with an id that was promised.
        let may_be_empty = match group.state {
            State::Empty => true,
            State::Preparing { grace, .. } => grace.is_some() || !group.promised.is_empty(),
            State::Completing | State::Stable => false,
        };
        assert!(may_be_empty || !group.members.is_empty());
        assert!(group.next_deadline().is_none_or(|at| at > self.now), "what is due is done");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_request_is_answered_once_and_silence_empties_the_group(
        delay in prop_oneof![Just(0), Just(3000)],
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut world = World::new(delay);
        for step in &steps {
            world.take(step);
        }
        world.wait(world.now + Duration::from_secs(900));
        prop_assert!(world.waiting.is_empty());
        prop_assert_eq!(world.group.state, State::Empty);
        prop_assert_eq!(world.group.next_deadline(), None);
    }
}
