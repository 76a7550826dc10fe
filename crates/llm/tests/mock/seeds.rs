use std::time::{Duration, Instant};

use anabranch_llm::Model;
use anabranch_llm::mock::{FaultRates, Latency, MockConfig};

use super::{ask, with};

/// What a client hears when it asks each of 30 questions four times.
async fn trace(seed: u64) -> Vec<String> {
    let faults = FaultRates { rate_limited: 0.2, server_error: 0.2, invalid_json: 0.1, ..FaultRates::default() };
    let (_server, client) = with(MockConfig { seed, faults, ..MockConfig::default() }).await;
    let mut heard = Vec::new();
    for question in 0..30 {
        for _ in 0..4 {
            heard.push(match client.chat(ask(&format!("Question {question}"))).await {
                Ok(answer) => answer.content,
                Err(error) => error.to_string(),
            });
        }
    }
    heard
}

#[tokio::test]
async fn the_same_seed_gives_the_same_trace() {
    let first = trace(1).await;
    assert_eq!(first, trace(1).await);
    assert_ne!(first, trace(2).await);
}

#[tokio::test]
async fn order_does_not_matter_and_an_answer_is_the_same_again() {
    let (_server, client) = with(MockConfig::default()).await;
    let questions = ["one", "two", "three"];
    let mut there = Vec::new();
    for question in questions {
        there.push(client.chat(ask(question)).await.unwrap().content);
    }
    let mut back = Vec::new();
    for question in questions.iter().rev() {
        back.push(client.chat(ask(question)).await.unwrap().content);
    }
    back.reverse();
    assert_eq!(there, back);
    assert_ne!(there[0], there[1]);
    let mut other_case = ask("one");
    other_case.metadata.insert("x-correlation-id".into(), "b".into());
    assert_ne!(client.chat(other_case).await.unwrap().content, there[0], "another case, another draw");
}

#[tokio::test]
async fn an_answer_takes_its_latency() {
    let (_server, client) = with(MockConfig { latency: Latency::Fixed { ms: 120 }, ..MockConfig::default() }).await;
    let start = Instant::now();
    client.chat(ask("Slow?")).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(120), "{:?}", start.elapsed());
}
