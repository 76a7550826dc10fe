//! An agent that gives up every task while a file says so: what it says is the class.

use std::path::PathBuf;
use std::process::ExitCode;

use anabranch_sdk::prelude::*;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// While this file is there, every task fails.
    broken: PathBuf,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Asked {
    number: u64,
    /// This task fails whatever the file says.
    #[serde(default)]
    poison: bool,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Answer {
    number: u64,
}

struct Flaky {
    broken: PathBuf,
}

impl Agent for Flaky {
    const NAME: &'static str = "flaky";
    const DESCRIPTION: &'static str = "Gives up while it is told to.";
    type Config = Settings;
    type Input = Asked;
    type Output = Answer;

    fn new(settings: Settings) -> Result<Self, ConfigError> {
        Ok(Self { broken: settings.broken })
    }

    async fn handle(&self, _: &Context<'_>, asked: Asked) -> Result<Outcome<Answer>, AgentError> {
        let cause = std::io::Error::other(format!("task {} has no row", asked.number));
        match std::fs::read_to_string(&self.broken) {
            Ok(class) if class.trim() == "retryable" => Err(AgentError::retryable("no answer").with_source(cause)),
            Ok(_) => Err(AgentError::terminal("the answer is nonsense").with_source(cause)),
            Err(_) if asked.poison => Err(AgentError::terminal("poison").with_source(cause)),
            Err(_) => Ok(Outcome::new(Answer { number: asked.number }).confidence(1.0)),
        }
    }
}

fn main() -> ExitCode {
    anabranch_runtime::agent::<Flaky>()
}
