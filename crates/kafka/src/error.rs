//! What can go wrong between this process and a broker, and what a caller may do about it.
//!
//! Two questions are kept apart: *may I try again?* ([`Error::is_retryable`]) and *might it have happened
//! already?* ([`Error::may_have_happened`]). An error names the request, the broker and the topic it came from.

use std::{fmt, time::Duration};

use kafka_protocol::error::ResponseError;

/// A failed call to a broker.
#[derive(Debug, Clone, thiserror::Error)]
pub struct Error {
    kind: ErrorKind,
    context: Box<Context>,
}

/// Where an error came from.
#[derive(Debug, Clone, Default)]
struct Context {
    request: &'static str,
    broker: Option<String>,
    topic: Option<String>,
    partition: Option<i32>,
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No connection to the broker could be made.
    Connect(String),
    /// TLS or SASL cannot come about: an untrusted certificate, a missing one, a mechanism that failed. A person must
    /// change a setting.
    Security(String),
    /// The connection broke. `sent`: the request may have reached the broker.
    Disconnected {
        /// The transport's own message.
        reason: String,
        /// Whether the request may have reached the broker.
        sent: bool,
    },
    /// No answer within the deadline. `sent`: the request may have reached the broker.
    Timeout {
        /// How long the call waited.
        after: Duration,
        /// Whether the request may have reached the broker.
        sent: bool,
    },
    /// The broker answered with an error code of the Kafka protocol.
    Broker {
        /// The numeric code, as in the protocol guide.
        code: i16,
        /// The broker's own words, where it sent any.
        message: Option<String>,
    },
    /// What the broker sent could not be read.
    Malformed(String),
    /// A record batch was corrupt or could not be decompressed.
    CorruptBatch {
        /// The batch's base offset, as far as it could be read.
        offset: i64,
        /// What was wrong with it.
        reason: String,
    },
    /// Broker and client share no version of a request.
    UnsupportedVersion {
        /// What the client speaks.
        ours: (i16, i16),
        /// What the broker offers; `None`: it does not know the request at all.
        theirs: Option<(i16, i16)>,
    },
    /// A record is larger than the producer's limit or the broker's.
    RecordTooLarge {
        /// Bytes of the record.
        bytes: usize,
        /// The producer's limit in bytes; `None`: the broker refused it.
        limit_bytes: Option<usize>,
    },
    /// The assignment under which something was to be done is gone.
    Stale(String),
    /// A request could not be built from what the caller asked.
    Invalid(String),
    /// Nobody knows yet, or any more, whether a transaction was committed. Nothing else is written until it is settled.
    OutcomeUnknown {
        /// What was last seen.
        reason: String,
        /// Whether the producer is over as well: another has taken its place.
        fenced: bool,
    },
    /// A transaction was aborted for this reason.
    Aborted(String),
    /// The producer, consumer or cluster was closed.
    Closed,
    /// Something in rskafka that has no code of its own.
    Client {
        /// rskafka's message.
        message: String,
        /// Whether it may be tried again.
        retryable: bool,
    },
}

impl Error {
    pub(crate) fn new(request: &'static str, kind: ErrorKind) -> Self {
        let context = Context { request, ..Context::default() };
        Self { kind, context: Box::new(context) }
    }

    pub(crate) fn broker_code(request: &'static str, code: i16, message: Option<String>) -> Self {
        Self::new(request, ErrorKind::Broker { code, message })
    }

    pub(crate) fn malformed(request: &'static str, what: impl fmt::Display) -> Self {
        Self::new(request, ErrorKind::Malformed(what.to_string()))
    }

    pub(crate) fn stale(request: &'static str, why: impl Into<String>) -> Self {
        Self::new(request, ErrorKind::Stale(why.into()))
    }

    pub(crate) fn invalid(request: &'static str, why: impl Into<String>) -> Self {
        Self::new(request, ErrorKind::Invalid(why.into()))
    }

    pub(crate) fn closed(request: &'static str) -> Self {
        Self::new(request, ErrorKind::Closed)
    }

    pub(crate) fn at_broker(mut self, broker: impl fmt::Display) -> Self {
        self.context.broker = Some(broker.to_string());
        self
    }

    pub(crate) fn on_topic(mut self, topic: impl Into<String>) -> Self {
        self.context.topic = Some(topic.into());
        self
    }

    pub(crate) fn on_partition(mut self, topic: impl Into<String>, partition: i32) -> Self {
        self.context.topic = Some(topic.into());
        self.context.partition = Some(partition);
        self
    }

    /// Why the call failed.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// The Kafka error code, if the broker sent one.
    pub fn code(&self) -> Option<i16> {
        match self.kind {
            ErrorKind::Broker { code, .. } => Some(code),
            _ => None,
        }
    }

