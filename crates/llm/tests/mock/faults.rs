use std::time::Duration;

use anabranch_llm::mock::{FaultRates, MockConfig};
use anabranch_llm::{ChatEvent, ChatRequest, ErrorClass, Model, ModelError, OpenAi};
use futures::StreamExt;

use super::{ask, bounded, scripted, with};

const LATER: ErrorClass = ErrorClass::Retryable { after: None };

/// The error of a stream, wherever it comes.
async fn streamed(client: &OpenAi, request: ChatRequest) -> Result<String, ModelError> {
    let mut events = client.stream(request).await?;
    let mut text = String::new();
    while let Some(event) = events.next().await {
        match event? {
            ChatEvent::Content(piece) => text.push_str(&piece),
            ChatEvent::Done(answer) => return Ok(answer.content),
        }
    }
    panic!("the stream ended with neither an answer nor an error");
}

/// The name of the variant: what an error is called in `{:?}` up to its fields.
fn name(error: &ModelError) -> String {
    let text = format!("{error:?}");
    text.split([' ', '{']).next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn every_fault_comes_out_with_its_class() {
    let seconds = |s| ErrorClass::Retryable { after: Some(Duration::from_secs(s)) };
    let cases = [
        (r#"{ "kind": "rate_limited", "retry_after_s": 7 }"#, "RateLimited", seconds(7)),
        (r#"{ "kind": "rate_limited" }"#, "RateLimited", LATER),
        (r#"{ "kind": "quota_exhausted" }"#, "QuotaExhausted", ErrorClass::Fatal),
        (r#"{ "kind": "server_error" }"#, "Unavailable", LATER),
        (r#"{ "kind": "server_error", "status": 503 }"#, "Unavailable", LATER),
        (r#"{ "kind": "unauthorized" }"#, "Unauthorized", ErrorClass::Fatal),
        (r#"{ "kind": "forbidden" }"#, "Unauthorized", ErrorClass::Fatal),
        (r#"{ "kind": "unknown_model" }"#, "UnknownModel", ErrorClass::Fatal),
        (r#"{ "kind": "context_too_long" }"#, "ContextTooLong", ErrorClass::Terminal),
        (r#"{ "kind": "content_filter" }"#, "ContentFilter", ErrorClass::Terminal),
        (r#"{ "kind": "refusal" }"#, "Refusal", ErrorClass::Terminal),
        (r#"{ "kind": "cut" }"#, "Cut", LATER),
        (r#"{ "kind": "invalid_json" }"#, "Malformed", LATER),
    ];
    for (fault, wanted, class) in cases {
        let (server, client) = scripted(&format!(r#"{{ "rules": [{{ "fault": {fault} }}] }}"#)).await;
        let error = client.chat(ask("Go")).await.expect_err(fault);
        assert_eq!((name(&error).as_str(), error.class()), (wanted, class), "{fault}: {error:?}");
        let error = streamed(&client, ask("Go")).await.expect_err(fault);
        assert_eq!((name(&error).as_str(), error.class()), (wanted, class), "{fault}, streamed: {error:?}");
        // One request per call: nothing retries below the runtime.
        assert_eq!(server.stats().calls, 2, "{fault}");
    }
}

#[tokio::test]
async fn an_http_date_is_a_wait_from_now() {
    let (_server, client) = scripted(
        r#"{ "rules": [{ "fault": { "kind": "rate_limited", "retry_after_s": 100, "as_http_date": true } }] }"#,
    )
    .await;
    let error = client.chat(ask("Go")).await.unwrap_err();
    let ErrorClass::Retryable { after: Some(after) } = error.class() else { panic!("{error:?}") };
    // The date has no fractions of a second, and the test may be slow.
    assert!((Duration::from_secs(60)..=Duration::from_secs(100)).contains(&after), "{after:?}");
}

#[tokio::test]
async fn invalid_output_is_terminal_where_a_shape_was_asked_for() {
    let (_server, client) = scripted(r#"{ "rules": [{ "fault": { "kind": "invalid_output" } }] }"#).await;
    let mut request = ask("Go");
    let schema = serde_json::json!({ "type": "object", "properties": {} });
    request.response_schema = Some(anabranch_llm::ResponseSchema::new("s", schema));
    for error in [client.chat(request.clone()).await.unwrap_err(), streamed(&client, request).await.unwrap_err()] {
        assert!(matches!(error, ModelError::InvalidOutput { .. }), "{error:?}");
        assert_eq!(error.class(), ErrorClass::Terminal);
    }
    assert!(client.chat(ask("Go")).await.unwrap().content.contains("Certainly"), "plain text is as good as any");
}

#[tokio::test]
async fn an_answer_past_the_limit_is_not_read() {
    let (server, _) = scripted(r#"{ "rules": [{ "fault": { "kind": "oversized", "bytes": 3000000 } }] }"#).await;
    let client = bounded(&server, 100_000);
    for error in [client.chat(ask("Go")).await.unwrap_err(), streamed(&client, ask("Go")).await.unwrap_err()] {
        assert!(matches!(error, ModelError::TooLarge { limit_bytes: 100_000 }), "{error:?}");
        assert_eq!(error.class(), ErrorClass::Terminal);
    }
    let client = bounded(&server, 8_000_000);
    assert_eq!(client.chat(ask("Go")).await.unwrap().content.len(), 3_000_000);
    assert_eq!(streamed(&client, ask("Go")).await.unwrap().len(), 3_000_000);
}

#[tokio::test]
async fn a_hang_is_a_timeout_and_ends_with_the_server() {
    let (server, client) = scripted(r#"{ "rules": [{ "fault": { "kind": "hang" } }] }"#).await;
    let limit = Duration::from_millis(200);
    let hurried = || ChatRequest { timeout: limit, ..ask("Go") };
    for error in [client.chat(hurried()).await.unwrap_err(), streamed(&client, hurried()).await.unwrap_err()] {
        assert_eq!(error, ModelError::Timeout { limit });
        assert_eq!(error.class(), LATER);
    }
    let waiting = tokio::spawn(async move { client.chat(ask("Go")).await });
    while server.stats().calls < 3 {
        tokio::task::yield_now().await;
    }
    server.stop().await;
    let error = waiting.await.unwrap().unwrap_err();
    assert!(matches!(error.class(), ErrorClass::Retryable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_stream_that_is_too_slow_is_a_timeout() {
    let (_server, client) = scripted(r#"{ "rules": [{ "latency": { "kind": "fixed", "ms": 60000 } }] }"#).await;
    let limit = Duration::from_millis(300);
    let error = streamed(&client, ChatRequest { timeout: limit, ..ask("Go") }).await.unwrap_err();
    assert_eq!(error, ModelError::Timeout { limit });
}

#[tokio::test]
async fn a_fault_strikes_so_many_times_for_each_request_of_each_case() {
    let (server, client) = scripted(
        r#"{ "rules": [
            { "name": "flaky", "times": 2, "fault": { "kind": "server_error" } },
            { "name": "fine", "answer": { "text": "ok" } } ] }"#,
    )
    .await;
    for case in ["a", "b"] {
        let mut request = ask("Go");
        request.metadata.insert("x-correlation-id".into(), case.into());
        let mut outcomes = Vec::new();
        for _ in 0..4 {
            outcomes.push(client.chat(request.clone()).await.is_ok());
        }
        assert_eq!(outcomes, [false, false, true, true], "{case}");
    }
    let stats = server.stats();
    assert_eq!((stats.by_rule["flaky"], stats.by_rule["fine"], stats.by_outcome["server_error"]), (4, 4, 4));
}

#[tokio::test]
async fn faults_by_chance_come_at_their_rate_with_their_wait() {
    let faults = FaultRates { rate_limited: 1.0, retry_after_s: 3, ..FaultRates::default() };
    let (_server, client) = with(MockConfig { faults, ..MockConfig::default() }).await;
    let error = client.chat(ask("Go")).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Retryable { after: Some(Duration::from_secs(3)) });

    let faults = FaultRates { server_error: 0.3, cut: 0.2, invalid_json: 0.1, ..FaultRates::default() };
    let (server, client) = with(MockConfig { faults, ..MockConfig::default() }).await;
    for i in 0..400 {
        let _ = client.chat(ask(&format!("Question {i}"))).await;
    }
    let by_outcome = server.stats().by_outcome;
    let between = |name: &str, least, most| {
        let count = by_outcome[name];
        assert!((least..=most).contains(&count), "{name}: {count}");
    };
    between("server_error", 90, 150);
    between("cut", 55, 110);
    between("invalid_json", 20, 65);
    between("answered", 125, 195);
}
