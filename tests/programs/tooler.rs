//! An agent whose model may call tools: one of its own, and those of the servers that the topology names.

use std::process::ExitCode;

use anabranch_sdk::prelude::*;
use anabranch_sdk::tools::Called;

#[derive(Serialize, Deserialize, JsonSchema)]
struct Question {
    text: String,
    #[serde(default)]
    number: u64,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Answered {
    number: u64,
    pid: u32,
    text: String,
    calls: Vec<Value>,
}

#[derive(Deserialize, JsonSchema)]
struct Of {
    country: String,
}

struct Capital;

impl Tool for Capital {
    const NAME: &'static str = "capital";
    const DESCRIPTION: &'static str = "The capital of a country.";
    type Input = Of;
    type Output = String;

    async fn call(&self, _: &ToolContext<'_>, of: Of) -> Result<String, ToolError> {
        match of.country.as_str() {
            "Utopia" => Ok("Amaurot".to_owned()),
            other => Err(ToolError::told(format!("no country is called {other}"))),
        }
    }
}

struct Tooler;

impl Agent for Tooler {
    const NAME: &'static str = "tooler";
    const DESCRIPTION: &'static str = "Asks a model that may call tools.";
    type Config = NoConfig;
    type Input = Question;
    type Output = Answered;

    fn new(_: NoConfig) -> Result<Self, ConfigError> {
        Ok(Self)
    }

    fn tools(&self) -> ToolSet {
        ToolSet::new().with(Capital)
    }

    async fn handle(&self, ctx: &Context<'_>, question: Question) -> Result<Outcome<Answered>, AgentError> {
        let prompt = Prompt::new("Answer the question. Use the tools.").text("question", question.text);
        let answer = ctx.tools().run(&prompt).await?;
        let calls: Result<Vec<Value>, _> = answer.calls.iter().map(as_json).collect();
        let answered =
            Answered { number: question.number, pid: std::process::id(), text: answer.content, calls: calls? };
        Ok(Outcome::new(answered).confidence(1.0))
    }
}

fn as_json(called: &Called) -> Result<Value, AgentError> {
    Ok(anabranch_sdk::serde_json::to_value(called)?)
}

fn main() -> ExitCode {
    anabranch_runtime::agent::<Tooler>()
}
