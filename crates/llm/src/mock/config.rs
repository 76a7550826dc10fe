//! What the mock server is told: plain data, from flags and from a JSON script.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::secret::Secret;

/// Why the mock server did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MockError {
    /// The script file could not be read.
    #[error("cannot read the mock's script {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The script is not what it should be.
    #[error("the mock's script{at} is not usable: {message}")]
    Script {
        /// ` <file>` or empty.
        at: String,
        /// What is wrong and where.
        message: String,
    },
    /// A setting is out of its range.
    #[error("the mock's configuration is not usable: {message}")]
    Config {
        /// What is wrong and what to write instead.
        message: String,
    },
    /// The address is taken or may not be listened on.
    #[error("the mock cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// What the command line sets. Plain data: the CLI maps its flags to it, [`MockArgs::into_config`] does the rest.
#[derive(Debug, Clone, PartialEq)]
pub struct MockArgs {
    /// Where to listen; port 0 takes a free one. Default `127.0.0.1:0`.
    pub listen: SocketAddr,
    /// Whether an address that is not loopback may be listened on. Default no: the mock has no protection.
    pub allow_remote: bool,
    /// Answers, latencies and faults derive from it. Default 0.
    pub seed: u64,
    /// Median latency in milliseconds; 0 answers at once. Default 0.
    pub latency_median_ms: u64,
    /// 99th percentile of the latency in milliseconds; at most the median means a fixed latency. Default 0.
    pub latency_p99_ms: u64,
    /// Share of calls that fail, by kind.
    pub faults: FaultRates,
    /// A JSON script ([`Script`]).
    pub script: Option<PathBuf>,
}

impl Default for MockArgs {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            allow_remote: false,
            seed: 0,
            latency_median_ms: 0,
            latency_p99_ms: 0,
            faults: FaultRates::default(),
            script: None,
        }
    }
}

impl MockArgs {
    /// The configuration these flags and the script make.
    ///
    /// # Errors
    /// [`MockError::Read`] and [`MockError::Script`] for the script.
    pub fn into_config(self) -> Result<MockConfig, MockError> {
        let script = match &self.script {
            Some(path) => Script::load(path)?,
            None => Script::default(),
        };
        let latency = match (self.latency_median_ms, self.latency_p99_ms) {
            (0, 0) => Latency::None,
            (median_ms, p99_ms) if p99_ms <= median_ms => Latency::Fixed { ms: median_ms },
            (median_ms, p99_ms) => Latency::Lognormal { median_ms: median_ms.max(1), p99_ms },
        };
        Ok(MockConfig {
            listen: self.listen,
            allow_remote: self.allow_remote,
            seed: self.seed,
            latency,
            faults: self.faults,
            ..MockConfig::default()
        }
        .with_script(script))
    }
}

/// Everything the mock server is told.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MockConfig {
    /// As [`MockArgs::listen`].
    pub listen: SocketAddr,
    /// As [`MockArgs::allow_remote`].
    pub allow_remote: bool,
    /// As [`MockArgs::seed`].
    pub seed: u64,
    /// How long an answer takes.
    pub latency: Latency,
    /// Share of calls that fail.
    pub faults: FaultRates,
    /// If set, any other key is refused with 401.
    pub api_key: Option<Secret>,
    /// If not empty, any other model is refused with 404.
    pub models: Vec<String>,
    /// Scripted answers, the first that matches wins. A call none matches gets a made-up answer, valid for its schema.
    pub rules: Vec<Rule>,
    /// The outside vendor the same server plays.
    pub vendor: VendorConfig,
}

impl Default for MockConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            allow_remote: false,
            seed: 0,
            latency: Latency::None,
            faults: FaultRates::default(),
            api_key: None,
            models: Vec::new(),
            rules: Vec::new(),
            vendor: VendorConfig::default(),
        }
    }
}

