//! The life of one member.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Action, Config, Failure, JoinReply, JoinRequest, Member, Notice, Outcome, Subscription, SyncRequest,
    TopicPartition, Verdict, assign,
};

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// To join, or joining.
    Join,
    /// Leader: waiting for the numbers of partitions.
    Decide(Vec<Member>),
    /// To sync, or syncing.
    Sync(BTreeMap<String, BTreeSet<TopicPartition>>),
    Stable,
    Over,
}

#[derive(Debug)]
struct Drain {
    partitions: BTreeSet<TopicPartition>,
    deadline: Instant,
}

/// The state machine of one member.
#[derive(Debug)]
pub struct Membership {
    config: Config,
    phase: Phase,
    under_way: bool,
    coordinator_known: bool,
    /// The topics whose numbers of partitions are being asked for.
    counting: Option<BTreeSet<Arc<str>>>,
    member_id: String,
    generation: i32,
    leading: bool,
    assigned: BTreeSet<TopicPartition>,
    /// Owned partitions, and the epoch in which each came.
    owned: BTreeMap<TopicPartition, u64>,
    drains: BTreeMap<u64, Drain>,
    next_drain: u64,
    epoch: u64,
    announce: bool,
    rejoin: bool,
    known_counts: Option<BTreeMap<Arc<str>, i32>>,
    /// The topics the leader decided about.
    watched: BTreeSet<Arc<str>>,
    counts_at: Instant,
    heartbeat_at: Instant,
    retry_at: Instant,
    failures: u32,
    jitter: u64,
}

impl Membership {
    /// A member that has not joined yet; [`poll`](Self::poll) starts it.
    pub fn new(now: Instant, config: Config) -> Self {
        Self {
            jitter: config.seed | 1,
            phase: Phase::Join,
            under_way: false,
            coordinator_known: false,
            counting: None,
            member_id: String::new(),
            generation: -1,
            leading: false,
            assigned: BTreeSet::new(),
            owned: BTreeMap::new(),
            drains: BTreeMap::new(),
            next_drain: 1,
            epoch: 0,
            announce: true,
            rejoin: false,
            known_counts: None,
            watched: config.topics.clone(),
            config,
            counts_at: now,
            heartbeat_at: now,
            retry_at: now,
            failures: 0,
        }
    }

    /// Our id and generation, while we are a member.
    pub fn identity(&self) -> Option<(&str, i32)> {
        let member = self.generation >= 0 && !self.member_id.is_empty() && self.phase != Phase::Over;
        member.then_some((self.member_id.as_str(), self.generation))
    }

    /// Whether the coordinator takes commits under our generation now: in a settled group, and while others are
    /// waited for, but not between the answers to JoinGroup and SyncGroup.
    pub fn can_commit(&self) -> bool {
        self.identity().is_some() && matches!(self.phase, Phase::Stable | Phase::Join)
    }

    /// What may be committed for: owned partitions with the epoch in which each came, draining ones included.
    pub fn committable(&self) -> &BTreeMap<TopicPartition, u64> {
        &self.owned
    }

    /// Whether it is over: left, or fatal.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// When [`poll`](Self::poll) has something to do without anything else happening.
    pub fn next_wake(&self) -> Option<Instant> {
        let drain = self.drains.values().map(|d| d.deadline).min();
        let request = match self.phase {
            Phase::Over => return None,
            _ if self.under_way => None,
            _ if !self.coordinator_known => Some(self.retry_at),
            Phase::Stable if !self.rejoin => Some(self.heartbeat_at.max(self.retry_at)),
            Phase::Decide(_) => None,
            _ => Some(self.retry_at),
        };
        let counts = self.wants_counts().then_some(self.counts_at);
        [drain, request, counts].into_iter().flatten().min()
    }

    fn wants_counts(&self) -> bool {
        let deciding = matches!(self.phase, Phase::Decide(_));
        self.counting.is_none() && (deciding || (self.leading && self.phase == Phase::Stable))
    }

