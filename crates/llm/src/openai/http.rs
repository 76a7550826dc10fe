//! One HTTP request, once: bounded, classified, never repeated.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::SystemTime;

use async_openai::error::OpenAIError;
use async_openai::middleware::HttpRequestFactory;
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use reqwest::Response;

use super::{classify, wire};
use crate::error::{ModelError, preview};
use crate::secret::Secret;

/// Most of an error's body that is read, in bytes.
const MAX_ERROR_BYTES: usize = 64 * 1024;
/// What the library is given to read in place of an answer.
const NOTHING: &str = "null";
/// Shorter keys are placeholders (`none`, `ollama`): blanking them out would only garble messages.
const MIN_SECRET_BYTES: usize = 8;

/// What one attempt knows, shared by the HTTP call below `async-openai` and the code above it. What came travels here: a
/// failure because the library's error type has no room for it, an answer because the library logs what it cannot read.
#[derive(Clone)]
pub(super) struct Attempt {
    model: String,
    secret: Secret,
    limit_bytes: usize,
    streamed: bool,
    came: Arc<Mutex<Option<Result<wire::Completion, ModelError>>>>,
}

impl Attempt {
    pub(super) fn new(model: String, secret: Secret, limit_bytes: usize, streamed: bool) -> Self {
        Self { model, secret, limit_bytes, streamed, came: Arc::default() }
    }

    /// What failed: what the call below noted, else what the library says.
    pub(super) fn failure(&self, error: &OpenAIError) -> ModelError {
        let noted = self.take().and_then(Result::err);
        noted.unwrap_or_else(|| match error {
            OpenAIError::InvalidArgument(message) => ModelError::Misconfigured { message: self.clean(message) },
            OpenAIError::JSONDeserialize(error, content) => {
                ModelError::Malformed { message: error.to_string(), preview: self.clean(content) }
            }
            other => ModelError::Cut { message: self.clean(&other.to_string()) },
        })
    }

    /// What was answered, unless it is a stream.
    pub(super) fn completion(&self) -> Result<wire::Completion, ModelError> {
        let missing = || ModelError::Malformed { message: "there is no answer".into(), preview: String::new() };
        self.take().unwrap_or_else(|| Err(missing()))
    }

    fn take(&self) -> Option<Result<wire::Completion, ModelError>> {
        self.came.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn keep(&self, came: Result<wire::Completion, ModelError>) {
        *self.came.lock().unwrap_or_else(PoisonError::into_inner) = Some(came);
    }

    /// Bounded, and without the key: some endpoints repeat it.
    pub(super) fn clean(&self, text: &str) -> String {
        let key = self.secret.expose();
        if key.len() >= MIN_SECRET_BYTES && text.contains(key) {
            return preview(&text.replace(key, "[redacted]"));
        }
        preview(text)
    }

    fn note(&self, error: ModelError) -> OpenAIError {
        let text = error.to_string();
        self.keep(Err(error));
        OpenAIError::InvalidArgument(text)
    }

    fn too_large(&self) -> ModelError {
        ModelError::TooLarge { limit_bytes: self.limit_bytes }
    }
}

/// A tower service that makes the one request.
#[derive(Clone)]
pub(super) struct Once {
    client: reqwest::Client,
    attempt: Attempt,
}

impl Once {
    pub(super) fn new(client: reqwest::Client, attempt: Attempt) -> Self {
        Self { client, attempt }
    }

    async fn run(self, factory: HttpRequestFactory) -> Result<Response, OpenAIError> {
        let request = factory.build().await?;
        let response =
            self.client.execute(request).await.map_err(|error| self.attempt.note(transport(&self.attempt, error)))?;
        if !response.status().is_success() {
            return Err(self.refused(response).await);
        }
        if self.attempt.streamed && is_event_stream(&response) {
            return Ok(self.bounded_stream(response));
        }
        let (status, headers) = (response.status(), response.headers().clone());
        let body = match self.read(response, self.attempt.limit_bytes).await {
            Ok((body, false)) => body,
            Ok((_, true)) => return Err(self.attempt.note(self.attempt.too_large())),
            Err(error) => return Err(self.attempt.note(error)),
        };
        let completion = self.completion(&body).map_err(|error| self.attempt.note(error))?;
        if self.attempt.streamed {
            return Err(self.attempt.note(self.not_a_stream(completion, &body)));
        }
        self.attempt.keep(Ok(completion));
        Ok(rebuild(status, headers, NOTHING.into()))
    }

