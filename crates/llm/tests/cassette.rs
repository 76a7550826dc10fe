//! Cassettes: recorded from the mock server, replayed without it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::path::Path;
use std::sync::Arc;

use anabranch_llm::cassette::{self, CassetteError, Player, Recorder};
use anabranch_llm::mock::{MockConfig, MockServer, Script};
use anabranch_llm::script::ScriptedModel;
use anabranch_llm::{
    ChatEvent, ChatRequest, ErrorClass, Message, Model, ModelError, OpenAi, ResponseSchema, Secret, ToolSpec,
};
use futures::StreamExt;
use serde_json::json;

const SCRIPT: &str = r#"{ "rules": [
    { "when": { "contains": "weather" }, "answer": { "tool_calls": [{ "name": "look", "arguments": { "at": "sky" } }] } },
    { "when": { "contains": "broken" }, "fault": { "kind": "invalid_output" } },
    { "when": { "contains": "bomb" }, "fault": { "kind": "refusal" } },
    { "when": { "contains": "down" }, "fault": { "kind": "server_error" } },
    { "when": { "matches": "name: (\\w+)" }, "answer": { "text": "Hello {{1}}\nand welcome" } } ] }"#;
const KEY: &str = "correct-horse-battery";

fn ask(words: &str) -> ChatRequest {
    let mut request = ChatRequest::new("mock", vec![Message::system("Be brief."), Message::user(words)]);
    request.temperature = Some(0.1);
    request.metadata.insert("x-correlation-id".into(), "case-1".into());
    request
}

fn questions() -> Vec<ChatRequest> {
    let schema = ResponseSchema::new(
        "thing",
        json!({ "type": "object", "properties": { "a": { "type": "integer" } },
        "required": ["a"], "additionalProperties": false }),
    );
    let tool = ToolSpec {
        name: "look".into(),
        description: "Look.".into(),
        parameters: json!({ "type": "object",
        "properties": { "at": { "type": "string" } }, "required": ["at"] }),
    };
    vec![
        ask("name: Ava"),
        ask("name: Bo"),
        ChatRequest { response_schema: Some(schema.clone()), ..ask("made up") },
        ChatRequest { response_schema: Some(schema), ..ask("broken") },
        ChatRequest { tools: vec![tool], ..ask("weather") },
        ask("bomb"),
    ]
}

async fn all(model: &dyn Model) -> Vec<Result<anabranch_llm::ChatResponse, ModelError>> {
    let mut answers = Vec::new();
    for request in questions() {
        answers.push(model.chat(request).await);
    }
    answers
}

fn keys() -> Vec<Secret> {
    vec![Secret::new(KEY)]
}

fn open(setting: &str, path: &Path, endpoint: Arc<dyn Model>) -> Result<Arc<dyn Model>, CassetteError> {
    cassette::open(&format!("{setting}:{}", path.display()), endpoint, keys())
}

async fn mock() -> (MockServer, Arc<dyn Model>) {
    let script = Script::parse(SCRIPT).unwrap();
    let config = MockConfig { api_key: Some(Secret::new(KEY)), ..MockConfig::default().with_script(script) };
    let server = MockServer::start(config).await.unwrap();
    let client = Arc::new(OpenAi::new(&server.base_url(), Secret::new(KEY)).unwrap());
    (server, client)
}

#[tokio::test]
async fn what_was_recorded_is_replayed_without_the_endpoint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("calls.jsonl");
    let (server, client) = mock().await;
    let recorder = open("record", &path, client).unwrap();
    let recorded = all(&*recorder).await;
    assert_eq!(recorder.chat(ask("down")).await.unwrap_err().class(), ErrorClass::Retryable { after: None });
    let streamed: Vec<_> = recorder.stream(ask("name: Cy")).await.unwrap().collect().await;
    server.stop().await;

    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), questions().len() + 1, "failures of the endpoint are not recorded");
    assert!(!text.contains(KEY) && !text.contains("case-1"), "neither keys nor headers");

    let player = open("replay", &path, Arc::new(ScriptedModel::new())).unwrap();
    assert_eq!(all(&*player).await, recorded);
    assert_eq!(all(&*player).await, recorded, "as often as it is asked");
    let replayed: Vec<_> = player.stream(ask("name: Cy")).await.unwrap().collect().await;
    let done = |events: &[Result<ChatEvent, ModelError>]| match events.last() {
        Some(Ok(ChatEvent::Done(response))) => response.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(done(&replayed), done(&streamed));
}

