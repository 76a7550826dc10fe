//! The model an agent asks: the configured endpoint, or none.
//!
//! An agent that never asks a model runs without one; one that does stops at its first question, and says what to set.

use std::sync::Arc;

use anabranch_llm::{ChatRequest, ChatResponse, ChatStream, Model, ModelError, OpenAi, Secret, cassette};
use anabranch_sdk::mask;
use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};

/// What says where models are and who may ask them.
const VARIABLES: [&str; 2] = ["OPENAI_API_KEY", "OPENAI_BASE_URL"];

/// The endpoint that the environment names; a cassette before it, or in its place, where the environment names one.
///
/// # Errors
/// If what the environment says cannot be used. That it says nothing is no error.
pub(crate) fn from_env() -> Result<Arc<dyn Model>, ModelError> {
    let endpoint = endpoint()?;
    let Some(setting) = cassette_setting() else { return Ok(endpoint) };
    let keys = std::env::var(VARIABLES[0]).map(|key| vec![Secret::new(key.trim())]).unwrap_or_default();
    let marks: cassette::Marks = Arc::new(mask::recorded);
    cassette::open(&setting, endpoint, keys, marks)
        .map_err(|error| ModelError::Misconfigured { message: error.to_string() })
}

/// What the environment says of a cassette; `None`: there is none.
pub(super) fn cassette_setting() -> Option<String> {
    let said = std::env::var_os(cassette::VARIABLE).filter(|setting| !setting.is_empty())?;
    // What is no Unicode is no setting either, and is refused as such.
    Some(said.to_string_lossy().into_owned())
}

/// A model that nobody may ask, for this reason.
pub(crate) fn none(why: &str) -> Arc<dyn Model> {
    Arc::new(Unconfigured(why.to_owned()))
}

fn endpoint() -> Result<Arc<dyn Model>, ModelError> {
    let said = VARIABLES.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    match OpenAi::from_env() {
        Ok(model) => Ok(Arc::new(model)),
        Err(ModelError::Misconfigured { message }) if !said => Ok(Arc::new(Unconfigured(message))),
        Err(error) => Err(error),
    }
}

/// No endpoint is configured: every call fails with a fatal error.
struct Unconfigured(String);

impl Unconfigured {
    fn error(&self) -> ModelError {
        ModelError::Misconfigured { message: self.0.clone() }
    }
}

impl Model for Unconfigured {
    fn chat<'a>(&'a self, _: ChatRequest) -> BoxFuture<'a, Result<ChatResponse, ModelError>> {
        ready(Err(self.error())).boxed()
    }

    fn stream<'a>(&'a self, _: ChatRequest) -> BoxFuture<'a, Result<ChatStream<'a>, ModelError>> {
        ready(Err(self.error())).boxed()
    }
}

#[cfg(test)]
mod tests {
    use anabranch_llm::ErrorClass;

    use super::*;

    #[tokio::test]
    async fn asking_without_an_endpoint_is_fatal_and_says_what_to_set() {
        let model = Unconfigured("OPENAI_API_KEY is not set".to_owned());
        let error = model.chat(ChatRequest::new("m", Vec::new())).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Fatal);
        assert!(error.to_string().contains("OPENAI_API_KEY is not set"), "{error}");
        assert!(model.stream(ChatRequest::new("m", Vec::new())).await.is_err());
    }
}
