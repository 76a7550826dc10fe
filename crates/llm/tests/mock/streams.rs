use anabranch_llm::mock::MockConfig;
use anabranch_llm::{ChatEvent, ChatRequest, ChatResponse, FinishReason, Model, OpenAi, ResponseSchema, ToolSpec};
use futures::StreamExt;
use serde_json::{Value, json};

use super::{ask, scripted, with};

/// The pieces and the whole.
async fn stream(client: &OpenAi, request: ChatRequest) -> (Vec<String>, ChatResponse) {
    let (mut pieces, mut done) = (Vec::new(), None);
    let mut events = client.stream(request).await.expect("a stream");
    while let Some(event) = events.next().await {
        assert!(done.is_none(), "nothing comes after the whole");
        match event.expect("an event") {
            ChatEvent::Content(piece) => pieces.push(piece),
            ChatEvent::Done(answer) => done = Some(answer),
        }
    }
    (pieces, done.expect("the whole"))
}

#[tokio::test]
async fn a_streams_pieces_are_the_whole() {
    let text = "Dear Ava, what happens next: nothing you need to do. — Žofie ✓ ".repeat(20);
    let script = json!({ "rules": [{ "answer": { "text": text } }] }).to_string();
    let (server, client) = scripted(&script).await;
    let (pieces, done) = stream(&client, ask("Write")).await;
    assert!(pieces.len() > 10, "{}", pieces.len());
    assert_eq!((pieces.concat(), &done.content), (text.clone(), &text));
    let whole = client.chat(ask("Write")).await.unwrap();
    assert_eq!(done, whole, "usage, model and finish included");
    assert_eq!(server.stats().tokens.total_tokens(), 2 * whole.usage.total_tokens());
}

#[tokio::test]
async fn structured_answers_stream() {
    let (_server, client) = with(MockConfig::default()).await;
    let schema = json!({ "type": "object", "properties": { "ok": { "type": "boolean" } }, "required": ["ok"] });
    let mut request = ask("Well?");
    request.response_schema = Some(ResponseSchema::new("well", schema));
    let (_, done) = stream(&client, request).await;
    let value: Value = serde_json::from_str(&done.content).unwrap();
    assert!(value["ok"].is_boolean(), "{value}");
}

#[tokio::test]
async fn tool_calls_stream_in_pieces() {
    let (_server, client) = scripted(
        r#"{ "rules": [{ "answer": { "tool_calls": [
            { "name": "note", "arguments": { "text": "a text long enough to come in many pieces, one by one" } },
            { "name": "note", "arguments": { "text": "b" } } ] } }] }"#,
    )
    .await;
    let parameters = json!({ "type": "object", "properties": { "text": { "type": "string" } }, "required": ["text"],
        "additionalProperties": false });
    let parameters = parameters.into();
    let mut request = ask("Note it");
    request.tools = vec![ToolSpec { name: "note".into(), description: "Notes.".into(), parameters }];
    let (pieces, done) = stream(&client, request.clone()).await;
    assert_eq!((pieces.len(), done.finish, done.tool_calls.len()), (0, FinishReason::ToolCalls, 2));
    assert_eq!(done.tool_calls[1].arguments, json!({ "text": "b" }));
    assert_ne!(done.tool_calls[0].id, done.tool_calls[1].id);
    assert_eq!(done, client.chat(request).await.unwrap(), "ids included");
}
