use anabranch_llm::mock::{FaultRates, Latency, MockArgs, MockConfig, MockError, MockServer, Script};
use serde_json::{Value, json};

use super::with;

async fn post(server: &MockServer, body: String) -> (u16, Value) {
    let url = format!("{}/chat/completions", server.base_url());
    let response = reqwest::Client::new().post(url).body(body).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

#[tokio::test]
async fn bad_input_is_refused_in_openais_shape() {
    let (server, _) = with(MockConfig::default()).await;
    let talk = json!([{ "role": "user", "content": "Hi" }]);
    let format = |schema: Value| {
        json!({ "model": "m", "messages": talk, "response_format": {
        "type": "json_schema", "json_schema": { "name": "s", "strict": true, "schema": schema } } })
    };
    let tool = json!({ "type": "function", "function": { "name": "f", "parameters": { "type": "object" } } });
    let cases = [
        (json!([]), Value::Null, "object"),
        (json!({ "messages": talk }), json!("model"), "model"),
        (json!({ "model": "m" }), json!("messages"), "messages"),
        (json!({ "model": "m", "messages": [] }), json!("messages"), "messages"),
        (json!({ "model": "m", "messages": [{ "role": "boss", "content": "" }] }), json!("messages[0].role"), "'user'"),
        (
            json!({ "model": "m", "messages": [{ "role": "user", "content": 5 }] }),
            json!("messages[0].content"),
            "string",
        ),
        (
            json!({ "model": "m", "messages": [{ "role": "tool", "content": "x" }] }),
            json!("messages[0].tool_call_id"),
            "Missing",
        ),
        (json!({ "model": "m", "messages": talk, "temperature": 3 }), json!("temperature"), "0 to 2"),
        (json!({ "model": "m", "messages": talk, "max_tokens": 0 }), json!("max_tokens"), "integer"),
        (json!({ "model": "m", "messages": talk, "n": 2 }), json!("n"), "1"),
        (json!({ "model": "m", "messages": talk, "stream": "yes" }), json!("stream"), "boolean"),
        (json!({ "model": "m", "messages": talk, "stream_options": {} }), json!("stream_options"), "only allowed"),
        (json!({ "model": "m", "messages": talk, "tool_choice": "auto" }), json!("tool_choice"), "only allowed"),
        (
            json!({ "model": "m", "messages": talk, "tools": [tool],
                "tool_choice": { "type": "function", "function": { "name": "g" } } }),
            json!("tool_choice"),
            "must name",
        ),
        (
            json!({ "model": "m", "messages": talk, "response_format": { "type": "xml" } }),
            json!("response_format.type"),
            "json_schema",
        ),
        (format(json!({ "type": "object", "properties": {} })), json!("response_format"), "additionalProperties"),
        (format(json!({ "type": "thing" })), json!("response_format"), "Invalid schema"),
    ];
    let count = u64::try_from(cases.len()).unwrap();
    for (body, param, words) in cases {
        let (status, answer) = post(&server, body.to_string()).await;
        let error = &answer["error"];
        assert_eq!((status, &error["type"]), (400, &json!("invalid_request_error")), "{body}: {answer}");
        assert_eq!(error["param"], param, "{body}: {answer}");
        assert!(error["message"].as_str().unwrap().contains(words), "{body}: {answer}");
    }
    let (status, answer) = post(&server, "{".into()).await;
    assert_eq!((status, answer["error"]["code"].is_null()), (400, true));
    assert_eq!(server.stats().by_outcome["bad_request"], count + 1);
    let (status, answer) = post(&server, "x".repeat(17 * 1024 * 1024)).await;
    assert_eq!(status, 413, "{answer}");
    let lost = reqwest::get(format!("{}/nowhere", server.base_url())).await.unwrap();
    assert_eq!(lost.status().as_u16(), 404);
    assert!(lost.json::<Value>().await.unwrap()["error"]["message"].is_string());
}

#[tokio::test]
async fn what_cannot_be_meant_does_not_start() {
    let rule =
        |json: &str| MockConfig { rules: vec![serde_json::from_str(json).expect("a rule")], ..MockConfig::default() };
    let faults = |rate| FaultRates { cut: rate, hang: 0.5, ..FaultRates::default() };
    let cases = [
        (MockConfig { listen: ([0, 0, 0, 0], 0).into(), ..MockConfig::default() }, "not loopback"),
        (MockConfig { faults: faults(-0.1), ..MockConfig::default() }, "-0.1"),
        (MockConfig { faults: faults(f64::NAN), ..MockConfig::default() }, "NaN"),
        (MockConfig { faults: faults(0.6), ..MockConfig::default() }, "add up to 1.1"),
        (
            MockConfig { latency: Latency::Lognormal { median_ms: 9, p99_ms: 3 }, ..MockConfig::default() },
            "percentile above",
        ),
        (rule(r#"{ "name": "r", "when": { "matches": "(" } }"#), "rule 1 `r`, is not usable: regex"),
        (rule(r#"{ "answer": { "text": "{{name}}" } }"#), "{{/name}}"),
        (rule(r#"{ "answer": { "text": "a" }, "fault": { "kind": "cut" } }"#), "both"),
        (rule(r#"{ "times": 0 }"#), "`times` is 0"),
        (rule(r#"{ "fault": { "kind": "server_error", "status": 200 } }"#), "500 to 599"),
        (rule(r#"{ "answer": { "tool_calls": [] } }"#), "empty"),
    ];
    for (config, words) in cases {
        let error = MockServer::start(config).await.expect_err(words).to_string();
        assert!(error.contains(words), "{error}");
    }
    let error = Script::parse(r#"{ "rules": [{}, { "name": "r", "times": 0 }] }"#).unwrap_err().to_string();
    assert!(error.starts_with("the mock's script, rule 2 `r`, is not usable: `times` is 0"), "{error}");
    let error = Script::parse("{\n \"rule\": [] }").unwrap_err().to_string();
    assert!(error.contains("unknown field `rule`") && error.contains("line 2"), "{error}");
    let script = Some("/nonexistent/script.json".into());
    let error = MockArgs { script, ..MockArgs::default() }.into_config().unwrap_err();
    assert!(matches!(error, MockError::Read { .. }), "{error}");
    let taken = MockServer::start(MockConfig::default()).await.unwrap();
    let config = MockConfig { listen: taken.address(), ..MockConfig::default() };
    assert!(matches!(MockServer::start(config).await, Err(MockError::Listen { .. })));
}

#[tokio::test]
async fn a_remote_address_is_reached_on_loopback() {
    let config = MockConfig { listen: ([0, 0, 0, 0], 0).into(), allow_remote: true, ..MockConfig::default() };
    let server = MockServer::start(config).await.unwrap();
    assert_eq!(server.base_url(), format!("http://127.0.0.1:{}/v1", server.address().port()));
}

#[test]
fn flags_become_a_configuration() {
    let latency = |median, p99| {
        let args = MockArgs { latency_median_ms: median, latency_p99_ms: p99, ..MockArgs::default() };
        args.into_config().unwrap().latency
    };
    assert_eq!(latency(0, 0), Latency::None);
    assert_eq!(latency(5, 0), Latency::Fixed { ms: 5 });
    assert_eq!(latency(5, 50), Latency::Lognormal { median_ms: 5, p99_ms: 50 });
}
