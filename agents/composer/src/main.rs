//! The composer's process.

use std::process::ExitCode;

fn main() -> ExitCode {
    anabranch_runtime::composer::<anabranch_agent_composer::KycComposer>()
}
