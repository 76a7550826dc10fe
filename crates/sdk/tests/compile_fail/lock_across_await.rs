//! A handler that holds a lock over an await would block other tasks of its process.
use std::sync::Mutex;

use anabranch_sdk::prelude::*;

struct Counting(Mutex<u64>);

impl Agent for Counting {
    const NAME: &'static str = "counting";
    const DESCRIPTION: &'static str = "Counts.";
    type Config = NoConfig;
    type Input = Value;
    type Output = Value;

    fn new(_: NoConfig) -> Result<Self, ConfigError> {
        Ok(Self(Mutex::new(0)))
    }

    async fn handle(&self, ctx: &Context<'_>, _: Value) -> Result<Outcome<Value>, AgentError> {
        let mut count = self.0.lock().map_err(|_| AgentError::terminal("poisoned"))?;
        let answer: Value = ctx.model().ask("count", &Prompt::new("count one more")).await?;
        *count += 1;
        Ok(Outcome::new(answer))
    }
}

fn main() {}
