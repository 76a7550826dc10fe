//! A classic group without I/O: its members, and what each of their requests does. Behaves as Apache Kafka's
//! coordinator does, with KIP-345 (static members), KIP-394 (member ids first) and KIP-814 (skipped assignments).
//!
//! `now` is an argument of every call. Requests that have to wait are known by a [`Token`]; answers collect in
//! [`Group::take_answers`]. Joins are in `joining`, the course of a rebalance in `rebalance`.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use serde::{Deserialize, Serialize};

use super::{
    answer::{Answer, Joined, JoinedMember, Refusal, Synced, Token},
    member::{Member, MemberRecord},
};

/// What the broker's settings say about every group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// How long the first rebalance of an empty group waits for more members.
    pub(super) initial_delay: Duration,
    /// Members and promised members, at most.
    pub(super) members: usize,
}

/// Where a group is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Empty,
    /// Members are to join again. `grace` is what may still be added to an initial delay; `None` otherwise.
    Preparing {
        until: Instant,
        grace: Option<Duration>,
    },
    /// A generation has begun, and its leader is to say who gets what.
    Completing,
    Stable,
}

/// A group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) limits: Limits,
    pub(super) state: State,
    pub(super) generation: i32,
    pub(super) protocol_type: Option<String>,
    pub(super) protocol: Option<String>,
    pub(super) leader: Option<String>,
    pub(super) members: BTreeMap<String, Member>,
    /// Member ids given out under KIP-394, and until when they hold.
    pub(super) promised: BTreeMap<String, Instant>,
    /// Members that did not ask for their assignment by then are out.
    pub(super) sync_until: Option<Instant>,
    /// A member came during the initial delay.
    pub(super) newcomer: bool,
    pub(super) answers: Vec<(Token, Answer)>,
    pub(super) changed: bool,
}

/// A group as it is journaled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GroupRecord {
    generation: i32,
    protocol_type: Option<String>,
    protocol: Option<String>,
    leader: Option<String>,
    members: Vec<MemberRecord>,
}

/// Who says it speaks: member id, instance, generation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) member_id: String,
    pub(super) instance: Option<String>,
    /// Negative for one who is no member.
    pub(super) generation: i32,
}

/// A request for the assignment.
#[derive(Debug, Clone, Default)]
pub(super) struct Syncing {
    pub(super) claim: Claim,
    pub(super) protocol_type: Option<String>,
    pub(super) protocol: Option<String>,
    /// From the leader: who gets what.
    pub(super) assignments: BTreeMap<String, Bytes>,
}

