//! KYC compliance agent: what the jurisdiction asks for, what is missing, and which rule says so.
//!
//! Which rules apply, and whether they are met, is code over the heads of the rules. Their texts are searched for
//! passages to cite, and in a follow-up round for what was asked. A model only words a summary for the reviewer, from
//! the rules' own texts; nothing of the applicant's reaches it.

mod corpus;
mod requirement;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anabranch_sdk::prelude::*;

pub use corpus::{Citation, RulesError};
pub use requirement::Requirement;

use crate::corpus::{Corpus, Rule};

/// Rules are never surer than this.
const RULES: f64 = 0.99;
/// A jurisdiction of which only the general rules are known: a person must know the rest.
const UNKNOWN_JURISDICTION: f64 = 0.70;

const SYSTEM: &str = "You help a bank's compliance reviewer. You are given one JSON object: items that are missing \
    from an application, and the rules that ask for them. Summarise in at most three plain sentences what is missing \
    and why it is asked for, naming the rules' sources. Add nothing that is not in the object.";

/// Member states of the European Union, whose law the EU's rules stand for.
const EU_STATES: [&str; 27] = [
    "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU", "IE", "IT", "LT", "LU", "LV",
    "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK",
];

/// The agent.
#[derive(Debug)]
pub struct ComplianceAgent {
    config: Config,
    corpus: Corpus,
}

/// `agents.compliance.config`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Folder of rules to use instead of those the crate ships; relative to where the process runs.
    pub rules: Option<PathBuf>,
    /// Most passages that are cited beside the rules that apply.
    pub max_passages: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { rules: None, max_passages: 3 }
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
    /// `current_account`, …
    pub product: Option<String>,
    /// `US`, `EU` or a member state, `SG`, …
    pub jurisdiction: Option<String>,
    /// `low`, `standard` or `high`; absent: `standard`.
    pub risk: Option<String>,
    /// Documents that were sent in: `passport`, `utility_bill`, …
    pub documents_provided: Vec<String>,
}

/// Who applies, as declared.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Applicant {
    /// Full name.
    pub name: String,
    /// YYYY-MM-DD.
    pub birth_date: Option<String>,
    /// Three-letter code.
    pub nationality: Option<String>,
    /// Postal address.
    pub address: Option<String>,
    /// Taxpayer's number or the like.
    pub identification_number: Option<String>,
}

/// Whether there is an identity document.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Document {
    /// Its number.
    pub number: Option<String>,
    /// Its machine-readable zone; here it only matters that there is one.
    pub mrz: Option<Value>,
    /// What else is printed on it; here it only matters that there is some, and only a large text lies in the claim store.
    pub text: Option<Claimed<String>>,
}

impl Document {
    fn is_there(&self) -> bool {
        let zone = match &self.mrz {
            Some(Value::Array(lines)) => !lines.is_empty(),
            Some(Value::String(text)) => !text.trim().is_empty(),
            _ => false,
        };
        let says = |text: &Claimed<String>| text.inline().is_none_or(|text| !text.trim().is_empty());
        zone || self.text.as_ref().is_some_and(says)
    }
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ComplianceReport {
    /// The jurisdiction whose rules were applied.
    pub jurisdiction: String,
    /// The risk class they were applied for.
    pub risk: String,
    /// Version of the rules.
    pub rules_version: String,
    /// What is required, and whether it is there.
    pub required: Vec<Required>,
    /// The rules that apply, and passages on what is missing or was asked.
    pub citations: Vec<Citation>,
    /// A model's words for the reviewer, where something is missing.
    pub summary: Option<String>,
    /// What was found.
    pub findings: Vec<Finding>,
}

/// A requirement of the case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Required {
    /// What.
    pub item: Requirement,
    /// Whether the application has it.
    pub met: bool,
    /// Rules that ask for it.
    pub rules: Vec<String>,
}

/// A model's summary.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
struct Summary {
    /// At most three sentences.
    summary: String,
}

impl Agent for ComplianceAgent {
    const NAME: &'static str = "compliance";
    const DESCRIPTION: &'static str = "Says which documents and statements the jurisdiction asks for, what is missing, and \
        cites the rules.";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const REQUIRED: bool = true;
    type Config = Config;
    type Input = Application;
    type Output = ComplianceReport;

    fn new(config: Config) -> Result<Self, ConfigError> {
        let corpus = Corpus::load(config.rules.as_deref()).map_err(|e| ConfigError::new(format!("rules: {e}")))?;
        Ok(Self { config, corpus })
    }

