//! The model over OpenAI's chat API. It is asked within `ctx.run`, so Restate retries what fails and keeps what came.

use reqwest::Client;
use restate_sdk::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::kyc::data;

pub struct Model {
    client: Client,
    url: String,
    name: String,
}

impl Model {
    pub fn from_env() -> Self {
        let url = format!("{}/chat/completions", std::env::var("MODEL_URL").expect("MODEL_URL"));
        let name = std::env::var("MODEL").unwrap_or_else(|_| "gpt-4o-mini".to_owned());
        Self { client: Client::new(), url, name }
    }

    /// The answer, or null if the model will not give one. What may be tried again is an error.
    pub async fn ask(&self, agent: &str, case: &str, schema: &str, value: &Value) -> Result<Value, HandlerError> {
        let asked = &data()["prompts"][schema];
        let system = format!("{}\n\n{}", text(&asked["system"]), text(&data()["preface"]));
        let body = json!({
            "model": self.name, "temperature": 0, "max_tokens": 800,
            "messages": [{ "role": "system", "content": system },
                         { "role": "user", "content": fence(text(&asked["name"]), &value.to_string()) }],
            "response_format": { "type": "json_schema",
                "json_schema": { "name": schema, "schema": asked["schema"], "strict": true } },
        });
        let request = self.client.post(&self.url).bearer_auth("any").header("x-agent", agent);
        let answer = request.header("x-correlation-id", case).timeout(std::time::Duration::from_secs(30)).json(&body);
        let answer = answer.send().await?;
        if matches!(answer.status().as_u16(), 400 | 422) {
            return Ok(Value::Null);
        }
        let answer: Value = answer.error_for_status()?.json().await?;
        match answer["choices"][0]["message"]["content"].as_str() {
            Some(content) => Ok(serde_json::from_str(content)?),
            None => Ok(Value::Null),
        }
    }
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn fence(name: &str, content: &str) -> String {
    let hash = Sha256::new().chain_update(format!("0 {name}")).chain_update(content).finalize();
    let mark: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("<<<outside: {name} {mark}>>>\n{content}\n<<<end {mark}>>>")
}
