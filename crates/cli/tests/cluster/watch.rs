use std::time::Duration;

use anabranch_core::join::Phase;
use anabranch_kafka::OutRecord;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout};

use crate::support::{LIMIT, Setup, Story};

struct Watch {
    child: Child,
    out: Lines<BufReader<ChildStdout>>,
    err: Lines<BufReader<ChildStderr>>,
}

impl Watch {
    /// Returns when it follows.
    async fn start(setup: &Setup, args: &[&str]) -> Self {
        let mut child = setup.start(args);
        let out = BufReader::new(child.stdout.take().unwrap()).lines();
        let err = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut watch = Self { child, out, err };
        let line = tokio::time::timeout(LIMIT, watch.err.next_line()).await.expect("it says that it follows");
        let line = line.unwrap().unwrap();
        assert!(line.contains("watching"), "{line}");
        watch
    }

    async fn line(&mut self) -> String {
        let line = tokio::time::timeout(LIMIT, self.out.next_line()).await.expect("a line comes");
        line.unwrap().expect("it has not ended")
    }

    async fn interrupt(mut self) -> i32 {
        let pid = Pid::from_raw(i32::try_from(self.child.id().unwrap()).unwrap());
        kill(pid, Signal::SIGINT).unwrap();
        let status = tokio::time::timeout(LIMIT, self.child.wait()).await.expect("it ends");
        status.unwrap().code().unwrap_or(-1)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hops_are_printed_while_the_case_runs() {
    let setup = Setup::with_topics().await;
    let story = Story::new("case-1");
    setup.emit(vec![story.request()]).await;
    let mut watch = Watch::start(&setup, &["watch"]).await;
    setup.emit(vec![story.planned().remove(1)]).await;
    let line = watch.line().await;
    let words: Vec<&str> = line.split_whitespace().skip(1).collect();
    assert_eq!(words, ["kyc.tasks.identity", "task", "case-1", "identity"], "not the request, it is older");
    setup.emit(vec![story.state(Phase::Joining)]).await;
    setup.emit(vec![story.answered()]).await;
    let line = watch.line().await;
    assert!(line.contains("partial") && line.ends_with("clear, confidence 0.98"), "the state is not shown: {line}");
    assert_eq!(watch.interrupt().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_case_from_its_beginning_as_json() {
    let setup = Setup::with_topics().await;
    let (story, other) = (Story::new("case-1"), Story::new("case-2"));
    setup.emit(vec![other.request(), story.request()]).await;
    let mut watch = Watch::start(&setup, &["watch", "case-1", "--from-beginning", "--all", "-o", "json"]).await;
    let first: Value = serde_json::from_str(&watch.line().await).unwrap();
    assert_eq!((first["kind"].as_str(), first["case"].as_str()), (Some("request"), Some(story.case().as_str())));
    setup.emit(vec![story.state(Phase::Joining)]).await;
    let second: Value = serde_json::from_str(&watch.line().await).unwrap();
    assert_eq!((second["kind"].as_str(), second["what"].as_str()), (Some("state"), Some("joining, 0 of 1 answered")));
    assert_eq!(watch.interrupt().await, 0);
}

/// An agent's card that marks `name` as data of persons.
fn announced() -> OutRecord {
    let card = json!({
        "name": "identity", "description": "", "version": "1", "after": [], "required": true,
        "input_schema": { "properties": { "name": { "x-pii": true } } }, "output_schema": {},
        "announced_at": "2026-11-24T12:00:00Z",
    });
    OutRecord {
        topic: "kyc.agents".to_owned(),
        key: Some("identity".into()),
        value: Some(card.to_string().into()),
        ..OutRecord::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_agents_mark_is_masked_from_when_they_say_so() {
    let setup = Setup::with_topics().await;
    let mut watch = Watch::start(&setup, &["watch"]).await;
    setup.emit(vec![Story::new("case-1").request()]).await;
    let line = watch.line().await;
    assert!(line.ends_with(r#"{"name":"AVA"}"#), "nobody has marked anything yet: {line}");
    setup.emit(vec![announced()]).await;
    // It is looked for every three seconds.
    tokio::time::sleep(Duration::from_millis(4_500)).await;
    let story = Story::new("case-2");
    setup.emit(vec![story.request()]).await;
    let line = watch.line().await;
    assert!(line.ends_with(r#"{"name":"[masked]"}"#), "{line}");
    let outcome = json!({ "reason": "Ava Specimen is known", "parts": { "identity": { "name": "Ava Specimen" } } });
    setup.emit(vec![story.outcome("kyc.decisions", &outcome)]).await;
    let line = watch.line().await;
    assert!(line.contains("[masked] is known") && !line.contains("Specimen"), "{line}");
    assert_eq!(watch.interrupt().await, 0);

    let mut watch = Watch::start(&setup, &["watch", "--from-beginning", "-o", "json"]).await;
    for _ in 0..3 {
        let line = watch.line().await;
        assert!(line.contains("[masked]") && !line.contains("AVA") && !line.contains("Specimen"), "{line}");
    }
    assert_eq!(watch.interrupt().await, 0);
}
