//! KYC fraud agent: what a case shares with others, and what does not fit within it.
//!
//! All of it is rules: a score that a person is to act on must be explained by more than a model's word.
//!
//! Applications that come at once are handled at once, so the first of three would be judged before the second is
//! written. Hence a case is judged no sooner than [`Config::settle`] after it was first seen: what arrives within that
//! time of each other is seen by all. A case decided before others came is not judged again; it is named, as one of the
//! cases the alert rests on, in the alert that the later ones raise.

mod history;
mod signals;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anabranch_sdk::agent::Observed;
use anabranch_sdk::prelude::*;
use anabranch_sdk::protocol::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

pub use signals::Signal;

use crate::history::{History, Seen, Traits};

/// Rules are never surer than this.
const RULES: f64 = 0.99;
/// Longest text that is kept of a trait, in bytes: what is remembered is bounded.
const MAX_TRAIT: usize = 128;

/// The agent.
#[derive(Debug)]
pub struct FraudAgent {
    config: Config,
    history: Mutex<History>,
}

/// `agents.fraud.config`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// So many applications from one network address are an alert.
    pub ip_threshold: usize,
    /// So many applications from one device are an alert.
    pub device_threshold: usize,
    /// How far back cases are compared, such as `24h`.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::required")]
    pub window: Duration,
    /// Most cases that are remembered; the oldest are forgotten first.
    pub max_cases: usize,
    /// A case is judged no sooner than this after it was first seen.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::required")]
    pub settle: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ip_threshold: 3,
            device_threshold: 3,
            window: Duration::from_secs(24 * 60 * 60),
            max_cases: 100_000,
            settle: Duration::from_secs(1),
        }
    }
}

/// What it reads from the request.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Application {
    /// Who applies.
    pub applicant: Applicant,
    /// Their identity document.
    pub document: Document,
    /// Where the application came from.
    pub source: Source,
}

/// Who applies, as declared.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Applicant {
    /// Full name.
    #[schemars(extend("x-pii" = true))]
    pub name: String,
    /// YYYY-MM-DD.
    #[schemars(extend("x-pii" = true))]
    pub birth_date: Option<String>,
}

/// The document's number.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Document {
    /// Its number.
    #[schemars(extend("x-pii" = true))]
    pub number: Option<String>,
}

/// Where the application came from.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Source {
    /// IP address.
    #[schemars(extend("x-pii" = true))]
    pub ip: Option<String>,
    /// Id of the device, as the channel gives it.
    #[schemars(extend("x-pii" = true))]
    pub device_id: Option<String>,
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FraudReport {
    /// 0, nothing odd, to 1.
    pub score: f64,
    /// What the score is made of.
    pub signals: Vec<Signal>,
    /// How many cases it was compared with.
    pub compared_with: usize,
    /// What was found, as composers read it.
    pub findings: Vec<Finding>,
}

impl Agent for FraudAgent {
    const NAME: &'static str = "fraud";
    const DESCRIPTION: &'static str = "Finds addresses, devices and documents that several applications share, and what \
        does not fit within one; raises fraud alerts.";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const REQUIRED: bool = true;
    const OBSERVES: bool = true;
    type Config = Config;
    type Input = Application;
    type Output = FraudReport;

    fn new(config: Config) -> Result<Self, ConfigError> {
        let thresholds = [("ip_threshold", config.ip_threshold), ("device_threshold", config.device_threshold)];
        if let Some((field, value)) = thresholds.iter().find(|(_, value)| *value < 2) {
            return Err(ConfigError::new(format!(
                "{field} is {value}; one application shares nothing, write 2 or more"
            )));
        }
        if config.max_cases == 0 {
            return Err(ConfigError::new("max_cases is 0; write how many cases may be remembered, such as 100000"));
        }
        let history = Mutex::new(History::new(config.window, config.max_cases));
        Ok(Self { config, history })
    }

    fn observe(&self, seen: Observed<'_, Application>) {
        let case = seen.correlation_id.to_string();
        self.history().add(Seen { case, at: seen.at, traits: Traits::from(&seen.input) });
    }

