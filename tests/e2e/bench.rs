//! `anabranch bench`, small: what it counts, what it refuses, and that nothing of it is left when it is ended. No times: those
//! are measured elsewhere.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anabranch_e2e::{KYC_AGENTS, binaries};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

fn bench(arguments: &[&str]) -> (Command, PathBuf) {
    let folder = binaries(KYC_AGENTS).unwrap();
    let mut command = Command::new(folder.join("anabranch"));
    command.arg("bench").args(arguments).arg("--bin-dir").arg(&folder).env_remove("ANABRANCH_KAFKA");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    (command, folder)
}

fn json(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}:\n{said}"))
}

#[test]
fn a_small_run_counts_every_case_once_and_has_a_floor() {
    let plots = tempfile::tempdir().unwrap();
    let arguments = ["w2", "--cases", "50", "--warm-up", "5", "--runs", "1", "-o", "json", "--plots"];
    let output = bench(&[&arguments[..], &[plots.path().to_str().unwrap()]].concat()).0.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report = json(&output);
    assert_eq!(report["environment"]["broker"]["name"], "embedded");
    let run = &report["legs"][0]["runs"][0];
    let cases =
        serde_json::json!({ "due": 50, "decided": 50, "dead_letters": 0, "lost": 0, "doubled": 0, "foreign": 0 });
    assert_eq!(run["cases"], cases);
    assert_eq!(run["latency_ms"]["count"], 50);
    // A request, a plan, five tasks, five answers and an outcome each, and what is written beside them.
    assert!(run["floor"]["records"].as_u64().unwrap() > 50 * 13, "{}", run["floor"]);
    assert!(run["floor"]["seconds"].as_f64().unwrap() > 0.0 && run["complete"] == true);
    // Identity and document ask before the outcome, customer after it.
    assert_eq!((&run["model"]["calls"], &run["model"]["refused"]), (&150.into(), &0.into()));
    for group in ["agents", "broker", "mock", "bench"] {
        assert!(run["taken"][group]["peak_resident_bytes"].as_u64().unwrap() > 1_000_000, "{group}: {}", run["taken"]);
    }
    assert!(report["legs"][0]["summary"]["ratio_to_floor"]["median"].as_f64().unwrap() > 0.0);
    for plot in ["w2-latency.svg", "w2-throughput.svg"] {
        assert!(std::fs::read_to_string(plots.path().join(plot)).unwrap().starts_with("<svg"));
    }
}

#[test]
fn what_cannot_be_meant_is_refused_before_anything_starts() {
    for (arguments, words) in [
        (&["w10"][..], "there are w1, w2"),
        (&["w2", "--cases", "0"], "--cases 0"),
        (&["w3", "--rate", "0"], "--rate"),
        (&["w2", "--pin", "agents"], "agents=0-3"),
        (&["w7", "--payload", "5000000"], "1 MB"),
        (&["w5", "--scale", "document"], "document=8"),
        (&["w2", "--topology", "/nowhere/topics.yaml"], "/nowhere/topics.yaml"),
    ] {
        let output = bench(arguments).0.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
}

/// The processes whose command line names a folder of this process's own, or that it started.
fn children_of(pid: u32) -> Vec<u32> {
    let is_child = |candidate: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{candidate}/stat")).unwrap_or_default();
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        parent == Some(pid)
    };
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_child).collect()
}

fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

#[test]
fn ctrl_c_ends_all_processes_and_prints_what_was_measured() {
    // More cases than will come.
    let arguments = ["w2", "--cases", "5000", "--rate", "10", "--warm-up", "1", "--runs", "1", "-o", "json"];
    let child = bench(&arguments).0.spawn().unwrap();
    let (pid, deadline) = (child.id(), Instant::now() + Duration::from_secs(60));
    // Broker, model, and seven agents.
    let mut children = children_of(pid);
    while children.len() < 9 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
        children = children_of(pid);
    }
    assert_eq!(children.len(), 9, "all processes were started");
    std::thread::sleep(Duration::from_secs(3));
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let report = json(&output);
    assert_eq!(report["interrupted"], true, "{said}");
    assert!(report["legs"][0]["summary"].as_object().unwrap().is_empty(), "a run without an end is in no summary");
    assert!(!children.iter().any(|child| lives(*child)), "no process is left: {said}");
}