impl MockConfig {
    /// The script's rules after those already there; its vendor settings, if it has any, instead of those there.
    #[must_use]
    pub fn with_script(mut self, script: Script) -> Self {
        self.rules.extend(script.rules);
        if let Some(vendor) = script.vendor {
            self.vendor = vendor;
        }
        self
    }
}

impl MockConfig {
    /// What cannot be meant.
    pub(super) fn check(&self) -> Result<(), MockError> {
        let refuse = |message: String| Err(MockError::Config { message });
        if !self.listen.ip().is_loopback() && !self.allow_remote {
            return refuse(format!(
                "{} is not loopback, and the mock has no protection; listen on 127.0.0.1, or allow remote callers",
                self.listen
            ));
        }
        self.latency.check().or_else(refuse)?;
        self.faults.check().or_else(refuse)
    }
}

/// A script file: `{"rules": [...], "vendor": {...}}`.
#[derive(Debug, Clone, Default, Deserialize, Serialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Script {
    /// As [`MockConfig::rules`].
    pub rules: Vec<Rule>,
    /// As [`MockConfig::vendor`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor: Option<VendorConfig>,
}

impl Script {
    /// Reads a script from JSON text.
    ///
    /// # Errors
    /// [`MockError::Script`] with line and column.
    pub fn parse(json: &str) -> Result<Self, MockError> {
        serde_json::from_str(json).map_err(|error| MockError::Script { at: String::new(), message: error.to_string() })
    }

    /// Reads a script file.
    ///
    /// # Errors
    /// [`MockError::Read`], or [`MockError::Script`] with file, line and column.
    pub fn load(path: &Path) -> Result<Self, MockError> {
        let text = std::fs::read_to_string(path).map_err(|source| MockError::Read { path: path.to_owned(), source })?;
        serde_json::from_str(&text)
            .map_err(|error| MockError::Script { at: format!(" {}", path.display()), message: error.to_string() })
    }
}

/// How long an answer takes. Drawn from the seed and the request, so that a run can be repeated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Latency {
    /// Not at all.
    #[default]
    None,
    /// Always the same.
    Fixed {
        /// Milliseconds.
        ms: u64,
    },
    /// Log-normal, as model latencies are.
    Lognormal {
        /// Median, in milliseconds.
        median_ms: u64,
        /// 99th percentile, in milliseconds; above the median.
        p99_ms: u64,
    },
}

impl Latency {
    pub(super) fn check(self) -> Result<(), String> {
        match self {
            Self::Lognormal { median_ms, p99_ms } if median_ms == 0 || p99_ms <= median_ms => Err(format!(
                "a log-normal latency with median {median_ms} ms and 99th percentile {p99_ms} ms; the median must be \
                 above 0 and the percentile above the median"
            )),
            Self::None | Self::Fixed { .. } | Self::Lognormal { .. } => Ok(()),
        }
    }
}

/// Share of calls that fail, each from 0 to 1, together at most 1. Drawn per attempt: the same request may work next
/// time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct FaultRates {
    /// 429 with `Retry-After`.
    pub rate_limited: f64,
    /// What that `Retry-After` says, in seconds.
    pub retry_after_s: u64,
    /// 500.
    pub server_error: f64,
    /// The answer breaks off in the middle.
    pub cut: f64,
    /// 200 with a body that is no JSON.
    pub invalid_json: f64,
    /// No answer.
    pub hang: f64,
}

impl FaultRates {
    fn check(&self) -> Result<(), String> {
        let rates = [self.rate_limited, self.server_error, self.cut, self.invalid_json, self.hang];
        if let Some(rate) = rates.iter().find(|rate| !(0.0..=1.0).contains(*rate)) {
            return Err(format!("a fault rate is {rate}; write a share from 0 to 1"));
        }
        let sum: f64 = rates.iter().sum();
        // What adds up to 1 in decimals need not in binary.
        if sum > 1.0 + 1e-9 {
            return Err(format!("the fault rates add up to {sum}; write shares of at most 1 together"));
        }
        Ok(())
    }
}

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
    /// Instead of [`MockConfig::latency`].
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
