//! Any OpenAI-compatible endpoint, through `async-openai`.
//!
//! The library builds the HTTP request and reads server-sent events. The HTTP call itself is made by [`http::Once`]:
//! its own default would retry 429 and 5xx with backoff, which would multiply with the runtime's retries; it would
//! read bodies of any size; and it drops the headers that say how long to wait. Requests and answers are described
//! in [`wire`], because compatible endpoints answer with less, and with more, than OpenAI's own types allow.

mod classify;
mod http;
mod stream;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use async_openai::Client;
use async_openai::config::Config;
use async_openai::traits::RequestOptionsBuilder;
use futures::FutureExt;
use futures::future::BoxFuture;
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use secrecy::SecretString;

use self::http::{Attempt, Once};
use crate::chat::{ChatRequest, ChatResponse, ChatStream};
use crate::error::{ModelError, preview};
use crate::port::Model;
use crate::secret::Secret;
use crate::validate::Expectation;

/// Where `OPENAI_BASE_URL` is not set.
const DEFAULT_BASE_URL: &str = "https://api.openai.com/v1";
/// Longest metadata value that is sent as a header.
const MAX_METADATA_BYTES: usize = 256;

/// Limits of the connection to an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenAiOptions {
    /// Largest answer read, in bytes; a stream's events counted together. A larger one is
    /// [`ModelError::TooLarge`]. Default 4 MiB.
    pub max_response_bytes: usize,
    /// Longest wait for a connection. Default 10 s. The whole call has [`ChatRequest::timeout`].
    pub connect_timeout: Duration,
}

impl Default for OpenAiOptions {
    fn default() -> Self {
        Self { max_response_bytes: 4 * 1024 * 1024, connect_timeout: Duration::from_secs(10) }
    }
}

/// A [`Model`] behind an OpenAI-compatible endpoint.
///
/// One call is one HTTP request: nothing retries and redirects are not followed. Cheap to clone; clones share the
/// connection pool.
#[derive(Clone)]
pub struct OpenAi {
    endpoint: Arc<Endpoint>,
    client: reqwest::Client,
    options: OpenAiOptions,
}

impl OpenAi {
    /// The endpoint at `base_url` (with its `/v1`).
    ///
    /// # Errors
    /// [`ModelError::Misconfigured`] if the address is not http(s) or the key cannot be a header.
    pub fn new(base_url: &str, api_key: Secret) -> Result<Self, ModelError> {
        Self::with_options(base_url, api_key, OpenAiOptions::default())
    }

    /// As [`OpenAi::new`], with limits of the caller's.
    ///
    /// # Errors
    /// As [`OpenAi::new`].
    pub fn with_options(base_url: &str, api_key: Secret, options: OpenAiOptions) -> Result<Self, ModelError> {
        let endpoint = Endpoint::new(base_url, api_key)?;
        let mut builder = reqwest::Client::builder()
            .connect_timeout(options.connect_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never());
        if endpoint.is_loopback() {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|error| misconfigured(format!("no HTTP client: {error}")))?;
        Ok(Self { endpoint: Arc::new(endpoint), client, options })
    }

    /// The endpoint of `OPENAI_BASE_URL` (OpenAI's own where unset) with the key of `OPENAI_API_KEY`, which may be
    /// absent for an endpoint that is not OpenAI's.
    ///
    /// # Errors
    /// As [`OpenAi::new`], and if the key is missing.
    pub fn from_env() -> Result<Self, ModelError> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let base_url = variable("OPENAI_BASE_URL");
        let key = match variable("OPENAI_API_KEY") {
            Some(key) => Secret::new(key.trim()),
            None if base_url.is_some() => Secret::new("none"),
            None => {
                return Err(misconfigured(
                    "OPENAI_API_KEY is not set; set it, or set OPENAI_BASE_URL to an endpoint that needs none".into(),
                ));
            }
        };
        Self::new(base_url.as_deref().unwrap_or(DEFAULT_BASE_URL), key)
    }

    /// The address requests go to, without the key.
    pub fn base_url(&self) -> &str {
        &self.endpoint.base
    }

    fn attempt(&self, request: &ChatRequest, streamed: bool) -> Attempt {
        Attempt::new(request.model.clone(), self.endpoint.secret.clone(), self.options.max_response_bytes, streamed)
    }

    /// A client of `async-openai` for one attempt. Building one costs a few pointers; the connection pool is shared.
    fn library(&self, attempt: &Attempt) -> Client<Arc<dyn Config>> {
        let config: Arc<dyn Config> = self.endpoint.clone();
        Client::build(self.client.clone(), config).with_http_service(Once::new(self.client.clone(), attempt.clone()))
    }

    async fn ask(&self, request: &ChatRequest) -> Result<ChatResponse, ModelError> {
        let expectation = Expectation::of(request)?;
        let attempt = self.attempt(request, false);
        let body = wire::Body::of(request, false, self.endpoint.token_limit());
        let library = self.library(&attempt);
        // What it reads is nothing: the answer has been read below it.
        let call = async { library.chat().headers(metadata(request)).create_byot::<_, ()>(body).await };
        let completion = match tokio::time::timeout(request.timeout, call).await {
            Ok(Ok(())) => attempt.completion()?,
            Ok(Err(error)) => return Err(attempt.failure(&error)),
            Err(_) => {
                return Err(ModelError::Timeout { limit: request.timeout });
            }
        };
        expectation.check(completion.into_raw(&attempt, &request.model)?)
    }

    async fn open(&self, request: ChatRequest) -> Result<ChatStream<'_>, ModelError> {
        let deadline = tokio::time::Instant::now() + request.timeout;
        let expectation = Expectation::of(&request)?;
        let attempt = self.attempt(&request, true);
        let body = wire::Body::of(&request, true, self.endpoint.token_limit());
        let library = self.library(&attempt);
        let call =
            async { library.chat().headers(metadata(&request)).create_stream_byot::<_, wire::Chunk>(body).await };
        match tokio::time::timeout_at(deadline, call).await {
            Ok(Ok(events)) => Ok(stream::answer(events, attempt, expectation, &request, deadline)),
            Ok(Err(error)) => Err(attempt.failure(&error)),
            Err(_) => Err(ModelError::Timeout { limit: request.timeout }),
        }
    }
}

