//! The compliance agent's process.

use std::process::ExitCode;

fn main() -> ExitCode {
    anabranch_runtime::agent::<anabranch_agent_compliance::ComplianceAgent>()
}
