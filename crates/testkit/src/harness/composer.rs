//! A composer's decisions, from parts made by hand.

use std::collections::BTreeMap;

use anabranch_protocol::{Completion, CorrelationId, ReviewDecision, Step, Timestamp};
use anabranch_sdk::composer::{Bands, Case, Composer, Joined, Missing, MissingReason, Outbound, Part, Parts, Verdict};
use anabranch_sdk::error::{AgentError, ConfigError};
use serde::Deserialize as _;
use serde_json::Value;

/// A composer, ready to decide.
pub struct ComposerHarness<C> {
    composer: C,
    bands: Bands,
}

impl<C: Composer> ComposerHarness<C> {
    /// Builds the composer from its config, with the default bands.
    ///
    /// # Errors
    /// As [`AgentHarness::new`](super::AgentHarness::new).
    pub fn new(config: Value) -> Result<Self, ConfigError> {
        Ok(Self { composer: C::new(super::config_of(config)?)?, bands: Bands::default() })
    }

    /// Uses these bands.
    #[must_use]
    pub fn bands(mut self, bands: Bands) -> Self {
        self.bands = bands;
        self
    }

    /// A case with this request, to be given parts and decided.
    pub fn case(&self, request: Value) -> JoinedCase<'_, C> {
        JoinedCase {
            harness: self,
            request,
            id: CorrelationId::new("case-1"),
            steps: Vec::new(),
            answers: BTreeMap::new(),
            missing: Vec::new(),
            round: 0,
            past_deadline: false,
            information: BTreeMap::new(),
        }
    }
}

/// A case in the making.
#[must_use = "a case that is not decided shows nothing"]
pub struct JoinedCase<'a, C> {
    harness: &'a ComposerHarness<C>,
    request: Value,
    id: CorrelationId,
    steps: Vec<Step>,
    answers: BTreeMap<String, Completion>,
    missing: Vec<Missing>,
    round: u32,
    past_deadline: bool,
    information: BTreeMap<String, Value>,
}

impl<C: Composer> JoinedCase<'_, C> {
    fn step(&mut self, agent: &str, required: bool) {
        self.steps.push(Step {
            agent: agent.to_owned(),
            required,
            after: Vec::new(),
            sees: None,
            version: Some("1".to_owned()),
        });
    }

    /// Adds the answer of a required agent.
    pub fn part(mut self, agent: &str, output: Value, confidence: f64) -> Self {
        self.step(agent, true);
        self.answers.insert(agent.to_owned(), Completion { output, confidence: Some(confidence), disposition: None });
        self
    }

    /// Adds the answer of an agent that is not required and has no vote.
    pub fn optional(mut self, agent: &str, output: Value) -> Self {
        self.step(agent, false);
        self.answers.insert(agent.to_owned(), Completion { output, confidence: None, disposition: None });
        self
    }

    /// Adds a required agent whose answer is missing.
    pub fn missing(mut self, agent: &str, reason: MissingReason) -> Self {
        self.step(agent, true);
        self.missing.push(Missing { agent: agent.to_owned(), required: true, reason });
        self
    }

    /// After so many follow-up rounds.
    pub fn round(mut self, round: u32) -> Self {
        self.round = round;
        self
    }

    /// After the deadline.
    pub fn past_deadline(mut self) -> Self {
        self.past_deadline = true;
        self
    }

    /// With information that was asked for and came: it takes its place in the request.
    pub fn informed(mut self, name: &str, value: Value) -> Self {
        if let Some(request) = self.request.as_object_mut() {
            request.insert(name.to_owned(), value.clone());
        }
        self.information.insert(name.to_owned(), value);
        self
    }

    /// Lets the composer decide.
    ///
    /// # Errors
    /// What the composer returned.
    pub fn compose(&self) -> Result<Verdict, AgentError> {
        self.harness.composer.compose(&self.sdk_case()?, self.joined())
    }

    /// Lets a person decide.
    ///
    /// # Errors
    /// What the composer returned.
    pub fn review(&self, decision: &ReviewDecision) -> Result<Verdict, AgentError> {
        self.harness.composer.review(&self.sdk_case()?, self.joined(), decision)
    }

    /// Lets the composer decide because nobody else did.
    ///
    /// # Errors
    /// What the composer returned.
    pub fn expired(&self) -> Result<Verdict, AgentError> {
        self.harness.composer.expired(&self.sdk_case()?, self.joined())
    }

    /// Shows the composer one part as it comes.
    ///
    /// # Errors
    /// What the composer returned.
    pub fn on_part(&self, agent: &str) -> Result<Vec<Outbound>, AgentError> {
        match self.parts().get(agent) {
            Some(part) => self.harness.composer.on_part(&self.sdk_case()?, part),
            None => Ok(Vec::new()),
        }
    }

    fn sdk_case(&self) -> Result<Case<'_, C::Request>, AgentError> {
        let request = C::Request::deserialize(&self.request)
            .map_err(|e| AgentError::terminal("the request cannot be read by the composer").with_source(e))?;
        let now = super::wall_clock();
        let opened_at = Timestamp::from_millis(now.as_millis() - 10_000);
        let deadline = Timestamp::from_millis(now.as_millis() + if self.past_deadline { -1 } else { 60_000 });
        Ok(Case {
            correlation_id: &self.id,
            request,
            information: self.information.clone(),
            deadline: Some(deadline),
            opened_at,
            now,
            round: self.round,
            bands: self.harness.bands,
        })
    }

    fn parts(&self) -> Parts<'_> {
        Parts::new(
            &self.steps,
            self.answers.iter().map(|(agent, completion)| Part { agent, version: "1", round: self.round, completion }),
        )
    }

    fn joined(&self) -> Joined<'_> {
        if self.missing.is_empty() {
            Joined::All(self.parts())
        } else {
            Joined::Incomplete { parts: self.parts(), missing: self.missing.clone() }
        }
    }
}
