use anabranch_llm::chat::{AGENT, CORRELATION_ID};
use anabranch_llm::mock::{MockConfig, MockServer};
use anabranch_llm::{
    ChatRequest, ErrorClass, FinishReason, Message, Model, ModelError, OpenAi, ResponseSchema, Secret, ToolSpec,
    structured,
};
use async_openai::types::chat::{
    ChatCompletionRequestUserMessage, CreateChatCompletionRequest, CreateChatCompletionRequestArgs,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::{ask, scripted, with};

#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[allow(dead_code)]
struct Screening {
    verdict: Verdict,
    #[schemars(range(min = 0.0, max = 1.0))]
    confidence: f64,
    matches: Vec<Entry>,
    note: Option<String>,
}

#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Clear,
    Hit,
}

#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[allow(dead_code)]
struct Entry {
    name: String,
    score: f64,
}

#[derive(JsonSchema)]
#[allow(dead_code)]
struct Lookup {
    number: String,
}

fn lookup() -> ToolSpec {
    ToolSpec::of::<Lookup>("lookup", "Looks a document number up.")
}

#[tokio::test]
async fn an_unscripted_call_gets_text_and_is_counted() {
    let (server, client) = with(MockConfig::default()).await;
    let mut request = ask("How are you?");
    request.metadata.insert(AGENT.into(), "customer".into());
    request.metadata.insert(CORRELATION_ID.into(), "case-7".into());
    let answer = client.chat(request).await.unwrap();
    assert!(answer.content.contains("made up"), "{}", answer.content);
    assert_eq!((answer.finish, answer.model.as_str()), (FinishReason::Stop, "mock"));
    assert_eq!(answer.usage.prompt_tokens, 3 + 3);

    let stats = server.stats();
    assert_eq!((stats.calls, stats.by_agent["customer"], stats.by_correlation_id["case-7"]), (1, 1, 1));
    assert_eq!(stats.by_outcome["answered"], 1);
    assert_eq!(stats.tokens, answer.usage);
    let url = format!("http://{}/mock/stats", server.address());
    let said: anabranch_llm::mock::Stats = reqwest::get(url).await.unwrap().json().await.unwrap();
    assert_eq!(said, stats);
    server.stop().await;
}

