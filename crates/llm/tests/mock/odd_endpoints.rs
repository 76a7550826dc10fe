//! Endpoints that are compatible more or less: what they answer is read, or fails with the right class; nothing panics.

use anabranch_llm::{ChatEvent, ErrorClass, Model, ModelError, OpenAi, Secret};
use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use futures::StreamExt;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::ask;

/// An endpoint that answers everything with this body.
async fn endpoint(kind: &'static str, body: &'static str) -> (OpenAi, DropGuard) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/v1", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    let router = Router::new().fallback(move || async move { ([(header::CONTENT_TYPE, kind)], body).into_response() });
    let serving = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
    tokio::spawn(async move { serving.await.unwrap() });
    (OpenAi::new(&base, Secret::new("sk-secret-key")).unwrap(), stop.drop_guard())
}

async fn last(client: &OpenAi) -> Result<ChatEvent, ModelError> {
    let mut last = None;
    let mut events = client.stream(ask("Go")).await?;
    while let Some(event) = events.next().await {
        last = Some(event);
    }
    last.expect("a stream is never empty")
}

#[tokio::test]
async fn bodies_are_read_leniently_or_classified() {
    let text = r#"{"choices":[{"message":{"content":"Hi"}}]}"#;
    let (client, _guard) = endpoint("application/json", text).await;
    assert_eq!(client.chat(ask("Go")).await.unwrap().content, "Hi");

    let retryable = ErrorClass::Retryable { after: None };
    for (body, wanted) in [
        ("", retryable),
        ("{", retryable),
        ("null", retryable),
        ("[]", retryable),
        ("{}", retryable),
        (r#"{"choices":null}"#, retryable),
        (r#"{"choices":[{}]}"#, retryable),
        (r#"{"choices":"x"}"#, retryable),
        (r#"{"choices":[{"message":{"content":""}}]}"#, ErrorClass::Terminal),
        (r#"{"choices":[{"message":{"tool_calls":[{}]}}]}"#, ErrorClass::Terminal),
        (r#"{"error":{"message":"busy","code":503}}"#, retryable),
        (r#"{"error":{"message":"slow down","code":"rate_limit_exceeded"}}"#, retryable),
        (r#"{"error":{"message":"bad key sk-secret-key","code":401}}"#, ErrorClass::Fatal),
        (r#"{"error":"something"}"#, retryable),
    ] {
        let (client, _guard) = endpoint("application/json", body).await;
        let error = client.chat(ask("Go")).await.expect_err(body);
        assert_eq!(error.class(), wanted, "{body}: {error:?}");
        assert!(!error.to_string().contains("sk-secret-key"), "{error}");
    }
}

#[tokio::test]
async fn streams_are_read_leniently_or_classified() {
    let done = "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"},\"finish_reason\":\"stop\"}]}\n\n";
    let (client, _guard) = endpoint("text/event-stream; charset=utf-8", done).await;
    let Ok(ChatEvent::Done(answer)) = last(&client).await else { panic!("no [DONE], but done") };
    assert_eq!(answer.content, "Hi");

    let retryable = ErrorClass::Retryable { after: None };
    for (kind, body, wanted) in [
        ("text/event-stream", "", retryable),
        ("text/event-stream", "data: [DONE]\n\n", retryable),
        ("text/event-stream", "data: {}\n\ndata: [DONE]\n\n", retryable),
        ("text/event-stream", ": ping\n\ndata: {\"error\":{\"message\":\"busy\",\"code\":529}}\n\n", retryable),
        ("text/event-stream", "data: {\"error\":{\"message\":\"no\",\"code\":401}}\n\n", ErrorClass::Fatal),
        ("text/event-stream", "data: nonsense\n\n", retryable),
        ("text/html", "<html>welcome</html>", retryable),
        ("application/json", r#"{"error":{"message":"no","code":401}}"#, ErrorClass::Fatal),
        ("application/json", r#"{"choices":[{"message":{"content":"Hi"}}]}"#, retryable),
    ] {
        let (client, _guard) = endpoint(kind, body).await;
        let error = last(&client).await.expect_err(body);
        assert_eq!(error.class(), wanted, "{body}: {error:?}");
    }
    let (client, _guard) = endpoint("application/json", r#"{"choices":[]}"#).await;
    let error = last(&client).await.unwrap_err();
    assert!(matches!(&error, ModelError::Malformed { message, .. } if message.contains("a stream was asked for")));
}
