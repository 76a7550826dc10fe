//! What leaves: decisions, cases for a person, fraud alerts. Plain JSON, for people and for the systems after this one.

use std::collections::BTreeMap;

use anabranch_sdk::prelude::*;
use anabranch_sdk::protocol::Timestamp;

/// `ce_type` of a decision.
pub const DECISION: &str = "kyc.decision.v1";
/// `ce_type` of a case for a person.
pub const CASE: &str = "kyc.case.v1";
/// `ce_type` of a fraud alert.
pub const FRAUD_ALERT: &str = "kyc.fraud-alert.v1";
/// `ce_type` of what an applicant is asked for.
pub const INFORMATION_REQUEST: &str = "kyc.information-request.v1";
/// `ce_type` of a message to the applicant.
pub const CUSTOMER_MESSAGE: &str = "kyc.customer-message.v1";

/// Where a case stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Approved by policy, without a person.
    Approved,
    /// A person must look.
    Human,
    /// A person asked the applicant for something.
    InformationRequested,
    /// A person approved it.
    ApprovedAfterReview,
    /// A person rejected it. There is no other rejection.
    RejectedByReviewer,
}

/// The outcome of a case, with all it rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CaseRecord {
    /// The case.
    pub correlation_id: String,
    /// Where it stands.
    pub state: State,
    /// Why a person must look, or who decided; for people.
    pub reason: String,
    /// The case's confidence: the least over the required agents; one that is missing counts as 0.
    pub confidence: f64,
    /// Reason codes, sorted: those that led to a person, and those on record.
    pub codes: Vec<String>,
    /// Those of them that forbid automatic approval.
    pub gates: Vec<String>,
    /// Who decided, if a person did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reviewer: Option<String>,
    /// What that person wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<ReviewDecision>,
    /// What the applicant must send, if anything.
    pub needed_from_applicant: Vec<String>,
    /// Members of the request that came since, because they were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub information: Vec<String>,
    /// Agents that did not answer.
    pub missing: Vec<MissingAgent>,
    /// What was found, with its evidence.
    pub findings: Vec<AgentFinding>,
    /// The answers, by agent, as they came.
    pub parts: BTreeMap<String, PartRecord>,
    /// Follow-up rounds.
    pub rounds: u32,
    /// What was decided with.
    pub versions: Versions,
    /// When the request was planned.
    pub opened_at: Timestamp,
    /// When this was decided.
    pub decided_at: Timestamp,
}

/// What an applicant is asked for. It answers with an `anabranch.information-provided.v1` record on the review topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InformationLetter {
    /// The case.
    pub correlation_id: String,
    /// Their name.
    pub to: String,
    /// Where to, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// What is missing, as the rules call it.
    pub items: Vec<String>,
    /// Members of the request that the answer must have, and no others.
    pub needs: Vec<String>,
}

/// An agent that did not answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MissingAgent {
    /// Which.
    pub agent: String,
    /// Whether the case needed it.
    pub required: bool,
    /// Why.
    pub reason: String,
}

/// What an agent found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AgentFinding {
    /// Which.
    pub agent: String,
    /// What. Its effect is as the composer took it: a code that policy makes a gate is one.
    #[serde(flatten)]
    pub finding: Finding,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PartRecord {
    /// The agent's version.
    pub version: String,
    /// The round it answered.
    pub round: u32,
    /// How sure it was.
    pub confidence: Option<f64>,
    /// What it would do.
    pub disposition: Option<String>,
    /// All it said.
    pub output: Value,
}

/// What was decided with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Versions {
    /// Of the composer.
    pub composer: String,
    /// Of each agent that answered.
    pub agents: BTreeMap<String, String>,
    /// Of rules and lists, as the agents name them, by agent and member.
    pub rules: BTreeMap<String, Value>,
}

/// A fraud alert.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FraudAlert {
    /// The case.
    pub correlation_id: String,
    /// Who raised it.
    pub agent: String,
    /// The agent's version.
    pub agent_version: String,
    /// Reason codes.
    pub codes: Vec<String>,
    /// What was found, with its evidence.
    pub findings: Vec<Finding>,
    /// The agent's score, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// When.
    pub raised_at: Timestamp,
}

/// A message to the applicant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CustomerMessage {
    /// The case.
    pub correlation_id: String,
    /// Their name.
    pub to: String,
    /// Where to, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// All the agent wrote: `subject`, `body` and what it rests on.
    #[serde(flatten)]
    pub message: Value,
}
