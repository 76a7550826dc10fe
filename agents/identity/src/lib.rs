//! KYC identity agent: is the applicant on a watchlist, and was the document's number ever issued?
//!
//! Lists and rules decide. Names are compared as OFAC describes its own search; the score only says where to look, and a
//! second identifier (date of birth, number) says whether it is the listed person. A model explains what was found to
//! the person who will read it; it can lower the confidence of a clearance, and lift nothing.

mod lists;
mod matching;
mod registry;
mod screen;
#[cfg(test)]
mod tests;

use std::time::Duration;

use anabranch_sdk::prelude::*;
use jiff::civil::Date;

pub use lists::{ListError, ListFiles, ListVersion};
pub use registry::{RegistryCheck, RegistryStatus};
pub use screen::{Match, Verdict};

use crate::lists::Lists;
use crate::matching::Name;
use crate::registry::Registry;
use crate::screen::Person;

/// Names the registry's base URL, if `agents.identity.config.registry_url` does not.
pub const REGISTRY_URL: &str = "KYC_REGISTRY_URL";

/// Rules are never surer than this.
const RULES: f64 = 0.99;
/// A name that was cleared by a second identifier.
const CLEARED: f64 = 0.98;
/// As that, without a model's explanation.
const CLEARED_UNEXPLAINED: f64 = 0.96;
/// A registry that could not be asked for want of a number.
const WITHOUT_NUMBER: f64 = 0.90;

const SYSTEM: &str = "You help a bank's reviewer to understand why an applicant's name is like names on sanctions lists. \
    You are given one JSON object. Each match has a verdict that \
    rules have given from the date of birth or the document number; you cannot change it. Explain in at most three \
    plain sentences what is alike, what differs, and which name variants may be at work. `confidence` is how sure you \
    are, from 0 to 1, that the verdicts are right. If `question` is not null it says what to look at again.";

/// The agent.
#[derive(Debug)]
pub struct IdentityAgent {
    thresholds: Thresholds,
    lists: Lists,
    registry: Option<Registry>,
}

/// `agents.identity.config`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// When names are alike.
    pub matching: Thresholds,
    /// Lists to use instead of the synthetic ones.
    pub lists: ListFiles,
    /// Base URL of the document registry; absent: as the environment's `KYC_REGISTRY_URL` says, or no check.
    pub registry_url: Option<String>,
    /// Longest time one check may take, such as `5s`.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::required")]
    pub registry_timeout: Duration,
}

/// When names are alike. Scores are from 0 to 1.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Thresholds {
    /// From this score on a name is a match.
    pub match_threshold: f64,
    /// From this score on, if all its parts also sound alike.
    pub sounds_alike_threshold: f64,
    /// From this score on, with the same date of birth, it is confirmed.
    pub confirm_threshold: f64,
    /// Dates of birth within so many years may be one person's.
    pub birth_year_tolerance: u16,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            matching: Thresholds::default(),
            lists: ListFiles::default(),
            registry_url: None,
            registry_timeout: Duration::from_secs(5),
        }
    }
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { match_threshold: 0.92, sounds_alike_threshold: 0.85, confirm_threshold: 0.99, birth_year_tolerance: 1 }
    }
}

impl Thresholds {
    fn check(&self) -> Result<(), ConfigError> {
        let all = [
            ("match_threshold", self.match_threshold),
            ("sounds_alike_threshold", self.sounds_alike_threshold),
            ("confirm_threshold", self.confirm_threshold),
        ];
        match all.iter().find(|(_, value)| !(0.5..=1.0).contains(value)) {
            Some((field, value)) => {
                Err(ConfigError::new(format!("matching.{field} is {value}; write a number from 0.5 to 1")))
            }
            None => Ok(()),
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
    /// Three-letter code.
    pub nationality: Option<String>,
}

/// The document's number, and who issued it.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Document {
    /// Its number.
    #[schemars(extend("x-pii" = true))]
    pub number: Option<String>,
    /// Three-letter code of the state that issued it.
    pub issuer: Option<String>,
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct IdentityReport {
    /// What was screened against.
    pub lists: Vec<ListVersion>,
    /// Similar names, the most serious first.
    pub matches: Vec<Match>,
    /// What the registry says of the document's number.
    pub registry: Option<RegistryCheck>,
    /// The model's words, where there is a match.
    pub assessment: Option<MatchAssessment>,
    /// What was found.
    pub findings: Vec<Finding>,
}

/// A model's words on the matches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MatchAssessment {
    /// What is alike and what differs.
    pub explanation: String,
    /// How sure it is that the rules' verdicts are right.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub confidence: f64,
}

/// The part of an earlier answer that need not be made again.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Earlier {
    registry: Option<RegistryCheck>,
}

impl Agent for IdentityAgent {
    const NAME: &'static str = "identity";
    const DESCRIPTION: &'static str = "Screens the applicant's name against sanctions lists, tells namesakes apart by a \
        second identifier, and checks the document's number at the issuer's registry.";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const REQUIRED: bool = true;
    type Config = Config;
    type Input = Application;
    type Output = IdentityReport;

    fn new(config: Config) -> Result<Self, ConfigError> {
        config.matching.check()?;
        let lists = Lists::load(&config.lists).map_err(|e| ConfigError::new(format!("lists: {e}")))?;
        let url = config.registry_url.or_else(|| std::env::var(REGISTRY_URL).ok()).filter(|url| !url.trim().is_empty());
        let registry = url.map(|url| Registry::new(url.trim(), config.registry_timeout)).transpose();
        let registry = registry.map_err(|e| ConfigError::new(format!("registry_url: {e}")))?;
        Ok(Self { thresholds: config.matching, lists, registry })
    }

