//! What the answers of a case amount to. Reads findings of every agent alike, also of those it never heard of.

use std::collections::{BTreeMap, BTreeSet};

use anabranch_sdk::prelude::*;

use crate::record::{AgentFinding, MissingAgent, PartRecord, Versions};
use crate::{APPLICANT, Config, DOCUMENT, DOCUMENTS};

/// An answer has findings that cannot be read: what it found is not known, so nobody may be approved by it.
const UNREADABLE: &str = "FINDINGS_UNREADABLE";
/// An agent that the case needs did not answer.
pub(crate) const AGENT_MISSING: &str = "AGENT_MISSING";
/// Members of an answer that name what it was made with.
const RULE_MEMBERS: [&str; 2] = ["rules_version", "lists"];
/// Most items that an applicant is asked for.
const MOST_NEEDED: usize = 20;

/// What the answers amount to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Analysis {
    pub(crate) confidence: f64,
    pub(crate) findings: Vec<AgentFinding>,
    pub(crate) missing: Vec<MissingAgent>,
    pub(crate) parts: BTreeMap<String, PartRecord>,
    pub(crate) versions: Versions,
    required_missing: bool,
}

impl Analysis {
    pub(crate) fn of(joined: Joined<'_>, config: &Config, composer_version: &str) -> Self {
        let (parts, missing) = joined.into_parts();
        let confidence = parts.confidence();
        let required_missing = missing.iter().any(|m| m.required);
        let mut versions =
            Versions { composer: composer_version.to_owned(), agents: BTreeMap::new(), rules: BTreeMap::new() };
        let mut findings: Vec<AgentFinding> = missing.iter().map(absent).collect();
        let mut records = BTreeMap::new();
        for part in parts.iter() {
            versions.agents.insert(part.agent.to_owned(), part.version.to_owned());
            for member in RULE_MEMBERS {
                if let Some(value) = part.completion.output.get(member) {
                    versions.rules.insert(format!("{}.{member}", part.agent), value.clone());
                }
            }
            let agent = part.agent.to_owned();
            findings
                .extend(read(&part, config).into_iter().map(|finding| AgentFinding { agent: agent.clone(), finding }));
            records.insert(agent, record(&part));
        }
        let missing = missing.into_iter().map(MissingAgent::from).collect();
        Self { confidence, findings, missing, parts: records, versions, required_missing }
    }

    /// All reason codes, sorted, each once.
    pub(crate) fn codes(&self) -> Vec<String> {
        self.codes_where(|_| true)
    }

    /// Those that forbid automatic approval.
    pub(crate) fn gates(&self) -> Vec<String> {
        self.codes_where(|f| f.effect == Effect::Gate)
    }

    fn codes_where(&self, which: impl Fn(&Finding) -> bool) -> Vec<String> {
        let codes = self.findings.iter().filter(|f| which(&f.finding)).map(|f| f.finding.code.clone());
        codes.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// What the applicant must send, as findings name it in their evidence.
    pub(crate) fn needed(&self) -> Vec<String> {
        let evidence = self.findings.iter().filter_map(|f| f.finding.evidence.get("needed")?.as_array());
        let items = evidence.flatten().filter_map(Value::as_str).map(str::to_owned);
        items.collect::<BTreeSet<_>>().into_iter().take(MOST_NEEDED).collect()
    }

    /// The members of the request that what is needed belongs to.
    pub(crate) fn members_needed(&self) -> Vec<String> {
        let members: BTreeSet<&str> = self.needed().iter().map(|item| member(item)).collect();
        members.into_iter().map(str::to_owned).collect()
    }

    /// The agents that lack something from the applicant; all that answered, if none says so.
    pub(crate) fn lacking(&self) -> Vec<String> {
        let lacks = |f: &&AgentFinding| f.finding.evidence.get("needed").is_some_and(Value::is_array);
        let lacking: BTreeSet<&String> = self.findings.iter().filter(lacks).map(|f| &f.agent).collect();
        match lacking.is_empty() {
            true => self.parts.keys().cloned().collect(),
            false => lacking.into_iter().cloned().collect(),
        }
    }

    /// Why a person must look, before any band is considered; `None` if only the confidence is left to weigh.
    pub(crate) fn obstacle(&self) -> Option<String> {
        if self.required_missing {
            let missing = self.missing.iter().filter(|m| m.required);
            let named: Vec<String> = missing.map(|m| format!("{} ({})", m.agent, m.reason)).collect();
            return Some(format!("without an answer of {}", named.join(", ")));
        }
        let gates = self.gates();
        (!gates.is_empty()).then(|| gates.join(", "))
    }

    /// Who is to be asked again, and what: those that are not sure enough.
    pub(crate) fn questions(&self, publish_above: f64) -> Vec<Ask> {
        let unsure = self.parts.iter().filter(|(_, p)| p.confidence.is_some_and(|c| c <= publish_above));
        let asks = unsure.map(|(agent, part)| {
            let own = self.findings.iter().filter(|f| f.agent == *agent);
            let doubts: Vec<String> = own.map(|f| format!("{}: {}", f.finding.code, f.finding.detail)).collect();
            let confidence = part.confidence.unwrap_or(0.0);
            let question = match doubts.is_empty() {
                true => format!("You were {confidence:.2} sure, which is not enough to decide. Look again."),
                false => format!(
                    "You were {confidence:.2} sure, which is not enough to decide. Look again at {}",
                    doubts.join("; ")
                ),
            };
            Ask { agent: agent.clone(), question }
        });
        asks.collect()
    }
}

/// The findings of an answer. One whose code is among the configured hard gates is a gate, whatever the agent says.
pub(crate) fn read(part: &Part<'_>, config: &Config) -> Vec<Finding> {
    let findings = match part.completion.output.get("findings") {
        None | Some(Value::Null) => return Vec::new(),
        Some(findings) => Vec::<Finding>::deserialize(findings),
    };
    match findings {
        Ok(mut findings) => {
            for finding in findings.iter_mut().filter(|f| config.hard_gates.contains(&f.code)) {
                finding.effect = Effect::Gate;
            }
            findings
        }
        Err(error) => {
            vec![Finding::gate(UNREADABLE, format!("the findings of {} cannot be read: {error}", part.agent))]
        }
    }
}

/// The member of the request that an item belongs to.
fn member(item: &str) -> &'static str {
    match item {
        "valid_identity_document" | "proof_of_identity" | "readable_document" => DOCUMENT,
        "name" | "birth_date" | "nationality" | "address" | "identification_number" => APPLICANT,
        _ => DOCUMENTS,
    }
}

fn absent(missing: &Missing) -> AgentFinding {
    let detail = format!("{} did not answer: {}", missing.agent, why(&missing.reason));
    let finding = match missing.required {
        true => Finding::gate(AGENT_MISSING, detail),
        false => Finding::note(AGENT_MISSING, detail),
    };
    AgentFinding { agent: missing.agent.clone(), finding }
}

fn why(reason: &MissingReason) -> String {
    match reason {
        MissingReason::Late => "the deadline passed first".to_owned(),
        MissingReason::Failed(error) => format!("it failed: {error}"),
        MissingReason::NotWaitedFor => "it was not waited for".to_owned(),
    }
}

impl From<Missing> for MissingAgent {
    fn from(missing: Missing) -> Self {
        Self { reason: why(&missing.reason), agent: missing.agent, required: missing.required }
    }
}

fn record(part: &Part<'_>) -> PartRecord {
    PartRecord {
        version: part.version.to_owned(),
        round: part.round,
        confidence: part.completion.confidence,
        disposition: part.completion.disposition.clone(),
        output: part.completion.output.clone(),
    }
}