#[tokio::test]
async fn the_same_question_gets_its_answers_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("calls.jsonl");
    let endpoint = Arc::new(ScriptedModel::new().answer("one").answer("two"));
    let recorder = open("record", &path, endpoint).unwrap();
    for _ in 0..2 {
        recorder.chat(ask("again")).await.unwrap();
    }
    let player = open("replay", &path, recorder).unwrap();
    let mut said = Vec::new();
    for _ in 0..3 {
        said.push(player.chat(ask("again")).await.unwrap().content);
    }
    assert_eq!(said, ["one", "two", "two"]);
}

#[tokio::test]
async fn another_question_is_fatal_and_shows_the_difference() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("calls.jsonl");
    let endpoint = Arc::new(ScriptedModel::new().answer("one").answer("two"));
    let recorder = open("record", &path, endpoint.clone()).unwrap();
    recorder.chat(ask("Is Ms Okafor\nold enough?")).await.unwrap();
    recorder.chat(ask("something else altogether")).await.unwrap();
    let player = open("replay", &path, endpoint).unwrap();
    let error = player.chat(ask("Is Ms Okafor\nyoung enough?")).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Fatal);
    let text = error.to_string();
    assert!(text.contains("\n-old enough?\"") && text.contains("\n+young enough?\""), "{text}");
    assert!(!text.contains("altogether"), "{text}");
}

#[tokio::test]
async fn a_secret_is_neither_written_nor_played() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("calls.jsonl");
    let endpoint = Arc::new(ScriptedModel::new().answer("fine").answer(format!("the key is {KEY}")).answer("fine"));
    let recorder = open("record", &path, endpoint.clone()).unwrap();
    recorder.chat(ask("a")).await.unwrap();
    let error = recorder.chat(ask("b")).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Fatal);
    assert!(error.to_string().contains("a configured key at /answered/content"), "{error}");
    let pasted = format!("use sk-proj-{} please", "Ab1".repeat(10));
    let error = recorder.chat(ask(&pasted)).await.unwrap_err();
    assert!(error.to_string().contains("an API key at /asked/messages/1/content"), "{error}");
    assert!(!error.to_string().contains("Ab1"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);

    let line = json!({ "asked": pasted, "answered": {} });
    std::fs::write(&path, format!("\n{line}\n")).unwrap();
    let error = Player::open(&path, &[]).unwrap_err();
    assert!(error.to_string().ends_with("line 2: it holds a secret: an API key at /asked"), "{error}");
}

#[tokio::test]
async fn what_is_masked_is_masked_in_the_file_and_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("calls.jsonl");
    let endpoint = Arc::new(ScriptedModel::new().answer("Okafor is fine"));
    let mask: cassette::Mask = Arc::new(|value| {
        let masked = value.to_string().replace("Okafor", "***");
        *value = serde_json::from_str(&masked).unwrap();
    });
    let recorder = Recorder::open(&path, endpoint, keys()).unwrap().with_mask(mask.clone());
    recorder.chat(ask("Okafor?")).await.unwrap();
    assert!(!std::fs::read_to_string(&path).unwrap().contains("Okafor"));
    let player = Player::open(&path, &keys()).unwrap().with_mask(mask);
    assert_eq!(player.chat(ask("Okafor?")).await.unwrap().content, "*** is fine");
}

#[test]
fn what_cannot_be_used_is_said_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("calls.jsonl");
    let endpoint: Arc<dyn Model> = Arc::new(ScriptedModel::new());
    for setting in ["", "record", "record:", "play:x"] {
        let error = cassette::open(setting, endpoint.clone(), Vec::new()).err().unwrap();
        assert!(error.to_string().ends_with("write record:FILE or replay:FILE"), "{error}");
    }
    let missing = open("replay", &path, endpoint.clone()).err().unwrap();
    assert!(missing.to_string().contains("calls.jsonl cannot be used: "), "{missing}");
    for (text, words) in [
        ("no JSON", "line 1: expected ident"),
        ("\n\n{}", "line 3: it is no call: missing field `asked`"),
        (r#"{"asked":1}"#, "line 1: it is no call: "),
        (r#"{"asked":1,"answered":{"content":3}}"#, "line 1: it is no call: invalid type: integer `3`"),
        ("\u{0}", "line 1: expected value"),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = open("replay", &path, endpoint.clone()).err().unwrap();
        assert!(error.to_string().contains(words), "{error}");
    }
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(open("replay", &path, endpoint.clone()).is_err(), "not UTF-8");
    assert!(open("record", &folder.path().join("no/such/folder"), endpoint).is_err());
}
