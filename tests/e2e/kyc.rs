//! Every row of the reference application's table, with one process per agent.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use std::time::Duration;

use anabranch_e2e::{App, DemoCase, demo_cases, kyc};
use anabranch_kafka::{OutRecord, Record};
use anabranch_protocol::Timestamp;
use anabranch_testkit::cluster::{Reader, foreign, header};
use serde_json::Value;

const WITHIN: Duration = Duration::from_secs(90);

fn record_of(app: &App, case: &DemoCase) -> OutRecord {
    let mut record = foreign(app.requests(), Some(case.key().as_bytes()), Some(&case.value()));
    if let Some(seconds) = case.deadline_seconds {
        let now = anabranch_testkit::harness::wall_clock();
        let deadline = Timestamp::from_millis(now.as_millis() + i64::try_from(seconds).unwrap() * 1000);
        record.headers.push(header("ce_expirytime", &deadline.to_string()));
    }
    record
}

fn of<'a>(records: &'a [Record], topic: &str, case: &str) -> Vec<&'a Record> {
    records.iter().filter(|r| &*r.topic == topic && r.key.as_deref() == Some(case.as_bytes())).collect()
}

fn value(record: &Record) -> Value {
    serde_json::from_slice(record.value.as_deref().unwrap()).unwrap()
}

/// All reason codes that a record names, wherever they stand in it.
fn names(record: &Record, code: &str) -> bool {
    value(record).to_string().contains(&format!("\"{code}\""))
}

struct Topics {
    decisions: String,
    cases: String,
    alerts: String,
    messages: String,
    dead: String,
}

impl Topics {
    fn of(app: &App) -> Self {
        Self {
            decisions: app.outbound("decisions"),
            cases: app.outbound("cases"),
            alerts: app.outbound("fraud-alerts"),
            messages: app.outbound("customer-messages"),
            dead: app.topology.dlq_topic(app.requests()),
        }
    }

    fn all(&self) -> Vec<String> {
        [&self.decisions, &self.cases, &self.alerts, &self.messages, &self.dead].map(Clone::clone).into()
    }

    /// Where a case must end up.
    fn home(&self, case: &DemoCase) -> &str {
        match case.expect.state.as_str() {
            "approved" => &self.decisions,
            "human" => &self.cases,
            _ => &self.dead,
        }
    }

    fn is_done(&self, records: &[Record], case: &DemoCase) -> bool {
        let alerted = !case.expect.fraud_alert || !of(records, &self.alerts, case.key()).is_empty();
        alerted && !of(records, self.home(case), case.key()).is_empty()
    }
}

