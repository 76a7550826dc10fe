//! The issuer's registry of document numbers: a tool outside, over HTTP.
//!
//! `POST <url>/checks` with an idempotency key, so that an attempt that is repeated after a crash or a timeout makes no
//! second check. It retries nothing: a failure comes out classified, and the runtime retries the task.

use std::time::Duration;

use anabranch_sdk::{AgentError, serde_json};
use reqwest::{Client, Response, StatusCode, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Longest answer that is read.
const MAX_BYTES: usize = 64 * 1024;

/// A client of one registry.
#[derive(Debug)]
pub(crate) struct Registry {
    client: Client,
    url: String,
}

/// A check that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RegistryCheck {
    /// The registry's id of the check.
    pub check_id: String,
    /// What it says.
    pub status: RegistryStatus,
}

/// What the registry says about a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RegistryStatus {
    /// It was issued.
    Found,
    /// It was not.
    Unknown,
    /// Something this agent does not know.
    #[serde(other)]
    Other,
}

#[derive(Debug, Serialize)]
struct Question<'a> {
    document_number: &'a str,
    issuer: Option<&'a str>,
}

impl Registry {
    pub(crate) fn new(url: &str, timeout: Duration) -> Result<Self, reqwest::Error> {
        let client = Client::builder().timeout(timeout).redirect(reqwest::redirect::Policy::none()).build()?;
        Ok(Self { client, url: format!("{}/checks", url.trim_end_matches('/')) })
    }

    pub(crate) async fn check(
        &self,
        number: &str,
        issuer: Option<&str>,
        idempotency_key: &str,
    ) -> Result<RegistryCheck, AgentError> {
        let question = Question { document_number: number, issuer };
        let request = self.client.post(&self.url).header("Idempotency-Key", idempotency_key).json(&question);
        let response = request
            .send()
            .await
            .map_err(|e| AgentError::retryable("the document registry does not answer").with_source(e.without_url()))?;
        if !response.status().is_success() {
            return Err(refusal(&response));
        }
        let body = body(response).await?;
        serde_json::from_slice(&body)
            .map_err(|e| AgentError::retryable("the document registry's answer cannot be read").with_source(e))
    }
}

fn refusal(response: &Response) -> AgentError {
    let status = response.status();
    let words = format!("the document registry answered {}", status.as_u16());
    let after = response.headers().get(header::RETRY_AFTER).and_then(|v| v.to_str().ok()?.trim().parse().ok());
    match (status, after) {
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => AgentError::fatal(words),
        (s, Some(seconds)) if is_passing(s) => AgentError::retry_after(words, Duration::from_secs(seconds)),
        (s, None) if is_passing(s) => AgentError::retryable(words),
        _ => AgentError::terminal(words),
    }
}

fn is_passing(status: StatusCode) -> bool {
    let passing =
        [StatusCode::REQUEST_TIMEOUT, StatusCode::CONFLICT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
    status.is_server_error() || passing.contains(&status)
}

async fn body(mut response: Response) -> Result<Vec<u8>, AgentError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > MAX_BYTES {
            return Err(AgentError::retryable(format!("the document registry's answer has over {MAX_BYTES} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
