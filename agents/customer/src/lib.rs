//! KYC customer agent: tells the applicant what happens next, in plain words. It has no vote.
//!
//! The model is told where the case stands and what the applicant must send, and nothing else: no reason code, no
//! finding, no other case. A person who is screened must not learn of it from us. What the model writes is checked by
//! rule before it leaves; words that promise, deny or give away what they must not are replaced by our own.

#[cfg(test)]
mod tests;
mod words;

use anabranch_sdk::prelude::*;

use crate::words::{Situation, fault};

const SYSTEM: &str = "You write short messages from a bank to a person who applied for an account. You are given one \
    JSON object. `situation` says where the application stands; \
    `please_send` lists what the person has to send, if anything. Write in plain, friendly, short sentences: what \
    happens next and what the person has to do. Give no reasons, make no promises, mention no checks, lists or \
    suspicions, and add nothing that is not in the object. Do not address the person by name.";

/// The agent.
#[derive(Debug)]
pub struct CustomerAgent {
    config: Config,
}

/// `agents.customer.config`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How messages are signed.
    pub signature: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { signature: "Your onboarding team".to_owned() }
    }
}

/// What it reads from the request.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Application {
    /// Who applies.
    pub applicant: Applicant,
}

/// Who applies.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Applicant {
    /// Full name.
    #[schemars(extend("x-pii" = true))]
    pub name: String,
}

/// What it reads from the outcome; the rest of it is not for the applicant.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct CaseOutcome {
    state: String,
    needed_from_applicant: Vec<String>,
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Message {
    /// Where the application stands, in the applicant's terms.
    pub situation: Situation,
    /// Subject line.
    pub subject: String,
    /// The message; it addresses the applicant by name.
    #[schemars(extend("x-pii" = true))]
    pub body: String,
    /// What the applicant must send, if anything.
    pub please_send: Vec<String>,
    /// Who worded it.
    pub worded_by: Author,
}

/// Who worded a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Author {
    /// The model.
    Model,
    /// Nobody: it is our own standing text.
    Template,
}

/// A model's draft.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
struct Draft {
    /// Subject line, at most ten words.
    subject: String,
    /// At most six sentences.
    body: String,
}

impl Agent for CustomerAgent {
    const NAME: &'static str = "customer";
    const DESCRIPTION: &'static str = "Tells the applicant in plain words what happens next, once the case is decided or \
        waits for a person.";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const AFTER: &'static [&'static str] = &["outcome"];
    type Config = Config;
    type Input = Application;
    type Output = Message;

    fn new(config: Config) -> Result<Self, ConfigError> {
        Ok(Self { config })
    }

    async fn handle(&self, ctx: &Context<'_>, input: Application) -> Result<Outcome<Message>, AgentError> {
        let outcome: CaseOutcome = ctx.outcome()?.unwrap_or_default();
        let situation = Situation::of(&outcome.state);
        let please_send = match situation {
            Situation::InReview => words::items(&outcome.needed_from_applicant),
            _ => Vec::new(),
        };
        let known = json!({ "situation": situation, "please_send": please_send });
        let prompt = Prompt::new(SYSTEM).json("where the application stands", known);
        let draft: Option<Draft> = ctx.model().ask_or_go_without("customer_message", &prompt).await?;
        let usable = draft.filter(|draft| match fault(situation, &draft.subject, &draft.body) {
            Some(fault) => {
                tracing::warn!(correlation_id = %ctx.correlation_id(), fault, "the model's message was not used");
                false
            }
            None => true,
        });
        let (subject, text, worded_by) = match usable {
            Some(draft) => (draft.subject, draft.body, Author::Model),
            None => {
                let (subject, text) = words::template(situation, &please_send);
                (subject.to_owned(), text, Author::Template)
            }
        };
        let body = words::letter(&input.applicant.name, text.trim(), &self.config.signature);
        Ok(Outcome::new(Message { situation, subject, body, please_send, worded_by }))
    }
}
