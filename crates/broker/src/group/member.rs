//! One member of a group, and what it asks when it joins.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::answer::Token;
use crate::journal::base64_bytes;

/// A protocol (an assignor, for consumers) that a member can follow, with what it says to the leader under it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Protocol {
    pub(super) name: String,
    #[serde(with = "base64_bytes")]
    pub(super) metadata: Bytes,
}

/// A request to join.
#[derive(Debug, Clone)]
pub(super) struct Joining {
    /// Empty for a member that has no id yet.
    pub(super) member_id: String,
    /// The id it will get then.
    pub(super) fresh_id: String,
    pub(super) about: About,
    pub(super) protocol_type: String,
    pub(super) protocols: Vec<Protocol>,
    /// A dynamic member must come back with the id it is given before it counts (KIP-394, from version 4).
    pub(super) must_know_id: bool,
    /// The leader can be told to leave the assignment as it is (KIP-814, from version 9).
    pub(super) can_skip: bool,
}

/// What does not change with a generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct About {
    /// `group.instance.id` of a static member.
    pub(super) instance: Option<String>,
    pub(super) client_id: String,
    pub(super) client_host: String,
    /// Without a sign of life for this long it is out.
    pub(super) session: Duration,
    /// How long a rebalance waits for it.
    pub(super) rebalance: Duration,
}

/// A member.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) about: About,
    pub(super) protocols: Vec<Protocol>,
    pub(super) assignment: Bytes,
    /// In its first join: it knows no id to send heartbeats with.
    pub(super) is_new: bool,
    /// Whether it has asked for its assignment in this generation.
    pub(super) has_synced: bool,
    pub(super) joining: Option<Token>,
    pub(super) syncing: Option<Token>,
    pub(super) deadline: Instant,
}

/// A member as it is journaled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MemberRecord {
    pub(super) id: String,
    pub(super) about: About,
    pub(super) protocols: Vec<Protocol>,
    #[serde(with = "base64_bytes")]
    pub(super) assignment: Bytes,
}

impl Member {
    pub(super) fn restore(record: MemberRecord, now: Instant) -> (String, Self) {
        let deadline = now + record.about.session;
        let member = Self {
            about: record.about,
            protocols: record.protocols,
            assignment: record.assignment,
            is_new: false,
            has_synced: true,
            joining: None,
            syncing: None,
            deadline,
        };
        (record.id, member)
    }

    pub(super) fn record(&self, id: &str) -> MemberRecord {
        MemberRecord {
            id: id.to_owned(),
            about: self.about.clone(),
            protocols: self.protocols.clone(),
            assignment: self.assignment.clone(),
        }
    }

    /// When its silence ends its membership; never while the group itself makes it wait for an answer.
    pub(super) fn expires(&self) -> Option<Instant> {
        let waits = self.joining.is_some() || self.syncing.is_some();
        (self.is_new || !waits).then_some(self.deadline)
    }

    /// A sign of life.
    pub(super) fn touch(&mut self, now: Instant) {
        self.deadline = now + self.about.session;
    }

    pub(super) fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols.iter().find(|p| p.name == protocol).map(|p| p.metadata.clone()).unwrap_or_default()
    }

    pub(super) fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|p| p.name == protocol)
    }
}