    async fn handle(&self, ctx: &Context<'_>, input: Application) -> Result<Outcome<ComplianceReport>, AgentError> {
        let (jurisdiction, known) = self.jurisdiction(input.jurisdiction.as_deref());
        let (risk, risk_known) = risk(input.risk.as_deref());
        let product = input.product.as_deref().unwrap_or_default().trim().to_ascii_lowercase();
        let rules = self.corpus.applying(&jurisdiction, &product, risk);
        let required = required(&rules, &input);
        let missing: Vec<Requirement> = required.iter().filter(|r| !r.met).map(|r| r.item).collect();
        let mut findings = findings(&required);
        if !known {
            let detail = format!("no rules are known for {jurisdiction:?}; only the general ones were applied");
            findings.push(Finding::note("JURISDICTION_UNKNOWN", detail));
        }
        if !risk_known {
            findings.push(Finding::note("RISK_UNKNOWN", "the risk class is not known; the case is treated as high"));
        }
        let citations = self.citations(ctx, &jurisdiction, &rules, &missing)?;
        let summary = self.summary(ctx, &required, &citations).await?;
        let confidence = if known { RULES } else { UNKNOWN_JURISDICTION };
        let disposition = if missing.is_empty() { "complete" } else { "incomplete" };
        let rules_version = self.corpus.version().to_owned();
        let report = ComplianceReport {
            jurisdiction,
            risk: risk.to_owned(),
            rules_version,
            required,
            citations,
            summary,
            findings,
        };
        Ok(Outcome::new(report).confidence(confidence).disposition(disposition))
    }
}

impl ComplianceAgent {
    fn jurisdiction(&self, said: Option<&str>) -> (String, bool) {
        let code: String = said.unwrap_or_default().trim().to_ascii_uppercase().chars().take(32).collect();
        let code = if EU_STATES.contains(&code.as_str()) && !self.corpus.knows(&code) { "EU".to_owned() } else { code };
        let known = self.corpus.knows(&code);
        (code, known)
    }

    /// The rules that apply; then passages on what is missing, and on what a follow-up round asks.
    fn citations(
        &self,
        ctx: &Context<'_>,
        jurisdiction: &str,
        rules: &[&Rule],
        missing: &[Requirement],
    ) -> Result<Vec<Citation>, AgentError> {
        let mut citations: Vec<Citation> =
            rules.iter().filter(|r| !r.head.requires.is_empty()).map(|r| r.cite("")).collect();
        let words = missing.iter().map(|m| m.words()).chain(ctx.question()).collect::<Vec<_>>().join(" ");
        for passage in self.corpus.search(jurisdiction, &words, self.config.max_passages)? {
            match citations.iter_mut().find(|c| c.rule == passage.rule) {
                Some(cited) => *cited = passage,
                None => citations.push(passage),
            }
        }
        Ok(citations)
    }

    async fn summary(
        &self,
        ctx: &Context<'_>,
        required: &[Required],
        citations: &[Citation],
    ) -> Result<Option<String>, AgentError> {
        let missing: Vec<&Required> = required.iter().filter(|r| !r.met).collect();
        if missing.is_empty() {
            return Ok(None);
        }
        let prompt =
            Prompt::new(SYSTEM).json("missing items and rules", json!({ "missing": missing, "rules": citations }));
        let summary = ctx.model().ask_or_go_without::<Summary>("compliance_summary", &prompt).await?;
        Ok(summary.map(|s| s.summary))
    }
}

fn risk(said: Option<&str>) -> (&'static str, bool) {
    match said.unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "" | "standard" | "normal" | "medium" => ("standard", true),
        "low" => ("low", true),
        "high" | "enhanced" => ("high", true),
        _ => ("high", false),
    }
}

fn required(rules: &[&Rule], input: &Application) -> Vec<Required> {
    let mut items: BTreeMap<Requirement, BTreeSet<String>> = BTreeMap::new();
    for rule in rules {
        for item in &rule.head.requires {
            items.entry(*item).or_default().insert(rule.head.id.clone());
        }
    }
    let required = items.into_iter();
    required
        .map(|(item, rules)| Required { item, met: item.is_met(input), rules: rules.into_iter().collect() })
        .collect()
}

fn findings(required: &[Required]) -> Vec<Finding> {
    let missing = |documents: bool| required.iter().filter(move |r| !r.met && r.item.is_document() == documents);
    let finding = |code: &str, what: &str, items: Vec<&Required>| {
        let names: Vec<&str> = items.iter().map(|r| r.item.name()).collect();
        let rules: BTreeSet<&String> = items.iter().flat_map(|r| &r.rules).collect();
        let detail = format!("mandatory {what} missing: {}", names.join(", "));
        (!names.is_empty()).then(|| Finding::gate(code, detail).with(json!({ "needed": names, "rules": rules })))
    };
    let documents = finding("MISSING_DOCUMENT", "documents", missing(true).collect());
    let statements = finding("MISSING_INFORMATION", "information", missing(false).collect());
    documents.into_iter().chain(statements).collect()
}
