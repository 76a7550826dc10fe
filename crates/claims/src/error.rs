//! Why content could not be put or had.

use std::time::Duration;

use anabranch_protocol::claim::Sha256;

/// Why content could not be put or had.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// There is no such content in the store.
    #[error("the claim store has no content with the SHA-256 {sha256}")]
    NotFound {
        /// Its name.
        sha256: Sha256,
    },
    /// There is content, and it is not what the claim says.
    #[error("what the claim store has as {sha256} is not what the claim says: other bytes or another length")]
    Mismatch {
        /// Its name.
        sha256: Sha256,
    },
    /// It is larger than `claims.most`.
    #[error("a claim of {bytes} bytes is larger than the {most} bytes that claims.most allows")]
    TooLarge {
        /// How large it is.
        bytes: u64,
        /// How large it may be.
        most: u64,
    },
    /// The content is not what is asked for: not text, not JSON, not JSON of the right shape.
    #[error("the content of a claim cannot be read as what is asked for: {0}")]
    Content(String),
    /// The topology names no claim store.
    #[error("a claim cannot be fetched: the topology has no claim store; name one as claims.store in topics.yaml")]
    NoStore,
    /// The store did not answer in time.
    #[error("the claim store did not answer within {} ms", .after.as_millis())]
    Slow {
        /// How long was waited.
        after: Duration,
    },
    /// The store cannot be reached, refuses, or is out of order.
    #[error("the claim store cannot be used now: {0}")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The store cannot be used as it is configured.
    #[error("the claim store cannot be used: {0}")]
    Config(String),
}

/// Whether trying again helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It may.
    Retryable,
    /// It will not.
    Terminal,
}

impl ClaimError {
    /// Whether trying again helps. A store that refuses is retryable: rights are the operator's to mend, and S3 refuses
    /// also what is not there to whoever may not list the bucket.
    pub fn class(&self) -> Class {
        match self {
            Self::Slow { .. } | Self::Unavailable(_) => Class::Retryable,
            Self::NotFound { .. }
            | Self::Mismatch { .. }
            | Self::TooLarge { .. }
            | Self::Content(_)
            | Self::NoStore
            | Self::Config(_) => Class::Terminal,
        }
    }
}
