//! Servers of the Model Context Protocol, through the official client crate.
//!
//! A server is somebody else's program. It is given no more of our environment than is named, it is ended with the agent,
//! and what it says is bounded: its lines, its tools, their words. One that dies is started again with growing waits; a
//! call that it does not answer for that reason may work later.

mod claims;
mod http;
mod stdio;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ClientConfig, ContentBlock, PaginatedRequestParams,
};
use rmcp::service::RunningService;
use rmcp::{RoleClient, ServiceError};
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::error::ToolError;
use crate::tool::{AnyTool, ToolContext};
use crate::toolbox::ToolSource;

/// Most tools of one server.
pub const MAX_TOOLS: usize = 64;
/// Most pages of a server's list of tools.
const MAX_PAGES: usize = 16;
/// First and longest wait before a server is started again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// A session that held for so long was no failure.
const HELD: Duration = Duration::from_secs(30);

/// How a server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// A child process that is talked to over its stdin and stdout.
    Stdio {
        /// The program.
        command: String,
        /// Its arguments.
        args: Vec<String>,
        /// Names of variables of our environment that it is given, beside `PATH`, `HOME`, `LANG` and `TMPDIR`.
        env: Vec<String>,
    },
    /// A server over streamable HTTP.
    Http {
        /// Its endpoint.
        url: String,
        /// Name of the variable of our environment that holds the bearer token.
        bearer_env: Option<String>,
        /// Headers, and the names of the variables that hold their values.
        headers_env: BTreeMap<String, String>,
    },
}

/// A server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// How it is reached.
    pub transport: Transport,
    /// Longest time it may take to start and to say what tools it has.
    pub start_timeout: Duration,
    /// Longest time one call may take.
    pub call_timeout: Duration,
}

/// A server that cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The program cannot be started.
    #[error("cannot start `{command}`: {source}")]
    Start {
        /// The program.
        command: String,
        /// Why.
        source: std::io::Error,
    },
    /// A variable that a secret is to come from is not set.
    #[error("the environment variable {0} is not set")]
    NoVariable(String),
    /// The address or a header cannot be used.
    #[error("{0}")]
    Config(String),
    /// It does not speak the protocol, or went away.
    #[error("{0}")]
    Talk(String),
    /// It took too long.
    #[error("it was not ready within {} ms", .0.as_millis())]
    Slow(Duration),
}

/// A server, kept running. Its tools are called `<name>.<tool>`.
pub struct McpServer {
    name: String,
    config: ServerConfig,
    state: Mutex<State>,
    ended: CancellationToken,
}

#[derive(Default)]
struct State {
    session: Option<Arc<Session>>,
    failures: u32,
    not_before: Option<Instant>,
    why: String,
}

/// A conversation with a server, from its start to its end.
struct Session {
    service: RunningService<RoleClient, ClientConfig>,
    child: Option<stdio::ServerProcess>,
    claims: Vec<claims::Claim>,
    over: CancellationToken,
    since: Instant,
}

impl McpServer {
    /// A server; nothing is started yet.
    pub fn new(name: impl Into<String>, config: ServerConfig) -> Arc<Self> {
        let (state, ended) = (Mutex::new(State::default()), CancellationToken::new());
        Arc::new(Self { name: name.into(), config, state, ended })
    }

    /// Keeps it running until [`McpServer::end`]: starts it, and again whenever it went away.
    pub async fn keep(self: Arc<Self>) {
        while !self.ended.is_cancelled() {
            let wait = async {
                match self.session().await {
                    Ok(session) => session.over.cancelled().await,
                    Err(_) => tokio::time::sleep(self.wait().await).await,
                }
            };
            tokio::select! {
                () = wait => {}
                () = self.ended.cancelled() => {}
            }
        }
    }

    /// Ends it: its stdin is closed, and what is still there after `grace` is killed.
    pub async fn end(&self, grace: Duration) {
        self.ended.cancel();
        if let Some(session) = self.state.lock().await.session.take() {
            session.end(grace).await;
        }
    }

    /// The id of its process, if it has one and runs.
    pub async fn pid(&self) -> Option<u32> {
        self.state.lock().await.session.as_ref().filter(|s| !s.over.is_cancelled())?.child.as_ref().map(|c| c.pid())
    }

