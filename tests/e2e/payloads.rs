//! The composer holds references: what they refer to may go. A parked case outlives the results it was joined from; an open
//! one whose payload is gone ends as a dead letter that says so; and large payloads fit into a small memory.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

use std::path::Path;
use std::time::Duration;

use anabranch_broker::{Action, ApiKey, BrokerConfig, Fault, ResponseError};
use anabranch_e2e::{App, Played, Spec, kyc, step, sure, workspace};
use anabranch_kafka::{OutRecord, Record};
use anabranch_protocol::{Step, Timestamp, dead_letter, header};
use anabranch_testkit::cluster::{TestCluster, foreign, python};
use anabranch_testkit::harness::wall_clock;
use serde_json::{Value, json};

const WITHIN: Duration = Duration::from_secs(60);

async fn start() -> App {
    App::start(Spec { agents: vec!["composer"], ..kyc() }).await.unwrap()
}

fn case(name: &str, request: Value) -> Played {
    let due = Timestamp::from_millis(wall_clock().as_millis() + 600_000);
    let after = Step { after: vec![Step::OUTCOME.to_owned()], ..step("customer", false) };
    Played::new(name, request, vec![step("identity", true), step("fraud", true), after], due)
}

fn of<'a>(records: &'a [Record], topic: &'a str, key: &'a str) -> impl Iterator<Item = &'a Record> {
    records.iter().filter(move |r| *r.topic == *topic && r.key.as_deref() == Some(key.as_bytes()))
}

/// Deletes what is on a topic now, as retention would.
fn delete_records(python: &Path, app: &App, topic: &str) {
    let script = workspace().join("tests/e2e/delete_records.py");
    let partitions = app.topology.partitions.to_string();
    let deleted = std::process::Command::new(python)
        .arg(script)
        .args([app.cluster.bootstrap(), topic, &partitions])
        .output()
        .unwrap();
    assert!(deleted.status.success(), "{}", String::from_utf8_lossy(&deleted.stderr));
}

/// A composer that remembers nothing but what is written.
async fn restarted(app: &mut App) {
    app.process("composer").unwrap().kill().await.unwrap();
    app.spawn("composer", "composer").unwrap();
    app.all_ready().await.unwrap();
}

fn review(app: &App, key: &str, decision: &str) -> OutRecord {
    let needs = ["documents_provided"];
    let value = json!({ "decision": decision, "reviewer": "ada", "reason": "seen", "needs": needs }).to_string();
    let topic = &app.topology.inbound.review.as_ref().unwrap().name;
    foreign(topic, Some(key.as_bytes()), Some(value.as_bytes()))
}

