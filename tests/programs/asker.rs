//! An agent that does nothing but ask a model, as often as it is told.

use std::process::ExitCode;

use anabranch_sdk::prelude::*;

#[derive(Serialize, Deserialize, JsonSchema)]
struct Question {
    text: String,
    #[serde(default)]
    number: u64,
    /// How often the model is asked.
    times: u32,
    #[serde(default)]
    tenant: Option<String>,
}

/// What the model is asked for.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Reply {
    text: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Answers {
    number: u64,
    pid: u32,
}

struct Asker;

impl Agent for Asker {
    const NAME: &'static str = "asker";
    const DESCRIPTION: &'static str = "Asks a model.";
    type Config = NoConfig;
    type Input = Question;
    type Output = Answers;

    fn new(_: NoConfig) -> Result<Self, ConfigError> {
        Ok(Self)
    }

    async fn handle(&self, ctx: &Context<'_>, question: Question) -> Result<Outcome<Answers>, AgentError> {
        for time in 0..question.times {
            let asked = format!("{} {}, {time}", question.text, question.number);
            let _: Reply = ctx.model().ask("reply", &Prompt::new("Answer.").text("question", asked)).await?;
        }
        Ok(Outcome::new(Answers { number: question.number, pid: std::process::id() }).confidence(1.0))
    }
}

fn main() -> ExitCode {
    anabranch_runtime::agent::<Asker>()
}
