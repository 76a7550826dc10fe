//! The model port: what an agent asks of a language model, and the only crate that knows how it is carried.
//!
//! | room | what is in it |
//! |---|---|
//! | [`Model`] | the port: a chat, a stream; object-safe |
//! | [`chat`] | requests, answers, tools, usage |
//! | [`error`] | failures, each of one class: retryable, terminal or fatal |
//! | [`OpenAi`] | any OpenAI-compatible endpoint |
//! | [`stack`] | what stands between an agent and an endpoint: budget, rate limit, retry, breaker, ledger |
//! | [`prices`] | what calls cost |
//! | [`structured`] | an answer as a Rust type, checked against its JSON Schema |
//! | [`journal`] | what was answered before, so that a redelivery does not ask again |
//! | [`cassette`] | calls recorded once and replayed in tests |
//! | [`script`] | a model in memory, for unit tests |
//! | [`mock`] | an OpenAI-compatible server with latency, faults and scripts, and the demo's outside vendor |
//!
//! Three rules hold everywhere in it. A model's answer is untrusted: its size is bounded, its JSON is checked. A failure
//! comes out classified, and the runtime is the one owner of retries: only the stack tries again, at once and a few
//! times, where a request certainly never arrived. The API key is never printed.

pub mod cassette;
pub mod chat;
pub mod error;
pub mod journal;
pub mod mock;
mod openai;
mod port;
pub mod prices;
mod schema;
pub mod script;
mod secret;
pub mod stack;
mod structured;
mod validate;

pub use chat::{
    ChatEvent, ChatRequest, ChatResponse, ChatStream, FinishReason, Message, ResponseSchema, Role, ToolCall, ToolSpec,
    Usage,
};
pub use error::{ErrorClass, ModelError, OpenCause};
pub use journal::{Journal, JournalError};
pub use openai::{OpenAi, OpenAiOptions};
pub use port::Model;
pub use schema::Schema;
pub use secret::Secret;
pub use structured::{Repairs, named, not_valid, structured, structured_named, structured_repaired};
