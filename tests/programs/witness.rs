//! An agent that answers what it sees of its case, and what it could fetch.

use std::process::ExitCode;

use anabranch_sdk::prelude::*;

#[derive(Serialize, Deserialize, JsonSchema)]
struct Input {
    #[serde(default)]
    document: Document,
    /// How long an answer it is to give.
    #[serde(default)]
    answer_bytes: usize,
}

#[derive(Default, Serialize, Deserialize, JsonSchema)]
struct Document {
    text: Option<Claimed<String>>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Seen {
    findings: Vec<Finding>,
    request: Value,
    steps: Vec<String>,
    parts: Vec<String>,
    hidden: Vec<String>,
    refused: String,
    text_bytes: usize,
    text_ends: String,
    long: Claimed<String>,
}

struct Witness;

impl Agent for Witness {
    const NAME: &'static str = "witness";
    const DESCRIPTION: &'static str = "Says what it sees.";
    const AFTER: &'static [&'static str] = &["sleeper", "identity"];
    const SEES: &'static [&'static str] = &["sleeper"];
    const REQUIRED: bool = true;
    type Config = NoConfig;
    type Input = Input;
    type Output = Seen;

    fn new(_: NoConfig) -> Result<Self, ConfigError> {
        Ok(Self)
    }

    async fn handle(&self, ctx: &Context<'_>, input: Input) -> Result<Outcome<Seen>, AgentError> {
        let case = ctx.case();
        let text = match &input.document.text {
            Some(text) => ctx.fetch(text).await?.into_owned(),
            None => String::new(),
        };
        let step = |s: &anabranch_sdk::protocol::Step| format!("{} {}", s.agent, s.required);
        let seen = Seen {
            findings: Vec::new(),
            request: case.request_json().clone(),
            steps: case.steps().iter().map(step).collect(),
            parts: case.parts().map(|(agent, _)| agent.to_owned()).collect(),
            hidden: case.hidden().to_vec(),
            refused: case.part::<Value>("identity").err().map(|e| e.to_string()).unwrap_or_default(),
            text_bytes: text.len(),
            text_ends: text.chars().skip(text.chars().count().saturating_sub(8)).collect(),
            long: Claimed::Inline("é".repeat(input.answer_bytes / 2)),
        };
        Ok(Outcome::new(seen).confidence(1.0))
    }
}

fn main() -> ExitCode {
    anabranch_runtime::agent::<Witness>()
}
