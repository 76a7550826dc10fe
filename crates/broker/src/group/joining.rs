//! How a request to join is taken.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::Bytes;
use kafka_protocol::error::ResponseError;

use super::{
    answer::{Answer, Token},
    machine::{Group, State},
    member::{About, Joining, Member},
};

/// A new member knows no id to send heartbeats with, and a closed connection is not noticed while its join waits. If
/// it is still there after this long, it is expected to try again.
const NEW_MEMBER_PATIENCE: Duration = Duration::from_secs(300);

impl Group {
    /// Takes a request to join. It is answered at once, or when the rebalance is complete.
    pub(super) fn join(&mut self, now: Instant, token: Token, joining: Joining) {
        let known = self.members.contains_key(&joining.member_id) || self.promised.contains_key(&joining.member_id);
        if !known && self.members.len() + self.promised.len() >= self.limits.members {
            self.refuse(Some(token), ResponseError::GroupMaxSizeReached, &joining.member_id);
        } else if !self.suits(&joining) {
            self.refuse(Some(token), ResponseError::InconsistentGroupProtocol, &joining.member_id);
        } else if joining.member_id.is_empty() {
            self.join_without_id(now, token, joining);
        } else {
            self.join_with_id(now, token, joining);
        }
        self.advance(now);
    }

    /// Whether there is a protocol that this member and all others can follow.
    fn suits(&self, joining: &Joining) -> bool {
        if joining.protocol_type.is_empty() || joining.protocols.is_empty() {
            return false;
        }
        if self.members.is_empty() {
            return true;
        }
        self.protocol_type.as_ref() == Some(&joining.protocol_type)
            && joining.protocols.iter().any(|p| self.members.values().all(|m| m.supports(&p.name)))
    }

    fn join_without_id(&mut self, now: Instant, token: Token, joining: Joining) {
        let holder = joining.about.instance.as_deref().and_then(|i| self.holder(i)).map(str::to_owned);
        if let Some(holder) = holder {
            self.replace(now, token, &holder, joining);
        } else if joining.about.instance.is_none() && joining.must_know_id {
            self.promised.insert(joining.fresh_id.clone(), now + joining.about.session);
            self.refuse(Some(token), ResponseError::MemberIdRequired, &joining.fresh_id);
        } else {
            let id = joining.fresh_id.clone();
            self.add(now, token, id, joining);
        }
    }

    fn join_with_id(&mut self, now: Instant, token: Token, joining: Joining) {
        if joining.about.instance.is_none() && self.promised.contains_key(&joining.member_id) {
            let id = joining.member_id.clone();
            return self.add(now, token, id, joining);
        }
        if let Err(error) = self.identify(&joining.member_id, joining.about.instance.as_deref()) {
            return self.refuse(Some(token), error, &joining.member_id);
        }
        let leads = self.leader.as_ref() == Some(&joining.member_id);
        let same = self.members.get(&joining.member_id).is_some_and(|m| m.protocols == joining.protocols);
        match self.state {
            // It did not get the first answer, or (Stable) it need not have asked: nothing changes.
            State::Completing if same => self.tell(now, token, &joining.member_id),
            State::Stable if same && !leads => self.tell(now, token, &joining.member_id),
            // A leader may join again only to have the group rebalance.
            State::Preparing { .. } | State::Completing | State::Stable => {
                let id = joining.member_id.clone();
                self.renew(token, &id, joining);
                self.rebalance(now);
            }
            State::Empty => self.refuse(Some(token), ResponseError::UnknownMemberId, &joining.member_id),
        }
    }

    fn tell(&mut self, now: Instant, token: Token, id: &str) {
        if let Some(member) = self.members.get_mut(id) {
            member.touch(now);
        }
        let joined = self.joined(id);
        self.answers.push((token, Answer::Join(Ok(joined))));
    }

    fn add(&mut self, now: Instant, token: Token, id: String, joining: Joining) {
        if self.members.is_empty() {
            self.protocol_type = Some(joining.protocol_type);
        }
        self.promised.remove(&id);
        self.leader.get_or_insert_with(|| id.clone());
        self.newcomer |= matches!(self.state, State::Preparing { grace: Some(_), .. });
        let member = Member {
            about: joining.about,
            protocols: joining.protocols,
            assignment: Bytes::new(),
            is_new: true,
            has_synced: false,
            joining: Some(token),
            syncing: None,
            deadline: now + NEW_MEMBER_PATIENCE,
        };
        self.members.insert(id, member);
        self.rebalance(now);
    }

    /// Takes over what a member says when it joins again, and lets the request wait.
    fn renew(&mut self, token: Token, id: &str, joining: Joining) {
        let Some(member) = self.members.get_mut(id) else { return };
        member.protocols = joining.protocols;
        let instance = member.about.instance.take();
        member.about = About { instance, ..joining.about };
        let earlier = member.joining.replace(token);
        // Only one of its requests can be waited for, and the older is from a connection it gave up.
        self.refuse(earlier, ResponseError::RebalanceInProgress, id);
    }

    /// A static member has restarted: it gets a new id, the old one is fenced, and if nothing else changed, the group
    /// goes on as it was.
    fn replace(&mut self, now: Instant, token: Token, old: &str, joining: Joining) {
        let (id, can_skip) = (joining.fresh_id.clone(), joining.can_skip);
        let Some(mut member) = self.members.remove(old) else { return };
        self.refuse(member.joining.take(), ResponseError::FencedInstanceId, old);
        self.answer_sync(member.syncing.take(), Err(ResponseError::FencedInstanceId));
        if member.is_new {
            member.deadline = now + NEW_MEMBER_PATIENCE;
        } else {
            member.touch(now);
        }
        self.members.insert(id.clone(), member);
        let led = self.leader.as_deref() == Some(old);
        if led {
            self.leader = Some(id.clone());
        }
        self.renew(token, &id, joining);
        if self.state != State::Stable || self.protocol != self.choose_protocol() {
            return self.rebalance(now);
        }
        if let Some(member) = self.members.get_mut(&id) {
            member.joining = None;
        }
        let mut joined = self.joined(&id);
        if led && can_skip {
            joined.skip_assignment = true;
        } else if led {
            // It would compute an assignment that nobody awaits, if it were told that it leads.
            joined.leader = old.to_owned();
            joined.members.clear();
        }
        self.changed = true;
        self.answers.push((token, Answer::Join(Ok(joined))));
    }

    /// The protocol all members support that most of them like best.
    pub(super) fn choose_protocol(&self) -> Option<String> {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let common = |p: &&super::member::Protocol| self.members.values().all(|m| m.supports(&p.name));
            if let Some(favourite) = member.protocols.iter().find(common) {
                *votes.entry(&favourite.name).or_default() += 1;
            }
        }
        votes.into_iter().max_by_key(|(_, votes)| *votes).map(|(name, _)| name.to_owned())
    }
}
