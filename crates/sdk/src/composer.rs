//! The composer role: the answers in, a verdict out. A pure function of the case, so that a redelivery decides the
//! same again.

use std::collections::BTreeMap;
use std::time::Duration;

use anabranch_protocol::ReviewDecision;
use anabranch_protocol::{Completion, CorrelationId, Step, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{AgentError, ConfigError};
use crate::mask;
use crate::message::Message;

/// Joins the answers of a case and decides.
pub trait Composer: Sized + Send + Sync + 'static {
    /// Identity of group and metrics.
    const NAME: &'static str = "composer";
    /// Version that outcomes carry.
    const VERSION: &'static str = "0.1.0";
    /// `agents.<name>.config` in `topics.yaml`.
    type Config: DeserializeOwned;
    /// What it reads from the request.
    type Request: Message;

    /// Builds it. No network, no spawning.
    ///
    /// # Errors
    /// A [`ConfigError`]; the process does not start.
    fn new(config: Self::Config) -> Result<Self, ConfigError>;

    /// Decides, once the answers are in that the topology's join policy waits for, or the deadline has passed.
    ///
    /// # Errors
    /// Fatal stops the process; anything else makes the case a dead letter.
    fn compose(&self, case: &Case<'_, Self::Request>, joined: Joined<'_>) -> Result<Verdict, AgentError>;

    /// Decides a parked case with what a person said.
    ///
    /// # Errors
    /// As [`Composer::compose`].
    fn review(
        &self,
        case: &Case<'_, Self::Request>,
        joined: Joined<'_>,
        decision: &ReviewDecision,
    ) -> Result<Verdict, AgentError>;

    /// Decides a parked case for which nobody decided within `parking.expire_after`. Unless this says otherwise it becomes
    /// a dead letter.
    ///
    /// # Errors
    /// As [`Composer::compose`].
    fn expired(&self, case: &Case<'_, Self::Request>, joined: Joined<'_>) -> Result<Verdict, AgentError> {
        let _ = (case, joined.into_parts());
        Err(AgentError::terminal("nobody decided in time"))
    }

    /// Sees each answer as it comes, before the case is complete, and also the answers of steps after the outcome.
    /// What it returns leaves at once: alerts, messages.
    ///
    /// # Errors
    /// As [`Composer::compose`].
    fn on_part(&self, case: &Case<'_, Self::Request>, part: Part<'_>) -> Result<Vec<Outbound>, AgentError> {
        let _ = (case, part);
        Ok(Vec::new())
    }
}

/// A case, as the composer sees it.
#[derive(Debug)]
pub struct Case<'a, R> {
    /// Its id.
    pub correlation_id: &'a CorrelationId,
    /// The request. Information that was asked for and provided since has taken its place in it.
    pub request: R,
    /// That information, by name.
    pub information: BTreeMap<String, Value>,
    /// When it must be decided.
    pub deadline: Option<Timestamp>,
    /// When the request was planned.
    pub opened_at: Timestamp,
    /// The time.
    pub now: Timestamp,
    /// Follow-up rounds so far.
    pub round: u32,
    /// The bands of `topics.yaml`.
    pub bands: Bands,
}

impl<R> Case<'_, R> {
    /// The band of a confidence, given the rounds already had. Past the deadline there is no time for another round.
    pub fn band(&self, confidence: f64) -> Band {
        match self.bands.of(confidence, self.round) {
            Band::FollowUp if self.deadline.is_some_and(|d| self.now >= d) => Band::Human,
            band => band,
        }
    }
}

/// Confidence bands (`DESIGN` §10). Hard gates come before them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bands {
    /// Above this: publish.
    pub publish_above: f64,
    /// From this to `publish_above`: a follow-up round. Below: a human.
    pub follow_up_from: f64,
    /// Most follow-up rounds.
    pub max_follow_up_rounds: u32,
}

impl Default for Bands {
    fn default() -> Self {
        Self { publish_above: 0.95, follow_up_from: 0.75, max_follow_up_rounds: 2 }
    }
}

/// What a confidence asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Band {
    /// Sure enough to publish.
    Publish,
    /// Middling, and rounds are left.
    FollowUp,
    /// A human.
    Human,
}

