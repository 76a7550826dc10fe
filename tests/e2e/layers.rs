//! Dependencies point one way, and what must stay in one crate stays there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// What each crate may depend on, beside the outside world. An agent's library needs `sdk`, its `main` the runtime.
const MAY_USE: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("topology", &[]),
    ("core", &["protocol", "topology"]),
    ("wire", &[]),
    // For tests only: nothing depends on it otherwise.
    ("fuzz", &[]),
    ("kafka", &["protocol", "core", "wire"]),
    ("claims", &["protocol"]),
    ("llm", &["protocol"]),
    ("tools", &["llm"]),
    ("sdk", &["protocol", "claims", "llm", "tools"]),
    ("broker", &["wire"]),
    ("runtime", &["protocol", "topology", "core", "kafka", "claims", "llm", "sdk"]),
    ("testkit", &["protocol", "claims", "llm", "sdk", "kafka", "broker"]),
    (
        "cli",
        &["protocol", "topology", "core", "kafka", "claims", "llm", "sdk", "broker", "runtime", "testkit", "bench"],
    ),
    // It measures the application from outside; `sdk` and `runtime` are its own agent's, that of W6.
    ("bench", &["protocol", "topology", "kafka", "llm", "sdk", "runtime"]),
    ("agent", &["sdk", "runtime"]),
    ("e2e", &["protocol", "topology", "kafka", "llm", "sdk", "runtime", "broker", "testkit"]),
];

/// Crates of others that only some of ours may use outside their tests.
const ONLY_IN: &[(&str, &[&str])] = &[
    // `bench` measures the raw floor with it: what a broker gives to a plain client, without ours.
    ("rskafka", &["bench", "kafka"]),
    ("async-openai", &["llm"]),
    ("object_store", &["claims"]),
    ("rmcp", &["tools"]),
];

/// Crates of ours without tokio, not even by a detour.
const NO_TOKIO: &[&str] = &["protocol", "topology", "core"];

fn metadata() -> Metadata {
    MetadataCommand::new().manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml")).exec().unwrap()
}

/// `kafka` of `anabranch-kafka`, `agent` of every agent; `None` of others' packages.
fn layer(package: &str) -> Option<&str> {
    let name = package.strip_prefix("anabranch-")?;
    Some(if name.starts_with("agent-") { "agent" } else { name })
}

fn normal_dependencies(package: &Package) -> impl Iterator<Item = &str> {
    package.dependencies.iter().filter(|d| d.kind != DependencyKind::Development).map(|d| d.name.as_str())
}

#[test]
fn dependencies_point_one_way() {
    let rules: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    let mut wrong = Vec::new();
    let metadata = metadata();
    let members = metadata.workspace_packages();
    assert!(members.len() > 15, "the workspace was not found");
    for package in members {
        let Some(from) = layer(&package.name) else { continue };
        // A crate that somebody drops into agents/ is an agent, whatever it calls itself.
        let from = if package.manifest_path.as_str().contains("/agents/") { "agent" } else { from };
        let Some(allowed) = rules.get(from) else {
            wrong.push(format!("{from} is in no layer"));
            continue;
        };
        for to in normal_dependencies(package).filter_map(layer) {
            if !allowed.contains(&to) {
                wrong.push(format!("{} must not depend on {to}", package.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_client_stays_behind_its_crate() {
    for (outside, ours) in ONLY_IN {
        let metadata = metadata();
        let users: BTreeSet<String> = metadata
            .workspace_packages()
            .into_iter()
            .filter(|p| normal_dependencies(p).any(|d| d == *outside))
            .map(|p| p.name.to_string())
            .collect();
        let allowed: BTreeSet<String> = ours.iter().map(|ours| format!("anabranch-{ours}")).collect();
        assert_eq!(users, allowed, "users of {outside}");
    }
}

#[test]
fn the_pure_crates_know_no_tokio() {
    let metadata = metadata();
    let resolve = metadata.resolve.as_ref().unwrap();
    let name = |id: &cargo_metadata::PackageId| metadata[id].name.to_string();
    for ours in NO_TOKIO {
        let root = metadata.packages.iter().find(|p| p.name.as_str() == format!("anabranch-{ours}")).unwrap();
        let (mut seen, mut open) = (BTreeSet::new(), vec![&root.id]);
        while let Some(id) = open.pop() {
            let node = resolve.nodes.iter().find(|n| n.id == *id).unwrap();
            let normal = |d: &&cargo_metadata::NodeDep| d.dep_kinds.iter().any(|k| k.kind == DependencyKind::Normal);
            for dependency in node.deps.iter().filter(normal) {
                if seen.insert(&dependency.pkg) {
                    open.push(&dependency.pkg);
                }
            }
        }
        assert!(!seen.iter().any(|id| name(id) == "tokio"), "{ours} depends on tokio");
    }
}
