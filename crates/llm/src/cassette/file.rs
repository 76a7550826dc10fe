//! A cassette's lines.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{CassetteError, secrets};
use crate::chat::{ChatRequest, ChatResponse, Usage};
use crate::error::ModelError;
use crate::secret::Secret;

/// Largest cassette that is read, in bytes.
const MAX_BYTES: u64 = 256 * 1024 * 1024;

/// One call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// What was asked: all that the answer depends on.
    pub asked: Value,
    /// What came of it.
    #[serde(flatten)]
    pub recorded: Recorded,
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recorded {
    /// An answer.
    Answered(ChatResponse),
    /// An answer that is not valid.
    Invalid {
        /// What is wrong with it.
        reason: String,
        /// Its start.
        preview: String,
        /// What it cost.
        usage: Usage,
    },
    /// The model refused.
    Refused {
        /// Its words.
        message: String,
        /// What it cost.
        usage: Usage,
    },
    /// The content filter stopped it.
    Filtered {
        /// What the endpoint said.
        message: String,
        /// What it cost.
        usage: Usage,
    },
    /// The endpoint rejected the request.
    Rejected {
        /// HTTP status.
        status: u16,
        /// What the endpoint said.
        message: String,
    },
    /// The conversation was too long.
    TooLong {
        /// What the endpoint said.
        message: String,
    },
}

impl Recorded {
    /// What of a result is recorded; `None` for failures of the endpoint.
    pub fn of(result: Result<&ChatResponse, &ModelError>) -> Option<Self> {
        match result {
            Ok(response) => Some(Self::Answered(response.clone())),
            Err(ModelError::InvalidOutput { reason, preview, usage }) => {
                Some(Self::Invalid { reason: reason.clone(), preview: preview.clone(), usage: *usage })
            }
            Err(ModelError::Refusal { message, usage }) => {
                Some(Self::Refused { message: message.clone(), usage: *usage })
            }
            Err(ModelError::ContentFilter { message, usage }) => {
                Some(Self::Filtered { message: message.clone(), usage: *usage })
            }
            Err(ModelError::Rejected { status, message }) => {
                Some(Self::Rejected { status: *status, message: message.clone() })
            }
            Err(ModelError::ContextTooLong { message }) => Some(Self::TooLong { message: message.clone() }),
            Err(_) => None,
        }
    }

    /// Gives every text that a model or an endpoint wrote to `text`, and every other value of theirs to `value`.
    pub(super) fn texts(&mut self, text: &mut dyn FnMut(&mut String), value: &mut dyn FnMut(&mut Value)) {
        match self {
            Self::Answered(response) => {
                text(&mut response.content);
                response.tool_calls.iter_mut().for_each(|call| value(&mut call.arguments));
            }
            Self::Invalid { reason, preview, .. } => {
                text(reason);
                text(preview);
            }
            Self::Refused { message, .. }
            | Self::Filtered { message, .. }
            | Self::Rejected { message, .. }
            | Self::TooLong { message } => text(message),
        }
    }

    /// The result it stands for.
    ///
    /// # Errors
    /// The failure, if one was recorded.
    pub fn into_result(self) -> Result<ChatResponse, ModelError> {
        Err(match self {
            Self::Answered(response) => return Ok(response),
            Self::Invalid { reason, preview, usage } => ModelError::InvalidOutput { reason, preview, usage },
            Self::Refused { message, usage } => ModelError::Refusal { message, usage },
            Self::Filtered { message, usage } => ModelError::ContentFilter { message, usage },
            Self::Rejected { status, message } => ModelError::Rejected { status, message },
            Self::TooLong { message } => ModelError::ContextTooLong { message },
        })
    }
}

/// All of a request that its answer depends on: neither timeout nor metadata, which name a case and an attempt.
pub(super) fn asked(request: &ChatRequest) -> Value {
    let mut asked = json!({ "model": request.model, "messages": request.messages });
    let optional = [
        ("temperature", json!(request.temperature.map(|t| t.to_string()))),
        ("max_output_tokens", json!(request.max_output_tokens)),
        ("response_schema", json!(request.response_schema)),
        ("tools", if request.tools.is_empty() { Value::Null } else { json!(request.tools) }),
        ("seed", json!(request.seed)),
    ];
    for (name, value) in optional {
        if !value.is_null() {
            asked[name] = value;
        }
    }
    asked
}

/// Reads a cassette.
pub(super) fn read(path: &Path, keys: &[Secret]) -> Result<Vec<Line>, CassetteError> {
    let failed = |source| CassetteError::File { path: path.to_owned(), source };
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > MAX_BYTES {
        return Err(failed(std::io::Error::other(format!("it has {size} bytes, and {MAX_BYTES} is the most"))));
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = |message: String| CassetteError::Line { path: path.to_owned(), line: number, message };
        let value: Value = serde_json::from_str(line).map_err(|e| wrong(e.to_string()))?;
        if let Some(found) = secrets::find(&value, keys) {
            return Err(wrong(format!("it holds a secret: {found}")));
        }
        lines.push(serde_json::from_value(value).map_err(|e| wrong(format!("it is no call: {e}")))?);
    }
    Ok(lines)
}
