//! The reference application, and the cases that must come out as its table says.

use std::path::Path;

use anabranch_llm::mock::{MockConfig, Script};
use serde::Deserialize;
use serde_json::Value;

use crate::app::{Spec, workspace};

/// Every agent of the reference application.
pub const KYC_AGENTS: &[&str] = &["supervisor", "identity", "document", "fraud", "compliance", "customer", "composer"];

/// A case of the demo: `crates/cli/demo/cases/*.json`.
#[derive(Debug, Clone, Deserialize)]
pub struct DemoCase {
    /// Its id in the table.
    pub id: String,
    /// What must come of it.
    pub expect: Expect,
    /// The record's key; the id if there is none.
    #[serde(default)]
    pub key: Option<String>,
    /// The request.
    #[serde(default)]
    pub request: Option<Value>,
    /// What is sent instead of a request.
    #[serde(default)]
    pub raw: Option<String>,
    /// A deadline of its own, in seconds from now.
    #[serde(default)]
    pub deadline_seconds: Option<u64>,
    /// How often the same record is delivered.
    #[serde(default)]
    pub copies: Option<u32>,
    /// What a person decides once it is parked.
    #[serde(default)]
    pub review: Option<Value>,
}

/// What must come of a case.
#[derive(Debug, Clone, Deserialize)]
pub struct Expect {
    /// `approved`, `human` or `dead_letter`.
    pub state: String,
    /// Reason codes that must be named.
    #[serde(default)]
    pub codes: Vec<String>,
    /// Whether a fraud alert leaves.
    #[serde(default)]
    pub fraud_alert: bool,
}

impl DemoCase {
    /// The record's key, which becomes the correlation id.
    pub fn key(&self) -> &str {
        self.key.as_deref().unwrap_or(&self.id)
    }

    /// The record's value.
    pub fn value(&self) -> Vec<u8> {
        match (&self.raw, &self.request) {
            (Some(raw), _) => raw.clone().into_bytes(),
            (None, Some(request)) => request.to_string().into_bytes(),
            (None, None) => Vec::new(),
        }
    }
}

/// The demo's cases.
///
/// # Panics
/// If a file cannot be read: a fault of the repository.
#[allow(clippy::expect_used, reason = "for tests: a demo case that cannot be read is a fault of the repository")]
pub fn demo_cases() -> Vec<DemoCase> {
    let mut cases: Vec<DemoCase> = std::fs::read_dir(workspace().join("crates/cli/demo/cases"))
        .expect("the demo's cases")
        .map(|entry| {
            let text = std::fs::read_to_string(entry.expect("a file").path()).expect("a readable file");
            serde_json::from_str(&text).expect("a demo case")
        })
        .collect();
    cases.sort_by(|a, b| a.id.cmp(&b.id));
    cases
}

/// The reference application, as `topics.yaml` has it, with the demo's mock script.
///
/// # Panics
/// If a file of the repository cannot be read.
#[allow(clippy::expect_used, reason = "for tests: a file of the repository that cannot be read")]
pub fn kyc() -> Spec {
    let script =
        Script::load(Path::new(&workspace().join("crates/cli/demo/mock.json"))).expect("the demo's mock script");
    Spec {
        topology: std::fs::read_to_string(workspace().join("topics.yaml")).expect("topics.yaml"),
        agents: KYC_AGENTS.to_vec(),
        mock: MockConfig::default().with_script(script),
        env: Vec::new(),
    }
}