/// Waits until the composer has committed all that there is of a topic.
async fn taken_in(app: &App, topic: &str) {
    let tps: Vec<_> = (0..app.topology.partitions).map(|p| anabranch_kafka::TopicPartition::new(topic, p)).collect();
    let admin = app.client.admin();
    let ends = admin.end_offsets(&tps, anabranch_kafka::Isolation::ReadUncommitted).await.unwrap();
    let group = app.topology.group_of("composer");
    let deadline = tokio::time::Instant::now() + WITHIN;
    loop {
        let committed = admin.committed_offsets(&group).await.unwrap();
        let done = |(tp, end): (&anabranch_kafka::TopicPartition, &i64)| {
            committed.iter().any(|(at, commit)| at == tp && commit.offset >= *end)
        };
        if ends.iter().all(done) {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{committed:?} of {ends:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_case_outlives_its_results() {
    let Some(python) = python(&workspace(), &workspace().join("tests/e2e/requirements.txt")) else { return };
    let mut app = start().await;
    let (results, cases, decisions) = (app.topology.results_topic(), app.outbound("cases"), app.outbound("decisions"));
    let messages = app.outbound("customer-messages");
    let mut reader = app.reader(&[cases.clone(), decisions.clone(), messages]).await.unwrap();
    let parked = case("parked", json!({ "applicant": { "name": "AVA" } }));
    let unsure = |agent: &str| parked.answered(&results, agent, sure(0.4)).unwrap();
    app.send(vec![parked.planned(&results).unwrap(), unsure("identity"), unsure("fraud")]).await.unwrap();
    reader.until("it is parked", WITHIN, |r| of(r, &cases, "parked").count() == 1).await.unwrap();
    taken_in(&app, &results).await;
    delete_records(&python, &app, &results);
    restarted(&mut app).await;

    // Asking the applicant for something parks it again, with all there is; then it is decided without that.
    app.send(vec![review(&app, "parked", "request-information")]).await.unwrap();
    reader.until("it is parked again", WITHIN, |r| of(r, &cases, "parked").count() == 2).await.unwrap();
    restarted(&mut app).await;
    app.send(vec![review(&app, "parked", "approve"), review(&app, "parked", "reject")]).await.unwrap();
    reader.until("it is decided", WITHIN, |r| of(r, &decisions, "parked").count() > 0).await.unwrap();
    let records = reader.settle(Duration::from_secs(1)).await.unwrap();
    let outcomes: Vec<&Record> = of(records, &decisions, "parked").collect();
    assert_eq!(outcomes.len(), 1, "the first decision counts");
    let outcome: Value = serde_json::from_slice(outcomes[0].value.as_deref().unwrap()).unwrap();
    assert_eq!(outcome["parts"]["identity"]["confidence"], 0.4, "with what the agents said: {outcome}");

    // What was kept is removed again: only what the letter after the outcome needs may be left until it is answered.
    let letter = parked.answered(&results, "customer", sure(1.0)).unwrap();
    app.send(vec![letter]).await.unwrap();
    taken_in(&app, &results).await;
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_case_whose_payload_is_gone_is_a_dead_letter_that_says_so() {
    let Some(python) = python(&workspace(), &workspace().join("tests/e2e/requirements.txt")) else { return };
    let mut app = start().await;
    let results = app.topology.results_topic();
    let letters = app.topology.dlq_topic(&results);
    let mut topics: Vec<String> = app.topology.outbound.values().map(|t| t.name.clone()).collect();
    topics.push(letters.clone());
    let mut reader = app.reader(&topics).await.unwrap();
    let (lost, kept) = (case("lost", json!({ "n": 1 })), case("kept", json!({ "n": 2 })));
    let sure = |case: &Played, agent: &str| case.answered(&results, agent, sure(0.99)).unwrap();
    app.send(vec![lost.planned(&results).unwrap(), sure(&lost, "identity")]).await.unwrap();
    taken_in(&app, &results).await;
    delete_records(&python, &app, &results);
    restarted(&mut app).await;
    app.send(vec![sure(&lost, "fraud")]).await.unwrap();
    reader.until("the dead letter", WITHIN, |r| of(r, &letters, "lost").count() > 0).await.unwrap();
    // Others go on.
    app.send(vec![kept.planned(&results).unwrap(), sure(&kept, "identity"), sure(&kept, "fraud")]).await.unwrap();
    let decisions = app.outbound("decisions");
    reader.until("another case", WITHIN, |r| of(r, &decisions, "kept").count() > 0).await.unwrap();
    let records = reader.settle(Duration::from_secs(1)).await.unwrap();
    let of_lost: Vec<&Record> = records.iter().filter(|r| r.key.as_deref() == Some(b"lost")).collect();
    assert_eq!(of_lost.len(), 1, "one dead letter, and no outcome beside it");
    let message = header::last(&of_lost[0].headers, dead_letter::MESSAGE).unwrap();
    assert!(message.starts_with("the plan cannot be read: offset 0 of "), "{message}");
    assert!(message.contains("is not in the log any more"), "{message}");
    app.stop().await.unwrap();
}

/// A broker that does not give a payload is no broker that does not have it.
#[tokio::test(flavor = "multi_thread")]
async fn a_payload_that_cannot_be_had_now_is_waited_for() {
    let cluster = TestCluster::embedded(BrokerConfig::default()).await.unwrap();
    let mut app = App::prepare_on(cluster, Spec { agents: vec!["composer"], ..kyc() }).await.unwrap();
    app.create_topics(&["composer"]).await.unwrap();
    app.spawn("composer", "composer").unwrap();
    app.all_ready().await.unwrap();
    let (results, cases) = (app.topology.results_topic(), app.outbound("cases"));
    let mut reader = app.reader(&[cases.clone(), app.topology.dlq_topic(&results)]).await.unwrap();
    // Long enough for the next composer to be ready before it.
    let due = Timestamp::from_millis(wall_clock().as_millis() + 25_000);
    let waiting = Played::new("waiting", json!({ "n": 1 }), vec![step("identity", true)], due);
    app.send(vec![waiting.planned(&results).unwrap()]).await.unwrap();
    taken_in(&app, &results).await;
    restarted(&mut app).await;
    let refuse = Fault::new(ApiKey::Fetch, Action::Fail(ResponseError::NotLeaderOrFollower)).topic(&results);
    let refused = app.cluster.broker().unwrap().faults().inject(refuse);
    let left = due.since(wall_clock()) + Duration::from_secs(3);
    let records = reader.settle(left).await.unwrap();
    assert!(records.is_empty(), "no outcome and no dead letter: {records:?}");
    assert!(refused.hits() > 0);
    refused.remove();
    reader.until("an outcome", WITHIN, |r| !r.is_empty()).await.unwrap();
    let records = reader.settle(Duration::from_secs(1)).await.unwrap();
    assert_eq!(of(records, &cases, "waiting").count(), 1);
    assert_eq!(records.len(), 1, "and no dead letter beside it");
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn large_payloads_are_joined_in_a_small_memory() {
    const CASES: usize = 60;
    let mut app = start().await;
    let (results, decisions) = (app.topology.results_topic(), app.outbound("decisions"));
    let text = "x".repeat(800_000);
    let large: Vec<Played> = (0..CASES).map(|n| case(&format!("large-{n}"), json!({ "text": text, "n": n }))).collect();
    for case in &large {
        app.send(vec![case.planned(&results).unwrap()]).await.unwrap();
    }
    taken_in(&app, &results).await;
    restarted(&mut app).await;
    for agent in ["identity", "fraud"] {
        let answers = large.iter().map(|case| case.answered(&results, agent, sure(0.99)).unwrap());
        app.send(answers.collect()).await.unwrap();
    }
    let mut reader = app.reader(std::slice::from_ref(&decisions)).await.unwrap();
    reader.until("all decided", WITHIN, |r| r.len() >= CASES).await.unwrap();
    let records = reader.settle(Duration::from_secs(1)).await.unwrap();
    assert_eq!(records.len(), CASES);
    let pid = app.process("composer").unwrap().pid().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak_kb: usize = peak.trim().trim_end_matches(" kB").parse().unwrap();
    println!("peak resident memory: {} MB for {CASES} cases of 0.8 MB", peak_kb / 1024);
    assert!(peak_kb < 200 * 1024, "{peak_kb} kB for {CASES} payloads of 0.8 MB");
    app.stop().await.unwrap();
}
