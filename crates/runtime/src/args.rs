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
        required_unless_present = "card"
    )]
    pub(crate) brokers: Vec<String>,
    /// Port of /live, /ready and /metrics on the loopback address; 0 takes a free one. Default: as topics.yaml says.
    #[arg(long, env = "ANABRANCH_HTTP_PORT", value_name = "PORT")]
    pub(crate) http_port: Option<u16>,
    /// How logs are written, on stderr. RUST_LOG sets what is logged (default: info).
    #[arg(long, env = "ANABRANCH_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    /// Drain when stdin ends, as on SIGTERM: who started this process and holds the other end has gone.
    #[arg(long)]
    pub(crate) exit_with_parent: bool,
    /// Print this agent's card as JSON and end.
    #[arg(long)]
    pub(crate) card: bool,
}

const EXIT_CODES: &str = "Exit codes: 0 drained, 1 failed, 64 wrong usage or topology.";

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
