//! KYC supervisor: plans a case. It does no check itself.
//!
//! Every agent whose `when` holds for the request is asked, also one that announced itself a moment ago. Risk
//! parameters bring the deadline forward and say for which risk classes every answer is needed. What is planned needs no
//! model: it follows from the request and the directory.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anabranch_sdk::prelude::*;
use anabranch_sdk::protocol::Step;

/// The supervisor.
#[derive(Debug)]
pub struct KycSupervisor {
    config: Config,
}

/// `agents.supervisor.config`: the risk parameters.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Risk classes that must be decided sooner than `join.deadline` says, such as `{ high: 3m }`.
    pub decide_within: BTreeMap<String, Span>,
    /// Risk classes in which no agent that votes may be missing, also one that is otherwise optional.
    pub all_required_for: BTreeSet<String>,
    /// The risk class of a request that names none.
    pub default_risk: String,
}

/// A length of time, such as `90s`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(transparent)]
pub struct Span(#[serde(with = "jiff::fmt::serde::unsigned_duration::required")] pub Duration);

impl Default for Config {
    fn default() -> Self {
        Self {
            decide_within: BTreeMap::new(),
            all_required_for: BTreeSet::from(["high".to_owned()]),
            default_risk: "standard".to_owned(),
        }
    }
}

/// An application, the value of a record on `kyc.requests`. Unknown members are ignored, and nearly all may be left out:
/// what a jurisdiction asks for and is not there is found by the agents, not refused here. A member of another type than
/// this makes the record a dead letter.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Application {
    /// Who applies.
    pub applicant: Applicant,
    /// Their identity document.
    #[serde(default)]
    pub document: Document,
    /// What they apply for: `current_account`, …
    #[serde(default)]
    pub product: Option<String>,
    /// Whose rules apply: `US`, `EU` or a member state, `SG`, …
    #[serde(default)]
    pub jurisdiction: Option<String>,
    /// Risk class: `low`, `standard`, `high`.
    #[serde(default)]
    pub risk: Option<String>,
    /// Where the application came from.
    #[serde(default)]
    pub source: Source,
    /// Documents that were sent in: `passport`, `utility_bill`, …
    #[serde(default)]
    pub documents_provided: Vec<String>,
}

/// Who applies, as declared.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Applicant {
    /// Full name.
    pub name: String,
    /// YYYY-MM-DD.
    #[serde(default)]
    pub birth_date: Option<String>,
    /// Three-letter code.
    #[serde(default)]
    pub nationality: Option<String>,
    /// Postal address.
    #[serde(default)]
    pub address: Option<String>,
    /// E-mail address.
    #[serde(default)]
    pub email: Option<String>,
    /// Taxpayer's number or the like.
    #[serde(default)]
    pub identification_number: Option<String>,
}

/// An identity document, as declared and as scanned.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Document {
    /// `passport` or `id_card`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Its number.
    pub number: Option<String>,
    /// Three-letter code of the state that issued it.
    pub issuer: Option<String>,
    /// The machine-readable zone, line by line or in one text.
    pub mrz: Option<Zone>,
    /// What else is printed on it; a large text lies in the claim store.
    pub text: Option<Claimed<String>>,
}

/// A machine-readable zone.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Zone {
    /// Its lines.
    Lines(Vec<String>),
    /// All of it.
    Text(String),
}

/// Where an application came from.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Source {
    /// IP address.
    pub ip: Option<String>,
    /// Id of the device, as the channel gives it.
    pub device_id: Option<String>,
}

impl Supervisor for KycSupervisor {
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    type Config = Config;
    type Request = Application;

    fn new(config: Config) -> Result<Self, ConfigError> {
        match config.decide_within.iter().find(|(_, within)| within.0.is_zero()) {
            Some((risk, _)) => {
                Err(ConfigError::new(format!("decide_within.{risk} is 0; write a length of time such as 3m")))
            }
            None => Ok(Self { config }),
        }
    }

    async fn plan(
        &self,
        ctx: &PlanContext<'_>,
        request: Application,
        directory: &Directory,
    ) -> Result<PlanDraft, AgentError> {
        let said = request.risk.as_deref().map(|r| r.trim().to_ascii_lowercase()).filter(|r| !r.is_empty());
        let risk = said.unwrap_or_else(|| self.config.default_risk.clone());
        let mut draft = directory.plan();
        if self.config.all_required_for.contains(&risk) {
            draft = require_all(draft, directory);
        }
        if let Some(within) = self.config.decide_within.get(&risk) {
            draft = draft.due(ctx.now().plus(within.0));
        }
        Ok(draft)
    }
}

/// Makes every step that votes a required one.
fn require_all(draft: PlanDraft, directory: &Directory) -> PlanDraft {
    let optional = directory.candidates().iter().filter(|c| c.applies && !c.required);
    let steps = optional.map(|c| Step {
        agent: c.agent.clone(),
        required: true,
        after: c.after.clone(),
        sees: c.sees.clone(),
        version: c.version.clone(),
    });
    steps.filter(|s| !s.follows_outcome()).fold(draft, PlanDraft::with)
}
