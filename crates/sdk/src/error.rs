//! Errors have three classes, and the class decides what becomes of the message.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use anabranch_llm::{ErrorClass as ModelErrorClass, JournalError, ModelError};

/// What becomes of a message whose handler failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// May work later: backoff, bounded attempts, then a dead letter. The default for `?`.
    Retryable {
        /// The least time to wait, where the other side said so (`Retry-After`).
        after: Option<Duration>,
    },
    /// This message can never work: a dead letter now.
    Terminal,
    /// This agent is broken (401, unknown model): nothing is advanced, the process exits non-zero.
    Fatal,
}

/// Why a handler failed. `?` makes a *retryable* one of any error; an error of the model port or of
/// the journal keeps its own class.
///
/// Like `anyhow::Error` it is not itself a `std::error::Error`, so that `?` can take every error type.
pub struct AgentError {
    class: Class,
    message: String,
    /// What led to it, the root last.
    causes: Vec<String>,
    breaker_open: bool,
}

impl AgentError {
    fn of(class: Class, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), causes: Vec::new(), breaker_open: false }
    }

    /// May work later.
    pub fn retryable(message: impl Into<String>) -> Self {
        Self::of(Class::Retryable { after: None }, message)
    }

    /// May work later, but not before `after`.
    pub fn retry_after(message: impl Into<String>, after: Duration) -> Self {
        Self::of(Class::Retryable { after: Some(after) }, message)
    }

    /// This message can never work.
    pub fn terminal(message: impl Into<String>) -> Self {
        Self::of(Class::Terminal, message)
    }

    /// This agent is broken.
    pub fn fatal(message: impl Into<String>) -> Self {
        Self::of(Class::Fatal, message)
    }

    /// Adds what led to it, with all that led to that.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let source = source.into();
        self.causes = chain(Some(&*source));
        self
    }

    /// Adds words in front, keeping the class.
    #[must_use]
    pub fn context(mut self, words: impl fmt::Display) -> Self {
        self.message = format!("{words}: {}", self.message);
        self
    }

    /// The class.
    pub fn class(&self) -> Class {
        self.class
    }

    /// The message, then what led to it one by one, the root last. Never empty.
    pub fn causes(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.message.as_str()).chain(self.causes.iter().map(String::as_str))
    }

    /// Whether the model is not asked for a while, so that this was no attempt at the message and uses none up. The
    /// class is then retryable, and says how long to wait.
    pub fn is_breaker_open(&self) -> bool {
        self.breaker_open
    }
}

/// An error and all that led to it, in words.
fn chain(first: Option<&(dyn StdError + 'static)>) -> Vec<String> {
    let (mut causes, mut next) = (Vec::new(), first);
    while let Some(error) = next {
        causes.push(error.to_string());
        next = error.source();
    }
    causes
}

/// The message and every cause, on one line.
impl fmt::Display for AgentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.causes.iter().try_for_each(|cause| write!(f, ": {cause}"))
    }
}

impl fmt::Debug for AgentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.class)
    }
}

impl<E: StdError + Send + Sync + 'static> From<E> for AgentError {
    fn from(error: E) -> Self {
        let any = &error as &dyn StdError;
        let model = any.downcast_ref::<ModelError>();
        let breaker_open = model.is_some_and(ModelError::is_breaker_open);
        let of_model = model.map(ModelError::class);
        let class = match of_model.or_else(|| any.downcast_ref::<JournalError>().map(JournalError::class)) {
            Some(ModelErrorClass::Retryable { after }) => Class::Retryable { after },
            Some(ModelErrorClass::Terminal) => Class::Terminal,
            Some(ModelErrorClass::Fatal) => Class::Fatal,
            None => Class::Retryable { after: None },
        };
        Self { class, message: error.to_string(), causes: chain(error.source()), breaker_open }
    }
}

/// A configuration that an agent cannot work with; the process does not start.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl ConfigError {
    /// Say which field is wrong and what to write instead.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn question_mark_makes_a_retryable_error() {
        fn parse() -> Result<u8, AgentError> {
            Ok("x".parse::<u8>()?)
        }
        assert_eq!(parse().unwrap_err().class(), Class::Retryable { after: None });
    }

    #[test]
    fn a_breaker_that_is_open_is_no_attempt() {
        let open = ModelError::BreakerOpen {
            cause: anabranch_llm::OpenCause::Failures,
            after: Duration::from_secs(7),
            message: "down".into(),
        };
        let error = AgentError::from(open).context("identity");
        assert!(error.is_breaker_open());
        assert_eq!(error.class(), Class::Retryable { after: Some(Duration::from_secs(7)) });
        assert!(!AgentError::retryable("other").is_breaker_open());
    }

    #[test]
    fn all_causes_are_printed() {
        let inner = std::io::Error::other("disk full");
        let error = AgentError::terminal("could not save").with_source(inner).context("fraud");
        assert_eq!(error.to_string(), "fraud: could not save: disk full");
        assert_eq!(error.causes().collect::<Vec<_>>(), ["fraud: could not save", "disk full"]);
    }

    #[test]
    fn question_mark_keeps_the_chain() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot look it up")]
        struct Outer(#[source] std::io::Error);
        let error = AgentError::from(Outer(std::io::Error::other("connection reset")));
        assert_eq!(error.causes().collect::<Vec<_>>(), ["cannot look it up", "connection reset"]);
        assert_eq!(error.to_string(), "cannot look it up: connection reset");
    }
}
