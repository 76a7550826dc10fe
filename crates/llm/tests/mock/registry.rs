use std::time::Duration;

use anabranch_llm::mock::{MockConfig, MockServer, Script};
use serde_json::{Value, json};

/// Longest wait for an answer; the late answer of a test comes long after.
const PATIENCE: Duration = Duration::from_secs(3);

async fn start(vendor: Value) -> MockServer {
    let script = Script::parse(&json!({ "vendor": vendor }).to_string()).unwrap();
    MockServer::start(MockConfig::default().with_script(script)).await.unwrap()
}

async fn check(server: &MockServer, key: &str, number: &str) -> Result<(u16, Value), reqwest::Error> {
    let body = json!({ "document_number": number, "issuer": "UTO" });
    let request = reqwest::Client::new().post(format!("{}/checks", server.registry_url())).timeout(PATIENCE);
    let response = request.header("Idempotency-Key", key).json(&body).send().await?;
    Ok((response.status().as_u16(), response.json().await?))
}

fn counts(server: &MockServer, number: &str) -> (u64, u64) {
    let documents = server.stats().registry.documents;
    documents.get(number).map_or((0, 0), |stats| (stats.calls, stats.done))
}

#[tokio::test]
async fn a_key_is_done_once_and_answered_the_same() {
    let server = start(json!({ "unknown_prefixes": ["UT9"] })).await;
    let first = check(&server, "k1", "UT00000018").await.unwrap();
    assert_eq!((first.0, &first.1["status"]), (200, &json!("found")));
    assert_eq!(check(&server, "k1", "UT00000018").await.unwrap(), first);
    let other = check(&server, "k2", "UT00000018").await.unwrap();
    assert_ne!(other.1["check_id"], first.1["check_id"]);
    assert_eq!(counts(&server, "UT00000018"), (3, 2));
    assert_eq!(check(&server, "k3", "UT9").await.unwrap().1["status"], "unknown");
    let (status, error) = check(&server, "k1", "UT00000029").await.unwrap();
    assert_eq!((status, &error["error"]["code"]), (422, &json!("idempotency_key_reused")));
    assert_eq!(counts(&server, "UT00000029"), (1, 0));
    let stats = server.stats().registry;
    assert_eq!((stats.calls, stats.done), (5, 3));
}

#[tokio::test]
async fn concurrent_calls_with_one_key_are_done_once() {
    let server = start(json!({})).await;
    let calls = (0..20).map(|_| check(&server, "same", "UT1"));
    let answers: Vec<_> = futures::future::join_all(calls).await.into_iter().map(Result::unwrap).collect();
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!(counts(&server, "UT1"), (20, 1));
}

#[tokio::test]
async fn an_outage_does_nothing_and_passes() {
    let server =
        start(json!({ "outages": [{ "document_prefix": "UT00000063", "unavailable": true, "times": 2 }] })).await;
    for _ in 0..2 {
        assert_eq!(check(&server, "k", "UT00000063").await.unwrap().0, 503);
    }
    assert_eq!(counts(&server, "UT00000063"), (2, 0));
    assert_eq!(check(&server, "k", "UT00000018").await.unwrap().0, 200, "others are not concerned");
    assert_eq!(check(&server, "k7", "UT00000063").await.unwrap().0, 200);
    assert_eq!(counts(&server, "UT00000063"), (3, 1));
}

#[tokio::test]
async fn a_late_answer_was_done_before() {
    let server = start(json!({ "outages": [{ "document_prefix": "UT5", "delay_ms": 60000, "times": 1 }] })).await;
    let late = check(&server, "k", "UT5").await.unwrap_err();
    assert!(late.is_timeout(), "{late}");
    assert_eq!(counts(&server, "UT5"), (1, 1));
    assert_eq!(check(&server, "k", "UT5").await.unwrap().0, 200);
    assert_eq!(counts(&server, "UT5"), (2, 1), "the retry with the same key is not done again");
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_read_is_refused() {
    let server = start(json!({})).await;
    let url = format!("{}/checks", server.registry_url());
    let post = |key: Option<&'static str>, body: &'static str| {
        let request = reqwest::Client::new().post(&url).body(body);
        match key {
            Some(key) => request.header("idempotency-key", key),
            None => request,
        }
        .send()
    };
    let sound = r#"{"document_number": "UT1", "issuer": "UTO"}"#;
    for (key, body) in [
        (None, sound),
        (Some(" "), sound),
        (Some("k"), "{}"),
        (Some("k"), "x"),
        (Some("k"), r#"{"document_number": "", "issuer": "UTO"}"#),
    ] {
        let response = post(key, body).await.unwrap();
        assert_eq!(response.status().as_u16(), 400, "{key:?} {body}");
        assert!(response.json::<Value>().await.unwrap()["error"]["message"].is_string());
    }
    assert_eq!(server.stats().registry.done, 0);
}
