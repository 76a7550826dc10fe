//! What the end-to-end tests share: an application of real processes on a cluster of its own names.

mod app;
mod asker;
mod cases;
mod kafka;
mod kyc;
mod played;
mod sleeper;
mod tasks;
mod witness;

pub use app::{App, Spec, binaries, workspace};
pub use asker::{asker, asking, question};
pub use cases::{Load, Watch, case_key, clean_case, counter, ends_well, one_outcome_each, outcome_topics, seed};
pub use kafka::Kafka;
pub use kyc::{DemoCase, Expect, KYC_AGENTS, demo_cases, kyc};
pub use played::{Played, step, sure};
pub use sleeper::{answers, nap, sleeper};
pub use tasks::Given;
pub use witness::witness;
