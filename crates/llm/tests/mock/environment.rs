//! `OpenAi::from_env` reads the process's environment, so each case runs in a process of its own: this test binary,
//! started again with the variables under test.

use std::process::{Command, Output};

use anabranch_llm::mock::MockConfig;
use anabranch_llm::{Model, OpenAi, Secret};

use super::{ask, with};

/// Set in the process that is under test.
const CHILD: &str = "ANABRANCH_TEST_FROM_ENV";

/// Runs [`in_a_process_of_its_own`] with these variables, and no others that matter.
async fn run(variables: &[(&str, &str)]) -> (bool, String) {
    let mut command = Command::new(std::env::current_exe().expect("this test binary"));
    command.args(["--exact", "--nocapture", "environment::in_a_process_of_its_own"]).env(CHILD, "1");
    for name in ["OPENAI_BASE_URL", "OPENAI_API_KEY"] {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied());
    let output: Output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

/// Prints what the client of this environment is, and what it is answered.
#[tokio::test]
async fn in_a_process_of_its_own() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let client = match OpenAi::from_env() {
        Ok(client) => client,
        Err(error) => return println!("NO CLIENT: {error}"),
    };
    println!("BASE: {} {client:?}", client.base_url());
    if client.base_url().contains("127.0.0.1") {
        match client.chat(ask("Hi")).await {
            Ok(answer) => println!("ANSWER: {}", answer.content),
            Err(error) => println!("ERROR: {error}"),
        }
    }
}

#[tokio::test]
async fn the_environment_names_endpoint_and_key() {
    let config = MockConfig { api_key: Some(Secret::new("sk-very-secret")), ..MockConfig::default() };
    let (server, _) = with(config).await;
    let base = format!("{}/", server.base_url());
    let (ok, said) = run(&[("OPENAI_BASE_URL", &base), ("OPENAI_API_KEY", " sk-very-secret\n")]).await;
    assert!(ok && said.contains("ANSWER: This answer was made up"), "{said}");
    assert!(!said.contains("sk-very-secret"), "the key is not shown: {said}");
    let (_, said) = run(&[("OPENAI_BASE_URL", &base)]).await;
    assert!(said.contains("ERROR: ") && said.contains("does not accept the API key (401)"), "{said}");
}

#[tokio::test]
async fn without_an_address_it_is_openai_and_needs_a_key() {
    let (_, said) = run(&[("OPENAI_API_KEY", "sk-some-key")]).await;
    assert!(said.contains("BASE: https://api.openai.com/v1"), "{said}");
    let (_, said) = run(&[]).await;
    assert!(said.contains("NO CLIENT: ") && said.contains("OPENAI_API_KEY is not set"), "{said}");
    let (_, said) = run(&[("OPENAI_API_KEY", "  ")]).await;
    assert!(said.contains("OPENAI_API_KEY is not set"), "blank is unset: {said}");
    for (address, words) in [("localhost:9", "http(s)"), ("http://me:pw@host/v1", "no user"), ("nowhere", "no URL")] {
        let (_, said) = run(&[("OPENAI_BASE_URL", address), ("OPENAI_API_KEY", "k")]).await;
        assert!(said.contains("NO CLIENT: ") && said.contains(words), "{address}: {said}");
        assert!(!said.contains("me:pw"), "{said}");
    }
    let (_, said) = run(&[("OPENAI_BASE_URL", "http://127.0.0.1:9/v1"), ("OPENAI_API_KEY", "sk\nbad")]).await;
    assert!(said.contains("characters no header may"), "{said}");
}
