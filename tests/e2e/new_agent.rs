//! Dropping a crate in is the only edit: a new agent takes part in new cases, and nothing is restarted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anabranch_e2e::{App, binaries, demo_cases, kyc, workspace};
use anabranch_kafka::Record;
use anabranch_testkit::cluster::foreign;
use anabranch_testkit::process::Process;
use serde_json::Value;

/// A copy of the workspace, as git knows it, in which a crate can be dropped.
fn copy_of_the_workspace(to: &Path) {
    let listed = Command::new("git")
        .current_dir(workspace())
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .output()
        .unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    for file in String::from_utf8(listed.stdout).unwrap().lines() {
        let (source, target) = (workspace().join(file), to.join(file));
        if source.is_file() {
            std::fs::create_dir_all(target.parent().unwrap()).unwrap();
            std::fs::copy(source, target).unwrap();
        }
    }
}

/// Links or copies a folder's files, with their times: cargo compares these. What is of our own crates is left out.
fn dependencies(from: &Path, to: &Path, place: fn(&Path, &Path) -> std::io::Result<()>) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_name().to_string_lossy().contains("anabranch") {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            dependencies(&source, &target, place);
        } else {
            place(&source, &target).unwrap();
        }
    }
}

fn copied(source: &Path, target: &Path) -> std::io::Result<()> {
    let modified = std::fs::metadata(source)?.modified()?;
    std::fs::copy(source, target)?;
    std::fs::File::options().write(true).open(target)?.set_modified(modified)
}

/// A target folder for the copy, in which others' crates are built already.
///
/// Not the workspace's own: cargo names what it builds of a path by the path within its workspace, so the copy's crates would
/// be written over the workspace's, and whatever is built against these, as documentation tests are, would no longer link.
/// The results are linked, as they are large and never written twice; cargo's records of them are copied.
fn target_with_dependencies(built: &Path) -> tempfile::TempDir {
    let target = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let own = target.path().join(built.file_name().unwrap());
    dependencies(&built.join("deps"), &own.join("deps"), |from, to| std::fs::hard_link(from, to));
    dependencies(&built.join("build"), &own.join("build"), copied);
    dependencies(&built.join(".fingerprint"), &own.join(".fingerprint"), copied);
    target
}

fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git").current_dir(folder).args(arguments).output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn of<'a>(records: &'a [Record], case: &str) -> Option<&'a Record> {
    records.iter().find(|r| r.key.as_deref() == Some(case.as_bytes()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_agent_joins_a_running_application() {
    let app = App::start(kyc()).await.unwrap();
    let before: Vec<(String, Option<u32>)> = app.processes.iter().map(|(n, p)| (n.clone(), p.pid())).collect();
    let built: PathBuf = binaries(&[]).unwrap();
    let anabranch = built.join("anabranch");

    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path();
    copy_of_the_workspace(copy);
    git(copy, &["init", "-q"]);
    git(copy, &["add", "-A"]);
    let new = Command::new(&anabranch).current_dir(copy).args(["new", "agent", "adverse-media"]).output().unwrap();
    assert!(new.status.success(), "{}", String::from_utf8_lossy(&new.stderr));

    let mut up = tokio::process::Command::new(&anabranch);
    up.current_dir(copy).args(["up", "--agent", "adverse-media", "--brokers", app.cluster.bootstrap()]);
    up.arg("--topology").arg(&app.topology_file).stdin(Stdio::null());
    let target = target_with_dependencies(&built);
    up.env("CARGO_TARGET_DIR", target.path());
    let mut up = Process::start("up", copy, up).unwrap();

    let mut cards = app.reader(&[app.topology.directory_topic()]).await.unwrap();
    let announced = |r: &[Record]| of(r, "adverse-media").is_some();
    if let Err(error) = cards.until("the new agent's card", Duration::from_secs(600), announced).await {
        panic!("{error}\n{}", up.log());
    }
    let clean = demo_cases().into_iter().find(|c| c.id == "S1").unwrap();
    let mut decisions = app.reader(&[app.outbound("decisions")]).await.unwrap();
    app.send(vec![foreign(app.requests(), Some(b"with-the-new-agent"), Some(&clean.value()))]).await.unwrap();
    let decided = |r: &[Record]| of(r, "with-the-new-agent").is_some();
    decisions.until("the decision", Duration::from_secs(60), decided).await.unwrap();
    let record = of(decisions.records(), "with-the-new-agent").unwrap();
    let decision: Value = serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
    assert!(decision.to_string().contains("adverse-media"), "its part is in the outcome: {decision}");

    let changed = git(copy, &["status", "--porcelain", "--untracked-files=all"]);
    // The second column is what changed since all was added.
    let others: Vec<&str> = changed
        .lines()
        .filter(|l| l.as_bytes()[1] != b' ')
        .filter(|l| !l.contains("agents/adverse-media/") && !l.ends_with("Cargo.lock") && !l.ends_with("up.log"))
        .collect();
    assert!(others.is_empty(), "no other file is edited: {others:?}");
    let after: Vec<(String, Option<u32>)> = app.processes.iter().map(|(n, p)| (n.clone(), p.pid())).collect();
    assert_eq!(before, after, "no other process is restarted");
    let status = up.stop(Duration::from_secs(60)).await.unwrap();
    assert!(status.success(), "{status}: {}", up.log());
    app.stop().await.unwrap();
}
