//! KYC composer: joins the answers of a case, decides, routes.
//!
//! A case is approved without a person only if every required agent answered, no finding is a hard gate, and the least
//! confidence is in the publishing band; in this order. Nothing is rejected by policy: what is not approved goes to a
//! person with all there is. It knows no agent by name but the one whose words go to the applicant; findings are read
//! alike from every answer, so an agent that is dropped in is heard without an edit here.

mod analysis;
pub mod record;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use anabranch_sdk::prelude::*;

use crate::analysis::Analysis;
use crate::record::{
    CASE, CUSTOMER_MESSAGE, CaseRecord, CustomerMessage, DECISION, FRAUD_ALERT, FraudAlert, INFORMATION_REQUEST,
    InformationLetter, State,
};

/// Aliases of the outbound topics in `topics.yaml`.
const DECISIONS: &str = "decisions";
const CASES: &str = "cases";
const FRAUD_ALERTS: &str = "fraud-alerts";
const CUSTOMER_MESSAGES: &str = "customer-messages";
/// Members of the request that something may be missing from.
const APPLICANT: &str = "applicant";
const DOCUMENTS: &str = "documents_provided";
const DOCUMENT: &str = "document";
/// The confidence is too low, and nothing else is the matter.
const UNSURE: &str = "CONFIDENCE_TOO_LOW";

/// The composer.
#[derive(Debug)]
pub struct KycComposer {
    config: Config,
}

/// `agents.composer.config`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Reason codes that forbid automatic approval even where an agent says they are only on record.
    pub hard_gates: BTreeSet<String>,
    /// Reason codes that are a fraud alert, where they forbid automatic approval.
    pub fraud_alerts: BTreeSet<String>,
    /// The agent whose answer is a message to the applicant.
    pub messages_from: String,
    /// Members of the request that an applicant may be asked for, and so may replace.
    pub information: BTreeSet<String>,
}

impl Default for Config {
    fn default() -> Self {
        let codes = |codes: &[&str]| codes.iter().map(|c| (*c).to_owned()).collect();
        Self {
            hard_gates: codes(&[
                "SANCTIONS_CONFIRMED",
                "SANCTIONS_POSSIBLE",
                "DOC_CHECK_DIGIT",
                "DOC_EXPIRED",
                "MISSING_DOCUMENT",
            ]),
            fraud_alerts: codes(&["SHARED_IP", "SHARED_DEVICE", "DOC_CHECK_DIGIT", "DOC_FIELD_INVALID"]),
            messages_from: "customer".to_owned(),
            information: codes(&[DOCUMENTS, DOCUMENT]),
        }
    }
}

/// What it reads from the request: whom to write to.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Application {
    /// Who applies.
    pub applicant: Applicant,
}

/// Who applies.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Applicant {
    /// Full name.
    pub name: String,
    /// E-mail address.
    pub email: Option<String>,
}

impl Composer for KycComposer {
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    type Config = Config;
    type Request = Application;

    fn new(config: Config) -> Result<Self, ConfigError> {
        Ok(Self { config })
    }

    fn compose(&self, case: &Case<'_, Application>, joined: Joined<'_>) -> Result<Verdict, AgentError> {
        let analysis = self.analyse(joined);
        if let Some(obstacle) = analysis.obstacle() {
            let codes = analysis.gates();
            return park(case, analysis, obstacle, codes);
        }
        match case.band(analysis.confidence) {
            Band::Publish => {
                let record = record(case, analysis, State::Approved, "all checks passed".to_owned(), None);
                Ok(Verdict::Publish(vec![Outbound::new(DECISIONS, DECISION, &record)?]))
            }
            Band::FollowUp => {
                let asks = analysis.questions(case.bands.publish_above);
                // Confidence is low though nobody said so: nobody to ask.
                if asks.is_empty() { park_unsure(case, analysis) } else { Ok(Verdict::FollowUp(asks)) }
            }
            Band::Human => park_unsure(case, analysis),
        }
    }

    fn review(
        &self,
        case: &Case<'_, Application>,
        joined: Joined<'_>,
        decision: &ReviewDecision,
    ) -> Result<Verdict, AgentError> {
        let analysis = self.analyse(joined);
        let reviewer = decision.reviewer.trim();
        if reviewer.is_empty() {
            return Ok(Verdict::Refuse("the review names no reviewer".to_owned()));
        }
        let state = match decision.decision.trim().to_ascii_lowercase().as_str() {
            "approve" | "approved" => State::ApprovedAfterReview,
            "reject" | "rejected" => State::RejectedByReviewer,
            "recheck" => return Ok(recheck(case, analysis, decision)),
            "request-information" => return self.request_information(case, analysis, decision),
            other => {
                let words = "it can be approve, reject, recheck or request-information";
                return Ok(Verdict::Refuse(format!("the review says {other:?}; {words}")));
            }
        };
        let words = if state == State::ApprovedAfterReview { "approved" } else { "rejected" };
        let reason = match decision.reason.as_deref().map(str::trim).filter(|r| !r.is_empty()) {
            Some(why) => format!("{words} by {reviewer}: {why}"),
            None => format!("{words} by {reviewer}"),
        };
        let record = record(case, analysis, state, reason, Some(decision));
        Ok(Verdict::Publish(vec![Outbound::new(DECISIONS, DECISION, &record)?]))
    }

