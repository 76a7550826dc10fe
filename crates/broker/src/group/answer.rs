//! What the state machine answers, apart from the wire.

use bytes::Bytes;
use kafka_protocol::error::ResponseError;

/// A request that waits for its answer.
pub(super) type Token = u64;

/// An answer to a request that may have waited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Join(Result<Joined, Refusal>),
    Sync(Result<Synced, ResponseError>),
}

/// Refused to join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) error: ResponseError,
    /// The id the member sent, or with `MEMBER_ID_REQUIRED` the id it gets.
    pub(super) member_id: String,
}

/// Joined a generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Joined {
    pub(super) member_id: String,
    pub(super) generation: i32,
    pub(super) protocol_type: Option<String>,
    pub(super) protocol: Option<String>,
    pub(super) leader: String,
    pub(super) skip_assignment: bool,
    /// All members; for the leader only.
    pub(super) members: Vec<JoinedMember>,
}

/// A member as the leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JoinedMember {
    pub(super) id: String,
    pub(super) instance: Option<String>,
    pub(super) metadata: Bytes,
}

/// An assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Synced {
    pub(super) protocol_type: Option<String>,
    pub(super) protocol: Option<String>,
    pub(super) assignment: Bytes,
}
