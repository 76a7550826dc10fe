//! The words of a script: rules, answers, faults, and the vendor's troubles.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::config::Latency;

/// A scripted answer.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    /// Shown in the statistics.
    pub name: String,
    /// Which calls it is for; all conditions must hold.
    pub when: When,
    /// What to answer. Without it, and without a fault, the answer is made up.
    pub answer: Option<Answer>,
    /// Fail so instead.
    pub fault: Option<Fault>,
    /// Instead of [`MockConfig::latency`](super::MockConfig::latency).
    pub latency: Option<Latency>,
    /// Only the first so many times *for the same request of the same case*; then later rules are looked at.
    pub times: Option<u32>,
    /// Whether properties that a scripted JSON answer lacks, and the schema requires, are made up. Default yes.
    pub fill: bool,
}

impl Default for Rule {
    fn default() -> Self {
        Self {
            name: String::new(),
            when: When::default(),
            answer: None,
            fault: None,
            latency: None,
            times: None,
            fill: true,
        }
    }
}

/// Which calls a rule is for. A condition left out holds always.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct When {
    /// The model's name, exactly.
    pub model: Option<String>,
    /// The response schema's name, exactly.
    pub schema: Option<String>,
    /// The `x-agent` header, exactly.
    pub agent: Option<String>,
    /// The `x-correlation-id` header, exactly.
    pub correlation_id: Option<String>,
    /// In the last user message.
    pub contains: Option<String>,
    /// A regular expression over the last user message (`(?s)` for dots over lines). Its groups are `{{1}}` and
    /// `{{name}}` in the answer.
    pub matches: Option<String>,
    /// Whether the conversation already holds a tool's result: `false` for the turn that calls, `true` for the turn
    /// that answers.
    pub after_tool: Option<bool>,
}

/// What to answer. Strings are templates:
///
/// - `{{1}}`, `{{name}}`: a group of [`When::matches`];
/// - `{{/applicant/name}}`: a field of the first JSON object in the last user message, by JSON pointer;
/// - `{{.}}`: that whole object; `{{user}}`: the whole last user message.
///
/// A string that is nothing but one placeholder takes the field's own type; `{{1|number}}` and `{{1|bool}}` make
/// those of text. What is missing is empty, or null where it is the whole string.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Text.
    Text(String),
    /// JSON as text.
    Json(Value),
    /// Calls of tools.
    ToolCalls(Vec<ScriptedCall>),
    /// The fields of the JSON object in the last user message that the list names (all of them if it is empty).
    Echo(Vec<String>),
}

/// A scripted call of a tool.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptedCall {
    /// The tool.
    pub name: String,
    /// Its arguments; a template.
    pub arguments: Value,
}

/// How a call fails.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// 429.
    RateLimited {
        /// `Retry-After`, in seconds; without it there is no such header.
        #[serde(default)]
        retry_after_s: Option<u64>,
        /// Whether it is said as an HTTP date.
        #[serde(default)]
        as_http_date: bool,
    },
    /// 429 `insufficient_quota`.
    QuotaExhausted,
    /// 500, or another.
    ServerError {
        /// HTTP status, 500 to 599; default 500.
        #[serde(default = "internal_error")]
        status: u16,
    },
    /// 401.
    Unauthorized,
    /// 403.
    Forbidden,
    /// 404 `model_not_found`.
    UnknownModel,
    /// 400 `context_length_exceeded`.
    ContextTooLong,
    /// The answer is withheld by a content filter.
    ContentFilter,
    /// The model refuses.
    Refusal,
    /// The answer breaks off in the middle.
    Cut,
    /// 200 with a body that is no JSON.
    InvalidJson,
    /// A sound response whose content is no JSON.
    InvalidOutput,
    /// No answer until the caller goes away.
    Hang,
    /// An answer of so much text.
    Oversized {
        /// Bytes of text.
        bytes: usize,
    },
}

fn internal_error() -> u16 {
    500
}

impl Fault {
    /// Its name in scripts and statistics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::RateLimited { .. } => "rate_limited",
            Self::QuotaExhausted => "quota_exhausted",
            Self::ServerError { .. } => "server_error",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::UnknownModel => "unknown_model",
            Self::ContextTooLong => "context_too_long",
            Self::ContentFilter => "content_filter",
            Self::Refusal => "refusal",
            Self::Cut => "cut",
            Self::InvalidJson => "invalid_json",
            Self::InvalidOutput => "invalid_output",
            Self::Hang => "hang",
            Self::Oversized { .. } => "oversized",
        }
    }
}

/// The document registry of the reference application, played by the same server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct VendorConfig {
    /// Document numbers starting so are answered with `unknown`.
    pub unknown_prefixes: Vec<String>,
    /// Document numbers for which the vendor is in trouble.
    pub outages: Vec<VendorOutage>,
}

/// Trouble with the vendor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct VendorOutage {
    /// Document numbers it is for.
    pub document_prefix: String,
    /// 503, and nothing is done.
    pub unavailable: bool,
    /// The answer comes so many milliseconds late; what was asked for is done before.
    pub delay_ms: u64,
    /// Only the first so many calls per document number; then later outages are looked at.
    pub times: Option<u32>,
}
