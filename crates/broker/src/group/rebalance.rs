//! The course of a rebalance, and what time alone does to a group.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::error::ResponseError;

use super::{
    answer::Answer,
    machine::{Group, State},
};

/// When nobody has come, the wait goes on in steps of at least this much, whatever the members say.
const LEAST_WAIT: Duration = Duration::from_secs(1);

impl Group {
    /// Does what is due. Called after every request too, since a join can complete a rebalance.
    pub(super) fn advance(&mut self, now: Instant) {
        self.expire_members(now);
        self.expire_syncs(now);
        let State::Preparing { until, grace } = self.state else { return };
        if grace.is_none() && self.all_joined() {
            return self.complete(now);
        }
        if now < until {
            return;
        }
        match grace {
            Some(left) if self.newcomer && !left.is_zero() => {
                let delay = self.limits.initial_delay.min(left);
                self.newcomer = false;
                self.state = State::Preparing { until: now + delay, grace: Some(left - delay) };
            }
            _ => self.complete(now),
        }
    }

    fn all_joined(&self) -> bool {
        self.promised.is_empty() && self.members.values().all(|m| m.joining.is_some())
    }

    fn expire_members(&mut self, now: Instant) {
        self.promised.retain(|_, until| *until > now);
        self.remove_all(now, |member| member.expires().is_some_and(|at| at <= now));
    }

    /// Members that joined a generation but never asked for their part of it.
    fn expire_syncs(&mut self, now: Instant) {
        if self.sync_until.is_some_and(|until| until <= now) {
            self.sync_until = None;
            self.remove_all(now, |member| !member.has_synced);
        }
    }

    fn remove_all(&mut self, now: Instant, which: impl Fn(&super::member::Member) -> bool) {
        let out: Vec<String> = self.members.iter().filter(|(_, m)| which(m)).map(|(id, _)| id.clone()).collect();
        for id in &out {
            self.remove(id);
        }
        if !out.is_empty() {
            self.after_removal(now);
        }
    }

    pub(super) fn after_removal(&mut self, now: Instant) {
        if matches!(self.state, State::Completing | State::Stable) {
            self.rebalance(now);
        }
    }

    /// How long a rebalance waits for members to join again.
    fn patience(&self) -> Duration {
        self.members.values().map(|m| m.about.rebalance).max().unwrap_or_default()
    }

    /// Begins a rebalance, unless one has begun.
    pub(super) fn rebalance(&mut self, now: Instant) {
        if let State::Preparing { .. } = self.state {
            return;
        }
        if self.state == State::Completing {
            self.call_off_sync(now);
        }
        self.sync_until = None;
        self.newcomer = false;
        let delay = self.limits.initial_delay;
        self.state = if self.state == State::Empty && !delay.is_zero() {
            State::Preparing { until: now + delay, grace: Some(self.patience().saturating_sub(delay)) }
        } else {
            State::Preparing { until: now + self.patience(), grace: None }
        };
    }

    fn call_off_sync(&mut self, now: Instant) {
        for member in self.members.values_mut() {
            member.assignment = Bytes::new();
            if let Some(token) = member.syncing.take() {
                // Its session may have run out while it waited, which was not its fault.
                member.touch(now);
                self.answers.push((token, Answer::Sync(Err(ResponseError::RebalanceInProgress))));
            }
        }
    }

    /// Ends the joining. Dynamic members that did not come are out; static ones stay until their session times out.
    fn complete(&mut self, now: Instant) {
        let absent = |m: &super::member::Member| m.joining.is_none() && m.about.instance.is_none();
        let out: Vec<String> = self.members.iter().filter(|(_, m)| absent(m)).map(|(id, _)| id.clone()).collect();
        for id in out {
            self.remove(&id);
        }
        if !self.members.is_empty() && !self.elect() {
            // Only absent static members are left: wait for one of them, or for the end of their sessions.
            self.state = State::Preparing { until: now + self.patience().max(LEAST_WAIT), grace: None };
            return;
        }
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.newcomer = false;
        self.protocol = self.choose_protocol();
        if self.members.is_empty() {
            self.state = State::Empty;
            self.leader = None;
            self.changed = true;
            return;
        }
        self.state = State::Completing;
        self.sync_until = Some(now + self.patience());
        self.announce(now);
    }

    /// Sees to it that a member that is here leads; whether there is one.
    fn elect(&mut self) -> bool {
        let is_here = |id: &String| self.members.get(id).is_some_and(|m| m.joining.is_some());
        if !self.leader.as_ref().is_some_and(is_here) {
            let Some(id) = self.members.keys().find(|id| is_here(id)).cloned() else { return false };
            self.leader = Some(id);
        }
        true
    }

    fn announce(&mut self, now: Instant) {
        let mut waiting = Vec::new();
        for (id, member) in &mut self.members {
            member.touch(now);
            member.is_new = false;
            member.has_synced = false;
            waiting.extend(member.joining.take().map(|token| (token, id.clone())));
        }
        for (token, id) in waiting {
            let joined = self.joined(&id);
            self.answers.push((token, Answer::Join(Ok(joined))));
        }
    }
}
