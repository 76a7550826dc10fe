//! What the mock server is told: plain data, from flags and from a JSON script.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::limit::RateLimit;
use super::rules::Rules;
use super::script::{Rule, VendorConfig};
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
        /// The file and the rule, as far as there are any.
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
    /// How often it lets itself be asked; `None`: without bound.
    pub limit: Option<RateLimit>,
    /// A JSON script ([`Script`]).
    pub script: Option<PathBuf>,
    /// As [`MockConfig::keep_calls`].
    pub keep_calls: usize,
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
            limit: None,
            script: None,
            keep_calls: 0,
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
            limit: self.limit,
            keep_calls: self.keep_calls,
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
    /// How often it lets itself be asked; `None`: without bound.
    pub limit: Option<RateLimit>,
    /// If set, any other key is refused with 401.
    pub api_key: Option<Secret>,
    /// If not empty, any other model is refused with 404.
    pub models: Vec<String>,
    /// Scripted answers, the first that matches wins. A call none matches gets a made-up answer, valid for its schema.
    pub rules: Vec<Rule>,
    /// The outside vendor the same server plays.
    pub vendor: VendorConfig,
    /// So many of the latest calls are kept for `GET /mock/calls`, some 150 bytes each. Default 0: none.
    pub keep_calls: usize,
}

impl Default for MockConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            allow_remote: false,
            seed: 0,
            latency: Latency::None,
            faults: FaultRates::default(),
            limit: None,
            api_key: None,
            models: Vec::new(),
            rules: Vec::new(),
            vendor: VendorConfig::default(),
            keep_calls: 0,
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
        self.limit.map_or(Ok(()), RateLimit::check).or_else(refuse)?;
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
    /// Reads a script from JSON text, and checks its rules.
    ///
    /// # Errors
    /// [`MockError::Script`] with line and column, or with the rule.
    pub fn parse(json: &str) -> Result<Self, MockError> {
        Self::read(json, "")
    }

    /// Reads a script file, and checks its rules.
    ///
    /// # Errors
    /// [`MockError::Read`], or [`MockError::Script`] with file, line and column, or with file and rule.
    pub fn load(path: &Path) -> Result<Self, MockError> {
        let text = std::fs::read_to_string(path).map_err(|source| MockError::Read { path: path.to_owned(), source })?;
        Self::read(&text, &format!(" {}", path.display()))
    }

    fn read(json: &str, file: &str) -> Result<Self, MockError> {
        let script: Self = serde_json::from_str(json)
            .map_err(|error| MockError::Script { at: file.to_owned(), message: error.to_string() })?;
        match Rules::compile(script.rules.clone()) {
            Ok(_) => Ok(script),
            Err(MockError::Script { at, message }) => Err(MockError::Script { at: format!("{file}{at}"), message }),
            Err(other) => Err(other),
        }
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