fn check(topics: &Topics, records: &[Record], case: &DemoCase) {
    let home = topics.home(case);
    let found = of(records, home, case.key());
    assert_eq!(found.len(), 1, "{}: exactly one record on {home}", case.id);
    for code in &case.expect.codes {
        assert!(names(found[0], code), "{}: {code} is not named in {}", case.id, value(found[0]));
    }
    let elsewhere = [&topics.decisions, &topics.cases, &topics.dead].into_iter().filter(|t| *t != home);
    for topic in elsewhere {
        assert!(of(records, topic, case.key()).is_empty(), "{}: also on {topic}", case.id);
    }
    let alerts = of(records, &topics.alerts, case.key()).len();
    assert_eq!(alerts > 0, case.expect.fraud_alert, "{}: {alerts} fraud alerts", case.id);
    if case.expect.state == "approved" {
        let decision = value(found[0]);
        let confidence = decision["confidence"].as_f64().unwrap_or_default();
        assert!(confidence > 0.95, "{}: approved with {confidence}: {decision}", case.id);
    }
    if case.expect.state == "human" {
        assert!(value(found[0])["agents"].is_object() || value(found[0])["parts"].is_object(), "{}", value(found[0]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_of_the_table_comes_out_as_it_says() {
    let app = App::start(kyc()).await.unwrap();
    let topics = Topics::of(&app);
    let cases = demo_cases();
    assert!(cases.len() >= 12, "the table has twelve rows, here are {}", cases.len());
    let mut records = Vec::new();
    for case in &cases {
        for _ in 0..case.copies.unwrap_or(1) {
            records.push(record_of(&app, case));
        }
    }
    app.send(records).await.unwrap();
    let mut reader = app.reader(&topics.all()).await.unwrap();
    reader.until("all cases", WITHIN, |r| cases.iter().all(|c| topics.is_done(r, c))).await.unwrap_or_else(|error| {
        panic!("{error}");
    });
    reader.settle(Duration::from_secs(2)).await.unwrap();
    for case in &cases {
        check(&topics, reader.records(), case);
    }
    customers_are_told(&topics, &mut reader, &cases).await;
    reviews(&app, &topics, &mut reader, &cases).await;
    no_tool_effect_twice(&app);
    app.stop().await.unwrap();
}

async fn customers_are_told(topics: &Topics, reader: &mut Reader, cases: &[DemoCase]) {
    let readable: Vec<&DemoCase> = cases.iter().filter(|c| c.expect.state != "dead_letter").collect();
    let told = |r: &[Record]| readable.iter().all(|c| !of(r, &topics.messages, c.key()).is_empty());
    reader.until("a message to every applicant", WITHIN, told).await.unwrap();
}

/// A parked case is resumed by a record on the review topic, and the decision names the reviewer.
async fn reviews(app: &App, topics: &Topics, reader: &mut Reader, cases: &[DemoCase]) {
    let review_topic = app.topology.inbound.review.as_ref().unwrap().name.clone();
    let reviewed: Vec<&DemoCase> = cases.iter().filter(|c| c.review.is_some()).collect();
    assert!(!reviewed.is_empty(), "a demo case with a review");
    for case in &reviewed {
        let decision = case.review.as_ref().unwrap().to_string();
        let record = foreign(&review_topic, Some(case.key().as_bytes()), Some(decision.as_bytes()));
        app.send(vec![record]).await.unwrap();
    }
    let decided = |r: &[Record]| reviewed.iter().all(|c| !of(r, &topics.decisions, c.key()).is_empty());
    reader.until("the decisions after review", WITHIN, decided).await.unwrap();
    for case in reviewed {
        let decision = value(of(reader.records(), &topics.decisions, case.key())[0]);
        let reviewer = case.review.as_ref().unwrap()["reviewer"].as_str().unwrap();
        assert!(decision.to_string().contains(reviewer), "{}: {decision} does not name {reviewer}", case.id);
    }
}

/// The case that was delivered twice was checked once at the registry; the one whose vendor is down was tried again
/// and again, and nothing was done.
fn no_tool_effect_twice(app: &App) {
    let registry = app.mock.stats().registry;
    assert_eq!(registry.documents["UT0000008"].done, 1, "the case delivered twice: {registry:?}");
    let down = registry.documents["UT0000006"];
    assert!(down.calls > 2 && down.done == 0, "the vendor that is down: {registry:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_killed_in_the_middle_of_a_case_resumes() {
    let app_spec = kyc();
    let mut app = App::start(app_spec).await.unwrap();
    let topics = Topics::of(&app);
    let clean = demo_cases().into_iter().find(|c| c.id == "S1").unwrap();
    let mut reader = app.reader(&topics.all()).await.unwrap();
    // Enough cases that every agent is in the middle of some when it is killed.
    let keys: Vec<String> = (0..40).map(|n| format!("killed-{n}")).collect();
    let records = keys.iter().enumerate().map(|(n, key)| {
        let mut request = clean.request.clone().unwrap();
        request["source"] = serde_json::json!({ "ip": format!("198.51.100.{n}"), "device_id": format!("device-{n}") });
        foreign(app.requests(), Some(key.as_bytes()), Some(request.to_string().as_bytes()))
    });
    app.send(records.collect()).await.unwrap();
    for agent in ["identity", "composer", "supervisor", "document"] {
        app.process(agent).unwrap().kill().await.unwrap();
        app.spawn(agent, agent).unwrap();
    }
    let decided = |r: &[Record]| keys.iter().all(|k| !of(r, &topics.decisions, k).is_empty());
    reader.until("a decision for every case", WITHIN, decided).await.unwrap();
    reader.settle(Duration::from_secs(1)).await.unwrap();
    // Who reads committed records sees each decision once, whatever was killed.
    for key in &keys {
        assert_eq!(of(reader.records(), &topics.decisions, key).len(), 1, "{key} has one decision");
    }
    let registry = app.mock.stats().registry;
    assert_eq!(registry.done, 40, "each case was checked once at the registry, in {} calls", registry.calls);
    app.all_ready().await.unwrap();
    app.stop().await.unwrap();
}