    async fn wait(&self) -> Duration {
        let not_before = self.state.lock().await.not_before;
        not_before.map_or(BACKOFF.0, |at| at.saturating_duration_since(Instant::now()))
    }

    /// The conversation under way, or a new one if it is time for one.
    async fn session(&self) -> Result<Arc<Session>, ToolError> {
        let mut state = self.state.lock().await;
        if self.ended.is_cancelled() {
            return Err(ToolError::retryable("the agent is draining"));
        }
        if let Some(session) = state.session.clone() {
            if !session.over.is_cancelled() {
                return Ok(session);
            }
            state.session = None;
            let held = session.since.elapsed();
            state.failures = if held >= HELD { 1 } else { state.failures + 1 };
            state.not_before = Some(Instant::now() + backoff(state.failures));
            "it went away".clone_into(&mut state.why);
            tracing::warn!(mcp_server = self.name, held_ms = held.as_millis() as u64, "the MCP server went away");
        }
        if let Some(wait) =
            state.not_before.map(|at| at.saturating_duration_since(Instant::now())).filter(|w| !w.is_zero())
        {
            let words = format!("the MCP server `{}` is away: {}", self.name, state.why);
            return Err(ToolError::retry_after(words, wait));
        }
        let started = tokio::select! {
            started = Session::start(&self.name, &self.config) => started,
            () = self.ended.cancelled() => return Err(ToolError::retryable("the agent is draining")),
        };
        match started {
            Ok(session) => {
                let tools = session.claims.len();
                tracing::info!(
                    mcp_server = self.name,
                    pid = session.child.as_ref().map(|c| c.pid()),
                    tools,
                    "the MCP server is up"
                );
                let session = Arc::new(session);
                (state.session, state.not_before) = (Some(session.clone()), None);
                Ok(session)
            }
            Err(error) => {
                state.failures += 1;
                let wait = backoff(state.failures);
                (state.not_before, state.why) = (Some(Instant::now() + wait), error.to_string());
                tracing::warn!(mcp_server = self.name, %error, again_in_ms = wait.as_millis() as u64, "the MCP server is not up");
                Err(ToolError::retry_after(format!("the MCP server `{}` is not up: {error}", self.name), wait))
            }
        }
    }
}

impl std::fmt::Debug for McpServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("McpServer").field("name", &self.name).field("config", &self.config).finish_non_exhaustive()
    }
}

fn backoff(failures: u32) -> Duration {
    BACKOFF.0.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(BACKOFF.1)
}

/// Who we say we are: no sampling, no roots, no questions to a person.
fn client_info() -> ClientConfig {
    let mut info = ClientConfig::default();
    info.client_info.name = "anabranch".to_owned();
    info.client_info.version = env!("CARGO_PKG_VERSION").to_owned();
    info
}

impl Session {
    async fn start(name: &str, config: &ServerConfig) -> Result<Self, ServerError> {
        let over = CancellationToken::new();
        let start = async {
            let (service, child) = match &config.transport {
                Transport::Stdio { command, args, env } => {
                    let (service, child) = stdio::start(name, command, args, env, over.clone()).await?;
                    (service, Some(child))
                }
                Transport::Http { url, bearer_env, headers_env } => {
                    (http::start(url, bearer_env.as_deref(), headers_env).await?, None)
                }
            };
            let claims = list(name, &service).await?;
            Ok(Self { service, child, claims, over: over.clone(), since: Instant::now() })
        };
        match tokio::time::timeout(config.start_timeout, start).await {
            Ok(started) => started,
            Err(_) => Err(ServerError::Slow(config.start_timeout)),
        }
    }

    async fn end(&self, grace: Duration) {
        self.service.cancellation_token().cancel();
        if let Some(child) = &self.child {
            child.end(grace).await;
        }
        self.over.cancel();
    }
}

