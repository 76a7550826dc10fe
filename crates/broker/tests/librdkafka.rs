//! confluent-kafka (librdkafka), by `independent/clients.py`, where it is installed for `python3` or for the
//! interpreter that `ANABRANCH_PYTHON` names. It takes a minute, so it is asked for: `--ignored`.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{path::Path, process::Command};

const SKIPPED: i32 = 77;

fn run(options: &[&str]) {
    let python = std::env::var("ANABRANCH_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/independent/clients.py");
    let mut command = Command::new(&python);
    command.arg(script).args(["--broker", env!("CARGO_BIN_EXE_anabranch-broker")]);
    match command.args(options).status() {
        Err(error) => eprintln!("skipped: {python}: {error}"),
        Ok(status) if status.code() == Some(SKIPPED) => eprintln!("skipped: no confluent-kafka for {python}"),
        Ok(status) => assert!(status.success(), "clients.py: {status}"),
    }
}

#[test]
#[ignore = "a minute long, and needs confluent-kafka"]
fn transaction_version_one() {
    run(&["--transaction-version", "1"]);
}

#[test]
#[ignore = "a minute long, and needs confluent-kafka"]
fn transaction_version_two() {
    run(&["--transaction-version", "2"]);
}

#[test]
#[ignore = "a minute long, and needs confluent-kafka"]
fn as_redpanda() {
    run(&["--profile", "redpanda"]);
}