    /// Does what time asks for.
    pub fn poll(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        self.proceed(now, &mut actions);
        actions
    }

    /// Answers [`Action::FindCoordinator`].
    pub fn coordinator(&mut self, now: Instant, outcome: Outcome<()>) -> Vec<Action> {
        // Failures are still counted: a broker that names a coordinator which then refuses must not be asked in a loop.
        self.answered(now, outcome, |this, now, (), _| {
            this.coordinator_known = true;
            this.heartbeat_at = now;
        })
    }

    /// Answers [`Action::Join`].
    pub fn joined(&mut self, now: Instant, outcome: Outcome<JoinReply>) -> Vec<Action> {
        self.answered(now, outcome, |this, now, reply, _| this.on_joined(now, reply))
    }

    /// Answers [`Action::LoadCounts`] with the topics that exist; an error means: not known now.
    pub fn counts(&mut self, now: Instant, outcome: Outcome<BTreeMap<Arc<str>, i32>>) -> Vec<Action> {
        let mut actions = Vec::new();
        // An answer to a question asked before the group's topics changed says too little: it is asked anew.
        let current = self.counting.take().is_some_and(|asked| asked == self.watched);
        if self.phase == Phase::Over {
            return actions;
        }
        match (outcome, &self.phase) {
            (Ok(_), _) if !current => {}
            (Ok(counts), Phase::Decide(members)) => {
                let decided = assign(members, &counts);
                self.known_counts = Some(counts);
                self.counts_at = now + self.config.counts_interval;
                self.phase = Phase::Sync(decided);
            }
            (Ok(counts), Phase::Stable) => {
                self.counts_at = now + self.config.counts_interval;
                let before = self.known_counts.replace(counts);
                self.rejoin |= before.is_some_and(|before| Some(&before) != self.known_counts.as_ref());
            }
            (Ok(_), _) => {}
            (Err(failure), _) => {
                self.counts_at = now + self.next_wait();
                actions.push(Action::Notify(Notice::Retrying(failure)));
            }
        }
        self.proceed(now, &mut actions);
        actions
    }

    /// Answers [`Action::Sync`] with our assignment.
    pub fn synced(&mut self, now: Instant, outcome: Outcome<BTreeSet<TopicPartition>>) -> Vec<Action> {
        self.answered(now, outcome, Self::on_synced)
    }

    /// Answers [`Action::Heartbeat`].
    pub fn heartbeat(&mut self, now: Instant, outcome: Outcome<()>) -> Vec<Action> {
        self.answered(now, outcome, |this, _, (), _| this.failures = 0)
    }

    /// Says that the partitions of a draining are drained. An unknown or repeated one is ignored.
    pub fn drained(&mut self, now: Instant, drain: u64) -> Vec<Action> {
        let mut actions = Vec::new();
        if let Some(drain) = self.drains.remove(&drain) {
            self.release(drain.partitions, &mut actions);
        }
        self.proceed(now, &mut actions);
        actions
    }

    /// Ends the membership. A static member only stops, unless it goes `for_good`.
    pub fn leave(&mut self, for_good: bool) -> Vec<Action> {
        let stays = self.config.instance_id.is_some() && !for_good;
        let known = !self.member_id.is_empty() && self.phase != Phase::Over;
        let member_id = std::mem::take(&mut self.member_id);
        self.end();
        if known && !stays { vec![Action::Leave { member_id }] } else { Vec::new() }
    }

    fn end(&mut self) {
        self.phase = Phase::Over;
        self.generation = -1;
        self.owned.clear();
        self.drains.clear();
    }