/// The tools that the server says it has, bounded.
async fn list(
    name: &str,
    service: &RunningService<RoleClient, ClientConfig>,
) -> Result<Vec<claims::Claim>, ServerError> {
    let (mut claims, mut cursor) = (Vec::new(), None);
    for _ in 0..MAX_PAGES {
        let params = PaginatedRequestParams::default().with_cursor(cursor);
        let page = service.peer().list_tools(Some(params)).await.map_err(|e| ServerError::Talk(e.to_string()))?;
        for tool in page.tools {
            if claims.len() == MAX_TOOLS {
                tracing::warn!(mcp_server = name, MAX_TOOLS, "the MCP server has more tools than are looked at");
                return Ok(claims);
            }
            let input = Value::Object(Map::clone(&tool.input_schema));
            match claims::Claim::new(&tool.name, tool.description.as_deref(), &input) {
                Ok(claim) => claims.push(claim),
                Err(why) => tracing::warn!(mcp_server = name, why, "a tool of the MCP server is left out"),
            }
        }
        match page.next_cursor {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    Ok(claims)
}

impl ToolSource for Arc<McpServer> {
    fn name(&self) -> &str {
        &self.name
    }

    fn tools(&self) -> BoxFuture<'_, Result<Vec<Arc<dyn AnyTool>>, ToolError>> {
        async move {
            let session = self.session().await?;
            let tool = |claim: &claims::Claim| -> Arc<dyn AnyTool> {
                Arc::new(McpTool { server: self.clone(), claim: claim.clone() })
            };
            Ok(session.claims.iter().map(tool).collect())
        }
        .boxed()
    }
}

/// A tool of a server.
struct McpTool {
    server: Arc<McpServer>,
    claim: claims::Claim,
}

impl AnyTool for McpTool {
    fn name(&self) -> &str {
        &self.claim.name
    }

    fn description(&self) -> &str {
        &self.claim.description
    }

    fn schema(&self) -> &Value {
        &self.claim.schema
    }

    fn call<'a>(&'a self, ctx: ToolContext<'a>, arguments: Value) -> BoxFuture<'a, Result<Value, ToolError>> {
        async move {
            let session = self.server.session().await?;
            let mut params = CallToolRequestParams::new(self.claim.name.clone());
            if let Value::Object(arguments) = arguments {
                params = params.with_arguments(arguments);
            }
            let within = self.server.config.call_timeout.min(ctx.within);
            let called = tokio::select! {
                called = tokio::time::timeout(within, session.service.peer().call_tool_once(params)) => called,
                () = session.over.cancelled() => return Err(ToolError::retryable("the MCP server went away during the call")),
            };
            match called {
                Ok(Ok(CallToolResponse::Complete(result))) => answer(result),
                Ok(Ok(_)) => Err(ToolError::told("the tool asks for more than arguments, which this agent does not give")),
                Ok(Err(error)) => Err(failed(&session, error)),
                Err(_) => {
                    // A server that was replaced may drop what belongs to a session it does not know, and say nothing.
                    if session.child.is_none() {
                        session.over.cancel();
                    }
                    let words = format!("the MCP server did not answer within {} ms", within.as_millis());
                    Err(ToolError::retryable(words))
                }
            }
        }
        .boxed()
    }
}

/// An error that the server answers with is a word to the model; one of the way to it may pass.
fn failed(session: &Session, error: ServiceError) -> ToolError {
    match error {
        ServiceError::McpError(error) => ToolError::told(format!("the server says: {}", error.message)),
        ServiceError::UnexpectedResponse => ToolError::told("the server's answer is not understood"),
        other => {
            session.over.cancel();
            ToolError::retryable(format!("the MCP server went away: {other}"))
        }
    }
}

/// What of a result is text; of the rest it is said what it is.
fn answer(result: CallToolResult) -> Result<Value, ToolError> {
    let part = |block: &ContentBlock| match block {
        ContentBlock::Text(text) => text.text.clone(),
        ContentBlock::Image(image) => format!("[an image, {}: not shown]", image.mime_type),
        ContentBlock::Audio(audio) => format!("[a sound, {}: not played]", audio.mime_type),
        ContentBlock::ResourceLink(link) => format!("[a link to {}: not followed]", link.uri),
        _ => "[a resource: not shown]".to_owned(),
    };
    let text = result.content.iter().map(part).collect::<Vec<_>>().join("\n");
    if result.is_error == Some(true) {
        return Err(ToolError::told(text));
    }
    Ok(match result.structured_content {
        Some(value) if text.is_empty() => value,
        _ => Value::String(text),
    })
}

#[cfg(test)]
mod tests;
