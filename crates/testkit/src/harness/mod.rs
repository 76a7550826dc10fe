//! Runs the three roles as the runtime does, without a broker, against a model in memory.
//!
//! ```
//! use anabranch_sdk::prelude::*;
//! use anabranch_testkit::harness::AgentHarness;
//!
//! # #[derive(Serialize, Deserialize, JsonSchema)] struct Input { name: String }
//! # #[derive(Serialize, Deserialize, JsonSchema, Debug)] struct Greeting { text: String }
//! # struct Greeter;
//! # impl Agent for Greeter {
//! #     const NAME: &'static str = "greeter";
//! #     const DESCRIPTION: &'static str = "Greets.";
//! #     type Config = NoConfig;
//! #     type Input = Input;
//! #     type Output = Greeting;
//! #     fn new(_: NoConfig) -> Result<Self, ConfigError> { Ok(Self) }
//! #     async fn handle(&self, _: &Context<'_>, input: Input) -> Result<Outcome<Greeting>, AgentError> {
//! #         Ok(Outcome::new(Greeting { text: format!("Hello, {}", input.name) }))
//! #     }
//! # }
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let harness = AgentHarness::<Greeter>::new(json!({})).unwrap();
//! let answer = harness.task(json!({"name": "Ava"})).run().await.unwrap();
//! assert_eq!(answer.output().text, "Hello, Ava");
//! # }
//! ```

mod agent;
mod composer;
mod supervisor;

use std::time::{SystemTime, UNIX_EPOCH};

use anabranch_protocol::{CorrelationId, Envelope, EventId, Timestamp, TraceParent};
use anabranch_sdk::error::ConfigError;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use agent::{AgentHarness, TaskRun};
pub use anabranch_llm::journal::{Entry, MemoryJournal};
pub use composer::{ComposerHarness, JoinedCase};
pub use supervisor::SupervisorHarness;

/// The clock of a harness that is not told another.
pub fn wall_clock() -> Timestamp {
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis());
    Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
}

fn config_of<T: DeserializeOwned>(config: Value) -> Result<T, ConfigError> {
    T::deserialize(config).map_err(|e| ConfigError::new(format!("the config cannot be read: {e}")))
}

fn envelope(case: &CorrelationId, kind: &str, now: Timestamp, deadline: Option<Timestamp>) -> Envelope {
    let id = EventId::new(format!("{case}-{kind}"));
    Envelope {
        trace: TraceParent::root(&id),
        origin_trace: TraceParent::root(&id),
        id,
        source: "/testkit".to_owned(),
        kind: kind.to_owned(),
        subject: None,
        time: now,
        correlation_id: case.clone(),
        causation_id: None,
        deadline,
        trace_state: None,
    }
}
