use std::time::{Duration, Instant};

use anabranch_core::join::Phase;
use anabranch_kafka::OutRecord;
use anabranch_protocol::{Header, dead_letter};
use serde_json::json;

use crate::support::{Setup, Story, TOPOLOGY, decode, finished, now};

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_cloudevents_keyed_by_their_case() {
    let setup = Setup::with_topics().await;
    setup.write("two.jsonl", "{\"n\": 1.10}\n{\"n\": 2}\n");
    let sent = setup.run(&["send", "two.jsonl", "--deadline", "5m"]).await;
    assert_eq!(sent.code, 0, "{sent:?}");
    let ids: Vec<&str> = sent.out.lines().collect();
    assert_eq!(ids.len(), 2);
    let records = setup.read("kyc.requests", 2).await;
    assert_eq!(records.len(), 2);
    for record in &records {
        let (envelope, _) = decode(record);
        assert!(ids.contains(&envelope.correlation_id.as_str()), "{envelope:?} is none of {ids:?}");
        assert_eq!(record.key.as_deref(), Some(envelope.correlation_id.as_str().as_bytes()));
        assert_eq!(envelope.kind, "kyc.request");
        let left = envelope.deadline.unwrap().since(now());
        assert!(left > Duration::from_secs(240) && left <= Duration::from_secs(300), "{left:?}");
    }
    assert!(records.iter().any(|r| r.value.as_deref() == Some(b"{\"n\": 1.10}")), "as it was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_json_sends_nothing() {
    let setup = Setup::with_topics().await;
    setup.write("bad.jsonl", "{\"n\": 1}\n{\"n\": }\n");
    let refused = setup.run(&["send", "bad.jsonl"]).await;
    assert_eq!(refused.code, 64, "{refused:?}");
    assert!(refused.err.contains("bad.jsonl:2:7: not JSON"), "{refused:?}");
    setup.write("two.jsonl", "1 2");
    assert_eq!(setup.run(&["send", "two.jsonl", "--correlation-id", "c"]).await.code, 64);
    assert_eq!(setup.run(&["send", "missing.json"]).await.code, 64);
    assert_eq!(setup.count("kyc.requests").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_not_there_is_said_so() {
    let setup = Setup::empty().await;
    setup.write("one.json", "{}");
    let failed = setup.run(&["send", "one.json"]).await;
    assert_eq!(failed.code, 1, "{failed:?}");
    assert!(failed.err.contains("topics apply"), "{failed:?}");
}

/// Answers the one request that comes as supervisor, agent and composer would.
async fn decide(setup: &Setup, topic: &str, phase: Phase) {
    let request = setup.read("kyc.requests", 1).await.remove(0);
    let story = Story::of(decode(&request).0);
    setup.emit(vec![story.outcome(topic, &json!({ "decision": "approve" }))]).await;
    setup.emit(vec![story.state(phase)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wait_prints_the_outcome() {
    let setup = Setup::with_topics().await;
    setup.write("one.json", "{}");
    let waiting = setup.start(&["send", "one.json", "--wait"]);
    decide(&setup, "kyc.decisions", Phase::Closed { at: now() }).await;
    let done = finished(waiting).await;
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(done.json(), json!({ "decision": "approve" }), "stdout is the outcome and nothing else");
    assert!(done.err.contains("kyc.decisions") && done.err.contains("closed"), "{done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_case_is_an_outcome_and_a_review_decides_it() {
    let setup = Setup::with_topics().await;
    setup.write("one.json", "{}");
    let waiting = setup.start(&["send", "one.json", "--correlation-id", "case-1", "--wait", "-o", "json"]);
    let parked = Phase::Parked { since: now(), reason: "confidence 0.60".into() };
    decide(&setup, "kyc.cases", parked).await;
    let done = finished(waiting).await;
    assert_eq!(done.code, 0, "{done:?}");
    let outcome = &done.json()[0];
    assert_eq!((&outcome["status"], &outcome["correlation_id"]), (&json!("parked"), &json!("case-1")));
    assert_eq!(outcome["records"][0]["topic"], "kyc.cases");

    let review = ["send", "--review", "--correlation-id", "case-1", "--decision", "approve", "--reviewer", "ada"];
    let sent = setup.run(&review).await;
    assert_eq!((sent.code, sent.out.trim()), (0, "case-1"), "{}", sent.err);
    let (envelope, decision) = decode(&setup.read("kyc.review-decisions", 1).await[0]);
    assert_eq!(envelope.correlation_id.as_str(), "case-1");
    assert_eq!(decision, json!({ "decision": "approve", "reviewer": "ada" }));

    assert_eq!(setup.run(&["send", "--review", "--decision", "approve", "--reviewer", "ada"]).await.code, 64);
    setup.write("review.json", "{\"decision\":\"approve\"}");
    let nameless = setup.run(&["send", "review.json", "--review", "--correlation-id", "case-1"]).await;
    assert_eq!(nameless.code, 64);
    assert!(nameless.err.contains("reviewer"), "{nameless:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_ends_the_wait_and_so_does_time() {
    let setup = Setup::with_topics().await;
    setup.write("one.json", "{}");
    let began = Instant::now();
    let late = setup.run(&["send", "one.json", "--wait", "--timeout", "300ms"]).await;
    assert_eq!(late.code, 1, "{late:?}");
    assert!(late.err.contains("no outcome after 0.3 s"), "{late:?}");
    assert!(began.elapsed() < Duration::from_secs(10));

    let waiting = setup.start(&["send", "one.json", "--correlation-id", "case-2", "--wait"]);
    let requests = setup.read("kyc.requests", 2).await;
    let request = requests.into_iter().find(|r| r.key.as_deref() == Some(b"case-2")).unwrap();
    let mut headers = request.headers.clone();
    let why = [
        (dead_letter::TOPIC, "kyc.requests"),
        (dead_letter::MESSAGE, "the shape is wrong"),
        (dead_letter::CORRELATION_ID, "case-2"),
    ];
    headers.extend(why.map(|(name, value)| Header::text(name, value)));
    let topic = "kyc.requests.dlq".to_owned();
    setup
        .emit(vec![OutRecord { topic, key: request.key, value: request.value, headers, ..OutRecord::default() }])
        .await;
    let done = finished(waiting).await;
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.err.contains("case-2 became a dead letter: the shape is wrong"), "{done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topology_without_reviews_says_so() {
    let setup = Setup::empty().await;
    setup.topology(&TOPOLOGY.replace(", review: kyc.review-decisions", ""));
    let refused =
        setup.run(&["send", "--review", "--correlation-id", "c", "--decision", "no", "--reviewer", "ada"]).await;
    assert_eq!(refused.code, 64, "{refused:?}");
    assert!(refused.err.contains("inbound.review"), "{refused:?}");
}
