//! The demo's cases: what is sent and what must come of it. The files in `demo/cases` say both.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anabranch_protocol::ReviewDecision;
use anyhow::Context as _;
use include_dir::{Dir, include_dir};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::usage::usage;

/// `demo/cases/*.json` and `demo/mock.json`, so that the binary needs no checkout for them.
static DEMO: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/demo");

/// A demo that is not decided after its deadline and this much more is stuck.
const PATIENCE: Duration = Duration::from_secs(30);
/// The same for a case that has no deadline of its own, which an idle machine decides in seconds.
const PATIENCE_WITHOUT_DEADLINE: Duration = Duration::from_secs(120);

/// One case of the demo.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DemoCase {
    /// Short and unique; the correlation id is made of it.
    pub(super) id: String,
    /// What it shows.
    pub(super) about: String,
    /// What must come of it.
    pub(super) expect: Expect,
    /// Key of the record; `id` if left out.
    #[serde(default)]
    pub(super) key: Option<String>,
    /// The request.
    #[serde(default)]
    pub(super) request: Option<Value>,
    /// Instead of a request: text that is sent as it is, without headers, as a foreign producer might.
    #[serde(default)]
    pub(super) raw: Option<String>,
    /// When the case must be decided, after it was sent; as the topology says if left out.
    #[serde(default)]
    pub(super) deadline_seconds: Option<u64>,
    /// How often the same record is sent; once if left out.
    #[serde(default)]
    pub(super) copies: Option<u32>,
    /// What a person decides once the case is parked.
    #[serde(default)]
    pub(super) review: Option<ReviewDecision>,
}

/// What must come of a case.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expect {
    /// The state of its first outcome.
    pub(super) state: String,
    /// Reason codes that must be among those of the outcome.
    #[serde(default)]
    pub(super) codes: Vec<String>,
    /// Whether there must be a fraud alert, or must not; either will do if left out.
    #[serde(default)]
    pub(super) fraud_alert: Option<bool>,
}

impl DemoCase {
    /// How long to wait for it.
    pub(super) fn patience(&self) -> Duration {
        self.deadline_seconds.map_or(PATIENCE_WITHOUT_DEADLINE, |s| Duration::from_secs(s) + PATIENCE)
    }

    /// The same case of another run, on a cluster that remembers: it is sent from elsewhere, as fraud detection looks
    /// across cases.
    pub(super) fn of_run(mut self, run: u64) -> Self {
        let [.., high, low] = run.to_be_bytes();
        let Some(source) = self.request.as_mut().and_then(|request| request.get_mut("source")) else { return self };
        if let Some(Value::String(ip)) = source.get_mut("ip") {
            // Addresses that cases share stay shared.
            if let Ok([.., last]) = ip.parse().map(|address: Ipv4Addr| address.octets()) {
                *ip = Ipv4Addr::new(10, high, low, last).to_string();
            }
        }
        if let Some(Value::String(device)) = source.get_mut("device_id") {
            device.push_str(&format!("-{run:x}"));
        }
        self
    }

    fn check(&self) -> Result<(), String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if self.id.is_empty() || !self.id.chars().all(plain) {
            return Err(format!("id {:?}: use letters, digits, -, _ and .", self.id));
        }
        if self.request.is_some() == self.raw.is_some() {
            return Err("needs exactly one of request and raw".to_owned());
        }
        if self.copies == Some(0) {
            return Err("copies: at least 1".to_owned());
        }
        Ok(())
    }
}

/// The cases that are built in, or those of a directory; in the order of their files' names.
///
/// # Errors
/// If one cannot be read: which file, and why.
pub(super) fn cases(directory: Option<&Path>) -> anyhow::Result<Vec<DemoCase>> {
    let mut files = match directory {
        Some(directory) => files_in(directory)?,
        None => built_in(),
    };
    files.sort();
    let mut cases: Vec<DemoCase> = Vec::with_capacity(files.len());
    for (name, text) in files {
        let case: DemoCase = serde_json::from_str(&text).map_err(|e| usage(format!("{name}: {e}")))?;
        case.check().map_err(|why| usage(format!("{name}: {why}")))?;
        if cases.iter().any(|c| c.id == case.id) {
            return Err(usage(format!("{name}: id {:?} is used twice", case.id)));
        }
        cases.push(case);
    }
    if cases.is_empty() { Err(usage("there are no demo cases: write --no-demo")) } else { Ok(cases) }
}

/// The script of the mock model that is built in.
pub(crate) fn mock_script() -> Option<&'static str> {
    DEMO.get_file("mock.json")?.contents_utf8()
}

/// The request of the demo's clean case, which is approved.
pub(crate) fn clean_request() -> Option<Value> {
    cases(None).ok()?.into_iter().find(|case| case.expect.state == "approved")?.request
}

fn built_in() -> Vec<(String, String)> {
    let files = DEMO.get_dir("cases").into_iter().flat_map(Dir::files);
    let json = files.filter(|f| f.path().extension().is_some_and(|e| e == "json"));
    json.map(|f| (f.path().display().to_string(), f.contents_utf8().unwrap_or_default().to_owned())).collect()
}

fn files_in(directory: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let shown = directory.display();
    let entries = std::fs::read_dir(directory).map_err(|e| usage(format!("cannot read --cases {shown}: {e}")))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read {shown}"))?.path();
        if path.extension().is_some_and(|e| e == "json") {
            let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            files.push((path.display().to_string(), text));
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_in_can_be_used() {
        let cases = cases(None).unwrap();
        assert!(cases.len() >= 10, "{}", cases.len());
        anabranch_llm::mock::Script::parse(mock_script().unwrap()).unwrap();
    }

    #[test]
    fn another_run_comes_from_elsewhere_but_what_is_shared_stays_shared() {
        let sources = |run: Option<u64>| -> Vec<Option<String>> {
            let cases = cases(None).unwrap().into_iter().map(|c| run.map_or(c.clone(), |run| c.of_run(run)));
            cases.map(|c| c.request?.pointer("/source/ip")?.as_str().map(str::to_owned)).collect()
        };
        let (first, second, third) = (sources(None), sources(Some(0x1_0203)), sources(Some(0x1_0204)));
        assert!(second.iter().flatten().all(|ip| ip.starts_with("10.2.3.") && !first.contains(&Some(ip.clone()))));
        assert!(second.iter().flatten().all(|ip| !third.contains(&Some(ip.clone()))));
        let shared = |ips: &[Option<String>]| -> Vec<Vec<bool>> {
            ips.iter().map(|a| ips.iter().map(|b| a == b).collect()).collect()
        };
        assert_eq!(shared(&first), shared(&second));
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let refused = |text: &str| {
            std::fs::write(directory.path().join("a.json"), text).unwrap();
            cases(Some(directory.path())).unwrap_err().to_string()
        };
        assert!(refused("{").contains("a.json: EOF"));
        let both = refused(r#"{"id": "a", "about": "", "expect": {"state": "x"}, "request": {}, "raw": ""}"#);
        assert!(both.ends_with("a.json: needs exactly one of request and raw"), "{both}");
        let typo = refused(r#"{"id": "a", "about": "", "expect": {"state": "x", "code": []}, "request": {}}"#);
        assert!(typo.contains("unknown field `code`"), "{typo}");
    }
}
