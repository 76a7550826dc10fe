//! An answer as a Rust type.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::chat::{ChatRequest, FinishReason, ResponseSchema, Usage};
use crate::error::{ModelError, preview};
use crate::port::Model;

/// Asks for an answer of the shape `T` under the schema name of `T` in snake case, unless the request brings its own
/// [`ResponseSchema`].
///
/// # Errors
/// [`ModelError::InvalidOutput`] (terminal) if the answer is not valid for the schema or is no `T`; otherwise as
/// [`Model::chat`].
pub async fn structured<T: DeserializeOwned + JsonSchema>(
    model: &dyn Model,
    mut request: ChatRequest,
) -> Result<(T, Usage), ModelError> {
    if request.response_schema.is_none() {
        request.response_schema = Some(ResponseSchema::of::<T>());
    }
    let response = model.chat(request).await?;
    let invalid = |reason: String| ModelError::InvalidOutput {
        reason,
        preview: preview(&response.content),
        usage: response.usage,
    };
    if response.finish == FinishReason::ToolCalls {
        return Err(invalid("the model called a tool where an answer was asked for".into()));
    }
    let value =
        serde_json::from_str(&response.content).map_err(|error| invalid(format!("not the expected type: {error}")))?;
    Ok((value, response.usage))
}

/// As [`structured`], under a schema name of the caller's: at most 64 of `a-z A-Z 0-9 _ -`.
///
/// # Errors
/// As [`structured`].
pub async fn structured_named<T: DeserializeOwned + JsonSchema>(
    model: &dyn Model,
    mut request: ChatRequest,
    name: &str,
) -> Result<(T, Usage), ModelError> {
    request.response_schema = Some(ResponseSchema::new(name, schemars::schema_for!(T).to_value()));
    structured(model, request).await
}
