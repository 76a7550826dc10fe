//! Apache Kafka's own command-line tools work against the embedded broker (and against whatever cluster is named).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use anabranch_e2e::workspace;
use anabranch_testkit::cluster::TestCluster;

fn java() -> bool {
    let found = Command::new("java").arg("-version").output().is_ok_and(|o| o.status.success());
    if !found {
        assert!(std::env::var_os("CI").is_none(), "in CI this must not be skipped");
        println!("skipped: no java on the PATH");
    }
    found
}

/// Runs one of Kafka's tools with these arguments, and `input` on stdin.
async fn tool(arguments: &[&str], input: &str) -> String {
    let mut command = Command::new(workspace().join("tests/kafka/tool.sh"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let (words, input) = (arguments.join(" "), input.to_owned());
    let output: Output = tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    })
    .await
    .unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{words}:\n{text}");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn kafkas_own_tools_work() {
    if !java() {
        return;
    }
    let cluster = TestCluster::start().await.unwrap();
    let at = ["--bootstrap-server", cluster.bootstrap()];
    let topic = format!("stock-{:08x}", rand::random::<u32>());
    let with = |words: &[&'static str]| -> Vec<String> {
        [&words[..1], &at, &words[1..], &["--topic", &topic]].concat().iter().map(|w| (*w).to_owned()).collect()
    };
    let run = async |words: &[&'static str], input: &str| {
        let words = with(words);
        tool(&words.iter().map(String::as_str).collect::<Vec<_>>(), input).await
    };
    let created =
        run(&["TopicCommand", "--create", "--partitions", "3", "--config", "retention.ms=86400000"], "").await;
    assert!(created.contains("Created topic"), "{created}");
    let described = run(&["TopicCommand", "--describe"], "").await;
    assert!(described.contains("PartitionCount: 3") && described.contains("retention.ms=86400000"), "{described}");
    run(&["ConsoleProducer"], "one\ntwo\nthree\n").await;
    let read = run(&["ConsoleConsumer", "--from-beginning", "--max-messages", "3", "--timeout-ms", "20000"], "").await;
    let mut lines: Vec<&str> = read.lines().filter(|l| ["one", "two", "three"].contains(l)).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["one", "three", "two"], "{read}");
    let offsets = run(&["GetOffsetShell"], "").await;
    let total: i64 = offsets.lines().filter_map(|l| l.rsplit(':').next()?.parse::<i64>().ok()).sum();
    assert_eq!(total, 3, "{offsets}");
    run(&["TopicCommand", "--delete"], "").await;
    cluster.stop().await;
}
