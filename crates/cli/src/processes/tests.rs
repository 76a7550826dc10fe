//! With real processes: shell scripts that take an agent's arguments.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::*;
use crate::console::Console;

/// What a test may take at most; it fails then, it does not go on.
const BOUND: Duration = Duration::from_secs(20);

fn start(script: &str, notes: &Path, shutdown: &Shutdown) -> Fleet {
    let launch = Launch {
        agent: "fraud".to_owned(),
        replica: None,
        program: PathBuf::from("/bin/sh"),
        http_port: 0,
        drain_within: Duration::from_millis(500),
        arguments: Vec::new(),
        instance_id: None,
    };
    let common = Common {
        arguments: ["-c", script, "agent"].map(OsString::from).to_vec(),
        environment: vec![("NOTES".into(), notes.into())],
    };
    Fleet::start(vec![launch], common, &Console::stderr(), shutdown)
}

/// Waits until the script has written so many lines.
async fn noted(notes: &Path, lines: usize) -> Vec<String> {
    let until = Instant::now() + BOUND;
    loop {
        let text = std::fs::read_to_string(notes).unwrap_or_default();
        let whole = text.ends_with('\n') && text.lines().count() >= lines;
        if whole {
            return text.lines().map(str::to_owned).collect();
        }
        assert!(Instant::now() < until, "only this was noted: {text:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn ended(fleet: &Fleet) -> Vec<End> {
    tokio::time::timeout(BOUND, fleet.ended()).await.expect("it ends")
}

#[tokio::test]
async fn a_killed_process_is_started_again_and_drained_when_asked() {
    let directory = tempfile::tempdir().unwrap();
    let (notes, shutdown) = (directory.path().join("notes"), Shutdown::default());
    // `read` holds still until its stdin ends; the trap interrupts it.
    let fleet = start(
        r#"trap 'exit 0' TERM; echo "$$ $*" >> "$NOTES"; while read -r line; do :; done; exit 7"#,
        &notes,
        &shutdown,
    );
    let first = noted(&notes, 1).await.remove(0);
    let (pid, arguments) = first.split_once(' ').unwrap();
    let words: Vec<&str> = arguments.split(' ').collect();
    assert!(
        matches!(words[..], ["--http-port", port, "--exit-with-parent"] if port.parse::<u16>().unwrap() > 0),
        "{words:?}"
    );

    kill(Pid::from_raw(pid.parse().unwrap()), Signal::SIGKILL).unwrap();
    let second = noted(&notes, 2).await.remove(1);
    assert_ne!(second.split(' ').next(), Some(pid));

    shutdown.drain.cancel();
    assert_eq!(ended(&fleet).await, [End::Done]);
    assert_eq!(noted(&notes, 2).await.len(), 2, "it was not started again");
}

#[tokio::test]
async fn a_process_that_refuses_is_not_started_again() {
    let directory = tempfile::tempdir().unwrap();
    let (notes, shutdown) = (directory.path().join("notes"), Shutdown::default());
    let fleet = start(r#"echo once >> "$NOTES"; exit 64"#, &notes, &shutdown);
    assert_eq!(ended(&fleet).await, [End::Refused]);
    assert_eq!(noted(&notes, 1).await, ["once"]);
    let error = fleet.ready(BOUND).await.unwrap_err();
    assert!(error.is::<crate::usage::Usage>(), "{error}");
}

#[tokio::test]
async fn a_process_that_will_not_drain_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let (notes, shutdown) = (directory.path().join("notes"), Shutdown::default());
    let fleet = start(r#"trap '' TERM; echo up >> "$NOTES"; while read -r line; do :; done"#, &notes, &shutdown);
    noted(&notes, 1).await;
    shutdown.drain.cancel();
    assert_eq!(ended(&fleet).await, [End::Failed]);
}

#[tokio::test]
async fn a_second_signal_does_not_wait_for_the_bound() {
    let directory = tempfile::tempdir().unwrap();
    let (notes, shutdown) = (directory.path().join("notes"), Shutdown::default());
    let script = r#"trap '' TERM; echo up >> "$NOTES"; while read -r line; do :; done"#;
    let launch = Launch {
        agent: "fraud".to_owned(),
        replica: Some(1),
        program: PathBuf::from("/bin/sh"),
        http_port: 0,
        drain_within: Duration::from_secs(3600),
        arguments: Vec::new(),
        instance_id: None,
    };
    let common = Common {
        arguments: ["-c", script, "agent"].map(OsString::from).to_vec(),
        environment: vec![("NOTES".into(), notes.clone().into())],
    };
    let fleet = Fleet::start(vec![launch], common, &Console::stderr(), &shutdown);
    assert_eq!(fleet.labels().collect::<Vec<_>>(), ["fraud.1"]);
    noted(&notes, 1).await;
    shutdown.drain.cancel();
    shutdown.now.cancel();
    assert_eq!(ended(&fleet).await, [End::Failed]);
}

#[tokio::test]
async fn who_is_not_ready_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let (notes, shutdown) = (directory.path().join("notes"), Shutdown::default());
    let fleet = start(r#"trap 'exit 0' TERM; echo up >> "$NOTES"; while read -r line; do :; done"#, &notes, &shutdown);
    noted(&notes, 1).await;
    let error = fleet.ready(Duration::from_millis(300)).await.unwrap_err().to_string();
    assert!(error.contains("fraud (its probes do not answer yet)"), "{error}");
    shutdown.drain.cancel();
    assert_eq!(ended(&fleet).await, [End::Done]);
}

#[tokio::test]
async fn a_process_that_is_struck_down_is_started_again_at_once_and_it_is_no_failure() {
    let directory = tempfile::tempdir().unwrap();
    let (notes, shutdown) = (directory.path().join("notes"), Shutdown::default());
    let script = r#"trap 'exit 0' TERM; echo up >> "$NOTES"; while read -r line; do :; done"#;
    let fleet = start(script, &notes, &shutdown);
    // With a growing wait between starts, so many would take longer than the test may.
    for starts in 1..=10 {
        noted(&notes, starts).await;
        assert!(fleet.strike(0, Signal::SIGKILL).await);
    }
    noted(&notes, 11).await;
    assert!(fleet.failures().is_empty(), "{:?}", fleet.failures());
    // A stopped process drains nevertheless.
    assert!(fleet.strike(0, Signal::SIGSTOP).await);
    assert!(!fleet.strike(1, Signal::SIGSTOP).await, "there is no second one");
    shutdown.drain.cancel();
    assert_eq!(ended(&fleet).await, [End::Done]);
    assert!(!fleet.strike(0, Signal::SIGKILL).await, "it has ended");
}
