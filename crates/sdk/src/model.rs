//! The model an agent may ask. Which one it is, and behind what endpoint, is `topics.yaml`'s business.

use std::sync::Arc;
use std::time::Duration;

use anabranch_llm::stack::{CallContext, Journaled};
use anabranch_llm::{ChatRequest, ChatResponse, ErrorClass, Journal, Message as ChatMessage, Model, ModelError, Usage};
use anabranch_protocol::CorrelationId;
use serde_json::Value;

use crate::mask::Mask;
use crate::message::Message;
use crate::personal::Personal;
use crate::prompt::Prompt;

/// How `topics.yaml` wants an agent's model asked.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSettings {
    /// The model's name at its endpoint.
    pub name: String,
    /// Sampling temperature; `None` leaves it to the endpoint.
    pub temperature: Option<f32>,
    /// Most tokens of an answer.
    pub max_output_tokens: Option<u32>,
    /// How often an answer of the wrong shape is sent back with what is wrong with it.
    pub max_repairs: u32,
    /// Longest time one call may take.
    pub timeout: Duration,
}

impl Default for ModelSettings {
    fn default() -> Self {
        Self {
            name: "default".into(),
            temperature: None,
            max_output_tokens: None,
            max_repairs: 2,
            timeout: Duration::from_secs(60),
        }
    }
}

/// The model of one agent, for one case.
#[derive(Clone)]
pub struct ModelHandle {
    model: Arc<dyn Model>,
    settings: Arc<ModelSettings>,
    agent: &'static str,
    correlation_id: Option<CorrelationId>,
    tenant: Option<String>,
    /// Where calls are recorded: what of the case is personal.
    personal: Option<Personal>,
}

impl ModelHandle {
    /// For the runtime and the test harness.
    pub fn new(model: Arc<dyn Model>, settings: ModelSettings, agent: &'static str) -> Self {
        Self { model, settings: Arc::new(settings), agent, correlation_id: None, tenant: None, personal: None }
    }

    /// The same model, for this case: the endpoint is told which case a call is for.
    #[must_use]
    pub fn for_case(&self, case: &CorrelationId) -> Self {
        Self { correlation_id: Some(case.clone()), ..self.clone() }
    }

    /// The same model, on behalf of this tenant: rate limits are fair between tenants.
    #[must_use]
    pub fn for_tenant(&self, tenant: Option<String>) -> Self {
        Self { tenant, ..self.clone() }
    }

    /// The same model, whose calls are recorded: without what `mask` marks, of what [`ModelHandle::about`] names.
    #[must_use]
    pub fn recorded_without(&self, mask: Mask) -> Self {
        Self { personal: Some(Personal::new(mask)), ..self.clone() }
    }

    /// The same model, asked about these values. It costs nothing where calls are not recorded.
    #[must_use]
    pub fn about<'v>(self, values: impl IntoIterator<Item = &'v Value>) -> Self {
        let personal = self.personal.as_ref().map(|personal| personal.of(values));
        Self { personal, ..self }
    }

    /// What lies in the claim store under this name is asked about too, from now on.
    pub(crate) fn about_fetched(&self, name: &str, content: &[u8]) {
        if let Some(personal) = &self.personal {
            personal.fetched(name, content);
        }
    }

    /// The same model, with the journal of one attempt at a task: what was answered before is not asked again.
    #[must_use]
    pub fn with_journal(&self, journal: Arc<dyn Journal>) -> Self {
        Self { model: Arc::new(Journaled::new(self.model.clone(), journal)), ..self.clone() }
    }

    /// Asks for an answer of the shape `T`. The answer is checked against `T`'s JSON Schema. One that is not valid
    /// for it is sent back with what is wrong, [`ModelSettings::max_repairs`] times; then the error is terminal.
    ///
    /// `name` names the schema at the endpoint.
    ///
    /// # Errors
    /// Already classified: `?` in a handler does what the class asks for.
    pub async fn ask<T: Message>(&self, name: &str, prompt: &Prompt) -> Result<T, ModelError> {
        let request = self.request_of(prompt);
        let request = anabranch_llm::named::<T>(request, name);
        let (answer, usage) =
            anabranch_llm::structured_repaired::<T>(&*self.model, request, self.settings.max_repairs).await?;
        self.log(usage);
        Ok(answer)
    }

    /// As [`ModelHandle::ask`], for an agent that can go on without: `None` if this question will never be answered (it
    /// was refused, filtered, or answered in another shape). What hostile input makes of the model then costs an
    /// explanation, not the check.
    ///
    /// # Errors
    /// Those that pass, or that no question of this agent escapes.
    pub async fn ask_or_go_without<T: Message>(&self, name: &str, prompt: &Prompt) -> Result<Option<T>, ModelError> {
        match self.ask(name, prompt).await {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if error.class() == ErrorClass::Terminal => {
                // What is wrong with an answer quotes it, and it may hold what an applicant wrote.
                match &error {
                    ModelError::InvalidOutput { .. } => {
                        tracing::warn!(
                            agent = self.agent,
                            schema = name,
                            "going on without the model: no valid answer"
                        );
                        tracing::debug!(agent = self.agent, schema = name, %error, "the answer that is not valid");
                    }
                    _ => tracing::warn!(agent = self.agent, schema = name, %error, "going on without the model"),
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// A plain chat, for what [`ModelHandle::ask`] and [`crate::Context::tools`] do not cover: several turns. Start from
    /// [`ModelHandle::request`] and [`Prompt::messages`].
    ///
    /// # Errors
    /// As [`ModelHandle::ask`].
    pub async fn chat(&self, mut request: ChatRequest) -> Result<ChatResponse, ModelError> {
        if request.personal.is_empty() {
            self.say_what_is_personal(&mut request, &[]);
        }
        let response = self.model.chat(request).await?;
        self.log(response.usage);
        Ok(response)
    }

    /// A request with this agent's settings.
    pub fn request(&self, messages: Vec<ChatMessage>) -> ChatRequest {
        let mut request = ChatRequest::new(self.settings.name.clone(), messages);
        request.temperature = self.settings.temperature;
        request.max_output_tokens = self.settings.max_output_tokens;
        request.timeout = self.settings.timeout;
        let context = CallContext {
            agent: self.agent.to_owned(),
            case: self.correlation_id.as_ref().map(ToString::to_string),
            tenant: self.tenant.clone(),
        };
        context.put(&mut request);
        self.say_what_is_personal(&mut request, &[]);
        request
    }

    pub(crate) fn request_of(&self, prompt: &Prompt) -> ChatRequest {
        let mut request = self.request(prompt.messages());
        self.say_what_is_personal(&mut request, prompt.said_to_be_personal());
        request
    }

    fn say_what_is_personal(&self, request: &mut ChatRequest, others: &[String]) {
        if let Some(personal) = &self.personal {
            request.personal = personal.forms(others);
        }
    }

    pub(crate) fn max_repairs(&self) -> u32 {
        self.settings.max_repairs
    }

    fn log(&self, usage: Usage) {
        tracing::debug!(
            agent = self.agent,
            correlation_id = self.correlation_id.as_ref().map(|c| c.as_str()),
            model = self.settings.name,
            prompt_tokens = usage.prompt_tokens,
            completion_tokens = usage.completion_tokens,
            "model answered"
        );
    }
}

impl std::fmt::Debug for ModelHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModelHandle")
            .field("agent", &self.agent)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
