//! The join policy as `topics.yaml` declares it, with a real composer; the test plays supervisor and agents, so that it
//! knows what was in when the composer decided.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

use std::time::Duration;

use anabranch_e2e::{App, Played, Spec, kyc, step, sure};
use anabranch_kafka::Record;
use anabranch_protocol::{PartialStatus, Step, Timestamp, dead_letter, header};
use anabranch_testkit::harness::wall_clock;
use serde_json::{Value, json};

const WITHIN: Duration = Duration::from_secs(30);

/// The composer of the reference application under this policy.
async fn start(policy: &str) -> App {
    let spec = kyc();
    let topology = spec.topology.replace("  closed_memory: 24h\n", &format!("  closed_memory: 24h\n{policy}"));
    assert_ne!(topology, spec.topology);
    App::start(Spec { topology, agents: vec!["composer"], ..spec }).await.unwrap()
}

fn case(name: &str, steps: Vec<Step>, due_in_seconds: i64) -> Played {
    let due = Timestamp::from_millis(wall_clock().as_millis() + due_in_seconds * 1_000);
    Played::new(name, json!({ "applicant": { "name": "AVA" } }), steps, due)
}

fn of<'a>(records: &'a [Record], topic: &'a str, key: &'a str) -> impl Iterator<Item = &'a Record> {
    records.iter().filter(move |r| *r.topic == *topic && r.key.as_deref() == Some(key.as_bytes()))
}

fn value(record: &Record) -> Value {
    serde_json::from_slice(record.value.as_deref().unwrap()).unwrap()
}

