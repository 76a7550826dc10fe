//! What an agent author sees.
//!
//! An agent is one type in one crate. It reads its part of a request and answers; it never names a topic, never
//! commits an offset, and has no way to produce a record. Three roles share the style: [`Agent`] does a task,
//! [`Supervisor`] plans a case, [`Composer`] joins the answers and decides.
//!
//! ```
//! use anabranch_sdk::prelude::*;
//!
//! #[derive(Serialize, Deserialize, JsonSchema)]
//! struct Input { name: String }
//! #[derive(Serialize, Deserialize, JsonSchema)]
//! struct Greeting { text: String }
//!
//! struct Greeter;
//! impl Agent for Greeter {
//!     const NAME: &'static str = "greeter";
//!     const DESCRIPTION: &'static str = "Greets the applicant by name.";
//!     type Config = NoConfig;
//!     type Input = Input;
//!     type Output = Greeting;
//!     fn new(_: NoConfig) -> Result<Self, ConfigError> { Ok(Self) }
//!     async fn handle(&self, _ctx: &Context<'_>, input: Input) -> Result<Outcome<Greeting>, AgentError> {
//!         Ok(Outcome::new(Greeting { text: format!("Hello, {}", input.name) }).confidence(1.0))
//!     }
//! }
//! ```

pub mod agent;
pub mod case_view;
pub mod claimed;
pub mod composer;
pub mod context;
pub mod error;
pub mod finding;
pub mod mask;
pub mod message;
pub mod model;
mod personal;
pub mod prompt;
pub mod steps;
pub mod supervisor;
pub mod tools;

/// Everything an agent's source file needs.
pub mod prelude {
    pub use crate::agent::{Agent, Outcome};
    pub use crate::case_view::CaseView;
    pub use crate::claimed::Claimed;
    pub use crate::composer::{
        Ask, Band, Bands, Case, Composer, InformationRequest, Joined, Missing, MissingReason, Outbound, Park, Part,
        Parts, Verdict,
    };
    pub use crate::context::Context;
    pub use crate::error::{AgentError, Class, ConfigError};
    pub use crate::finding::{Effect, Finding};
    pub use crate::mask::Pii;
    pub use crate::message::{Message, NoConfig};
    pub use crate::model::ModelHandle;
    pub use crate::prompt::Prompt;
    pub use crate::supervisor::{Candidate, Directory, PlanContext, PlanDraft, Supervisor};
    pub use crate::tools::{Tool, ToolContext, ToolError, ToolSet};
    pub use anabranch_protocol::ReviewDecision;
    pub use schemars::JsonSchema;
    pub use serde::{Deserialize, Serialize};
    pub use serde_json::{Value, json};
}

pub use prelude::*;
// For authors' derives and for the test harness: the schema and wire types that appear in signatures above.
pub use {
    anabranch_claims as claims, anabranch_llm as llm, anabranch_protocol as protocol, schemars, serde, serde_json,
};

/// The agent in README.md compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