    /// What all answers have in common.
    fn answered<T>(
        &mut self,
        now: Instant,
        outcome: Outcome<T>,
        good: impl FnOnce(&mut Self, Instant, T, &mut Vec<Action>),
    ) -> Vec<Action> {
        let mut actions = Vec::new();
        self.under_way = false;
        if self.phase == Phase::Over {
            return actions;
        }
        match outcome {
            Ok(value) => {
                self.retry_at = now;
                good(self, now, value, &mut actions);
            }
            Err(failure) => self.on_failure(now, failure, &mut actions),
        }
        self.proceed(now, &mut actions);
        actions
    }

    fn on_joined(&mut self, now: Instant, reply: JoinReply) {
        self.failures = 0;
        self.leading = reply.leader == reply.member_id;
        self.member_id = reply.member_id;
        self.generation = reply.generation;
        if self.leading && !reply.members.is_empty() {
            // The leader decides for all members, whose topics may differ during an upgrade.
            self.watched = reply.members.iter().flat_map(|m| &m.subscription.topics).cloned().collect();
        }
        self.phase = match (self.leading, reply.skip_assignment) {
            (true, false) => {
                self.counts_at = now;
                Phase::Decide(reply.members)
            }
            _ => Phase::Sync(BTreeMap::new()),
        };
    }

    fn on_synced(&mut self, now: Instant, assigned: BTreeSet<TopicPartition>, actions: &mut Vec<Action>) {
        self.failures = 0;
        self.phase = Phase::Stable;
        self.heartbeat_at = now + self.config.heartbeat_interval;
        let draining: BTreeSet<_> = self.drains.values().flat_map(|d| &d.partitions).cloned().collect();
        let gone: BTreeSet<_> =
            self.owned.keys().filter(|tp| !assigned.contains(*tp) && !draining.contains(*tp)).cloned().collect();
        let new: BTreeSet<_> = assigned.iter().filter(|tp| !self.owned.contains_key(*tp)).cloned().collect();
        self.assigned = assigned;
        if !gone.is_empty() {
            let drain = self.next_drain;
            self.next_drain += 1;
            let deadline = now + self.config.rebalance_timeout;
            self.drains.insert(drain, Drain { partitions: gone.clone(), deadline });
            actions.push(Action::Notify(Notice::Revoked { drain, partitions: gone }));
        }
        if !new.is_empty() || self.announce {
            self.come(new, actions);
        }
    }

    fn come(&mut self, partitions: BTreeSet<TopicPartition>, actions: &mut Vec<Action>) {
        self.announce = false;
        self.epoch += 1;
        self.owned.extend(partitions.iter().map(|tp| (tp.clone(), self.epoch)));
        actions.push(Action::Notify(Notice::Assigned { epoch: self.epoch, partitions }));
    }

    /// Drained partitions: those given back to us meanwhile come anew, the others are free for the next owner.
    fn release(&mut self, partitions: BTreeSet<TopicPartition>, actions: &mut Vec<Action>) {
        for tp in &partitions {
            self.owned.remove(tp);
        }
        let (back, free): (BTreeSet<_>, BTreeSet<_>) =
            partitions.into_iter().partition(|tp| self.phase == Phase::Stable && self.assigned.contains(tp));
        self.rejoin |= !free.is_empty();
        if !back.is_empty() {
            self.come(back, actions);
        }
    }

    fn lose(&mut self, actions: &mut Vec<Action>) {
        let partitions: BTreeSet<_> = std::mem::take(&mut self.owned).into_keys().collect();
        self.drains.clear();
        self.assigned.clear();
        self.announce = true;
        if !partitions.is_empty() {
            actions.push(Action::Notify(Notice::Lost { partitions }));
        }
    }