impl Model for OpenAi {
    fn chat<'a>(&'a self, request: ChatRequest) -> BoxFuture<'a, Result<ChatResponse, ModelError>> {
        async move { self.ask(&request).await }.boxed()
    }

    fn stream<'a>(&'a self, request: ChatRequest) -> BoxFuture<'a, Result<ChatStream<'a>, ModelError>> {
        self.open(request).boxed()
    }
}

impl std::fmt::Debug for OpenAi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenAi")
            .field("base_url", &self.endpoint.base)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// Address and key, checked once: the library panics on a key that cannot be a header.
struct Endpoint {
    base: String,
    url: Url,
    secret: Secret,
    key: SecretString,
    headers: HeaderMap,
}

impl Endpoint {
    fn new(base_url: &str, secret: Secret) -> Result<Self, ModelError> {
        let base = base_url.trim().trim_end_matches('/').to_owned();
        let url = Url::parse(&base).map_err(|error| {
            misconfigured(format!("the model's address is no URL ({error}); write https://host/v1"))
        })?;
        if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() || url.password().is_some() {
            return Err(misconfigured("the model's address must be http(s) and hold no user or password".into()));
        }
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", secret.expose()))
            .map_err(|_| misconfigured("the API key holds characters no header may".into()))?;
        bearer.set_sensitive(true);
        let key = SecretString::from(secret.expose().to_owned());
        let headers = HeaderMap::from_iter([(AUTHORIZATION, bearer)]);
        Ok(Self { base, url, secret, key, headers })
    }

    fn is_loopback(&self) -> bool {
        self.url.host_str().is_some_and(|host| {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        })
    }

    /// OpenAI's newer models refuse `max_tokens`; many compatible servers know nothing else.
    fn token_limit(&self) -> wire::TokenLimit {
        let openai =
            self.url.host_str().is_some_and(|h| h.ends_with(".openai.com") || h.ends_with(".openai.azure.com"));
        if openai { wire::TokenLimit::MaxCompletionTokens } else { wire::TokenLimit::MaxTokens }
    }
}

impl Config for Endpoint {
    fn headers(&self) -> HeaderMap {
        self.headers.clone()
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn query(&self) -> Vec<(&str, &str)> {
        Vec::new()
    }

    fn api_base(&self) -> &str {
        &self.base
    }

    fn api_key(&self) -> &SecretString {
        &self.key
    }
}

/// The request's metadata as headers. A value from outside may hold anything: what no header may hold becomes `_`.
fn metadata(request: &ChatRequest) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in &request.metadata {
        let clean: Vec<u8> =
            value.bytes().take(MAX_METADATA_BYTES).map(|b| if b < 0x20 || b == 0x7f { b'_' } else { b }).collect();
        let name = name.to_ascii_lowercase();
        let header = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(&clean));
        match header {
            (Ok(header), Ok(value)) if name.starts_with("x-") => {
                headers.insert(header, value);
            }
            _ => tracing::debug!(name = preview(&name), "metadata that is no x- header is not sent"),
        }
    }
    headers
}

fn misconfigured(message: String) -> ModelError {
    ModelError::Misconfigured { message }
}
