//! Why a benchmark did not begin, or did not end.

use std::io;

/// Why a benchmark did not begin, or did not end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// What was asked for cannot be; it says what to write instead.
    #[error("{0}")]
    Usage(String),
    /// The broker.
    #[error("{what}: {source}")]
    Kafka {
        /// What was tried.
        what: String,
        /// What came of it.
        source: anabranch_kafka::Error,
    },
    /// rskafka, which the raw floor is measured with.
    #[error("the raw floor: {0}")]
    Floor(String),
    /// A file or a process.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// A process did not do what it is there for.
    #[error("{0}")]
    Process(String),
    /// The mock model does not tell what it was asked.
    #[error("the mock model does not answer: {0}")]
    Mock(#[from] reqwest::Error),
    /// A plot could not be drawn.
    #[error("cannot draw {file}: {reason}")]
    Plot {
        /// The file.
        file: String,
        /// Why.
        reason: String,
    },
}

impl BenchError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what: what.into(), source }
    }

    pub(crate) fn kafka(what: impl Into<String>) -> impl FnOnce(anabranch_kafka::Error) -> Self {
        move |source| Self::Kafka { what: what.into(), source }
    }
}
