//! How asking a model can fail, and what each failure asks of the caller.
//!
//! The class decides what becomes of the message (retry topic, dead letter, stop of the agent), so every variant has
//! exactly one, and nothing below this module retries: the runtime is the one owner of retries.

use std::time::Duration;

/// What a failure asks of the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// May work later.
    Retryable {
        /// The least time to wait, where the endpoint said so.
        after: Option<Duration>,
    },
    /// This request can never work; another may.
    Terminal,
    /// No request can work until somebody changes the configuration.
    Fatal,
}

/// Why a model is not asked for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OpenCause {
    /// It failed too often.
    Failures,
    /// The day's budget is spent, or what is left of it is reserved for calls under way.
    Budget,
    /// The rate limit is used up for longer than a call may wait.
    Limit,
    /// What earlier calls cost cannot be written down.
    Ledger,
}

impl std::fmt::Display for OpenCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Failures => "it failed too often",
            Self::Budget => "the budget is used up",
            Self::Limit => "the rate limit is used up",
            Self::Ledger => "the ledger takes no entry",
        })
    }
}

/// How asking a model failed.
///
/// Texts come from the endpoint: they are cut to a bounded length, and the API key is blanked out of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// 429: too many requests or tokens. Retryable.
    #[error("the model's endpoint limits the rate: {message}")]
    RateLimited {
        /// `Retry-After` or `retry-after-ms`, as a delay from now.
        after: Option<Duration>,
        /// What the endpoint said.
        message: String,
    },
    /// 5xx, 408, 409, 425: the endpoint is in trouble. Retryable.
    #[error("the model's endpoint answered {status}: {message}")]
    Unavailable {
        /// HTTP status.
        status: u16,
        /// `Retry-After`, as a delay from now.
        after: Option<Duration>,
        /// What the endpoint said.
        message: String,
    },
    /// Nothing, or not everything, came within [`ChatRequest::timeout`](crate::ChatRequest::timeout). Retryable.
    #[error("the model did not answer within {limit:?}")]
    Timeout {
        /// The limit that passed.
        limit: Duration,
    },
    /// Refused, unreachable, unresolved, reset before an answer. Retryable.
    #[error("no connection to the model's endpoint: {message}")]
    Connection {
        /// What happened.
        message: String,
        /// Whether the request may have arrived. If not, nothing was counted, and asking again costs nothing.
        sent: bool,
    },
    /// The model is not asked for a while, or the call was the one that showed that it should not be. Retryable, and
    /// **not an attempt**: it says nothing about the message.
    #[error("the model is not asked before {after:?} have passed, because {cause}: {message}")]
    BreakerOpen {
        /// Why.
        cause: OpenCause,
        /// When it is worth trying again, as a delay from now.
        after: Duration,
        /// What led to it.
        message: String,
    },
    /// The case may spend no more. Nothing was asked. Terminal.
    #[error("the call is over the case's budget: {message}")]
    OverBudget {
        /// What is spent, what the call might cost, and the limit.
        message: String,
    },
    /// The answer broke off: a cut stream or a truncated body. Retryable.
    #[error("the model's answer broke off: {message}")]
    Cut {
        /// What happened.
        message: String,
    },
    /// A 200 whose body is no chat completion: a proxy's page, half an object. Retryable.
    #[error("the model's endpoint answered something that is no chat completion: {message}: {preview}")]
    Malformed {
        /// What is wrong with it.
        message: String,
        /// The start of the body.
        preview: String,
    },
    /// The conversation does not fit the model's context window. Terminal.
    #[error("the conversation is too long for the model: {message}")]
    ContextTooLong {
        /// What the endpoint said.
        message: String,
    },
    /// The endpoint's content filter stopped the question or the answer. Terminal.
    #[error("the endpoint's content filter stopped the call: {message}")]
    ContentFilter {
        /// What the endpoint said.
        message: String,
        /// What the answer cost; zero where the question was stopped.
        usage: crate::Usage,
    },
    /// The model refused to answer. Terminal.
    #[error("the model refused: {message}")]
    Refusal {
        /// The model's own words.
        message: String,
        /// What the refusal cost.
        usage: crate::Usage,
    },
    /// The answer is not what was asked for: no JSON, not valid for the schema, an unknown tool. Terminal.
    #[error("the model's answer is not valid: {reason}; it begins: {preview}")]
    InvalidOutput {
        /// What is wrong with it.
        reason: String,
        /// The start of the answer.
        preview: String,
        /// What the useless answer cost.
        usage: crate::Usage,
    },
    /// The answer is larger than [`OpenAiOptions::max_response_bytes`](crate::OpenAiOptions::max_response_bytes).
    /// Terminal.
    #[error("the model's answer is larger than {limit_bytes} bytes")]
    TooLarge {
        /// The limit.
        limit_bytes: usize,
    },
    /// Another 4xx that this request caused. Terminal.
    #[error("the model's endpoint rejected the request with {status}: {message}")]
    Rejected {
        /// HTTP status.
        status: u16,
        /// What the endpoint said.
        message: String,
    },
    /// 401 or 403: the key is wrong or may not use this model. Fatal.
    #[error("the model's endpoint does not accept the API key ({status}): {message}")]
    Unauthorized {
        /// HTTP status.
        status: u16,
        /// What the endpoint said.
        message: String,
    },
    /// The endpoint does not know the model, or the path. Fatal.
    #[error("the endpoint does not know the model `{model}`: {message}")]
    UnknownModel {
        /// The model asked for.
        model: String,
        /// What the endpoint said.
        message: String,
    },
    /// The account is out of money (429 `insufficient_quota`, 402): waiting does not help. Fatal.
    #[error("the account at the model's endpoint has no quota left: {message}")]
    QuotaExhausted {
        /// What the endpoint said.
        message: String,
    },
    /// The endpoint, the key, a schema or a tool cannot be used as configured. Fatal.
    #[error("the model is misconfigured: {message}")]
    Misconfigured {
        /// What is wrong, and what to write instead where that is known.
        message: String,
    },
    /// The answer could not be journaled, or what is journaled cannot be read. Of the journal's own class.
    #[error(transparent)]
    Journal(#[from] crate::journal::JournalError),
}

