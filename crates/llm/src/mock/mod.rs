//! An OpenAI-compatible server that needs no model: for `dev` without a key, for end-to-end tests and for load.
//!
//! It speaks HTTP, so that nothing in an agent knows the difference: the same client, the same headers, the same
//! failures. What it answers is scripted by [`Rule`]s, or made up to be valid for the schema that was asked for.
//! Latency and faults are drawn from the seed, the request (with its case and agent) and how often that very request
//! came before; an answer from the seed and the request alone, so that a repeated call hears the same again.
//!
//! | route | what |
//! |---|---|
//! | `POST /v1/chat/completions` | chat: structured output, tools, streams |
//! | `GET /v1/models` | the models it plays |
//! | `POST /registry/checks` | the document registry, an outside vendor with idempotency keys |
//! | `GET /mock/stats` | [`Stats`] |
//! | `GET /mock/calls` | the latest [`CallRecord`]s, as many as [`MockConfig::keep_calls`] says |
//! | `GET /healthz` | 200 |
//!
//! It has no protection: it listens on loopback unless told otherwise.

mod answer;
mod bounded;
mod config;
mod deliver;
mod fault;
mod fill;
mod generate;
mod known;
mod limit;
mod refusal;
mod request;
mod rules;
mod script;
mod seeded;
mod server;
mod stats;
mod strict;
mod template;
mod vendor;
mod wire;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use self::config::{FaultRates, Latency, MockArgs, MockConfig, MockError, Script};
pub use self::limit::RateLimit;
pub use self::script::{Answer, Fault, Rule, ScriptedCall, VendorConfig, VendorOutage, When};
pub use self::stats::{CallRecord, DocumentStats, RegistryStats, Stats};

use self::server::Mock;

/// Longest wait for open connections on [`MockServer::stop`].
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// A running mock server. Dropping it stops it without waiting.
///
/// ```
/// use anabranch_llm::mock::{MockConfig, MockServer, Script};
/// use anabranch_llm::{ChatRequest, Message, Model, OpenAi, Secret};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let script = Script::parse(
///     r#"{ "rules": [
///         { "when": { "contains": "flaky" }, "times": 1, "fault": { "kind": "rate_limited", "retry_after_s": 2 } },
///         { "when": { "matches": "name: (\\w+)" }, "answer": { "text": "Hello {{1}}" } } ] }"#,
/// )?;
/// let server = MockServer::start(MockConfig::default().with_script(script)).await?;
/// let model = OpenAi::new(&server.base_url(), Secret::new("any"))?;
/// let request = ChatRequest::new("mock", vec![Message::user("name: Ava")]);
/// assert_eq!(model.chat(request).await?.content, "Hello Ava");
/// assert_eq!(server.stats().calls, 1);
/// server.stop().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct MockServer {
    address: SocketAddr,
    mock: Arc<Mock>,
    task: JoinHandle<()>,
    running: DropGuard,
}

impl MockServer {
    /// Listens and answers from now on, on a task of its own.
    ///
    /// # Errors
    /// [`MockError::Config`] and [`MockError::Script`] for what cannot be meant, before anything listens;
    /// [`MockError::Listen`] if the address is not to be had.
    pub async fn start(config: MockConfig) -> Result<Self, MockError> {
        config.check()?;
        let listen = config.listen;
        let stop = CancellationToken::new();
        let mock = Arc::new(Mock::new(config, stop.clone())?);
        let refused = |source| MockError::Listen { address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let listener = listener.tap_io(|connection| {
            if let Err(error) = connection.set_nodelay(true) {
                tracing::debug!(%error, "a connection of the mock stays slow");
            }
        });
        let serving =
            axum::serve(listener, server::router(mock.clone())).with_graceful_shutdown(stop.clone().cancelled_owned());
        let task = tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the mock server ended");
            }
        });
        tracing::info!(%address, "the mock server listens");
        Ok(Self { address, mock, task, running: stop.drop_guard() })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What `OPENAI_BASE_URL` is to be: `http://127.0.0.1:<port>/v1`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.reachable())
    }

    /// Where the document registry is: `http://127.0.0.1:<port>/registry`.
    pub fn registry_url(&self) -> String {
        format!("http://{}/registry", self.reachable())
    }

    /// What happened so far; what `GET /mock/stats` says.
    pub fn stats(&self) -> Stats {
        self.mock.stats()
    }

    /// Stops listening, breaks off the answers under way and waits for open connections, at most 5 s.
    pub async fn stop(self) {
        drop(self.running);
        if tokio::time::timeout(STOP_LIMIT, self.task).await.is_err() {
            tracing::warn!(address = %self.address, "the mock server stopped with connections still open");
        }
    }

    /// The address as a client on this machine reaches it.
    fn reachable(&self) -> SocketAddr {
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
        }
        address
    }
}