    fn on_failure(&mut self, now: Instant, failure: Failure, actions: &mut Vec<Action>) {
        let verdict = match &failure {
            Failure::Code(code, _) => Verdict::of(*code),
            Failure::Transport(_) => Verdict::FindCoordinator,
        };
        match verdict {
            Verdict::TakeMemberId => {
                let first = self.member_id.is_empty();
                if let Failure::Code(_, Some(id)) = &failure {
                    self.member_id.clone_from(id);
                }
                if first && !self.member_id.is_empty() {
                    return;
                }
            }
            Verdict::Rejoin => {
                // The usual course of a rebalance, told by a heartbeat: nothing failed, and nobody should wait.
                let usual = self.phase == Phase::Stable;
                self.phase = Phase::Join;
                if usual {
                    return;
                }
            }
            Verdict::FindCoordinator => {
                self.coordinator_known = false;
                if self.phase != Phase::Stable {
                    self.phase = Phase::Join;
                }
            }
            Verdict::Retry => {
                // An answer to SyncGroup that never came belongs to a generation that may be over.
                if matches!(self.phase, Phase::Sync(_)) {
                    self.phase = Phase::Join;
                }
            }
            Verdict::LostGeneration | Verdict::LostMember => {
                self.lose(actions);
                self.generation = -1;
                self.phase = Phase::Join;
                if verdict == Verdict::LostMember {
                    self.member_id.clear();
                }
            }
            Verdict::Fatal => {
                self.lose(actions);
                self.end();
                actions.push(Action::Notify(Notice::Fatal(failure)));
                return;
            }
        }
        self.retry_at = now + self.next_wait();
        let fenced = matches!(verdict, Verdict::LostGeneration | Verdict::LostMember | Verdict::Rejoin);
        if !fenced {
            actions.push(Action::Notify(Notice::Retrying(failure)));
        }
    }

    /// Starts whatever can be started now.
    fn proceed(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.phase == Phase::Over {
            return;
        }
        self.end_overdue_drains(now, actions);
        if self.wants_counts() && now >= self.counts_at {
            self.counting = Some(self.watched.clone());
            actions.push(Action::LoadCounts(self.watched.clone()));
        }
        if self.under_way || now < self.retry_at {
            return;
        }
        if !self.coordinator_known {
            self.under_way = true;
            actions.push(Action::FindCoordinator);
            return;
        }
        if self.phase == Phase::Stable && self.rejoin {
            self.phase = Phase::Join;
        }
        let request = match &self.phase {
            Phase::Join => self.join(),
            Phase::Sync(assignments) => Action::Sync(SyncRequest {
                member_id: self.member_id.clone(),
                generation: self.generation,
                assignments: assignments.clone(),
            }),
            Phase::Stable if now >= self.heartbeat_at => {
                self.heartbeat_at = now + self.config.heartbeat_interval;
                Action::Heartbeat { member_id: self.member_id.clone(), generation: self.generation }
            }
            Phase::Stable | Phase::Decide(_) | Phase::Over => return,
        };
        self.under_way = true;
        actions.push(request);
    }

    fn join(&mut self) -> Action {
        self.rejoin = false;
        let subscription = Subscription {
            topics: self.config.topics.clone(),
            owned: self.owned.keys().cloned().collect(),
            generation: self.generation,
        };
        Action::Join(JoinRequest { member_id: self.member_id.clone(), subscription })
    }

    fn end_overdue_drains(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let overdue: Vec<u64> = self.drains.iter().filter(|(_, d)| d.deadline <= now).map(|(id, _)| *id).collect();
        for id in overdue {
            let Some(drain) = self.drains.remove(&id) else { continue };
            actions.push(Action::Notify(Notice::Lost { partitions: drain.partitions.clone() }));
            self.release(drain.partitions, actions);
        }
    }

    /// Exponential, with jitter between a half and the whole.
    fn next_wait(&mut self) -> Duration {
        let step = self.config.initial_backoff * 2_u32.saturating_pow(self.failures.min(20));
        self.failures = self.failures.saturating_add(1);
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 7;
        self.jitter ^= self.jitter << 17;
        let part = 500 + u32::try_from(self.jitter % 501).unwrap_or(0);
        step.min(self.config.max_backoff) * part / 1000
    }
}
