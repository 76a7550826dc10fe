//! The tokio shell around `core`: loops, clock, shutdown, metrics, health. An agent's `main` is one call into it.
//!
//! | room | what is in it |
//! |---|---|
//! | `boot` | from the command line to a running role, and the exit code |
//! | `prepare` | what must be there before a role can work |
//! | `worker` | the loop of agents and supervisor |
//! | `agent`, `supervisor`, `composer` | what each role does with a record |
//! | `attempts` | in-place retries |
//! | `emit` | what is emitted is acknowledged; dead letters |
//! | `gate` | what keeps a process from starting work: dead letters, a dependency that is down |
//! | `directory`, `observe` | broadcast reading: agents' cards, an agent's tasks |
//! | `model` | the model an agent asks, or none |
//! | `http`, `metrics` | `/live`, `/ready`, `/metrics` |

// A role's future holds all that it awaits, down to a connection's bytes: more levels than the compiler looks into by default.
#![recursion_limit = "256"]

mod agent;
mod args;
mod attempts;
mod boot;
mod clock;
mod composer;
mod directory;
mod emit;
mod gate;
mod http;
mod metrics;
mod model;
mod observe;
mod prepare;
mod service;
mod shutdown;
mod supervisor;
mod worker;

pub use boot::{agent, composer, supervisor};