impl Group {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: State::Empty,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            promised: BTreeMap::new(),
            sync_until: None,
            newcomer: false,
            answers: Vec::new(),
            changed: false,
        }
    }

    /// A group as it was when it was last stable or empty; the members' session times begin anew.
    pub(super) fn restore(limits: Limits, record: GroupRecord, now: Instant) -> Self {
        let members: BTreeMap<_, _> = record.members.into_iter().map(|m| Member::restore(m, now)).collect();
        Self {
            state: if members.is_empty() { State::Empty } else { State::Stable },
            generation: record.generation,
            protocol_type: record.protocol_type,
            protocol: record.protocol,
            leader: record.leader,
            members,
            ..Self::new(limits)
        }
    }

    pub(super) fn record(&self) -> GroupRecord {
        GroupRecord {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            members: self.members.iter().map(|(id, member)| member.record(id)).collect(),
        }
    }

    /// Answers since the last call.
    pub(super) fn take_answers(&mut self) -> Vec<(Token, Answer)> {
        std::mem::take(&mut self.answers)
    }

    /// Whether what a restart should find has changed since the last call.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    pub(super) fn state_name(&self) -> &'static str {
        match self.state {
            State::Empty => "Empty",
            State::Preparing { .. } => "PreparingRebalance",
            State::Completing => "CompletingRebalance",
            State::Stable => "Stable",
        }
    }

    /// When [`Group::advance`] has something to do without a request.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let rebalance = match self.state {
            State::Preparing { until, .. } => Some(until),
            _ => None,
        };
        let members = self.members.values().filter_map(Member::expires);
        members.chain(self.promised.values().copied()).chain(rebalance).chain(self.sync_until).min()
    }

    /// The member that holds an instance id.
    pub(super) fn holder(&self, instance: &str) -> Option<&str> {
        let mut members = self.members.iter();
        members.find(|(_, m)| m.about.instance.as_deref() == Some(instance)).map(|(id, _)| id.as_str())
    }

    /// Whether the caller is the member it says it is.
    pub(super) fn identify(&self, member_id: &str, instance: Option<&str>) -> Result<(), ResponseError> {
        match instance.map(|instance| self.holder(instance)) {
            Some(Some(holder)) if holder != member_id => Err(ResponseError::FencedInstanceId),
            Some(None) => Err(ResponseError::UnknownMemberId),
            _ if !self.members.contains_key(member_id) => Err(ResponseError::UnknownMemberId),
            _ => Ok(()),
        }
    }

    fn identify_in_generation(&self, claim: &Claim) -> Result<(), ResponseError> {
        self.identify(&claim.member_id, claim.instance.as_deref())?;
        if claim.generation == self.generation { Ok(()) } else { Err(ResponseError::IllegalGeneration) }
    }

    /// A sign of life. The answer `REBALANCE_IN_PROGRESS` asks the member to join again.
    pub(super) fn heartbeat(&mut self, now: Instant, claim: &Claim) -> Result<(), ResponseError> {
        self.identify_in_generation(claim)?;
        self.touch(now, &claim.member_id);
        match self.state {
            State::Preparing { .. } => Err(ResponseError::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    /// Asks for the assignment; waits for the leader, if need be.
    pub(super) fn sync(&mut self, now: Instant, token: Token, syncing: Syncing) {
        if let Err(error) = self.may_sync(&syncing) {
            self.answers.push((token, Answer::Sync(Err(error))));
            return;
        }
        let id = syncing.claim.member_id;
        let Some(member) = self.members.get_mut(&id) else { return };
        member.has_synced = true;
        member.touch(now);
        let earlier = member.syncing.replace(token);
        self.answer_sync(earlier, Err(ResponseError::RebalanceInProgress));
        if self.state == State::Stable {
            self.hand_out(now);
        } else if self.leader.as_deref() == Some(&id) {
            for (id, member) in &mut self.members {
                member.assignment = syncing.assignments.get(id).cloned().unwrap_or_default();
            }
            self.state = State::Stable;
            self.changed = true;
            self.hand_out(now);
        }
        if self.members.values().all(|m| m.has_synced) {
            self.sync_until = None;
        }
    }

    fn may_sync(&self, syncing: &Syncing) -> Result<(), ResponseError> {
        self.identify_in_generation(&syncing.claim)?;
        let differs = |said: &Option<String>, is: &Option<String>| said.is_some() && said != is;
        if differs(&syncing.protocol_type, &self.protocol_type) || differs(&syncing.protocol, &self.protocol) {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        match self.state {
            State::Empty => Err(ResponseError::UnknownMemberId),
            State::Preparing { .. } => Err(ResponseError::RebalanceInProgress),
            State::Completing | State::Stable => Ok(()),
        }
    }

    /// Answers everybody who waits for an assignment.
    fn hand_out(&mut self, now: Instant) {
        for member in self.members.values_mut() {
            let Some(token) = member.syncing.take() else { continue };
            member.touch(now);
            let synced = Synced {
                protocol_type: self.protocol_type.clone(),
                protocol: self.protocol.clone(),
                assignment: member.assignment.clone(),
            };
            self.answers.push((token, Answer::Sync(Ok(synced))));
        }
    }

    /// A member leaves, or an operator removes a static one by its instance id alone.
    pub(super) fn leave(&mut self, now: Instant, member_id: &str, instance: Option<&str>) -> Result<(), ResponseError> {
        if self.promised.remove(member_id).is_some() {
            self.advance(now);
            return Ok(());
        }
        let id = match (member_id, instance) {
            ("", Some(instance)) => self.holder(instance).ok_or(ResponseError::UnknownMemberId)?.to_owned(),
            _ => {
                self.identify(member_id, instance)?;
                member_id.to_owned()
            }
        };
        self.remove(&id);
        self.after_removal(now);
        self.advance(now);
        Ok(())
    }

    /// Whether offsets may be committed under this claim; a commit is a sign of life.
    pub(super) fn may_commit(&mut self, now: Instant, claim: &Claim, transactional: bool) -> Result<(), ResponseError> {
        let is_empty = self.state == State::Empty;
        let claims_nothing = claim.generation < 0 && claim.member_id.is_empty() && claim.instance.is_none();
        if claim.generation < 0 && is_empty {
            return Ok(());
        }
        if !claims_nothing {
            self.identify_in_generation(claim)?;
        } else if !transactional {
            return Err(ResponseError::UnknownMemberId);
        }
        if !transactional && self.state == State::Completing {
            return Err(ResponseError::RebalanceInProgress);
        }
        self.touch(now, &claim.member_id);
        Ok(())
    }

    fn touch(&mut self, now: Instant, member_id: &str) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.touch(now);
        }
    }

    /// Takes a member out, and answers what it waits for.
    pub(super) fn remove(&mut self, id: &str) {
        let Some(member) = self.members.remove(id) else { return };
        self.refuse(member.joining, ResponseError::UnknownMemberId, "");
        self.answer_sync(member.syncing, Err(ResponseError::UnknownMemberId));
        if self.leader.as_deref() == Some(id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    pub(super) fn refuse(&mut self, token: Option<Token>, error: ResponseError, member_id: &str) {
        if let Some(token) = token {
            let refusal = Refusal { error, member_id: member_id.to_owned() };
            self.answers.push((token, Answer::Join(Err(refusal))));
        }
    }

    pub(super) fn answer_sync(&mut self, token: Option<Token>, answer: Result<Synced, ResponseError>) {
        if let Some(token) = token {
            self.answers.push((token, Answer::Sync(answer)));
        }
    }

    /// The current generation, as `member_id` is told of it.
    pub(super) fn joined(&self, member_id: &str) -> Joined {
        let leader = self.leader.clone().unwrap_or_default();
        let members = if leader == member_id { self.roll() } else { Vec::new() };
        Joined {
            member_id: member_id.to_owned(),
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader,
            skip_assignment: false,
            members,
        }
    }

    fn roll(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let member = |(id, m): (&String, &Member)| JoinedMember {
            id: id.clone(),
            instance: m.about.instance.clone(),
            metadata: m.metadata(protocol),
        };
        self.members.iter().map(member).collect()
    }
}
