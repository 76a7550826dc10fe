//! What members and the coordinator say to each other.

use std::{collections::BTreeSet, time::Duration};

use super::{REBALANCE, SESSION};
use crate::group::{Action, Failure, JoinReply, JoinRequest, Outcome, SyncRequest, TopicPartition};

/// Which request of which process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct From {
    pub(super) node: usize,
    pub(super) life: u64,
    pub(super) request: u64,
    /// Whether the member there is static; its instance is known by its node.
    pub(super) is_static: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Coordinator,
    Join,
    Sync,
    Heartbeat,
}

#[derive(Debug)]
pub(super) enum Request {
    Coordinator,
    Join(JoinRequest),
    Sync(SyncRequest),
    Heartbeat { member_id: String, generation: i32 },
}

impl Request {
    pub(super) fn of(action: Action) -> Option<Self> {
        match action {
            Action::FindCoordinator => Some(Self::Coordinator),
            Action::Join(join) => Some(Self::Join(join)),
            Action::Sync(sync) => Some(Self::Sync(sync)),
            Action::Heartbeat { member_id, generation } => Some(Self::Heartbeat { member_id, generation }),
            Action::LoadCounts(_) | Action::Leave { .. } | Action::Notify(_) => None,
        }
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Coordinator => Kind::Coordinator,
            Self::Join(_) => Kind::Join,
            Self::Sync(_) => Kind::Sync,
            Self::Heartbeat { .. } => Kind::Heartbeat,
        }
    }

    /// How long a member waits for the answer.
    pub(super) fn patience(&self) -> Duration {
        match self {
            Self::Join(_) | Self::Sync(_) => REBALANCE + Duration::from_secs(5),
            Self::Coordinator | Self::Heartbeat { .. } => SESSION / 2,
        }
    }
}

#[derive(Debug)]
pub(super) enum Answer {
    Coordinator(Outcome<()>),
    Joined(Outcome<JoinReply>),
    Synced(Outcome<BTreeSet<TopicPartition>>),
    Heartbeat(Outcome<()>),
}

impl Answer {
    pub(super) fn failed(kind: Kind, failure: Failure) -> Self {
        match kind {
            Kind::Coordinator => Self::Coordinator(Err(failure)),
            Kind::Join => Self::Joined(Err(failure)),
            Kind::Sync => Self::Synced(Err(failure)),
            Kind::Heartbeat => Self::Heartbeat(Err(failure)),
        }
    }

    pub(super) fn code(kind: Kind, code: i16) -> Self {
        Self::failed(kind, Failure::Code(code, None))
    }
}
