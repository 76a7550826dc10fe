//! An answer as a Rust type.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::chat::{ChatRequest, ChatResponse, FinishReason, Message, ResponseSchema, Usage};
use crate::error::{ModelError, preview};
use crate::port::Model;
use crate::schema::Schema;

/// Asks for an answer of the shape `T` under the schema name of `T` in snake case, unless the request brings its own
/// [`ResponseSchema`]. It is asked once; see [`structured_repaired`].
///
/// # Errors
/// [`ModelError::InvalidOutput`] (terminal) if the answer is not valid for the schema or is no `T`; otherwise as
/// [`Model::chat`].
pub async fn structured<T: DeserializeOwned + JsonSchema + 'static>(
    model: &dyn Model,
    request: ChatRequest,
) -> Result<(T, Usage), ModelError> {
    structured_repaired(model, request, 0).await
}

/// As [`structured`], under a schema name of the caller's: at most 64 of `a-z A-Z 0-9 _ -`.
///
/// # Errors
/// As [`structured`].
pub async fn structured_named<T: DeserializeOwned + JsonSchema + 'static>(
    model: &dyn Model,
    request: ChatRequest,
    name: &str,
) -> Result<(T, Usage), ModelError> {
    structured(model, named::<T>(request, name)).await
}

/// The request, with the schema of `T` under a name of the caller's.
pub fn named<T: JsonSchema + 'static>(request: ChatRequest, name: &str) -> ChatRequest {
    ChatRequest { response_schema: Some(ResponseSchema::new(name, Schema::of::<T>())), ..request }
}

/// As [`structured`], and an answer that is not valid is sent back with what is wrong with it, up to `repairs` times. The
/// usage is that of all answers together; each is a call of its own for budget, limit, ledger and journal.
///
/// # Errors
/// As [`structured`], once the last repair was of no use either.
pub async fn structured_repaired<T: DeserializeOwned + JsonSchema + 'static>(
    model: &dyn Model,
    mut request: ChatRequest,
    repairs: u32,
) -> Result<(T, Usage), ModelError> {
    if request.response_schema.is_none() {
        request.response_schema = Some(ResponseSchema::of::<T>());
    }
    let mut repairs = Repairs::at_most(repairs);
    loop {
        match once::<T>(model, request.clone()).await {
            Ok((value, mut usage)) => {
                usage += repairs.usage;
                return Ok((value, usage));
            }
            Err(error) => repairs.send_back(&mut request.messages, error)?,
        }
    }
}

async fn once<T: DeserializeOwned>(model: &dyn Model, request: ChatRequest) -> Result<(T, Usage), ModelError> {
    let response = model.chat(request).await?;
    if response.finish == FinishReason::ToolCalls {
        return Err(not_valid(&response, "the model called a tool where an answer was asked for".into()));
    }
    let value = serde_json::from_str(&response.content)
        .map_err(|error| not_valid(&response, format!("not the expected type: {error}")))?;
    Ok((value, response.usage))
}

/// That an answer is not valid, for a reason that the model can be told.
pub fn not_valid(response: &ChatResponse, reason: String) -> ModelError {
    ModelError::InvalidOutput { reason, preview: preview(&response.content), usage: response.usage }
}

/// Answers that are not valid, sent back to the model with what is wrong with them: so often, and no more.
#[derive(Debug)]
pub struct Repairs {
    most: u32,
    made: u32,
    usage: Usage,
}

impl Repairs {
    /// At most so many in one conversation.
    pub fn at_most(most: u32) -> Self {
        Self { most, made: 0, usage: Usage::default() }
    }

    /// What the answers cost that were sent back.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// Adds to the conversation what is wrong with the last answer, as `error` says.
    ///
    /// # Errors
    /// The error itself, if it is no invalid answer, or there have been enough; it has the usage of all of them then.
    pub fn send_back(&mut self, messages: &mut Vec<Message>, error: ModelError) -> Result<(), ModelError> {
        let ModelError::InvalidOutput { reason, preview, usage } = error else { return Err(error) };
        self.usage += usage;
        if self.made == self.most {
            let reason = if self.most == 0 { reason } else { format!("after {} repairs: {reason}", self.most) };
            return Err(ModelError::InvalidOutput { reason, preview, usage: self.usage });
        }
        self.made += 1;
        tracing::debug!(repaired = self.made, reason, "the model is told what is wrong with its answer");
        messages.push(Message::assistant(preview));
        messages.push(Message::user(format!(
            "Your answer is not valid: {reason}. Answer again, with JSON that is valid for the schema and nothing else."
        )));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;
    use crate::ErrorClass;
    use crate::chat::Role;
    use crate::script::ScriptedModel;

    #[derive(Debug, Deserialize, JsonSchema)]
    struct Answer {
        score: u8,
    }

    async fn ask(model: &ScriptedModel, repairs: u32) -> Result<(Answer, Usage), ModelError> {
        structured_repaired(model, ChatRequest::new("m", vec![Message::user("score?")]), repairs).await
    }

    #[tokio::test]
    async fn an_answer_that_is_not_valid_is_sent_back_with_what_is_wrong() {
        let model =
            ScriptedModel::new().answer("nine").answer_json(json!({ "score": -1 })).answer_json(json!({ "score": 9 }));
        let (answer, usage) = ask(&model, 2).await.unwrap();
        assert_eq!(answer.score, 9);
        let requests = model.requests();
        assert_eq!(requests.len(), 3);
        let said: Vec<_> = requests[2].messages.iter().map(|m| (m.role, m.content.as_str())).collect();
        assert_eq!(said[1], (Role::Assistant, "nine"));
        assert!(said[2].1.starts_with("Your answer is not valid: it is not JSON"), "{:?}", said[2]);
        assert!(said[4].1.contains("/score: -1 is less than the minimum of 0"), "{:?}", said[4]);
        assert!(usage.completion_tokens >= 7, "of all three: {usage:?}");
    }

    #[tokio::test]
    async fn repairs_are_bounded_and_then_it_is_terminal() {
        let model = ScriptedModel::new().answer("a").answer("b").answer("c");
        let error = ask(&model, 1).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Terminal);
        assert!(error.to_string().contains("after 1 repairs: it is not JSON"), "{error}");
        assert_eq!(model.requests().len(), 2);
        let refused = ScriptedModel::new().fail(ModelError::Refusal { message: "no".into(), usage: Usage::default() });
        assert!(matches!(ask(&refused, 2).await, Err(ModelError::Refusal { .. })));
        assert_eq!(refused.requests().len(), 1, "what was refused is not asked again");
    }
}