    fn on_part(&self, case: &Case<'_, Application>, part: Part<'_>) -> Result<Vec<Outbound>, AgentError> {
        if part.agent == self.config.messages_from {
            return self.message(case, &part);
        }
        let findings: Vec<Finding> = analysis::read(&part, &self.config)
            .into_iter()
            .filter(|f| f.effect == Effect::Gate && self.config.fraud_alerts.contains(&f.code))
            .collect();
        if findings.is_empty() {
            return Ok(Vec::new());
        }
        let alert = FraudAlert {
            correlation_id: case.correlation_id.to_string(),
            agent: part.agent.to_owned(),
            agent_version: part.version.to_owned(),
            codes: findings.iter().map(|f| f.code.clone()).collect(),
            findings,
            score: part.completion.output.get("score").and_then(Value::as_f64),
            raised_at: case.now,
        };
        Ok(vec![Outbound::new(FRAUD_ALERTS, FRAUD_ALERT, &alert)?])
    }
}

impl KycComposer {
    fn analyse(&self, joined: Joined<'_>) -> Analysis {
        Analysis::of(joined, &self.config, Self::VERSION)
    }

    /// A person wants something from the applicant; once it is there, the agents that lack it are asked again.
    fn request_information(
        &self,
        case: &Case<'_, Application>,
        analysis: Analysis,
        decision: &ReviewDecision,
    ) -> Result<Verdict, AgentError> {
        let needs = if decision.needs.is_empty() { analysis.members_needed() } else { decision.needs.clone() };
        let needs: Vec<String> = needs.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
        if needs.is_empty() {
            return Ok(Verdict::Refuse("nothing is known to be missing: say what is needed".to_owned()));
        }
        if let Some(other) = needs.iter().find(|need| !self.config.information.contains(*need)) {
            let may: Vec<&str> = self.config.information.iter().map(String::as_str).collect();
            let why = format!("an applicant cannot be asked for {other:?}, only for {}", may.join(", "));
            return Ok(Verdict::Refuse(why));
        }
        let question = format!("The applicant was asked for {} and has answered. Look again.", needs.join(", "));
        let asks = analysis.lacking().into_iter().map(|agent| Ask { agent, question: question.clone() }).collect();
        let letter = InformationRequest { needs: needs.clone(), asks, within: None };
        let (reason, codes) = (format!("information requested by {}", decision.reviewer.trim()), analysis.gates());
        let message = InformationLetter {
            correlation_id: case.correlation_id.to_string(),
            to: case.request.applicant.name.clone(),
            email: case.request.applicant.email.clone(),
            items: analysis.needed(),
            needs,
        };
        let record = record(case, analysis, State::InformationRequested, reason.clone(), Some(decision));
        let park = Park::new(reason).codes(codes).until_informed(letter);
        let park = park.outbound(Outbound::new(CASES, CASE, &record)?);
        Ok(park.outbound(Outbound::new(CUSTOMER_MESSAGES, INFORMATION_REQUEST, &message)?).into())
    }

    fn message(&self, case: &Case<'_, Application>, part: &Part<'_>) -> Result<Vec<Outbound>, AgentError> {
        let message = CustomerMessage {
            correlation_id: case.correlation_id.to_string(),
            to: case.request.applicant.name.clone(),
            email: case.request.applicant.email.clone(),
            message: part.completion.output.clone(),
        };
        Ok(vec![Outbound::new(CUSTOMER_MESSAGES, CUSTOMER_MESSAGE, &message)?])
    }
}

fn park_unsure(case: &Case<'_, Application>, analysis: Analysis) -> Result<Verdict, AgentError> {
    let rounds = case.round;
    let reason = format!("confidence {:.2} after {rounds} follow-up rounds is not enough", analysis.confidence);
    park(case, analysis, reason, vec![UNSURE.to_owned()])
}

fn park(
    case: &Case<'_, Application>,
    analysis: Analysis,
    reason: String,
    codes: Vec<String>,
) -> Result<Verdict, AgentError> {
    let record = record(case, analysis, State::Human, reason.clone(), None);
    Ok(Park::new(reason).codes(codes).outbound(Outbound::new(CASES, CASE, &record)?).into())
}

/// A person wants the agents asked again. With no round left, the case stays with the person.
fn recheck(case: &Case<'_, Application>, analysis: Analysis, decision: &ReviewDecision) -> Verdict {
    if case.round >= case.bands.max_follow_up_rounds || analysis.parts.is_empty() {
        return Verdict::Refuse("there is no follow-up round left".to_owned());
    }
    let question = decision.reason.clone().unwrap_or_else(|| "A reviewer asks you to look again.".to_owned());
    let agents = analysis.parts.into_keys().chain(analysis.missing.into_iter().map(|m| m.agent));
    let agents: BTreeSet<String> = agents.collect();
    Verdict::FollowUp(agents.into_iter().map(|agent| Ask { agent, question: question.clone() }).collect())
}

fn record(
    case: &Case<'_, Application>,
    analysis: Analysis,
    state: State,
    reason: String,
    review: Option<&ReviewDecision>,
) -> CaseRecord {
    let decided_by_person = matches!(state, State::ApprovedAfterReview | State::RejectedByReviewer);
    CaseRecord {
        correlation_id: case.correlation_id.to_string(),
        state,
        reason,
        confidence: analysis.confidence,
        codes: analysis.codes(),
        gates: analysis.gates(),
        reviewer: review.filter(|_| decided_by_person).map(|r| r.reviewer.trim().to_owned()),
        review: review.cloned(),
        needed_from_applicant: analysis.needed(),
        information: case.information.keys().cloned().collect(),
        missing: analysis.missing,
        findings: analysis.findings,
        parts: analysis.parts,
        rounds: case.round,
        versions: analysis.versions,
        opened_at: case.opened_at,
        decided_at: case.now,
    }
}
