//! An agent's tools, from its crate and from the servers that the topology names. Servers live and end with the agent: at
//! a drain their stdin is closed, and what is left of them is killed; at kill -9 their stdin closes by itself.

use std::sync::Arc;
use std::time::Duration;

use anabranch_sdk::tools::mcp::{McpServer, ServerConfig, Transport};
use anabranch_sdk::tools::{Allow, Limits, Policy, ToolSet, ToolSource, Toolbox};
use anabranch_topology::{McpSettings, McpTransport, ToolSettings};
use futures::future::join_all;
use tokio::task::JoinHandle;

use crate::boot::Usage;

/// How long a server may take to end by itself once its stdin is closed.
const GRACE: Duration = Duration::from_secs(2);

/// The tools of a running agent.
pub(crate) struct Tools {
    pub(crate) toolbox: Arc<Toolbox>,
    servers: Vec<Arc<McpServer>>,
    keeping: Vec<JoinHandle<()>>,
}

impl Tools {
    /// Puts the tools together and starts the servers, without waiting for them: a task whose tool's server is not up is
    /// tried again.
    ///
    /// # Errors
    /// [`Usage`], for what an author or an operator must change.
    pub(crate) fn open(name: &str, own: ToolSet, settings: &ToolSettings) -> anyhow::Result<Self> {
        let at = |words: String| Usage(format!("agents.{name}.tools{words}"));
        for (name, server) in &settings.mcp {
            if let Some(variable) = unset(server) {
                return Err(at(format!(".mcp.{name}: the environment variable {variable} is not set")).into());
            }
        }
        let servers: Vec<Arc<McpServer>> =
            settings.mcp.iter().map(|(name, server)| McpServer::new(name, config(server))).collect();
        let sources = servers.iter().map(|server| Arc::new(server.clone()) as Arc<dyn ToolSource>).collect();
        let toolbox = Toolbox::new(own, sources, policy(settings)).map_err(|e| at(format!(": {e}")))?;
        let keeping = servers.iter().map(|server| tokio::spawn(server.clone().keep())).collect();
        Ok(Self { toolbox: Arc::new(toolbox), servers, keeping })
    }

    /// Ends the servers, side by side.
    pub(crate) async fn end(self) {
        join_all(self.servers.iter().map(|server| server.end(GRACE))).await;
        for keeping in self.keeping {
            keeping.abort();
        }
    }
}

fn policy(settings: &ToolSettings) -> Policy {
    let limits = Limits {
        max_steps: settings.max_steps,
        max_tokens: settings.max_tokens,
        max_time: settings.max_time,
        max_result_bytes: settings.max_result_bytes,
    };
    Policy { allow: settings.allow.clone().map(Allow::new), limits }
}

fn config(settings: &McpSettings) -> ServerConfig {
    let transport = match &settings.transport {
        McpTransport::Command { command, env } => Transport::Stdio {
            command: command.first().cloned().unwrap_or_default(),
            args: command.iter().skip(1).cloned().collect(),
            env: env.clone(),
        },
        McpTransport::Url { url, bearer_env, headers_env } => {
            Transport::Http { url: url.clone(), bearer_env: bearer_env.clone(), headers_env: headers_env.clone() }
        }
    };
    ServerConfig { transport, start_timeout: settings.start_timeout, call_timeout: settings.call_timeout }
}

/// A variable that the server needs and that is not set.
fn unset(settings: &McpSettings) -> Option<&str> {
    let mut names: Box<dyn Iterator<Item = &String>> = match &settings.transport {
        McpTransport::Command { env, .. } => Box::new(env.iter()),
        McpTransport::Url { bearer_env, headers_env, .. } => Box::new(bearer_env.iter().chain(headers_env.values())),
    };
    names.find(|name| std::env::var_os(name).is_none_or(|value| value.is_empty())).map(String::as_str)
}