    pub(crate) fn response_error(&self) -> Option<ResponseError> {
        self.code().and_then(ResponseError::try_from_code)
    }

    /// Whether the same call may succeed later without anything being changed. An unknown topic is not: somebody has to
    /// create it. Calls that may meet a broker which has not heard of it yet wait a while before they say so.
    pub fn is_retryable(&self) -> bool {
        match &self.kind {
            ErrorKind::Connect(_)
            | ErrorKind::Disconnected { .. }
            | ErrorKind::Timeout { .. }
            | ErrorKind::Aborted(_) => true,
            ErrorKind::Broker { code, .. } => code_is_retryable(*code),
            ErrorKind::Client { retryable, .. } => *retryable,
            _ => false,
        }
    }

    /// Whether the broker asked may soon say something else. Beyond what is retryable: it may not have heard yet of a topic
    /// that is there.
    pub(crate) fn is_transient(&self) -> bool {
        self.is_retryable() || self.is_unknown_topic()
    }

    /// Whether what was asked may have been done although no good answer came: the request may have been
    /// sent, and nothing says that it was refused.
    pub fn may_have_happened(&self) -> bool {
        match &self.kind {
            ErrorKind::Disconnected { sent, .. } | ErrorKind::Timeout { sent, .. } => *sent,
            ErrorKind::Broker { code, .. } => matches!(
                ResponseError::try_from_code(*code),
                Some(
                    ResponseError::RequestTimedOut
                        | ResponseError::NotEnoughReplicasAfterAppend
                        | ResponseError::UnknownServerError
                        | ResponseError::NetworkException
                )
            ),
            ErrorKind::Malformed(_) | ErrorKind::Client { .. } | ErrorKind::OutcomeUnknown { .. } => true,
            _ => false,
        }
    }

    /// Whether the group assignment is gone: nothing may be committed for it any more, and trying again is no use.
    pub fn is_stale(&self) -> bool {
        match &self.kind {
            ErrorKind::Stale(_) => true,
            ErrorKind::Broker { .. } => matches!(
                self.response_error(),
                Some(
                    ResponseError::IllegalGeneration
                        | ResponseError::UnknownMemberId
                        | ResponseError::FencedInstanceId
                        | ResponseError::StaleMemberEpoch
                        | ResponseError::FencedMemberEpoch
                )
            ),
            _ => false,
        }
    }

    /// Whether a transactional producer is over: another has taken its place, or its transaction ran out of time. It must
    /// step down; what it wrote and did not commit is aborted.
    pub fn is_fenced(&self) -> bool {
        match &self.kind {
            ErrorKind::OutcomeUnknown { fenced, .. } => *fenced,
            ErrorKind::Broker { .. } => matches!(
                self.response_error(),
                Some(ResponseError::ProducerFenced | ResponseError::InvalidProducerEpoch)
            ),
            _ => false,
        }
    }

    /// Whether no retry and no rebalance can help: a human must change a setting, a right or a version.
    pub fn is_fatal(&self) -> bool {
        match &self.kind {
            ErrorKind::UnsupportedVersion { .. } | ErrorKind::Security(_) => true,
            ErrorKind::Broker { .. } => matches!(
                self.response_error(),
                Some(
                    ResponseError::TopicAuthorizationFailed
                        | ResponseError::GroupAuthorizationFailed
                        | ResponseError::ClusterAuthorizationFailed
                        | ResponseError::TransactionalIdAuthorizationFailed
                        | ResponseError::SaslAuthenticationFailed
                        | ResponseError::UnsupportedSaslMechanism
                        | ResponseError::IllegalSaslState
                        | ResponseError::SecurityDisabled
                        | ResponseError::InconsistentGroupProtocol
                        | ResponseError::InvalidGroupId
                        | ResponseError::InvalidSessionTimeout
                        | ResponseError::InvalidTransactionTimeout
                        | ResponseError::FencedInstanceId
                        | ResponseError::UnsupportedVersion
                        | ResponseError::InvalidTopicException
                        | ResponseError::PolicyViolation
                )
            ),
            _ => false,
        }
    }

    /// Whether the topic or partition does not exist (or is not known to the broker yet).
    pub fn is_unknown_topic(&self) -> bool {
        self.response_error() == Some(ResponseError::UnknownTopicOrPartition)
    }

    /// Whether a commit's metadata is longer than the broker takes (`offset.metadata.max.bytes`).
    pub fn is_metadata_too_large(&self) -> bool {
        self.response_error() == Some(ResponseError::OffsetMetadataTooLarge)
    }

