//! The client against the mock server, over HTTP: what each holds the other to.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod bad_input;
mod chat;
mod environment;
mod faults;
mod odd_endpoints;
mod registry;
mod seeds;
mod streams;

use anabranch_llm::mock::{MockConfig, MockServer, Script};
use anabranch_llm::{ChatRequest, Message, OpenAi, OpenAiOptions, Secret};

/// A server with this configuration, and a client of it.
async fn with(config: MockConfig) -> (MockServer, OpenAi) {
    let server = MockServer::start(config).await.expect("the server starts");
    let client = OpenAi::new(&server.base_url(), Secret::new("sk-test-key-1234")).expect("a client");
    (server, client)
}

/// A server that plays this script, and a client of it.
async fn scripted(script: &str) -> (MockServer, OpenAi) {
    with(MockConfig::default().with_script(Script::parse(script).expect("a sound script"))).await
}

/// A client that takes answers up to `bytes`.
fn bounded(server: &MockServer, bytes: usize) -> OpenAi {
    let mut options = OpenAiOptions::default();
    options.max_response_bytes = bytes;
    OpenAi::with_options(&server.base_url(), Secret::new("k"), options).expect("a client")
}

fn ask(text: &str) -> ChatRequest {
    ChatRequest::new("mock", vec![Message::system("Be brief."), Message::user(text)])
}
