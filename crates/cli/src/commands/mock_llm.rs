//! `anabranch mock-llm`: an OpenAI-compatible server without a model.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anabranch_llm::mock::{FaultRates, MockArgs, MockError, MockServer, RateLimit};
use anyhow::anyhow;

use crate::output;
use crate::processes::Shutdown;
use crate::usage::usage;

/// Serve an OpenAI-compatible endpoint without a model, for development and tests.
///
/// Answers come from a script, or are made up so that they fit the schema asked for. Latency and faults are drawn from
/// the seed: the same seed and the same requests give the same answers. The same server plays the document registry
/// that the KYC agents ask. The base URL is printed on stdout; Ctrl-C ends it.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Allow an address that is not loopback. The server has no protection whatever.
    #[arg(long)]
    allow_remote: bool,
    /// What answers, latency and faults are drawn from.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Median latency of an answer, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    latency_median_ms: u64,
    /// 99th percentile of the latency, in milliseconds; at most the median makes it a fixed one.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    latency_p99_ms: u64,
    /// Answer more requests a second than this with 429 and Retry-After.
    #[arg(long, value_name = "N")]
    requests_per_second: Option<f64>,
    /// So many may come at once after a silence.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "requests_per_second")]
    burst: u32,
    /// JSON file with scripted answers; see crates/cli/demo/mock.json.
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// Keep so many of the latest calls for GET /mock/calls: whose each was, and how long it was held back.
    #[arg(long, value_name = "N", default_value_t = 0)]
    keep_calls: usize,
    /// End when stdin ends, too.
    #[arg(long, hide = true)]
    exit_with_parent: bool,
    #[command(flatten)]
    faults: Faults,
}

/// Shares of calls that fail, from 0 to 1.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Faults (share of calls, 0 to 1)")]
struct Faults {
    /// Answer 429 with Retry-After.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    rate_limited: f64,
    /// What that Retry-After says, in seconds.
    #[arg(long, value_name = "S", default_value_t = 1)]
    retry_after_s: u64,
    /// Answer 500.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    server_error: f64,
    /// Break the answer off in the middle.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    cut: f64,
    /// Answer 200 with a body that is no JSON.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    invalid_json: f64,
    /// Do not answer.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    hang: f64,
}

const EXAMPLES: &str = "\
Examples:
  anabranch mock-llm --listen 127.0.0.1:8080 --latency-median-ms 800 --latency-p99-ms 6000
  anabranch mock-llm --requests-per-second 100 --burst 10
  anabranch mock-llm --seed 7 --rate-limited 0.05 --server-error 0.02
  OPENAI_BASE_URL=http://127.0.0.1:8080/v1 anabranch up --brokers localhost:9092";

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "write a number from 0 to 1".to_owned())?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("write a number from 0 to 1".to_owned()) }
}

impl Args {
    fn mock(self) -> MockArgs {
        let Faults { rate_limited, retry_after_s, server_error, cut, invalid_json, hang } = self.faults;
        MockArgs {
            listen: self.listen,
            allow_remote: self.allow_remote,
            seed: self.seed,
            latency_median_ms: self.latency_median_ms,
            latency_p99_ms: self.latency_p99_ms,
            faults: FaultRates { rate_limited, retry_after_s, server_error, cut, invalid_json, hang },
            limit: self
                .requests_per_second
                .map(|requests_per_second| RateLimit { requests_per_second, burst: self.burst }),
            script: self.script,
            keep_calls: self.keep_calls,
        }
    }
}

/// Runs it.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let shutdown = Shutdown::install(|| {})?;
    if args.exit_with_parent {
        shutdown.with_stdin();
    }
    // What is wrong with script and rates is the user's to mend; an address that is taken is not an error of usage.
    let config = args.mock().into_config().map_err(|e| usage(e.to_string()))?;
    let server = MockServer::start(config).await.map_err(|error| match error {
        MockError::Listen { .. } => anyhow!(error).context("cannot start the mock model"),
        error => usage(error.to_string()),
    })?;
    output::line(server.base_url())?;
    eprintln!("mock model: OPENAI_BASE_URL={} (any OPENAI_API_KEY)", server.base_url());
    eprintln!("document registry: KYC_REGISTRY_URL={}", server.registry_url());
    eprintln!("no model answers here; Ctrl-C ends it");
    shutdown.drain.cancelled().await;
    server.stop().await;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_from_0_to_1() {
        assert_eq!(share("0.25"), Ok(0.25));
        for bad in ["-0.1", "1.1", "NaN", "x", "inf"] {
            assert!(share(bad).is_err(), "{bad}");
        }
    }
}