impl Bands {
    /// The band of `confidence` after `rounds` follow-up rounds. `NaN` is a human.
    pub fn of(&self, confidence: f64, rounds: u32) -> Band {
        if confidence > self.publish_above {
            Band::Publish
        } else if confidence >= self.follow_up_from && rounds < self.max_follow_up_rounds {
            Band::FollowUp
        } else {
            Band::Human
        }
    }
}

/// Either all voting parts, or the parts there are and what is missing. A composer has to say what it does with each.
#[derive(Debug)]
#[must_use = "a join that nobody looks at decides nothing"]
pub enum Joined<'a> {
    /// Every voting step has answered.
    All(Parts<'a>),
    /// Some have not.
    Incomplete {
        /// The answers there are.
        parts: Parts<'a>,
        /// Those that are missing, at least one.
        missing: Vec<Missing>,
    },
}

impl<'a> Joined<'a> {
    /// Takes it apart; `missing` is empty if all are in.
    pub fn into_parts(self) -> (Parts<'a>, Vec<Missing>) {
        match self {
            Self::All(parts) => (parts, Vec::new()),
            Self::Incomplete { parts, missing } => (parts, missing),
        }
    }
}

/// An answer that is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// Whose.
    pub agent: String,
    /// Whether the case needs it.
    pub required: bool,
    /// Why.
    pub reason: MissingReason,
}

/// Why an answer is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MissingReason {
    /// The deadline passed first.
    Late,
    /// The task became a dead letter.
    Failed(String),
    /// By the topology's join policy there was enough to decide without it.
    NotWaitedFor,
}

/// One answer.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// Whose.
    pub agent: &'a str,
    /// The agent's version.
    pub version: &'a str,
    /// Its round.
    pub round: u32,
    /// The answer.
    pub completion: &'a Completion,
}

impl Part<'_> {
    /// The answer, typed.
    ///
    /// # Errors
    /// Terminal, if it does not have the shape of `T`.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, AgentError> {
        T::deserialize(&self.completion.output).map_err(|e| {
            AgentError::terminal(format!("the answer of {} cannot be read", self.agent))
                .with_source(mask::serde_words(&e))
        })
    }
}

/// The voting answers of a case, one for each agent: that of the latest round.
#[derive(Debug, Clone)]
pub struct Parts<'a> {
    steps: &'a [Step],
    parts: BTreeMap<&'a str, Part<'a>>,
}

impl<'a> Parts<'a> {
    /// For the runtime and the test harness.
    pub fn new(steps: &'a [Step], parts: impl IntoIterator<Item = Part<'a>>) -> Self {
        Self { steps, parts: parts.into_iter().map(|p| (p.agent, p)).collect() }
    }

    /// The answer of `agent`.
    pub fn get(&self, agent: &str) -> Option<Part<'a>> {
        self.parts.get(agent).copied()
    }

    /// The answer of `agent`, typed; `None` if it is missing.
    ///
    /// # Errors
    /// Terminal, if it does not have the shape of `T`.
    pub fn read<T: DeserializeOwned>(&self, agent: &str) -> Result<Option<T>, AgentError> {
        self.get(agent).map(|p| p.read()).transpose()
    }

    /// All answers, by agent.
    pub fn iter(&self) -> impl Iterator<Item = Part<'a>> + '_ {
        self.parts.values().copied()
    }

    /// The case's confidence: the least over the required agents; one that is missing or did not say counts as 0.
    /// 1 if no agent is required.
    pub fn confidence(&self) -> f64 {
        let required = self.steps.iter().filter(|s| s.required && !s.follows_outcome());
        required
            .map(|s| self.get(&s.agent).and_then(|p| p.completion.confidence).unwrap_or(0.0))
            .fold(1.0, |least, c| if c < least || c.is_nan() { c } else { least })
    }
}

/// What becomes of the case.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "a verdict that is not returned is lost"]
pub enum Verdict {
    /// It is decided: these records leave, the case is closed.
    Publish(Vec<Outbound>),
    /// Another round: these agents are asked again.
    FollowUp(Vec<Ask>),
    /// A human must look: the case waits without holding anything.
    Park(Park),
    /// Only of [`Composer::review`]: what the person decided cannot be followed. They are told why; the case stays as it is.
    Refuse(String),
}