impl ModelError {
    /// What this failure asks of the caller.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::RateLimited { after, .. } | Self::Unavailable { after, .. } => {
                ErrorClass::Retryable { after: *after }
            }
            Self::BreakerOpen { after, .. } => ErrorClass::Retryable { after: Some(*after) },
            Self::Timeout { .. } | Self::Connection { .. } | Self::Cut { .. } | Self::Malformed { .. } => {
                ErrorClass::Retryable { after: None }
            }
            Self::OverBudget { .. }
            | Self::ContextTooLong { .. }
            | Self::ContentFilter { .. }
            | Self::Refusal { .. }
            | Self::InvalidOutput { .. }
            | Self::TooLarge { .. }
            | Self::Rejected { .. } => ErrorClass::Terminal,
            Self::Unauthorized { .. }
            | Self::UnknownModel { .. }
            | Self::QuotaExhausted { .. }
            | Self::Misconfigured { .. } => ErrorClass::Fatal,
            Self::Journal(error) => error.class(),
        }
    }

    /// Whether the model is not asked for a while, whatever the cause. Such a failure is no attempt at the message: it
    /// must not use one up.
    pub fn is_breaker_open(&self) -> bool {
        matches!(self, Self::BreakerOpen { .. })
    }

    /// What a useless answer cost, where there was one.
    pub fn usage(&self) -> Option<crate::Usage> {
        match self {
            Self::InvalidOutput { usage, .. } | Self::Refusal { usage, .. } | Self::ContentFilter { usage, .. } => {
                Some(*usage)
            }
            _ => None,
        }
    }
}

/// Longest text of the endpoint's that an error keeps, in characters.
const MAX_PREVIEW_CHARS: usize = 300;

/// The start of an untrusted text: bounded, on one line, without control characters.
pub(crate) fn preview(text: &str) -> String {
    let mut out: String = text.chars().take(MAX_PREVIEW_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(MAX_PREVIEW_CHARS).is_some() {
        out.push('…');
    }
    out
}
