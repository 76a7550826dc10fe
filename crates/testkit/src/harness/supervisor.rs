//! A supervisor's planning.

use std::sync::Arc;

use anabranch_llm::script::ScriptedModel;
use anabranch_protocol::{CorrelationId, Timestamp};
use anabranch_sdk::error::{AgentError, ConfigError};
use anabranch_sdk::model::{ModelHandle, ModelSettings};
use anabranch_sdk::supervisor::{Directory, PlanContext, PlanDraft, Supervisor};
use serde::Deserialize as _;
use serde_json::Value;

/// A supervisor, ready to plan.
pub struct SupervisorHarness<S> {
    supervisor: S,
    model: Arc<ScriptedModel>,
    now: fn() -> Timestamp,
}

impl<S: Supervisor> SupervisorHarness<S> {
    /// Builds the supervisor from its config.
    ///
    /// # Errors
    /// As [`AgentHarness::new`](super::AgentHarness::new).
    pub fn new(config: Value) -> Result<Self, ConfigError> {
        let supervisor = S::new(super::config_of(config)?)?;
        Ok(Self { supervisor, model: Arc::new(ScriptedModel::new()), now: super::wall_clock })
    }

    /// Uses this model.
    #[must_use]
    pub fn model(mut self, model: ScriptedModel) -> Self {
        self.model = Arc::new(model);
        self
    }

    /// Plans a request with these agents.
    ///
    /// # Errors
    /// What the supervisor returned; terminal, as in the runtime, if the request does not fit.
    pub async fn plan(&self, request: Value, directory: &Directory) -> Result<PlanDraft, AgentError> {
        let request = S::Request::deserialize(request).map_err(|e| {
            AgentError::terminal("the request does not have the shape that is planned for").with_source(e)
        })?;
        let case = CorrelationId::new("case-1");
        let envelope = super::envelope(&case, "request", (self.now)(), None);
        let model = ModelHandle::new(self.model.clone(), ModelSettings::default(), S::NAME).for_case(&case);
        let context = PlanContext::new(&envelope, self.now, &model);
        self.supervisor.plan(&context, request, directory).await
    }
}
