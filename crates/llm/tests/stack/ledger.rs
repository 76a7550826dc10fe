//! What is in the ledger is what the endpoint counted.

use std::sync::Arc;
use std::time::Duration;

use anabranch_llm::mock::{FaultRates, MockConfig, MockServer, Script};
use anabranch_llm::prices::{Price, Prices};
use anabranch_llm::stack::{CallContext, Outcome, Settings, Stack};
use anabranch_llm::{ChatEvent, ChatRequest, Message, Model, ModelError, OpenAi, OpenCause, Secret, Usage};
use futures::StreamExt;
use futures::stream;

use super::{Endpoint, MemoryLedger, ask};

const SCRIPT: &str = r#"{ "rules": [
    { "when": { "contains": "schema" }, "fault": { "kind": "invalid_output" } },
    { "when": { "contains": "bomb" }, "fault": { "kind": "refusal" } },
    { "when": { "contains": "filter" }, "fault": { "kind": "content_filter" } } ] }"#;

/// Asks until it is answered, or never will be.
async fn insist(model: &dyn Model, request: ChatRequest) {
    while let Err(error) = model.chat(request.clone()).await {
        match error.class() {
            anabranch_llm::ErrorClass::Retryable { .. } => tokio::time::sleep(Duration::from_millis(2)).await,
            _ => return,
        }
    }
}

#[tokio::test]
async fn it_equals_the_mocks_own_count_to_the_token() {
    let faults = FaultRates { rate_limited: 0.05, server_error: 0.1, ..FaultRates::default() };
    let config = MockConfig { faults, seed: 7, ..MockConfig::default().with_script(Script::parse(SCRIPT).unwrap()) };
    let server = MockServer::start(config).await.unwrap();
    let client = Arc::new(OpenAi::new(&server.base_url(), Secret::new("sk-test-key-1234")).unwrap());
    let ledger = Arc::new(MemoryLedger::default());
    let price = Price::per_million(0.15, 0.6).unwrap();
    let settings = Settings { prices: Prices::new().with("m", price), ..Settings::new("m") };
    let stacked = Stack::new(client, settings).with_ledger(ledger.clone()).build().unwrap();
    let model = &stacked.model;
    stream::iter(0..400_u32)
        .for_each_concurrent(16, |i| async move {
            let words = ["plain", "schema", "bomb", "filter", "long ".repeat(40).as_str()][(i % 5) as usize].to_owned();
            let mut request = ChatRequest::new("m", vec![Message::user(format!("{i} {words}"))]);
            if words == "schema" {
                request = anabranch_llm::named::<u8>(request, "number");
                let nothing = serde_json::json!({ "type": "object", "properties": {}, "additionalProperties": false });
                request.response_schema.as_mut().unwrap().schema = nothing.into();
            }
            CallContext { agent: "a".into(), case: Some(format!("case-{}", i % 20)), tenant: None }.put(&mut request);
            if i % 7 == 0
                && let Ok(events) = model.stream(request.clone()).await
                && let Some(Ok(ChatEvent::Done(_))) = events.collect::<Vec<_>>().await.pop()
            {
                return;
            }
            insist(&**model, request).await;
        })
        .await;

    let (entries, stats) = (ledger.entries(), server.stats());
    let mut counted = Usage::default();
    for entry in &entries {
        counted += Usage { prompt_tokens: entry.prompt_tokens, completion_tokens: entry.completion_tokens };
        let usage = Usage { prompt_tokens: entry.prompt_tokens, completion_tokens: entry.completion_tokens };
        assert_eq!(entry.cost_micros, Some(price.cost_micros(usage)));
    }
    println!("{} calls, {counted:?}", entries.len());
    assert_eq!(counted, stats.tokens);
    assert_eq!(entries.len() as u64, stats.calls);
    let of = |outcome| entries.iter().filter(|e| e.outcome == outcome).count();
    assert!(of(Outcome::Answered) >= 160 && of(Outcome::Useless) >= 230 && of(Outcome::Failed) > 20);
    assert_eq!(of(Outcome::Unknown), 0);
    let case = |case: &str| {
        entries.iter().filter(|e| e.correlation_id.as_deref() == Some(case)).map(|e| e.tokens()).sum::<u64>()
    };
    for (id, usage) in &stats.tokens_by_correlation_id {
        assert_eq!(case(id), usage.total_tokens(), "{id}");
    }
    let mut ids: Vec<_> = entries.iter().map(|e| e.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), entries.len(), "ids are unique");
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn no_call_is_made_while_earlier_ones_cannot_be_entered() {
    let endpoint = Endpoint::well(Duration::ZERO);
    let ledger = Arc::new(MemoryLedger::default());
    let stacked = Stack::new(endpoint.clone(), Settings::new("m")).with_ledger(ledger.clone()).build().unwrap();
    ledger.set_broken(Some("the broker is away"));
    assert!(stacked.model.chat(ask("c")).await.is_ok(), "what was paid for is used");
    let error = stacked.model.chat(ask("d")).await.unwrap_err();
    let ModelError::BreakerOpen { cause: OpenCause::Ledger, after, message } = error else { panic!("{error:?}") };
    assert_eq!((after, message.as_str()), (Duration::from_secs(1), "the ledger takes no entry: the broker is away"));
    assert_eq!(endpoint.calls(), 1);
    ledger.set_broken(None);
    tokio::time::sleep(after).await;
    assert!(stacked.model.chat(ask("d")).await.is_ok());
    let entries = ledger.entries();
    assert_eq!(entries.iter().map(|e| e.correlation_id.as_deref().unwrap()).collect::<Vec<_>>(), ["c", "d"]);
}

#[tokio::test(start_paused = true)]
async fn a_call_of_unknown_end_is_entered_as_an_estimate() {
    let cut = ModelError::Cut { message: "half".into() };
    let endpoint =
        Endpoint::new(Duration::from_secs(1), move |number, _| if number == 2 { Err(cut.clone()) } else { Ok(()) });
    let ledger = Arc::new(MemoryLedger::default());
    let stacked = Stack::new(endpoint, Settings::new("m")).with_ledger(ledger.clone()).build().unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(10), stacked.model.chat(ask("left"))).await.is_err());
    assert!(stacked.model.chat(ask("cut")).await.is_err());
    assert!(stacked.model.chat(ask("fine")).await.is_ok());
    let entries = ledger.entries();
    let said: Vec<_> = entries.iter().map(|e| (e.outcome, e.estimated, e.tokens())).collect();
    let estimate = (Outcome::Unknown, true, 100);
    assert_eq!(said, [estimate, estimate, (Outcome::Answered, false, 30)]);
}

#[test]
fn an_entry_is_json_that_later_versions_can_read() {
    let line = r#"{"id":"p-1","process":"p","at_ms":1,"agent":"a","model":"m","prompt_tokens":2,"completion_tokens":3,
        "outcome":"answered","a field of the future":true}"#;
    let entry: anabranch_llm::stack::Entry = serde_json::from_str(line).unwrap();
    assert_eq!((entry.tokens(), entry.correlation_id.as_deref(), entry.cost_micros), (5, None, None));
    let again = serde_json::to_string(&entry).unwrap();
    let expected = r#"{"id":"p-1","process":"p","at_ms":1,"agent":"a","model":"m","prompt_tokens":2,"completion_tokens":3,"outcome":"answered"}"#;
    assert_eq!(again, expected);
}