    /// The error of a response that is none of 2xx.
    async fn refused(&self, response: Response) -> OpenAIError {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        // An error whose body breaks off is still that error.
        let body = match self.read(response, MAX_ERROR_BYTES).await {
            Ok((body, _)) => body,
            Err(error) => Bytes::from(error.to_string()),
        };
        let refusal = classify::Refusal::read(status, &headers, &body);
        self.attempt.note(refusal.classify(&self.attempt, &self.attempt.model, SystemTime::now()))
    }

    /// The body up to `limit`, and whether it goes on.
    async fn read(&self, mut response: Response, limit: usize) -> Result<(Bytes, bool), ModelError> {
        let mut body = BytesMut::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > limit => {
                    body.extend_from_slice(&chunk[..limit - body.len()]);
                    return Ok((body.freeze(), true));
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => return Ok((body.freeze(), false)),
                Err(error) => return Err(cut(&self.attempt, &error)),
            }
        }
    }

    /// The completion that the body is. Read here, because the library logs bodies it cannot read, and a body holds a
    /// case's data.
    fn completion(&self, body: &[u8]) -> Result<wire::Completion, ModelError> {
        match serde_json::from_slice(body) {
            Ok(completion) => Ok(completion),
            Err(error) if error.is_eof() => Err(ModelError::Cut { message: format!("the body is truncated: {error}") }),
            Err(error) => Err(ModelError::Malformed {
                message: error.to_string(),
                preview: self.attempt.clean(&String::from_utf8_lossy(body)),
            }),
        }
    }

    /// What a 200 that should have been a stream is: an error in disguise, or an endpoint that cannot stream.
    fn not_a_stream(&self, completion: wire::Completion, body: &[u8]) -> ModelError {
        match completion.into_error() {
            Some(error) => {
                classify::Refusal::embedded(&error).classify(&self.attempt, &self.attempt.model, SystemTime::now())
            }
            None => ModelError::Malformed {
                message: "a stream was asked for and something else came".into(),
                preview: self.attempt.clean(&String::from_utf8_lossy(body)),
            },
        }
    }

    fn bounded_stream(&self, response: Response) -> Response {
        let (status, headers) = (response.status(), response.headers().clone());
        let bounded = Bounded {
            inner: response.bytes_stream().boxed(),
            left: self.attempt.limit_bytes,
            attempt: self.attempt.clone(),
        };
        rebuild(status, headers, reqwest::Body::wrap_stream(bounded))
    }
}

impl tower::Service<HttpRequestFactory> for Once {
    type Response = Response;
    type Error = OpenAIError;
    type Future = Pin<Box<dyn Future<Output = Result<Response, OpenAIError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), OpenAIError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, factory: HttpRequestFactory) -> Self::Future {
        Box::pin(self.clone().run(factory))
    }
}

/// A body that ends with an error past its limit, and notes what went wrong.
struct Bounded {
    inner: futures::stream::BoxStream<'static, reqwest::Result<Bytes>>,
    left: usize,
    attempt: Attempt,
}

impl Stream for Bounded {
    type Item = Result<Bytes, OpenAIError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match futures::ready!(self.inner.poll_next_unpin(cx)) {
            Some(Ok(chunk)) => match self.left.checked_sub(chunk.len()) {
                Some(left) => {
                    self.left = left;
                    Poll::Ready(Some(Ok(chunk)))
                }
                None => Poll::Ready(Some(Err(self.attempt.note(self.attempt.too_large())))),
            },
            Some(Err(error)) => {
                let error = cut(&self.attempt, &error);
                Poll::Ready(Some(Err(self.attempt.note(error))))
            }
            None => Poll::Ready(None),
        }
    }
}

fn is_event_stream(response: &Response) -> bool {
    let kind = response.headers().get(reqwest::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    // Some endpoints leave it out.
    kind.is_none_or(|kind| kind.trim_start().to_ascii_lowercase().starts_with("text/event-stream"))
}

fn rebuild(status: reqwest::StatusCode, headers: reqwest::header::HeaderMap, body: reqwest::Body) -> Response {
    let mut response = axum::http::Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response.into()
}

/// No response came.
fn transport(attempt: &Attempt, error: reqwest::Error) -> ModelError {
    let error = error.without_url();
    let message = attempt.clean(&causes(&error));
    let sent = !error.is_connect();
    if error.is_builder() { ModelError::Misconfigured { message } } else { ModelError::Connection { message, sent } }
}

/// The response broke off.
fn cut(attempt: &Attempt, error: &reqwest::Error) -> ModelError {
    ModelError::Cut { message: attempt.clean(&causes(error)) }
}

/// An error with what caused it, on one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}
