//! The tokio shell around `core`: loops, clock, shutdown, metrics, health. An agent's `main` is one call into it.
//!
//! | room | what is in it |
//! |---|---|
//! | `boot` | from the command line to a running role, and the exit code |
//! | `prepare` | what must be there before a role can work |
//! | `worker` | the loop of agents and supervisor |
//! | `agent`, `supervisor`, `composer` | what each role does with a record |
//! | `kind` | an agent without its types |
//! | `attempts` | one attempt, and what becomes of it if it fails |
//! | `replay` | a task or a case that is over, done again without a broker |
//! | `retry` | where a record waits until it is tried again, and how it comes back |
//! | `emit` | what is emitted is acknowledged; dead letters |
//! | `letters` | how many dead letters are too many, and what is done then |
//! | `gate` | what keeps a process from starting work: dead letters, a dependency that is down |
//! | `claims` | what is too large for a record lies in a store |
//! | `journal` | what an agent's steps led to, on a topic of its own |
//! | `directory`, `observe` | broadcast reading: agents' cards, an agent's tasks |
//! | `tools` | what an agent's model may call, and the servers it comes from |
//! | `model` | the model an agent asks, or none; its ledger, budgets, shared limits and breaker |
//! | `http`, `metrics` | `/live`, `/ready`, `/metrics` |

// A role's future holds all that it awaits, down to a connection's bytes: more levels than the compiler looks into by default.
#![recursion_limit = "256"]

mod agent;
mod args;
mod attempts;
mod boot;
mod claims;
mod clock;
mod composer;
mod directory;
mod emit;
mod gate;
mod http;
mod journal;
mod kind;
mod letters;
mod metrics;
mod model;
mod observe;
mod prepare;
mod replay;
mod retry;
mod service;
mod shutdown;
mod site;
mod supervisor;
mod tools;
mod worker;

/// Agents allocate and free small pieces of JSON on all threads. `crates/bench/BENCHMARKS.md` has the figures.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub use boot::{agent, composer, supervisor};
