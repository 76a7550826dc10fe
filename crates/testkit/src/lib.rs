//! What tests need: a harness that runs a handler in milliseconds with no broker, and (feature `cluster`) brokers,
//! processes and faults for end-to-end tests.
//!
//! | room | what is in it |
//! |---|---|
//! | [`harness`] | an agent, a supervisor or a composer against a scripted model |
//! | `cluster` | a broker for a test: embedded, or the one that `ANABRANCH_TEST_KAFKA` names |
//! | `process` | real processes: started, awaited, stopped, killed |
//! | `kafka_proxy` | (feature `proxy`) between clients and brokers: lost answers, cuts, silence, lower versions |

#[cfg(feature = "cluster")]
pub mod cluster;
pub mod harness;
#[cfg(feature = "proxy")]
pub mod kafka_proxy;
#[cfg(feature = "cluster")]
pub mod process;

pub use anabranch_llm::script::{Reply, ScriptedModel};
