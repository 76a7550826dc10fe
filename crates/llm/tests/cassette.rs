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
        "properties": { "at": { "type": "string" } }, "required": ["at"] })
        .into(),
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

/// No schema marks anything.
fn unmarked() -> cassette::Marks {
    Arc::new(|_, _| Vec::new())
}

fn open(setting: &str, path: &Path, endpoint: Arc<dyn Model>) -> Result<Arc<dyn Model>, CassetteError> {
    cassette::open(&format!("{setting}:{}", path.display()), endpoint, keys(), unmarked())
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

fn about(persons: &[&str], words: &str) -> ChatRequest {
    ChatRequest { personal: persons.iter().map(|text| (*text).to_owned()).collect(), ..ask(words) }
}

#[tokio::test]
async fn what_a_request_says_of_persons_is_not_in_the_file_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("calls.jsonl");
    let refused =
        ModelError::Refusal { message: "not about Ava Okafor".into(), usage: anabranch_llm::Usage::default() };
    let endpoint = Arc::new(ScriptedModel::new().answer("Ava Okafor is fine").fail(refused));
    let recorder = Recorder::open(&path, endpoint.clone(), keys()).unwrap();
    let persons = ["Ava Okafor", "1985-02-14"];
    let asked = about(&persons, "Is Ava Okafor, born 1985-02-14, old enough?");
    recorder.chat(asked.clone()).await.unwrap();
    recorder.chat(about(&persons, "Who is Ava Okafor?")).await.unwrap_err();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(persons.iter().all(|said| !text.contains(said)), "{text}");
    assert!(text.contains("Is [personal 1], born [personal 2], old enough?"), "{text}");

    let player = Player::open(&path, &keys()).unwrap();
    assert_eq!(player.chat(asked).await.unwrap().content, "Ava Okafor is fine");
    let refused = player.chat(about(&persons, "Who is Ava Okafor?")).await.unwrap_err();
    assert!(
        matches!(&refused, ModelError::Refusal { message, .. } if message == "not about Ava Okafor"),
        "{refused:?}"
    );
    let unknown = player.chat(about(&persons, "Why Ava Okafor?")).await.unwrap_err().to_string();
    assert!(unknown.contains("Why [personal 1]?") && !unknown.contains("Okafor"), "{unknown}");
    let unmarked = player.chat(ask("Who is Ava Okafor?")).await.unwrap_err();
    assert_eq!(
        unmarked.class(),
        ErrorClass::Fatal,
        "asked by who does not know that it is personal, it is another question"
    );
}

#[tokio::test]
async fn what_a_model_makes_up_of_persons_is_masked_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("calls.jsonl");
    let answer = json!({ "name": "Ava Okafor", "born_in": "Amaurot", "note": "Amaurot is far" });
    let endpoint = Arc::new(ScriptedModel::new().answer_json(answer).answer("{\"name\":\"Ava Okafor\"}"));
    let marks: cassette::Marks = Arc::new(|schema, value| match schema["title"] == "person" {
        true => ["name", "born_in"].iter().filter_map(|field| Some(value[field].as_str()?.to_owned())).collect(),
        false => Vec::new(),
    });
    let schema = ResponseSchema::new("person", json!({ "title": "person", "type": "object" }));
    let asked = ChatRequest { response_schema: Some(schema), ..about(&["Ava Okafor"], "Where is Ava Okafor from?") };
    let again = |answer: &str| {
        let mut again = asked.clone();
        again.messages.push(Message::assistant(answer));
        again.messages.push(Message::user("Amaurot?"));
        again
    };
    let recorder = Recorder::open(&path, endpoint, keys()).unwrap().with_marks(marks.clone());
    let first = recorder.chat(asked.clone()).await.unwrap();
    recorder.chat(again(&first.content)).await.unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains("Okafor") && !text.contains("Amaurot"), "{text}");

    let player = Player::open(&path, &keys()).unwrap().with_marks(marks);
    let first = player.chat(asked.clone()).await.unwrap();
    let read: serde_json::Value = serde_json::from_str(&first.content).unwrap();
    assert_eq!(read, json!({ "name": "Ava Okafor", "born_in": "[masked]", "note": "[masked] is far" }));
    let mut repeated = again(&first.content);
    repeated.messages.last_mut().unwrap().content = "[masked]?".into();
    player.chat(repeated).await.expect("what was masked is asked with as masked");
}

#[test]
fn what_cannot_be_used_is_said_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("calls.jsonl");
    let endpoint: Arc<dyn Model> = Arc::new(ScriptedModel::new());
    for setting in ["", "record", "record:", "play:x"] {
        let error = cassette::open(setting, endpoint.clone(), Vec::new(), unmarked()).err().unwrap();
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
