//! `kcat`, where it is installed.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use anabranch_broker::{Broker, BrokerConfig};
use rskafka::client::ClientBuilder;

/// Runs `kcat` with some input. `None` if it is not installed.
fn kcat(arguments: &[&str], input: &str) -> Option<String> {
    let mut command = Command::new("kcat");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("skipped: kcat is not installed");
            return None;
        }
        Err(error) => panic!("kcat: {error}"),
    };
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "kcat {arguments:?}: {}", output.status);
    Some(String::from_utf8(output.stdout).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn kcat_lists_produces_and_consumes() {
    let broker = Broker::start(BrokerConfig::default()).await.unwrap();
    let bootstrap = broker.bootstrap();
    let client = ClientBuilder::new(vec![bootstrap.clone()]).build().await.unwrap();
    client.controller_client().unwrap().create_topic("topic", 1, 1, 5_000).await.unwrap();
    let run = |arguments: Vec<String>, input: &'static str| {
        let bootstrap = bootstrap.clone();
        tokio::task::spawn_blocking(move || {
            let mut all = vec!["-b", &bootstrap];
            all.extend(arguments.iter().map(String::as_str));
            kcat(&all, input)
        })
    };
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let Some(listed) = run(words("-L"), "").await.unwrap() else { return };
    assert!(listed.contains("topic \"topic\" with 1 partitions"), "{listed}");
    run(words("-P -t topic -K : -z lz4"), "a:1\nb:2\nc:3\n").await.unwrap();
    let read = run(words("-C -t topic -e -q -f %o=%k:%s;"), "").await.unwrap();
    assert_eq!(read.as_deref(), Some("0=a:1;1=b:2;2=c:3;"));
    let tail = run(words("-C -t topic -e -q -o 1 -X isolation.level=read_uncommitted -f %s;"), "").await.unwrap();
    assert_eq!(tail.as_deref(), Some("2;3;"));
    let group = run(words("-G group topic -e -q -X auto.offset.reset=earliest -f %s;"), "").await.unwrap();
    assert_eq!(group.as_deref(), Some("1;2;3;"));
    broker.stop().await;
}