#[tokio::test]
async fn the_latest_calls_are_listed_with_what_they_took() {
    let latency = anabranch_llm::mock::Latency::Fixed { ms: 3 };
    let (server, client) = with(MockConfig { latency, keep_calls: 2, ..MockConfig::default() }).await;
    for number in 0..3 {
        let mut request = ask("How are you?");
        request.metadata.insert(AGENT.into(), "customer".into());
        request.metadata.insert(CORRELATION_ID.into(), format!("case-{number}"));
        client.chat(request).await.unwrap();
    }
    let url = format!("http://{}/mock/calls", server.address());
    let calls: Vec<anabranch_llm::mock::CallRecord> = reqwest::get(url).await.unwrap().json().await.unwrap();
    let told: Vec<_> = calls.iter().map(|c| (c.correlation_id.as_str(), c.latency_ms, c.retry_after_ms)).collect();
    assert_eq!(told, [("case-1", 3, None), ("case-2", 3, None)]);

    let script = r#"{ "rules": [{ "fault": { "kind": "rate_limited", "retry_after_s": 2 } }] }"#;
    let script = anabranch_llm::mock::Script::parse(script).unwrap();
    let (refusing, client) = with(MockConfig { keep_calls: 9, ..MockConfig::default() }.with_script(script)).await;
    client.chat(ask("How are you?")).await.unwrap_err();
    let url = format!("http://{}/mock/calls", refusing.address());
    let calls: Vec<anabranch_llm::mock::CallRecord> = reqwest::get(url).await.unwrap().json().await.unwrap();
    assert_eq!((calls[0].latency_ms, calls[0].retry_after_ms), (0, Some(2000)));
    refusing.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn made_up_structured_answers_are_valid() {
    let (server, client) = with(MockConfig::default()).await;
    for i in 0..20 {
        let (answer, usage) = structured::<Screening>(&client, ask(&format!("Screen {i}"))).await.unwrap();
        assert!((0.0..=1.0).contains(&answer.confidence));
        assert!(usage.completion_tokens > 0);
    }
    assert_eq!(server.stats().by_schema["screening"], 20);
}

#[tokio::test]
async fn a_script_answers_with_what_was_asked() {
    let (server, client) = scripted(
        r#"{ "rules": [
            { "name": "near", "when": { "schema": "screening", "agent": "identity", "matches": "score=([\\d.]+)" },
              "answer": { "json": { "verdict": "hit", "confidence": "{{1|number}}", "note": "about {{/name}}",
                                    "matches": [{ "name": "{{/name}}" }] } } },
            { "name": "echo", "when": { "contains": "echo" }, "answer": { "echo": ["name"] } },
            { "name": "words", "when": { "model": "mock" }, "answer": { "text": "You said: {{user}}" } }
        ] }"#,
    )
    .await;
    let mut request = ask(r#"{"name": "Ava Specimen"} score=0.25"#);
    request.metadata.insert(AGENT.into(), "identity".into());
    let (answer, _) = structured::<Screening>(&client, request).await.unwrap();
    assert_eq!(
        (answer.verdict, answer.confidence, answer.note.as_deref()),
        (Verdict::Hit, 0.25, Some("about Ava Specimen"))
    );
    assert_eq!(answer.matches[0].name, "Ava Specimen");
    let echo = client.chat(ask(r#"echo {"name": "Ava", "age": 9}"#)).await.unwrap();
    assert_eq!(echo.content, r#"{"name":"Ava"}"#);
    assert_eq!(client.chat(ask("Hi {{1}}")).await.unwrap().content, "You said: Hi {{1}}");
    let by_rule: Vec<_> = server.stats().by_rule.into_iter().collect();
    assert_eq!(by_rule, [("echo".into(), 1), ("near".into(), 1), ("words".into(), 1)]);
}

#[tokio::test]
async fn a_scripted_answer_may_be_wrong_on_purpose() {
    let (_server, client) =
        scripted(r#"{ "rules": [{ "fill": false, "answer": { "json": { "verdict": "maybe" } } }] }"#).await;
    let error = structured::<Screening>(&client, ask("Screen")).await.unwrap_err();
    assert!(matches!(&error, ModelError::InvalidOutput { usage, .. } if usage.completion_tokens > 0), "{error:?}");
    assert_eq!(error.class(), ErrorClass::Terminal);
}

#[tokio::test]
async fn offered_tools_are_called_once_then_the_answer_comes() {
    let (_server, client) = with(MockConfig::default()).await;
    let mut request = ask("Is UT1 known?");
    request.tools = vec![lookup()];
    let first = client.chat(request.clone()).await.unwrap();
    assert_eq!((first.finish, first.tool_calls.len()), (FinishReason::ToolCalls, 1));
    let call = &first.tool_calls[0];
    assert_eq!(call.name, "lookup");
    assert!(call.arguments["number"].is_string());

    request.messages.push(Message::from(&first));
    request.messages.push(Message::tool(call.id.clone(), r#"{"status":"found"}"#));
    let second = client.chat(request).await.unwrap();
    assert_eq!((second.finish, second.tool_calls.len()), (FinishReason::Stop, 0));
}

#[tokio::test]
async fn a_script_calls_tools_and_reads_their_results() {
    let (_server, client) = scripted(
        r#"{ "rules": [
            { "when": { "after_tool": false },
              "answer": { "tool_calls": [{ "name": "lookup", "arguments": { "number": "{{/number}}" } }] } },
            { "when": { "after_tool": true }, "answer": { "text": "done" } }
        ] }"#,
    )
    .await;
    let mut request = ask(r#"{"number": "UT00000018"}"#);
    request.tools = vec![lookup()];
    let first = client.chat(request.clone()).await.unwrap();
    assert_eq!(first.tool_calls[0].arguments, json!({ "number": "UT00000018" }));
    request.messages.push(Message::from(&first));
    request.messages.push(Message::tool(first.tool_calls[0].id.clone(), "found"));
    assert_eq!(client.chat(request.clone()).await.unwrap().content, "done");
    // A new question starts a new turn.
    request.messages.push(Message::user(r#"{"number": "UT00000029"}"#));
    assert_eq!(client.chat(request).await.unwrap().tool_calls[0].arguments, json!({ "number": "UT00000029" }));
}

#[tokio::test]
async fn a_tool_that_was_not_offered_is_an_invalid_answer() {
    let (_server, client) =
        scripted(r#"{ "rules": [{ "answer": { "tool_calls": [{ "name": "wipe", "arguments": {} }] } }] }"#).await;
    let mut request = ask("Go");
    request.tools = vec![lookup()];
    let error = client.chat(request).await.unwrap_err();
    assert!(matches!(&error, ModelError::InvalidOutput { reason, .. } if reason.contains("wipe")), "{error:?}");
}

#[tokio::test]
async fn the_limit_of_tokens_cuts_the_answer() {
    let (_server, client) = scripted(r#"{ "rules": [{ "answer": { "text": "ééééééééééééééé" } }] }"#).await;
    let mut request = ask("Say é");
    request.max_output_tokens = Some(1);
    let answer = client.chat(request).await.unwrap();
    assert_eq!((answer.finish, answer.content.as_str()), (FinishReason::Length, "éé"));
    let (_server, client) = with(MockConfig::default()).await;
    let mut request = ask("Screen");
    request.max_output_tokens = Some(3);
    let error = structured::<Screening>(&client, request).await.unwrap_err();
    assert!(matches!(&error, ModelError::InvalidOutput { reason, .. } if reason.contains("limit")), "{error:?}");
}

#[tokio::test]
async fn what_cannot_be_made_up_says_that_it_is_to_be_scripted() {
    let (_server, client) = with(MockConfig::default()).await;
    let mut request = ask("An MRZ, please");
    let schema = json!({ "type": "object", "additionalProperties": false, "required": ["mrz"],
        "properties": { "mrz": { "type": "string", "pattern": "^[A-Z<]{44}$" } } });
    request.response_schema = Some(ResponseSchema::new("mrz", schema));
    let error = client.chat(request).await.unwrap_err();
    assert!(matches!(&error, ModelError::Misconfigured { message } if message.contains("script one")), "{error:?}");
}

#[tokio::test]
async fn keys_and_models_are_checked_where_they_are_set() {
    let config = MockConfig {
        api_key: Some(Secret::new("sk-right-key")),
        models: vec!["small".into()],
        ..MockConfig::default()
    };
    let (server, wrong) = with(config).await;
    let error = wrong.chat(ask("Hi")).await.unwrap_err();
    assert!(matches!(error, ModelError::Unauthorized { status: 401, .. }), "{error:?}");
    assert_eq!(error.class(), ErrorClass::Fatal);
    let right = OpenAi::new(&server.base_url(), Secret::new("sk-right-key")).unwrap();
    let error = right.chat(ask("Hi")).await.unwrap_err();
    assert!(matches!(&error, ModelError::UnknownModel { model, .. } if model == "mock"), "{error:?}");
    let request = ChatRequest { model: "small".into(), ..ask("Hi") };
    assert_eq!(right.chat(request).await.unwrap().model, "small");
    let url = format!("{}/models", server.base_url());
    let models = reqwest::Client::new().get(url).bearer_auth("sk-right-key").send().await.unwrap();
    let models: serde_json::Value = models.json().await.unwrap();
    assert_eq!(models["data"][0]["id"], "small");
}

#[tokio::test]
async fn the_librarys_own_types_read_the_mock() {
    let (server, _) = with(MockConfig::default()).await;
    let config = async_openai::config::OpenAIConfig::new().with_api_base(server.base_url()).with_api_key("k");
    let client = async_openai::Client::with_config(config);
    let request = CreateChatCompletionRequestArgs::default()
        .model("mock")
        .messages([ChatCompletionRequestUserMessage::from("Hi").into()])
        .build()
        .unwrap();
    let whole = client.chat().create(request.clone()).await.unwrap();
    let text = whole.choices[0].message.content.clone().unwrap();
    assert!(whole.usage.unwrap().total_tokens > 0);
    let request = CreateChatCompletionRequest { stream: Some(true), ..request };
    let mut events = client.chat().create_stream(request).await.unwrap();
    let mut streamed = String::new();
    while let Some(event) = futures::StreamExt::next(&mut events).await {
        streamed.push_str(event.unwrap().choices[0].delta.content.as_deref().unwrap_or_default());
    }
    assert!(text.starts_with("This answer was made up"), "{text}");
    assert_eq!(streamed, text);
}

#[tokio::test]
async fn the_port_is_free_after_stop() {
    let server = MockServer::start(MockConfig::default()).await.unwrap();
    let address = server.address();
    let health = reqwest::get(format!("http://{address}/healthz")).await.unwrap();
    assert!(health.status().is_success());
    server.stop().await;
    let client = OpenAi::new(&format!("http://{address}/v1"), Secret::new("k")).unwrap();
    let error = client.chat(ask("Hi")).await.unwrap_err();
    assert!(matches!(error, ModelError::Connection { .. }), "{error:?}");
    assert_eq!(error.class(), ErrorClass::Retryable { after: None });
    let again = MockServer::start(MockConfig { listen: address, ..MockConfig::default() }).await.unwrap();
    assert_eq!(again.address(), address);
}
