//! An agent that does nothing for as long as it is told, and fails as often as it is told.

use std::process::ExitCode;
use std::time::Duration;

use anabranch_sdk::prelude::*;

#[derive(Serialize, Deserialize, JsonSchema)]
struct Nap {
    sleep_ms: u64,
    #[serde(default)]
    number: u64,
    /// So many attempts fail first.
    #[serde(default)]
    fails: u32,
    /// What a failure asks to wait for.
    retry_after_ms: Option<u64>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Rested {
    number: u64,
    pid: u32,
}

struct Sleeper;

impl Agent for Sleeper {
    const NAME: &'static str = "sleeper";
    const DESCRIPTION: &'static str = "Sleeps.";
    type Config = NoConfig;
    type Input = Nap;
    type Output = Rested;

    fn new(_: NoConfig) -> Result<Self, ConfigError> {
        Ok(Self)
    }

    async fn handle(&self, ctx: &Context<'_>, nap: Nap) -> Result<Outcome<Rested>, AgentError> {
        tokio::time::sleep(Duration::from_millis(nap.sleep_ms)).await;
        if ctx.attempt() <= nap.fails {
            let error = format!("attempt {} of {} that fail", ctx.attempt(), nap.fails);
            return Err(match nap.retry_after_ms {
                Some(after) => AgentError::retry_after(error, Duration::from_millis(after)),
                None => AgentError::retryable(error),
            });
        }
        Ok(Outcome::new(Rested { number: nap.number, pid: std::process::id() }).confidence(1.0))
    }
}

fn main() -> ExitCode {
    anabranch_runtime::agent::<Sleeper>()
}