    async fn handle(&self, ctx: &Context<'_>, input: Application) -> Result<Outcome<FraudReport>, AgentError> {
        let traits = Traits::from(&input);
        // What is known of other cases changes with time: in a step, so that the case is judged once.
        let (mut signals, compared_with) = ctx.step("history", self.compare(ctx, &traits)).await?;
        let born = input.applicant.birth_date.as_deref().and_then(|d| d.trim().parse::<Date>().ok());
        let ip = text(&input.source.ip);
        let readable = ip.is_none_or(|ip| ip.parse::<IpAddr>().is_ok());
        signals.extend(signals::inconsistencies(born, readable, today(ctx)?));
        let alert = signals.iter().any(|s| s.alert);
        let score = signals::score(&signals);
        let findings = signals.iter().map(Signal::finding).collect();
        let report = FraudReport { score, signals, compared_with, findings };
        // Sure of an alert; otherwise the less sure that all is well, the more there is.
        let confidence = if alert { RULES } else { (1.0 - score).min(RULES) };
        Ok(Outcome::new(report).confidence(confidence).disposition(if alert { "alert" } else { "clear" }))
    }
}

impl FraudAgent {
    /// What the case shares with others once it may be judged, and how many others there are.
    async fn compare(&self, ctx: &Context<'_>, traits: &Traits) -> Result<(Vec<Signal>, usize), AgentError> {
        let case = ctx.correlation_id().as_str();
        let seen_at = self.history().first_seen(case).unwrap_or_else(|| ctx.now());
        tokio::time::sleep(self.unsettled(ctx, seen_at)).await;
        let history = self.history();
        let related = history.related(case, traits, seen_at);
        Ok((signals::shared(traits, &related, &self.config), history.len()))
    }

    /// What is left until the case may be judged; never so long that the case would miss its deadline by it.
    fn unsettled(&self, ctx: &Context<'_>, seen_at: Timestamp) -> Duration {
        let left = seen_at.plus(self.config.settle).since(ctx.now()).min(self.config.settle);
        ctx.remaining().map_or(left, |remaining| left.min(remaining / 2))
    }

    fn history(&self) -> MutexGuard<'_, History> {
        // What is remembered is whole between any two calls, even if one of them panicked.
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<&Application> for Traits {
    fn from(input: &Application) -> Self {
        let squeezed = |field: &Option<String>| {
            let capitals = text(field)?.chars().filter(|c| c.is_alphanumeric()).collect::<String>().to_uppercase();
            (!capitals.is_empty()).then(|| bounded(&capitals))
        };
        let name = deunicode::deunicode(&bounded(&input.applicant.name)).to_uppercase();
        let mut parts: Vec<&str> = name.split(|c: char| !c.is_alphanumeric()).filter(|p| !p.is_empty()).collect();
        parts.sort_unstable();
        Self {
            network: text(&input.source.ip).map(network),
            device: text(&input.source.device_id).map(bounded),
            document: squeezed(&input.document.number),
            birth_date: squeezed(&input.applicant.birth_date),
            name: parts.join(" "),
        }
    }
}

fn text(field: &Option<String>) -> Option<&str> {
    field.as_deref().map(str::trim).filter(|t| !t.is_empty())
}

/// What one subscriber has: an IPv4 address, or the first half of an IPv6 one.
fn network(ip: &str) -> String {
    match ip.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        Ok(IpAddr::V6(v6)) => {
            let [a, b, c, d, ..] = v6.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
        Ok(v4) => v4.to_string(),
        Err(_) => bounded(ip),
    }
}

fn bounded(text: &str) -> String {
    let end = (0..=text.len().min(MAX_TRAIT)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text[..end].to_owned()
}

/// The day of the runtime's clock, in UTC.
fn today(ctx: &Context<'_>) -> Result<Date, AgentError> {
    let now = jiff::Timestamp::from_millisecond(ctx.now().as_millis())?;
    Ok(TimeZone::UTC.to_datetime(now).date())
}