fn all_topics(app: &App) -> Vec<String> {
    let outbound = app.topology.outbound.values().map(|topic| topic.name.clone());
    let results = app.topology.results_topic();
    outbound.chain([app.topology.late_topic(), app.topology.dlq_topic(&results)]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn required_decides_without_the_optional_ones_and_a_quorum_with_some() {
    let app = start("  wait_for: required\n").await;
    let (results, decisions, late) =
        (app.topology.results_topic(), app.outbound("decisions"), app.topology.late_topic());
    let mut reader = app.reader(&all_topics(&app)).await.unwrap();
    let two = case("two", vec![step("identity", true), step("extra", false)], 300);
    let answer = |agent: &str| two.answered(&results, agent, sure(0.99)).unwrap();
    app.send(vec![two.planned(&results).unwrap(), answer("identity")]).await.unwrap();
    let decided = |records: &[Record]| of(records, &decisions, "two").count() > 0;
    reader.until("a decision that does not wait for the optional agent", WITHIN, decided).await.unwrap();
    app.send(vec![answer("extra"), answer("identity"), two.planned(&results).unwrap()]).await.unwrap();
    let set_aside = |records: &[Record]| of(records, &late, "two").count() == 3;
    reader.until("what comes after the decision is late", WITHIN, set_aside).await.unwrap();
    let records = reader.settle(Duration::from_secs(1)).await.unwrap();
    let reasons: Vec<_> =
        of(records, &late, "two").filter_map(|r| header::last(&r.headers, header::LATE_REASON)).collect();
    assert_eq!(reasons, ["closed", "closed", "repeated"]);
    let outcomes: Vec<Value> = of(records, &decisions, "two").map(value).collect();
    assert_eq!(outcomes.len(), 1, "one outcome");
    let missing = &outcomes[0]["missing"];
    assert_eq!((&missing[0]["agent"], &missing[0]["reason"]), (&json!("extra"), &json!("it was not waited for")));
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quorum_is_answers_and_not_failures() {
    let app = start("  wait_for: { quorum: 2 }\n").await;
    let (results, decisions) = (app.topology.results_topic(), app.outbound("decisions"));
    let mut reader = app.reader(&all_topics(&app)).await.unwrap();
    let steps = || ["a", "b", "c", "d"].map(|agent| step(agent, false)).to_vec();
    let (met, out_of_reach) = (case("met", steps(), 300), case("out-of-reach", steps(), 300));
    let failed = || PartialStatus::Failed { reason: "503".to_owned() };
    let mut records = vec![met.planned(&results).unwrap(), out_of_reach.planned(&results).unwrap()];
    for (case, agent, status) in [
        (&met, "a", failed()),
        (&met, "b", sure(0.99)),
        (&out_of_reach, "a", failed()),
        (&out_of_reach, "b", failed()),
        (&out_of_reach, "c", failed()),
    ] {
        records.push(case.answered(&results, agent, status).unwrap());
    }
    app.send(records).await.unwrap();
    let early = reader.settle(Duration::from_secs(2)).await.unwrap();
    assert_eq!(early.iter().filter(|r| *r.topic == *decisions).count(), 0, "one answer is no quorum");
    app.send(vec![met.answered(&results, "c", sure(0.99)).unwrap()]).await.unwrap();
    app.send(vec![out_of_reach.answered(&results, "d", sure(0.99)).unwrap()]).await.unwrap();
    let both = |records: &[Record]| ["met", "out-of-reach"].iter().all(|key| of(records, &decisions, key).count() > 0);
    reader.until("both decided", WITHIN, both).await.unwrap();
    let records = reader.settle(Duration::from_secs(1)).await.unwrap();
    let missing = |key| {
        let outcomes: Vec<Value> = of(records, &decisions, key).map(value).collect();
        assert_eq!(outcomes.len(), 1, "{key}");
        let named: Vec<String> =
            outcomes[0]["missing"].as_array().unwrap().iter().map(|m| m["reason"].to_string()).collect();
        named
    };
    assert_eq!(missing("met"), ["\"it failed: 503\"", "\"it was not waited for\""]);
    assert_eq!(missing("out-of-reach").len(), 3);
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passed_deadline_can_be_a_dead_letter_that_names_what_is_missing() {
    let app = start("  when_deadline_passes: dead-letter\n").await;
    let results = app.topology.results_topic();
    let (letters, late) = (app.topology.dlq_topic(&results), app.topology.late_topic());
    let mut reader = app.reader(&all_topics(&app)).await.unwrap();
    let (ends, misses) = (
        case("ends", vec![step("identity", true)], 300),
        case("misses", vec![step("identity", true), step("fraud", true), step("extra", false)], 2),
    );
    app.send(vec![ends.planned(&results).unwrap(), misses.planned(&results).unwrap()]).await.unwrap();
    app.send(vec![
        ends.answered(&results, "identity", sure(0.99)).unwrap(),
        misses.answered(&results, "identity", sure(0.99)).unwrap(),
    ])
    .await
    .unwrap();
    let given_up = |records: &[Record]| of(records, &letters, "misses").count() > 0;
    reader.until("the dead letter", WITHIN, given_up).await.unwrap();
    app.send(vec![misses.answered(&results, "fraud", sure(0.99)).unwrap()]).await.unwrap();
    let too_late = |records: &[Record]| of(records, &late, "misses").count() > 0;
    reader.until("the answer after it", WITHIN, too_late).await.unwrap();
    let records = reader.settle(Duration::from_secs(1)).await.unwrap();
    let letter: Vec<&Record> = of(records, &letters, "misses").collect();
    assert_eq!(letter.len(), 1);
    let message = header::last(&letter[0].headers, dead_letter::MESSAGE).unwrap();
    let expected = "the deadline passed without fraud (required, no answer), extra (optional, no answer)";
    assert_eq!(message, expected);
    assert_eq!(value(letter[0])["request"]["applicant"]["name"], "AVA", "the plan, with the request in it");
    for outbound in app.topology.outbound.values() {
        assert_eq!(of(records, &outbound.name, "misses").count(), 0, "{}: no outcome beside it", outbound.name);
    }
    assert_eq!(of(records, &app.outbound("decisions"), "ends").count(), 1);
    app.stop().await.unwrap();
}
