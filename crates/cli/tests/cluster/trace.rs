use anabranch_core::join::Phase;
use anabranch_kafka::OutRecord;
use anabranch_protocol::partition::partition_for_key;
use serde_json::{Value, json};

use crate::support::{Setup, Story, now};

fn kinds(trace: &Value) -> Vec<&str> {
    trace["hops"].as_array().unwrap().iter().map(|hop| hop["kind"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_case_is_shown_while_it_runs_and_when_it_is_done() {
    let setup = Setup::with_topics().await;
    let (story, other) = (Story::new("case-1"), Story::new("case-2"));
    setup.emit(vec![story.request(), other.request()]).await;
    setup.emit(story.planned()).await;
    setup.emit(vec![story.state(Phase::Joining)]).await;
    setup.emit(other.planned()).await;

    let running = setup.run(&["trace", "case-1", "-o", "json"]).await;
    assert_eq!(running.code, 0, "{running:?}");
    let trace = running.json();
    assert_eq!(kinds(&trace), ["request", "plan", "task"]);
    assert_eq!((&trace["open"], &trace["hops"][2]["waiting"]), (&json!(true), &json!(true)));

    setup.emit(vec![story.answered()]).await;
    setup.emit(vec![story.outcome("kyc.decisions", &json!({ "decision": "approve" }))]).await;
    setup.emit(vec![story.state(Phase::Closed { at: now() })]).await;
    let trace = setup.run(&["trace", "case-1", "-o", "json"]).await.json();
    assert_eq!(kinds(&trace), ["request", "plan", "task", "outcome"]);
    assert_eq!(trace["state"], "closed");
    let task = &trace["hops"][2];
    assert_eq!((&task["queue_ms"], &task["work_ms"], &task["attempts"]), (&json!(40), &json!(97), &json!(1)));

    let drawn = setup.run(&["trace", "case-1"]).await;
    assert_eq!(drawn.code, 0, "{drawn:?}");
    for part in ["case case-1: closed", "task identity", "40ms", "97ms", "clear, confidence 0.98", "░", "█"] {
        assert!(drawn.out.contains(part), "{part} is not in\n{}", drawn.out);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_case_that_is_not_there_is_an_error() {
    let setup = Setup::with_topics().await;
    setup.emit(vec![Story::new("case-1").request()]).await;
    let unknown = setup.run(&["trace", "nobody"]).await;
    assert_eq!((unknown.code, unknown.out.as_str()), (1, ""));
    assert!(unknown.err.contains("no record of case nobody is on the"), "{unknown:?}");
    let since = setup.run(&["trace", "case-1", "--since", "1h"]).await;
    assert_eq!(since.code, 0, "{since:?}");
    assert_eq!(setup.run(&["trace", "case-1", "--since", "yesterday"]).await.code, 64);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_written_before_a_topic_grew_are_found() {
    let setup = Setup::with_topics().await;
    let story = Story::new("case-1");
    setup.emit(story.planned()).await;
    let topics = ["kyc.results", "kyc.tasks.identity", "kyc.composer-state"];
    for topic in topics {
        setup.cluster.admin().create_partitions(topic, 50).await.unwrap();
    }
    let found = setup.run(&["trace", "case-1", "-o", "json"]).await;
    assert_eq!(found.code, 0, "{found:?}");
    assert_eq!(kinds(&found.json()), ["plan", "task"]);

    // The answer goes where its key goes now; what caused it is elsewhere.
    let home = |partitions| partition_for_key(b"case-1", partitions);
    assert_ne!(home(3), home(50), "or this tests nothing");
    setup.emit(vec![OutRecord { partition: Some(home(50)), ..story.answered() }]).await;
    let found = setup.run(&["trace", "case-1", "-o", "json"]).await.json();
    assert_eq!((kinds(&found), &found["hops"][1]["work_ms"]), (vec!["plan", "task"], &json!(97)));
}
