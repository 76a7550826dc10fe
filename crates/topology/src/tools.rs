//! The tools of an agent's model: the lines as they are written, and the settings that follow from them.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::unit::{Size, Span};

/// Which tools an agent's model may call, how much, and the servers that some of them come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolSettings {
    /// Full names, or `server.*`; `None`: those of the agent's own crate, and none of a server.
    pub allow: Option<Vec<String>>,
    /// Most turns in which the model calls tools.
    pub max_steps: u32,
    /// Most tokens of all turns together.
    pub max_tokens: u64,
    /// Longest time, waiting included.
    pub max_time: Duration,
    /// Most bytes of one result that the model is given.
    pub max_result_bytes: usize,
    /// MCP servers, by the name that their tools are known under.
    pub mcp: BTreeMap<String, McpSettings>,
}

impl Default for ToolSettings {
    fn default() -> Self {
        Self {
            allow: None,
            max_steps: 8,
            max_tokens: 50_000,
            max_time: Duration::from_secs(60),
            max_result_bytes: 32 * 1024,
            mcp: BTreeMap::new(),
        }
    }
}

/// An MCP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct McpSettings {
    /// How it is reached.
    pub transport: McpTransport,
    /// Longest time it may take to start and to say what tools it has.
    pub start_timeout: Duration,
    /// Longest time one call may take.
    pub call_timeout: Duration,
}

/// How an MCP server is reached. Secrets are named by the variable that holds them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum McpTransport {
    /// A child process of the agent, talked to over stdin and stdout.
    Command {
        /// Program and arguments.
        command: Vec<String>,
        /// Variables of the agent's environment that it is given.
        env: Vec<String>,
    },
    /// Streamable HTTP.
    Url {
        /// Its endpoint.
        url: String,
        /// The variable that holds the bearer token.
        bearer_env: Option<String>,
        /// Headers, and the variables that hold their values.
        headers_env: BTreeMap<String, String>,
    },
}

/// As written: which tools an agent's model may call, and how much.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
pub(crate) struct ToolsLine {
    /// Tools that its model may call: those of its own crate by name, those of an MCP server as `server.tool`, or `server.*`
    /// for all of a server. Default: all of its own crate, none of a server.
    #[schemars(example = ALLOW)]
    pub(crate) allow: Option<Vec<String>>,
    /// Most turns in which the model calls tools. Default: 8.
    #[schemars(range(min = 1, max = 1_000), example = 8)]
    pub(crate) max_steps: Option<u32>,
    /// Most tokens, read and written, of all turns together. Default: 50000.
    #[schemars(range(min = 1, max = 1_000_000_000), example = 50_000)]
    pub(crate) max_tokens: Option<u64>,
    /// Longest time of a conversation with tools, waiting included. Default: 60s.
    #[schemars(example = &"60s")]
    pub(crate) max_time: Option<Span>,
    /// Most of one tool's result that the model is given; the rest is cut. Default: 32KiB.
    #[schemars(example = &"32KiB")]
    pub(crate) max_result: Option<Size>,
    /// MCP servers, by the name that their tools are known under.
    pub(crate) mcp: Option<BTreeMap<String, Option<McpLine>>>,
}

const ALLOW: [&str; 2] = ["lookup", "clock.*"];

/// As written: an MCP server, a `command` or a `url`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
pub(crate) struct McpLine {
    /// Program and arguments of a server that is a child process of the agent. It ends with the agent, and is started again
    /// when it ends by itself.
    #[schemars(example = COMMAND)]
    pub(crate) command: Option<Vec<String>>,
    /// Names of variables of the agent's environment that the child process is given, beside PATH, HOME, LANG and TMPDIR.
    #[schemars(example = ENV)]
    pub(crate) env: Option<Vec<String>>,
    /// Endpoint of a server over streamable HTTP.
    #[schemars(example = &"https://tools.example/mcp")]
    pub(crate) url: Option<String>,
    /// Name of the variable that holds the bearer token for `url`.
    #[schemars(example = &"TOOLS_TOKEN")]
    pub(crate) bearer_env: Option<String>,
    /// Headers for `url`, and the names of the variables that hold their values.
    #[schemars(example = example_headers())]
    pub(crate) headers_env: Option<BTreeMap<String, String>>,
    /// Longest time it may take to start and to say what tools it has. Default: 30s.
    #[schemars(example = &"30s")]
    pub(crate) start_timeout: Option<Span>,
    /// Longest time one call may take. Default: 30s.
    #[schemars(example = &"30s")]
    pub(crate) call_timeout: Option<Span>,
}

const COMMAND: [&str; 2] = ["mcp-server-time", "--local-timezone=UTC"];
const ENV: [&str; 1] = ["TOOLS_TOKEN"];

fn example_headers() -> BTreeMap<&'static str, &'static str> {
    BTreeMap::from([("X-Api-Key", "TOOLS_KEY")])
}

/// Fills in what the line does not say.
pub(crate) fn fill(line: Option<&ToolsLine>) -> ToolSettings {
    let base = ToolSettings::default();
    let Some(line) = line else { return base };
    let servers = line.mcp.iter().flatten().filter_map(|(name, line)| Some((name.clone(), server(line.as_ref()?))));
    ToolSettings {
        allow: line.allow.clone(),
        max_steps: line.max_steps.unwrap_or(base.max_steps),
        max_tokens: line.max_tokens.unwrap_or(base.max_tokens),
        max_time: line.max_time.map_or(base.max_time, |span| span.0),
        max_result_bytes: line
            .max_result
            .map_or(base.max_result_bytes, |size| usize::try_from(size.0).unwrap_or(usize::MAX)),
        mcp: servers.collect(),
    }
}

fn server(line: &McpLine) -> McpSettings {
    let limit = |span: Option<Span>| span.map_or(Duration::from_secs(30), |span| span.0);
    let transport = match &line.url {
        Some(url) => McpTransport::Url {
            url: url.clone(),
            bearer_env: line.bearer_env.clone(),
            headers_env: line.headers_env.clone().unwrap_or_default(),
        },
        None => McpTransport::Command {
            command: line.command.clone().unwrap_or_default(),
            env: line.env.clone().unwrap_or_default(),
        },
    };
    McpSettings { transport, start_timeout: limit(line.start_timeout), call_timeout: limit(line.call_timeout) }
}
