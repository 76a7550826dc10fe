//! How a tool can fail, and how a conversation with tools can.

use std::fmt;
use std::time::Duration;

use anabranch_llm::journal::JournalError;
use anabranch_llm::{ErrorClass, ModelError};

/// What a tool's failure asks of the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolClass {
    /// The model is told, and goes on: no such record, a date in the past.
    Told,
    /// May work later: the task is tried again.
    Retryable {
        /// The least time to wait, where the other side said so.
        after: Option<Duration>,
    },
    /// This task can never work.
    Terminal,
    /// No task can work until somebody changes the configuration.
    Fatal,
}

/// Why a tool failed. `?` makes a *retryable* one of any error; one of the model or the journal keeps its own class.
///
/// Like an agent's error it is not itself a `std::error::Error`, so that `?` can take every error type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolError {
    class: ToolClass,
    message: String,
}

impl ToolError {
    fn of(class: ToolClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into() }
    }

    /// The model is told these words, and goes on.
    pub fn told(message: impl Into<String>) -> Self {
        Self::of(ToolClass::Told, message)
    }

    /// May work later: the task is tried again.
    pub fn retryable(message: impl Into<String>) -> Self {
        Self::of(ToolClass::Retryable { after: None }, message)
    }

    /// May work later, but not before `after`.
    pub fn retry_after(message: impl Into<String>, after: Duration) -> Self {
        Self::of(ToolClass::Retryable { after: Some(after) }, message)
    }

    /// This task can never work.
    pub fn terminal(message: impl Into<String>) -> Self {
        Self::of(ToolClass::Terminal, message)
    }

    /// No task can work until somebody changes the configuration.
    pub fn fatal(message: impl Into<String>) -> Self {
        Self::of(ToolClass::Fatal, message)
    }

    /// The class.
    pub fn class(&self) -> ToolClass {
        self.class
    }
}

impl fmt::Display for ToolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for ToolError {
    fn from(error: E) -> Self {
        let known = &error as &dyn std::error::Error;
        let class = known.downcast_ref::<ModelError>().map(ModelError::class);
        let class = class.or_else(|| known.downcast_ref::<JournalError>().map(JournalError::class));
        let class = match class {
            Some(ErrorClass::Terminal) => ToolClass::Terminal,
            Some(ErrorClass::Fatal) => ToolClass::Fatal,
            Some(ErrorClass::Retryable { after }) => ToolClass::Retryable { after },
            None => ToolClass::Retryable { after: None },
        };
        Self::of(class, error.to_string())
    }
}

/// Why a conversation with tools ended without an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum RunError {
    /// The model failed.
    Model(ModelError),
    /// A tool failed in a way that ends the attempt.
    Tool {
        /// Its full name.
        tool: String,
        /// Why.
        error: ToolError,
    },
    /// A limit was reached. Terminal: another attempt would reach it too.
    Limit(String),
    /// The model called tools wrongly again and again. Terminal.
    Misuse(String),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Model(error) => error.fmt(f),
            Self::Tool { tool, error } => write!(f, "the tool `{tool}`: {error}"),
            Self::Limit(words) | Self::Misuse(words) => f.write_str(words),
        }
    }
}

impl std::error::Error for RunError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Model(error) => error.source(),
            _ => None,
        }
    }
}
