//! What needs no broker: validate, graph, and what is said to wrong usage.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

const VALID: &str = "
name: kyc
inbound: { requests: kyc.requests }
outbound: { decisions: kyc.decisions }
agents:
  identity: {}
";

fn anabranch(folder: &Path, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_anabranch"));
    command.args(args).current_dir(folder).env_remove("ANABRANCH_TOPOLOGY").env_remove("ANABRANCH_KAFKA");
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

fn folder(topology: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("topics.yaml"), topology).unwrap();
    folder
}

#[test]
fn a_valid_topology_is_said_to_be_so() {
    let folder = folder(VALID);
    let (code, out, err) = anabranch(folder.path(), &["validate"]);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "", "topics.yaml: valid\n"));
}

#[test]
fn prices_in_a_file_of_their_own_are_checked_with_it() {
    let folder = folder(&format!("{VALID}budgets: {{ per_case: {{ money: 1 }} }}\nprices: prices.yaml\n"));
    let (code, out, err) = anabranch(folder.path(), &["validate"]);
    assert_eq!(code, 64, "{out}{err}");
    assert!(out.starts_with("prices.yaml:1:1: error: cannot be read: "), "{out}");
    std::fs::write(folder.path().join("prices.yaml"), "gpt-4o-mini: { input: 0.15, output: cheap }\n").unwrap();
    let (code, out, _) = anabranch(folder.path(), &["validate"]);
    assert_eq!(code, 64, "{out}");
    assert!(out.starts_with("prices.yaml:1:37: error: gpt-4o-mini.output: expected a number"), "{out}");
    std::fs::write(folder.path().join("prices.yaml"), "gpt-4o-mini: { input: 0.15, output: 0.6 }\n").unwrap();
    let (code, out, err) = anabranch(folder.path(), &["validate"]);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "", "topics.yaml: valid\n"));
}

#[test]
fn every_fault_is_named_with_its_place() {
    let folder = folder(VALID);
    std::fs::write(
        folder.path().join("bad.yaml"),
        VALID.replace("identity: {}", "identity: { concurency: 3, order: no }"),
    )
    .unwrap();
    let (code, out, err) = anabranch(folder.path(), &["validate", "bad.yaml"]);
    assert_eq!(code, 64, "{out}{err}");
    let places = out.lines().filter(|line| line.starts_with("bad.yaml:6:")).count();
    assert_eq!(places, 2, "{out}");
    assert_eq!(out.matches("help: ").count(), 2, "{out}");
    assert!(err.ends_with("bad.yaml: 2 errors\n"), "{err}");

    let (code, out, _) = anabranch(folder.path(), &["validate", "bad.yaml", "-o", "json"]);
    let found: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 64);
    for diagnostic in found.as_array().unwrap() {
        assert_eq!((diagnostic["line"].as_u64(), diagnostic["severity"].as_str()), (Some(6), Some("error")));
    }
}

/// A cargo workspace in which only `document` has a crate.
#[test]
fn in_a_workspace_an_agent_without_a_crate_is_warned_about() {
    let folder = folder(VALID);
    let package = folder.path().join("agents/document");
    std::fs::create_dir_all(package.join("src")).unwrap();
    std::fs::write(package.join("src/main.rs"), "fn main() {}\n").unwrap();
    std::fs::write(folder.path().join("Cargo.toml"), "[workspace]\nmembers = [\"agents/*\"]\nresolver = \"3\"\n")
        .unwrap();
    let manifest = "[package]\nname = \"document\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n\
                    [package.metadata.anabranch]\nagent = \"document\"\n";
    std::fs::write(package.join("Cargo.toml"), manifest).unwrap();
    let (code, out, err) = anabranch(folder.path(), &["validate"]);
    assert_eq!(code, 0, "a warning is no error: {out}{err}");
    assert!(out.contains("warning") && out.contains("identity"), "{out}");
    let (_, graph, _) = anabranch(folder.path(), &["graph"]);
    assert!(graph.contains("[\"document\"]") && graph.contains("[\"identity\"]"), "{graph}");
}

#[test]
fn the_schema_is_printed() {
    let folder = TempDir::new().unwrap();
    let (code, out, _) = anabranch(folder.path(), &["validate", "--schema"]);
    let schema: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 0);
    assert!(schema["properties"]["inbound"].is_object(), "{schema}");
}

#[test]
fn a_graph_needs_only_the_file() {
    let folder = folder(VALID);
    for (format, start) in [("mermaid", "flowchart LR"), ("dot", "digraph \"kyc\""), ("json", "{")] {
        let (code, out, err) = anabranch(folder.path(), &["graph", "-o", format]);
        assert_eq!(code, 0, "{err}");
        assert!(out.starts_with(start) && out.contains("kyc.tasks.identity"), "{out}");
    }
}

#[test]
fn wrong_usage_ends_with_64_and_leaves_stdout_alone() {
    let folder = folder(VALID);
    let wrong: [&[&str]; 6] = [
        &["validate", "missing.yaml"],
        &["graph", "-o", "table"],
        &["status"],
        &["send", "--brokers", "localhost:1"],
        &["send", "x.json", "--brokers", "localhost:1", "--timeout", "5s"],
        &["send", "x.json", "--review", "--brokers", "localhost:1"],
    ];
    for args in wrong {
        let (code, out, err) = anabranch(folder.path(), args);
        assert_eq!((code, out.as_str()), (64, ""), "{args:?}: {err}");
        assert!(!err.is_empty());
    }
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let folder = folder(VALID);
    let mut child = Command::new(env!("CARGO_BIN_EXE_anabranch"))
        .args(["validate", "--schema"])
        .current_dir(folder.path())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let done = child.wait_with_output().unwrap();
    assert_eq!((done.status.code(), done.stderr.as_slice()), (Some(0), b"".as_slice()));
}
