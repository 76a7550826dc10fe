//! The application about what an agent sees of its case: the reference application's supervisor and composer, an agent
//! that says what it sees, and two that it waits for.

use anabranch_llm::mock::MockConfig;

use crate::app::Spec;

/// The application with these lines at the end of its topology, and for its witness.
pub fn witness(agents: Vec<&'static str>, more: &str, settings: &str) -> Spec {
    let topology = format!(
        "name: sight\npartitions: 2\ninbound:\n  requests: sight.requests\n  review: sight.reviews\noutbound:\n  \
         decisions: sight.decisions\n  cases: sight.cases\n  fraud-alerts: sight.fraud-alerts\n  customer-messages: \
         sight.customer-messages\n{more}agents:\n  witness: {{ {settings} }}\n"
    );
    Spec { topology, agents, mock: MockConfig::default(), env: Vec::new() }
}
