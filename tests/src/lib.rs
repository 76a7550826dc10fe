//! What the end-to-end tests share: an application of real processes on a cluster of its own names.

mod app;
mod kyc;
mod sleeper;

pub use app::{App, Spec, binaries, workspace};
pub use kyc::{DemoCase, Expect, KYC_AGENTS, demo_cases, kyc};
pub use sleeper::{answers, nap, sleeper};
