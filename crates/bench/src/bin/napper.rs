//! An agent that does nothing for as long as it is told: what is measured with it is the runtime alone.

use std::process::ExitCode;
use std::time::Duration;

use anabranch_sdk::prelude::*;

/// What it is asked.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Nap {
    /// How long, in milliseconds.
    sleep_ms: u64,
}

/// What it answers.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Rested {
    /// How long it was, in milliseconds.
    slept_ms: u64,
}

struct Napper;

impl Agent for Napper {
    const NAME: &'static str = "napper";
    const DESCRIPTION: &'static str = "Waits for as long as it is told.";
    type Config = NoConfig;
    type Input = Nap;
    type Output = Rested;

    fn new(_: NoConfig) -> Result<Self, ConfigError> {
        Ok(Self)
    }

    async fn handle(&self, _: &Context<'_>, nap: Nap) -> Result<Outcome<Rested>, AgentError> {
        tokio::time::sleep(Duration::from_millis(nap.sleep_ms)).await;
        Ok(Outcome::new(Rested { slept_ms: nap.sleep_ms }).confidence(1.0))
    }
}

fn main() -> ExitCode {
    anabranch_runtime::agent::<Napper>()
}
