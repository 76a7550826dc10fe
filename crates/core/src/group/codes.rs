//! What a group error code asks a member to do. One table for all requests and states.

/// What to do about an error code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Find the coordinator anew and go on with the same identity.
    FindCoordinator,
    /// The coordinator is loading, or hiccups: the same again after a while.
    Retry,
    /// Join again; what is owned stays.
    Rejoin,
    /// Join again under the id the answer carries (KIP-394).
    TakeMemberId,
    /// The group went on without us: what was owned is lost, the id stays.
    LostGeneration,
    /// The group does not know us: what was owned is lost, and so is the id.
    LostMember,
    /// Nothing but a human helps.
    Fatal,
}

impl Verdict {
    /// Judges a Kafka error code other than 0, in an answer to any of the group's requests.
    pub fn of(code: i16) -> Self {
        match code {
            // COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR
            15 | 16 => Self::FindCoordinator,
            // UNKNOWN_SERVER_ERROR, REQUEST_TIMED_OUT, NETWORK_EXCEPTION, COORDINATOR_LOAD_IN_PROGRESS,
            // THROTTLING_QUOTA_EXCEEDED, UNRELEASED_INSTANCE_ID
            -1 | 7 | 13 | 14 | 89 | 111 => Self::Retry,
            // REBALANCE_IN_PROGRESS
            27 => Self::Rejoin,
            // MEMBER_ID_REQUIRED
            79 => Self::TakeMemberId,
            // ILLEGAL_GENERATION
            22 => Self::LostGeneration,
            // UNKNOWN_MEMBER_ID
            25 => Self::LostMember,
            // FENCED_INSTANCE_ID, GROUP_MAX_SIZE_REACHED, INCONSISTENT_GROUP_PROTOCOL, INVALID_GROUP_ID,
            // INVALID_SESSION_TIMEOUT, the authorization failures, UNSUPPORTED_VERSION, and what is not known.
            _ => Self::Fatal,
        }
    }
}
