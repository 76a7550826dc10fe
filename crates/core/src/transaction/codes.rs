//! What an error code asks a transactional producer to do. One table for all requests.

/// The request that was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// InitProducerId.
    Init,
    /// AddPartitionsToTxn, AddOffsetsToTxn.
    Add,
    /// Produce.
    Produce,
    /// TxnOffsetCommit.
    Offsets,
    /// EndTxn.
    End,
}

/// What to do about an error code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The same again, after a while.
    Again,
    /// Find the coordinator anew, then the same again.
    FindCoordinator,
    /// The topic or partition is not known (yet): the same again, but not for long.
    Missing,
    /// The batch is in the log already: a success.
    Duplicate,
    /// This transaction can only be aborted.
    Abort,
    /// This transaction can only be aborted, and the producer needs a new epoch.
    Reinitialise,
    /// The group went on without us: abort; nothing may be committed for what was held.
    Stale,
    /// Another producer has taken our place.
    Fenced,
    /// Only a human can help.
    Fatal,
}

impl Verdict {
    /// Judges a Kafka error code other than 0.
    pub fn of(asked: Asked, code: i16) -> Self {
        match code {
            // UNKNOWN_SERVER_ERROR, REQUEST_TIMED_OUT, NETWORK_EXCEPTION, COORDINATOR_LOAD_IN_PROGRESS,
            // REBALANCE_IN_PROGRESS, CONCURRENT_TRANSACTIONS, THROTTLING_QUOTA_EXCEEDED
            -1 | 7 | 13 | 14 | 27 | 51 | 89 => Self::Again,
            // COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR
            15 | 16 => Self::FindCoordinator,
            // UNKNOWN_TOPIC_OR_PARTITION
            3 => Self::Missing,
            // INVALID_PRODUCER_EPOCH, PRODUCER_FENCED
            47 | 90 => Self::Fenced,
            // TRANSACTIONAL_ID_AUTHORIZATION_FAILED, CLUSTER_AUTHORIZATION_FAILED, UNSUPPORTED_VERSION,
            // INVALID_TRANSACTION_TIMEOUT, SECURITY_DISABLED, SASL_AUTHENTICATION_FAILED
            53 | 31 | 35 | 50 | 54 | 58 => Self::Fatal,
            _ => Self::of_kind(asked, code),
        }
    }

    fn of_kind(asked: Asked, code: i16) -> Self {
        match (asked, code) {
            // LEADER_NOT_AVAILABLE, NOT_LEADER_OR_FOLLOWER, REPLICA_NOT_AVAILABLE, NOT_ENOUGH_REPLICAS,
            // NOT_ENOUGH_REPLICAS_AFTER_APPEND, KAFKA_STORAGE_ERROR, FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH
            (Asked::Produce, 5 | 6 | 9 | 19 | 20 | 56 | 74 | 76) => Self::Again,
            // DUPLICATE_SEQUENCE_NUMBER
            (Asked::Produce, 46) => Self::Duplicate,
            // INVALID_PRODUCER_ID_MAPPING: the id belongs to another producer now
            (Asked::Init, 49) => Self::Fenced,
            (Asked::Init, _) => Self::Fatal,
            // OUT_OF_ORDER_SEQUENCE_NUMBER, DUPLICATE_SEQUENCE_NUMBER, INVALID_TXN_STATE, INVALID_PRODUCER_ID_MAPPING,
            // UNKNOWN_PRODUCER_ID
            (_, 45 | 46 | 48 | 49 | 59) => Self::Reinitialise,
            // TRANSACTION_ABORTABLE
            (_, 120) => Self::Abort,
            (Asked::End, _) => Self::Fatal,
            // ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID, FENCED_MEMBER_EPOCH, STALE_MEMBER_EPOCH
            (Asked::Offsets, 22 | 25 | 82 | 110 | 113) => Self::Stale,
            // Too large, invalid, no rights: what was to be written will not be.
            _ => Self::Abort,
        }
    }

    /// Whether an end of a transaction that is answered with this code may have been decided nevertheless, now or by an
    /// earlier try: UNKNOWN_SERVER_ERROR, REQUEST_TIMED_OUT, NETWORK_EXCEPTION; COORDINATOR_NOT_AVAILABLE and NOT_COORDINATOR,
    /// with which a coordinator also answers when it could not replicate its decision; CONCURRENT_TRANSACTIONS.
    pub(super) fn leaves_end_open(code: i16) -> bool {
        matches!(code, -1 | 7 | 13 | 15 | 16 | 51)
    }
}
