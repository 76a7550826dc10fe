//! A coordinator of one classic group, as Apache Kafka's is: what it knows of members, and what it writes down.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use super::{
    REBALANCE, SESSION,
    messages::{Answer, From, Kind, Request},
};
use crate::group::{Failure, JoinReply, JoinRequest, Member, Subscription, SyncRequest, TopicPartition};

/// FENCED_INSTANCE_ID.
const FENCED: i16 = 82;

type Answers = Vec<(From, Answer)>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Empty,
    Preparing {
        until: Instant,
    },
    Completing,
    Stable,
}

#[derive(Debug, Clone)]
struct Known {
    instance: Option<usize>,
    subscription: Subscription,
    assigned: BTreeSet<TopicPartition>,
    session_until: Instant,
    joining: Option<From>,
    syncing: Option<From>,
}

impl Known {
    fn new(instance: Option<usize>, now: Instant) -> Self {
        Self {
            instance,
            subscription: Subscription::default(),
            assigned: BTreeSet::new(),
            session_until: now + SESSION,
            joining: None,
            syncing: None,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Coordinator {
    state: State,
    generation: i32,
    leader: String,
    members: BTreeMap<String, Known>,
    /// The member ids of static members.
    instances: BTreeMap<usize, String>,
    /// Ids given out (KIP-394) and not used yet.
    given: BTreeSet<String>,
    ids: u64,
    /// Generation, leader and members as they were last written down.
    written: (i32, String, BTreeMap<String, Known>),
    away_until: Option<Instant>,
    /// Said to the next request, whatever it asks.
    pub(super) next_code: Option<i16>,
    /// Tells the leader nothing of what the others claim, as no coordinator does.
    pub(super) hides_claims: bool,
    pub(super) generations: u64,
    pub(super) evictions: u64,
    pub(super) moves: u64,
    pub(super) replacements: u64,
}

impl Coordinator {
    pub(super) fn has(&self, id: &str) -> bool {
        self.members.contains_key(id)
    }

    /// Whether a commit under this identity is accepted.
    pub(super) fn accepts(&self, id: &str, generation: i32) -> bool {
        self.has(id) && generation == self.generation && self.state != State::Completing
    }

    pub(super) fn take(&mut self, now: Instant, from: From, request: Request) -> Answers {
        let kind = request.kind();
        if let Some(code) = self.next_code.take().filter(|_| kind != Kind::Coordinator) {
            return vec![(from, Answer::code(kind, code))];
        }
        if self.away_until.is_some_and(|until| now < until) {
            let code = if kind == Kind::Coordinator { 15 } else { 16 };
            return vec![(from, Answer::code(kind, code))];
        }
        match request {
            Request::Coordinator => vec![(from, Answer::Coordinator(Ok(())))],
            Request::Join(join) => self.join(now, from, join),
            Request::Sync(sync) => self.sync(now, from, sync),
            Request::Heartbeat { member_id, generation } => {
                let code = self.judge(now, from, &member_id, generation);
                let outcome = if code == 0 { Ok(()) } else { Err(Failure::Code(code, None)) };
                vec![(from, Answer::Heartbeat(outcome))]
            }
        }
    }

    /// The code for a member that says it is of this generation; 0 is good. It counts as a sign of life.
    fn judge(&mut self, now: Instant, from: From, id: &str, generation: i32) -> i16 {
        if self.is_fenced(from, id) {
            return FENCED;
        }
        let Some(member) = self.members.get_mut(id) else { return 25 };
        if generation != self.generation {
            return 22;
        }
        member.session_until = now + SESSION;
        if matches!(self.state, State::Preparing { .. }) { 27 } else { 0 }
    }

    fn join(&mut self, now: Instant, from: From, request: JoinRequest) -> Answers {
        let id = request.member_id;
        if id.is_empty() && from.is_static {
            return self.join_static(now, from, request.subscription);
        }
        if id.is_empty() {
            let id = self.new_id();
            self.given.insert(id.clone());
            return vec![(from, Answer::Joined(Err(Failure::Code(79, Some(id)))))];
        }
        if self.is_fenced(from, &id) {
            return vec![(from, Answer::code(Kind::Join, FENCED))];
        }
        if !self.given.remove(&id) && !self.has(&id) {
            return vec![(from, Answer::code(Kind::Join, 25))];
        }
        let unchanged = self.members.get(&id).is_some_and(|known| known.subscription == request.subscription);
        let settled = matches!(self.state, State::Stable | State::Completing);
        let known = self.members.entry(id.clone()).or_insert_with(|| Known::new(None, now));
        known.session_until = now + SESSION;
        known.subscription = request.subscription;
        if unchanged && settled && (id != self.leader || self.state == State::Completing) {
            // It missed the answer: it is told again.
            return vec![(from, Answer::Joined(Ok(self.reply(&id))))];
        }
        known.joining = Some(from);
        self.rebalance(now)
    }

    /// Whether another process has taken the place of a static member's.
    fn is_fenced(&self, from: From, id: &str) -> bool {
        from.is_static && self.instances.get(&from.node).is_some_and(|current| current != id)
    }

    fn new_id(&mut self) -> String {
        self.ids += 1;
        format!("member-{:04}", self.ids)
    }

    /// A static member's new process takes the old one's place (KIP-345): in a settled group nobody else hears of it.
    fn join_static(&mut self, now: Instant, from: From, subscription: Subscription) -> Answers {
        let id = self.new_id();
        let old = self.instances.insert(from.node, id.clone()).filter(|old| self.has(old));
        let mut known = Known::new(Some(from.node), now);
        if let Some(old) = &old {
            self.replacements += 1;
            known.assigned = self.members.remove(old).map(|known| known.assigned).unwrap_or_default();
            if self.leader == *old {
                self.leader.clone_from(&id);
            }
        }
        known.subscription = subscription;
        let quiet = old.is_some() && self.state == State::Stable;
        known.joining = (!quiet).then_some(from);
        self.members.insert(id.clone(), known);
        if !quiet {
            return self.rebalance(now);
        }
        self.write();
        let reply = JoinReply { skip_assignment: self.leader == id, ..self.reply(&id) };
        vec![(from, Answer::Joined(Ok(reply)))]
    }

    fn rebalance(&mut self, now: Instant) -> Answers {
        let mut answers = self.prepare(now);
        answers.extend(self.complete_if_all_are_here(now));
        answers
    }

    /// A rebalance begins, if none is under way. Who was waiting for an assignment joins again.
    fn prepare(&mut self, now: Instant) -> Answers {
        if matches!(self.state, State::Preparing { .. }) {
            return Vec::new();
        }
        self.state = State::Preparing { until: now + REBALANCE };
        let waiting = self.members.values_mut().filter_map(|known| known.syncing.take());
        waiting.map(|from| (from, Answer::code(Kind::Sync, 27))).collect()
    }

    fn complete_if_all_are_here(&mut self, now: Instant) -> Answers {
        let all = self.members.values().all(|known| known.joining.is_some());
        match self.state {
            State::Preparing { .. } if all => self.complete(now),
            _ => Vec::new(),
        }
    }

    /// Who has not joined is out; the others are the new generation.
    fn complete(&mut self, now: Instant) -> Answers {
        let before = self.members.len();
        self.members.retain(|_, known| known.joining.is_some());
        self.evictions += (before - self.members.len()) as u64;
        self.forget_instances();
        self.generations += 1;
        self.generation += 1;
        if self.members.is_empty() {
            self.state = State::Empty;
            self.write();
            return Vec::new();
        }
        self.state = State::Completing;
        if !self.has(&self.leader) {
            self.leader = self.members.keys().next().cloned().unwrap_or_default();
        }
        let ids: Vec<String> = self.members.keys().cloned().collect();
        let mut answers = Vec::new();
        for id in ids {
            let reply = self.reply(&id);
            let Some(known) = self.members.get_mut(&id) else { continue };
            known.session_until = now + SESSION;
            answers.extend(known.joining.take().map(|from| (from, Answer::Joined(Ok(reply)))));
        }
        answers
    }

    fn reply(&self, id: &str) -> JoinReply {
        let member = |(id, known): (&String, &Known)| Member {
            member_id: id.clone(),
            instance_id: known.instance.map(|node| format!("instance-{node}")),
            subscription: match self.hides_claims {
                true => Subscription { topics: known.subscription.topics.clone(), ..Subscription::default() },
                false => known.subscription.clone(),
            },
        };
        let leads = id == self.leader;
        JoinReply {
            member_id: id.to_owned(),
            generation: self.generation,
            leader: self.leader.clone(),
            members: if leads { self.members.iter().map(member).collect() } else { Vec::new() },
            skip_assignment: false,
        }
    }

    fn sync(&mut self, now: Instant, from: From, mut request: SyncRequest) -> Answers {
        let code = self.judge(now, from, &request.member_id, request.generation);
        if code != 0 {
            return vec![(from, Answer::code(Kind::Sync, code))];
        }
        let leads = request.member_id == self.leader;
        if let Some(known) = self.members.get_mut(&request.member_id) {
            known.syncing = Some(from);
        }
        if self.state == State::Completing {
            if !leads {
                return Vec::new();
            }
            for (id, known) in &mut self.members {
                known.assigned = request.assignments.remove(id).unwrap_or_default();
            }
            self.state = State::Stable;
            self.write();
        }
        let waiting =
            self.members.values_mut().filter_map(|known| Some((known.syncing.take()?, known.assigned.clone())));
        waiting.map(|(from, assigned)| (from, Answer::Synced(Ok(assigned)))).collect()
    }

    fn write(&mut self) {
        self.written = (self.generation, self.leader.clone(), self.members.clone());
    }

    pub(super) fn leave(&mut self, now: Instant, id: &str) -> Answers {
        if self.away_until.is_some_and(|until| now < until) || !self.has(id) {
            return Vec::new();
        }
        self.evict(now, &[id.to_owned()])
    }

    fn evict(&mut self, now: Instant, ids: &[String]) -> Answers {
        for id in ids {
            self.members.remove(id);
        }
        self.forget_instances();
        self.rebalance(now)
    }

    fn forget_instances(&mut self) {
        self.instances.retain(|_, id| self.members.contains_key(id));
    }

    /// A member has closed the connection on which it waited.
    pub(super) fn hang_up(&mut self, from: From) {
        for known in self.members.values_mut() {
            known.joining = known.joining.filter(|waiting| *waiting != from);
            known.syncing = known.syncing.filter(|waiting| *waiting != from);
        }
    }

    /// Sessions end, and rebalances do.
    pub(super) fn tick(&mut self, now: Instant) -> Answers {
        if self.away_until.is_some_and(|until| now < until) {
            return Vec::new();
        }
        let silent = |known: &Known| known.session_until < now && known.joining.is_none();
        let gone: Vec<String> =
            self.members.iter().filter(|(_, known)| silent(known)).map(|(id, _)| id.clone()).collect();
        self.evictions += gone.len() as u64;
        let mut answers = if gone.is_empty() { Vec::new() } else { self.evict(now, &gone) };
        if let State::Preparing { until } = self.state
            && until <= now
        {
            answers.extend(self.complete(now));
        }
        answers
    }

    /// Another broker takes over: who waits is sent away, what was not written down is forgotten, and sessions begin anew.
    pub(super) fn move_away(&mut self, now: Instant, until: Instant) -> Answers {
        self.moves += 1;
        let mut answers = Vec::new();
        for known in self.members.values_mut() {
            answers.extend(known.joining.take().map(|from| (from, Answer::code(Kind::Join, 16))));
            answers.extend(known.syncing.take().map(|from| (from, Answer::code(Kind::Sync, 16))));
        }
        (self.generation, self.leader, self.members) = self.written.clone();
        self.given.clear();
        let known = self.members.iter().filter_map(|(id, known)| Some((known.instance?, id.clone())));
        self.instances = known.collect();
        for known in self.members.values_mut() {
            (known.joining, known.syncing) = (None, None);
            known.session_until = now.max(until) + SESSION;
        }
        self.state = if self.members.is_empty() { State::Empty } else { State::Stable };
        self.away_until = Some(until);
        answers
    }
}
