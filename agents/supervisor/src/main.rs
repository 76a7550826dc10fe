//! The supervisor's process.

use std::process::ExitCode;

fn main() -> ExitCode {
    anabranch_runtime::supervisor::<anabranch_agent_supervisor::KycSupervisor>()
}
