//! The command line of an agent's process.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// One agent of a topology, as one process. It joins its consumer group, works until SIGTERM or Ctrl-C, then drains.
/// A second signal ends it at once; what was not done is delivered again.
#[derive(Debug, Parser)]
#[command(version = None, disable_version_flag = true, after_help = EXIT_CODES, after_long_help = help())]
pub(crate) struct Args {
    /// The topology.
    #[arg(long, env = "ANABRANCH_TOPOLOGY", default_value = "topics.yaml", value_name = "FILE")]
    pub(crate) topology: PathBuf,
    /// Bootstrap brokers, separated by commas.
    #[arg(
        long,
        env = "ANABRANCH_KAFKA",
        value_name = "HOST:PORT,…",
        value_delimiter = ',',
        required_unless_present_any = ["card", "replay"]
    )]
    pub(crate) brokers: Vec<String>,
    /// Port of /live, /ready and /metrics on the loopback address; 0 takes a free one. Default: as topics.yaml says.
    #[arg(long, env = "ANABRANCH_HTTP_PORT", value_name = "PORT")]
    pub(crate) http_port: Option<u16>,
    /// `group.instance.id` (KIP-345): a name that this process has again after a restart, and no other process of the
    /// agent has. It makes the process a static member: away for less than the session time, it causes no rebalance.
    /// Its partitions wait for it meanwhile, also after a graceful stop; see --leave.
    #[arg(long, env = "ANABRANCH_INSTANCE_ID", value_name = "ID", value_parser = instance_id)]
    pub(crate) instance_id: Option<String>,
    /// As a static member, leave the group when stopped: for a process that does not come back. Other processes then
    /// take its partitions over at once. Without --instance-id every process does so.
    #[arg(long, env = "ANABRANCH_LEAVE")]
    pub(crate) leave: bool,
    /// Whether to create topics that are missing. If false, or with --no-create-topics, the process refuses to start
    /// without them; `anabranch topics apply` creates them.
    #[arg(
        long,
        env = "ANABRANCH_CREATE_TOPICS",
        value_name = "BOOL",
        default_value_t = true,
        action = clap::ArgAction::Set,
        hide = true
    )]
    create_topics: bool,
    /// Create no topics: refuse to start if one is missing (also ANABRANCH_CREATE_TOPICS=false).
    #[arg(long)]
    no_create_topics: bool,
    /// How logs are written, on stderr. RUST_LOG sets what is logged (default: info).
    #[arg(long, env = "ANABRANCH_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    /// Drain when stdin ends, as on SIGTERM: who started this process and holds the other end has gone.
    #[arg(long)]
    pub(crate) exit_with_parent: bool,
    /// Print this agent's card as JSON and end.
    #[arg(long)]
    pub(crate) card: bool,
    /// Do one task or one case again that is described on stdin, without a broker, say on stdout what came of it, and end:
    /// for `anabranch replay`.
    #[arg(long, hide = true)]
    pub(crate) replay: bool,
}

impl Args {
    /// Whether missing topics are created.
    pub(crate) fn creates_topics(&self) -> bool {
        self.create_topics && !self.no_create_topics
    }
}

/// What brokers take as `group.instance.id`.
fn instance_id(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    if text.is_empty() || text.len() > 249 || !text.chars().all(plain) || text == "." || text == ".." {
        return Err("an instance id has 1 to 249 of the characters a-z, A-Z, 0-9, `.`, `-` and `_`".to_owned());
    }
    Ok(text.to_owned())
}

const EXIT_CODES: &str =
    "Exit codes: 0 drained, 1 failed, 64 wrong usage or topology, or topics that do not fit the topology.";

/// What `--help` says beyond the options.
fn help() -> String {
    format!("{}\n\n{EXIT_CODES}", anabranch_kafka::SecurityConfig::HELP)
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}