/// A case that waits for a person, and why.
#[derive(Debug, Clone, Default, PartialEq)]
#[must_use = "a case is parked by returning this"]
pub struct Park {
    /// What leaves.
    pub outbound: Vec<Outbound>,
    /// Why, for people.
    pub reason: String,
    /// Why, in codes: what `anabranch inbox list --reason` looks for.
    pub codes: Vec<String>,
    /// What it waits for beside a decision.
    pub information: Option<InformationRequest>,
    /// Instead of the topology's `parking.remind_after`.
    pub remind_after: Option<Duration>,
    /// Instead of the topology's `parking.escalate_after`.
    pub escalate_after: Option<Duration>,
    /// Instead of the topology's `parking.expire_after`.
    pub expire_after: Option<Duration>,
}

impl Park {
    /// Parks a case for this reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), ..Self::default() }
    }

    /// A record that leaves.
    pub fn outbound(mut self, record: Outbound) -> Self {
        self.outbound.push(record);
        self
    }

    /// The reason in codes.
    pub fn codes(mut self, codes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.codes = codes.into_iter().map(Into::into).collect();
        self
    }

    /// Waits for information too.
    pub fn until_informed(mut self, request: InformationRequest) -> Self {
        self.information = Some(request);
        self
    }
}

impl From<Park> for Verdict {
    fn from(park: Park) -> Self {
        Self::Park(park)
    }
}

/// Information that a case waits for. Whom it is asked of is told by a record that leaves; what is provided comes as an
/// `anabranch.information-provided.v1` record on the review topic. It then takes the place of the request's members of these
/// names, and a follow-up round begins. A person may decide without it at any time, and must once its time is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InformationRequest {
    /// What is needed: names of the request's members. Nothing else may be provided.
    pub needs: Vec<String>,
    /// Who is asked again once it is there; at least one.
    pub asks: Vec<Ask>,
    /// How long it is waited for; `None`: the topology's `parking.information_within`.
    pub within: Option<Duration>,
}

/// A question of a follow-up round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Whom.
    pub agent: String,
    /// What.
    pub question: String,
}

/// A record that leaves. The first one of a verdict is the outcome that steps after the outcome are given.
#[derive(Debug, Clone, PartialEq)]
pub struct Outbound {
    topic: String,
    kind: String,
    data: Value,
}

impl Outbound {
    /// A record for the outbound topic with this alias in `topics.yaml`, of the CloudEvents type `kind`.
    ///
    /// # Errors
    /// Terminal, if `data` cannot be written as JSON.
    pub fn new(topic: impl Into<String>, kind: impl Into<String>, data: &impl Serialize) -> Result<Self, AgentError> {
        let data = serde_json::to_value(data)
            .map_err(|e| AgentError::terminal("an outbound record cannot be written").with_source(e))?;
        Ok(Self { topic: topic.into(), kind: kind.into(), data })
    }

    /// The topic's alias.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// `ce_type`.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The value.
    pub fn data(&self) -> &Value {
        &self.data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_required_agent_counts_as_zero() {
        let step =
            |agent: &str, required| Step { agent: agent.into(), required, after: vec![], sees: None, version: None };
        let steps = [step("a", true), step("b", true), step("c", false)];
        let sure = Completion { output: Value::Null, confidence: Some(0.99), disposition: None };
        let unsure = Completion { confidence: Some(0.1), ..sure.clone() };
        let part = |agent, completion| Part { agent, version: "1", round: 0, completion };
        assert_eq!(Parts::new(&steps, [part("a", &sure)]).confidence(), 0.0);
        assert_eq!(Parts::new(&steps, [part("a", &sure), part("b", &sure), part("c", &unsure)]).confidence(), 0.99);
    }

    #[test]
    fn bands_run_out_of_rounds() {
        let bands = Bands::default();
        assert_eq!(bands.of(0.96, 0), Band::Publish);
        assert_eq!(bands.of(0.95, 0), Band::FollowUp);
        assert_eq!(bands.of(0.95, 2), Band::Human);
        assert_eq!(bands.of(0.74, 0), Band::Human);
        assert_eq!(bands.of(f64::NAN, 0), Band::Human);
    }
}
