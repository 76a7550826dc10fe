//! A model that is down, and one that refuses the key.

use std::time::{Duration, Instant};

use anabranch_e2e::{App, answers, asker, question};
use anabranch_llm::Secret;
use anabranch_llm::mock::{MockConfig, MockServer};

const WITHIN: Duration = Duration::from_secs(60);

/// Takes the model away for `outage` while tasks come in, and looks at what is left of it.
async fn survives(outage: Duration) {
    let lines = "models:\n  default: { timeout: 5s, breaker: { failures: 5, open_for: 500ms } }\n\
                 agents:\n  asker: { session_timeout: 6s, handler_timeout: 10s, retry: { max_attempts: 3 } }";
    let mut app = App::start(asker(4, lines, MockConfig::default())).await.unwrap();
    app.spawn("asker-2", "asker").unwrap();
    app.all_ready().await.unwrap();
    let group = app.topology.group_of("asker");
    let members = async |app: &App| {
        let described = app.client.admin().describe_groups(std::slice::from_ref(&group)).await.unwrap();
        described[0].members.clone()
    };
    let tasks = app.topology.tasks_topic("asker");
    let mut number = 0;
    let mut send = async |app: &App, count: u64| {
        let new = (number..number + count).map(|n| question(&tasks, &format!("case-{n}"), n, 1).unwrap()).collect();
        number += count;
        app.send(new).await.unwrap();
        number
    };
    let mut reader = app.reader(&[app.topology.results_topic()]).await.unwrap();
    let sent = send(&app, 40).await;
    let all = |count: u64| move |records: &[anabranch_kafka::Record]| answers(records).len() as u64 >= count;
    reader.until("answers while the model is up", WITHIN, all(sent)).await.unwrap();
    let before = members(&app).await;
    let said: Vec<usize> = app.processes.values().map(|process| process.log().len()).collect();
    assert_eq!(before.len(), 2);

    // Down: nobody listens on its port. Another server stands in its place in the fixture meanwhile.
    let address = app.mock.address();
    let elsewhere = MockServer::start(MockConfig::default()).await.unwrap();
    std::mem::replace(&mut app.mock, elsewhere).stop().await;
    let began = Instant::now();
    while began.elapsed() < outage {
        send(&app, 20).await;
        tokio::time::sleep(Duration::from_millis(500).max(outage / 200)).await;
    }
    let mut paused = 0;
    for (process, said) in app.processes.values().zip(said) {
        let log = process.log().split_off(said);
        paused += u32::from(log.contains("paused") && log.contains("it failed too often"));
        assert!(!log.contains("revoked") && !log.contains("dead letter"), "{log}");
    }
    assert_eq!(paused, 2, "both pause and say so");
    let back = MockServer::start(MockConfig { listen: address, ..MockConfig::default() }).await.unwrap();
    app.mock = back;
    let (up, sent) = (Instant::now(), send(&app, 20).await);
    let longest = Duration::from_secs(90);
    reader.until("all answers after the outage", longest, all(sent)).await.unwrap();
    let took = up.elapsed();
    assert_eq!(members(&app).await, before, "the same members with the same partitions");
    let most = answers(reader.records()).iter().map(|(_, _, partial)| partial.work.attempts).max().unwrap_or(0);
    assert!(most < 3, "an outage is no attempt, and there were {most}");
    let mut dead = app.reader(&[app.topology.dlq_topic(&tasks)]).await.unwrap();
    assert!(dead.settle(Duration::from_millis(500)).await.unwrap().is_empty(), "no dead letters");
    println!(
        "the model down for {} s under load: {sent} tasks, no dead letter, all answered {:.1} s after it is back, \
         at most {most} attempts",
        outage.as_secs(),
        took.as_secs_f64()
    );
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_model_costs_no_case_and_no_member() {
    survives(Duration::from_secs(6)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "ten minutes: cargo test -p anabranch-e2e --test model_discipline -- --ignored --nocapture ten_minutes"]
async fn an_outage_of_ten_minutes_costs_no_case_and_no_member() {
    survives(Duration::from_secs(600)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_refused_stops_the_agent_and_touches_no_offset() {
    let mock = MockConfig { api_key: Some(Secret::new("another")), ..MockConfig::default() };
    let mut app = App::start(asker(2, "", mock)).await.unwrap();
    let tasks = app.topology.tasks_topic("asker");
    app.send((0..10).map(|n| question(&tasks, &format!("case-{n}"), n, 1).unwrap()).collect()).await.unwrap();
    let process = app.process("asker").unwrap();
    let status = process.ended(Duration::from_secs(30)).await.unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(process.log().contains("does not accept the API key (401)"), "{}", process.log());
    let group = app.topology.group_of("asker");
    let committed = app.client.admin().committed_offsets(&group).await.unwrap();
    let touched = committed.iter().any(|(tp, at)| *tp.topic == *tasks && at.offset > 0);
    assert!(!touched, "{committed:?}");
    let topics = [app.topology.results_topic(), app.topology.dlq_topic(&tasks)];
    let mut reader = app.reader(&topics).await.unwrap();
    assert!(reader.settle(Duration::from_millis(500)).await.unwrap().is_empty());

    // With the right one the same tasks are done.
    let bootstrap = app.cluster.bootstrap().to_owned();
    app.spawn_at("asker", "asker", &bootstrap, &[("OPENAI_API_KEY".to_owned(), "another".to_owned())]).unwrap();
    let all = |records: &[anabranch_kafka::Record]| answers(records).len() >= 10;
    reader.until("the answers", WITHIN, all).await.unwrap();
    app.stop().await.unwrap();
}