    /// Whether another process has taken over the `group.instance.id`.
    pub fn is_fenced_instance(&self) -> bool {
        self.response_error() == Some(ResponseError::FencedInstanceId)
    }

    /// Whether a right is missing.
    pub fn is_unauthorized(&self) -> bool {
        matches!(
            self.response_error(),
            Some(
                ResponseError::TopicAuthorizationFailed
                    | ResponseError::GroupAuthorizationFailed
                    | ResponseError::ClusterAuthorizationFailed
                    | ResponseError::TransactionalIdAuthorizationFailed
            )
        )
    }

    /// Whether the account may not use its transactional id.
    pub fn is_transactional_id_denied(&self) -> bool {
        self.response_error() == Some(ResponseError::TransactionalIdAuthorizationFailed)
    }

    /// Whether the transaction timeout is longer than the broker allows (`transaction.max.timeout.ms`).
    pub fn is_transaction_timeout_refused(&self) -> bool {
        self.response_error() == Some(ResponseError::InvalidTransactionTimeout)
    }

    /// Whether the broker says that what was to be created exists.
    pub fn is_already_exists(&self) -> bool {
        self.response_error() == Some(ResponseError::TopicAlreadyExists)
    }
}

/// Codes after which the same request may be sent again. Beyond Kafka's own table: a coordinator that is
/// still loading, and replicas that are short for a moment.
pub(crate) fn code_is_retryable(code: i16) -> bool {
    let error = ResponseError::try_from_code(code);
    error.is_some_and(|e| e.is_retriable() && e != ResponseError::UnknownTopicOrPartition)
        || matches!(
            error,
            Some(
                ResponseError::NotEnoughReplicas
                    | ResponseError::NotEnoughReplicasAfterAppend
                    | ResponseError::RequestTimedOut
                    | ResponseError::CoordinatorLoadInProgress
                    | ResponseError::ConcurrentTransactions
                    | ResponseError::CoordinatorNotAvailable
                    | ResponseError::NotCoordinator
                    | ResponseError::UnstableOffsetCommit
                    | ResponseError::KafkaStorageError
                    | ResponseError::NotController
                    | ResponseError::FencedLeaderEpoch
                    | ResponseError::UnknownLeaderEpoch
                    | ResponseError::RebalanceInProgress
            )
        )
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.context.request)?;
        match (&self.context.topic, self.context.partition) {
            (Some(topic), Some(partition)) => write!(f, " for {topic}-{partition}")?,
            (Some(topic), None) => write!(f, " for {topic}")?,
            _ => {}
        }
        if let Some(broker) = &self.context.broker {
            write!(f, " at {broker}")?;
        }
        write!(f, ": {}", self.kind)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(reason) => write!(f, "no connection: {reason}"),
            Self::Security(reason) => write!(f, "{reason}"),
            Self::Disconnected { reason, .. } => write!(f, "connection lost: {reason}"),
            Self::Timeout { after, .. } => write!(f, "no answer within {} ms", after.as_millis()),
            Self::Broker { code, message } => {
                match ResponseError::try_from_code(*code) {
                    Some(ResponseError::Unknown(code)) => write!(f, "error code {code}")?,
                    Some(name) => write!(f, "{name:?} (code {code})")?,
                    None => write!(f, "code 0")?,
                }
                message.as_ref().map_or(Ok(()), |m| write!(f, ": {m}"))
            }
            Self::Malformed(what) => write!(f, "unreadable answer: {what}"),
            Self::CorruptBatch { offset, reason } => write!(f, "record batch at offset {offset} is corrupt: {reason}"),
            Self::UnsupportedVersion { ours, theirs: Some(theirs) } => {
                write!(f, "no common version: client speaks {}-{}, broker {}-{}", ours.0, ours.1, theirs.0, theirs.1)
            }
            Self::UnsupportedVersion { theirs: None, .. } => write!(f, "the broker does not know this request"),
            Self::RecordTooLarge { bytes, limit_bytes: Some(limit) } => {
                write!(f, "record of {bytes} bytes is larger than the limit of {limit} bytes")
            }
            Self::RecordTooLarge { bytes, limit_bytes: None } => {
                write!(f, "the broker refuses a record of {bytes} bytes as too large")
            }
            Self::Stale(why) => write!(f, "the assignment is gone: {why}"),
            Self::Invalid(why) => write!(f, "{why}"),
            Self::OutcomeUnknown { reason, .. } => {
                write!(f, "whether the transaction is committed is unknown: {reason}")
            }
            Self::Aborted(reason) => write!(f, "the transaction is aborted: {reason}"),
            Self::Closed => write!(f, "closed"),
            Self::Client { message, .. } => write!(f, "{message}"),
        }
    }
}