    async fn handle(&self, ctx: &Context<'_>, input: Application) -> Result<Outcome<IdentityReport>, AgentError> {
        let mut report = IdentityReport {
            lists: self.lists.versions.clone(),
            matches: Vec::new(),
            registry: None,
            assessment: None,
            findings: Vec::new(),
        };
        let mut confidence = self.screen(ctx, &input, &mut report).await?;
        confidence = confidence.min(self.registry(ctx, &input.document, &mut report).await?);
        let worst = report.matches.first().map(|m| m.verdict);
        let disposition = match worst {
            Some(Verdict::Confirmed) => "hit",
            Some(Verdict::Possible) => "possible_hit",
            _ if report.findings.iter().any(|f| f.effect == Effect::Gate) => "doubtful",
            _ => "clear",
        };
        Ok(Outcome::new(report).confidence(confidence).disposition(disposition))
    }
}

impl IdentityAgent {
    async fn screen(
        &self,
        ctx: &Context<'_>,
        input: &Application,
        report: &mut IdentityReport,
    ) -> Result<f64, AgentError> {
        let Some(name) = Name::new(&input.applicant.name) else {
            report.findings.push(Finding::gate("NAME_MISSING", "there is no name to screen"));
            return Ok(RULES);
        };
        let declared = input.applicant.birth_date.as_deref().map(str::trim).filter(|d| !d.is_empty());
        let birth_date = declared.and_then(|d| d.parse::<Date>().ok());
        if declared.is_some() && birth_date.is_none() {
            let detail = "the declared date of birth is no date; write YYYY-MM-DD";
            report.findings.push(Finding::gate("BIRTH_DATE_UNREADABLE", detail));
        }
        let person = Person { name: &name, birth_date, number: input.document.number.as_deref() };
        report.matches = screen::screen(&person, &self.lists, &self.thresholds);
        let Some(worst) = report.matches.first().map(|m| m.verdict) else {
            return Ok(RULES);
        };
        report.findings.extend(report.matches.iter().map(finding));
        let known = json!({
            "name": input.applicant.name, "birth_date": declared, "nationality": input.applicant.nationality,
            "matches": report.matches,
            "round": ctx.round(), "question": ctx.question(),
        });
        report.assessment = ctx
            .model()
            .ask_or_go_without("match_assessment", &Prompt::new(SYSTEM).json("applicant and matches", known))
            .await?;
        let said = report.assessment.as_ref().map(|a| a.confidence);
        Ok(match worst {
            Verdict::Cleared => said.unwrap_or(CLEARED_UNEXPLAINED).min(CLEARED),
            // A person decides; the model's doubt has nothing to add.
            Verdict::Possible | Verdict::Confirmed => CLEARED,
        })
    }

    async fn registry(
        &self,
        ctx: &Context<'_>,
        document: &Document,
        report: &mut IdentityReport,
    ) -> Result<f64, AgentError> {
        let Some(number) = document.number.as_deref().map(str::trim).filter(|n| !n.is_empty()) else {
            report.findings.push(Finding::note("REGISTRY_SKIPPED", "no document number was declared"));
            return Ok(WITHOUT_NUMBER);
        };
        // A follow-up round asks about people, not about the number: one check a case is enough.
        let earlier: Option<Earlier> = ctx.part(Self::NAME)?;
        let check = match earlier.and_then(|e| e.registry) {
            Some(check) => Some(check),
            None => ctx.step("registry", self.check(number, document, ctx.idempotency_key("registry"))).await?,
        };
        let Some(check) = check else {
            let detail = format!("no document registry is configured ({REGISTRY_URL})");
            report.findings.push(Finding::note("REGISTRY_SKIPPED", detail));
            return Ok(RULES);
        };
        let evidence = json!({ "check_id": check.check_id });
        match check.status {
            RegistryStatus::Found => {}
            RegistryStatus::Unknown => {
                let detail = "the issuer's registry does not know the document's number";
                report.findings.push(Finding::gate("REGISTRY_UNKNOWN", detail).with(evidence));
            }
            RegistryStatus::Other => {
                let detail = "the issuer's registry gave an answer that is not understood";
                report.findings.push(Finding::gate("REGISTRY_UNCLEAR", detail).with(evidence));
            }
        }
        report.registry = Some(check);
        Ok(RULES)
    }

    /// Asks the registry. That there is none is journaled like an answer: a task that is done again elsewhere goes by what
    /// was known then.
    async fn check(&self, number: &str, document: &Document, key: String) -> Result<Option<RegistryCheck>, AgentError> {
        match &self.registry {
            Some(registry) => registry.check(number, document.issuer.as_deref(), &key).await.map(Some),
            None => Ok(None),
        }
    }
}

fn finding(found: &Match) -> Finding {
    let who = format!("{} ({} {})", found.listed_name, found.list, found.entry);
    let evidence = json!(found);
    match found.verdict {
        Verdict::Confirmed => {
            Finding::gate("SANCTIONS_CONFIRMED", format!("the applicant is {who}: {}", found.reason)).with(evidence)
        }
        Verdict::Possible => {
            Finding::gate("SANCTIONS_POSSIBLE", format!("the applicant may be {who}: {}", found.reason)).with(evidence)
        }
        Verdict::Cleared => {
            Finding::note("SANCTIONS_CLEARED", format!("the applicant is not {who}: {}", found.reason)).with(evidence)
        }
    }
}
