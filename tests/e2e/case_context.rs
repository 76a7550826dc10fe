//! What an agent sees of its case, and what it may not see.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use std::time::Duration;

use anabranch_e2e::{App, witness};
use anabranch_kafka::Record;
use anabranch_testkit::cluster::foreign;
use serde_json::{Value, json};

const WITHIN: Duration = Duration::from_secs(60);

fn value(record: &Record) -> Value {
    serde_json::from_slice(record.value.as_deref().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_given_what_it_may_see_and_nothing_else() {
    let agents = vec!["supervisor", "composer", "sleeper", "identity", "witness"];
    let app = App::start(witness(agents, "", "hidden_fields: [/applicant/ssn, /notes/*/secret]")).await.unwrap();
    let (tasks, sleeps) = (app.topology.tasks_topic("witness"), app.topology.tasks_topic("sleeper"));
    let decided = [app.outbound("decisions"), app.outbound("cases")];
    let results = app.topology.results_topic();
    let topics = [tasks.clone(), sleeps.clone(), results.clone(), decided[0].clone(), decided[1].clone()];
    let mut reader = app.reader(&topics).await.unwrap();
    let request = json!({
        "sleep_ms": 1, "number": 7,
        "applicant": { "name": "Ava Specimen", "birth_date": "1985-02-14", "ssn": "SECRET-SSN" },
        "notes": [{ "secret": "SECRET-NOTE", "kept": 1 }],
    });
    let sent = foreign(app.requests(), Some(b"seen"), Some(request.to_string().as_bytes()));
    app.send(vec![sent]).await.unwrap();
    let outcome = |records: &[Record]| records.iter().any(|r| decided.contains(&r.topic.to_string()));
    let records = reader.until("an outcome", WITHIN, outcome).await.unwrap();

    // What is hidden is not in the record; whoever is not restricted has it.
    let task = records.iter().find(|r| *r.topic == *tasks).unwrap();
    let text = String::from_utf8(task.value.as_deref().unwrap().to_vec()).unwrap();
    assert!(!text.contains("SECRET"), "{text}");
    let task = value(task);
    assert_eq!(task["parts"].as_object().unwrap().keys().collect::<Vec<_>>(), ["sleeper"], "{task}");
    let other = records.iter().find(|r| *r.topic == *sleeps).unwrap();
    assert_eq!(value(other)["request"], request);

    let answer = records
        .iter()
        .filter(|r| *r.topic == *results)
        .map(value)
        .find(|v| v["agent"] == "witness" && v["status"] == "completed");
    let seen = &answer.expect("the witness answered")["output"];
    let shown = json!({
        "sleep_ms": 1, "number": 7,
        "applicant": { "name": "Ava Specimen", "birth_date": "1985-02-14" }, "notes": [{ "kept": 1 }],
    });
    assert_eq!(seen["request"], shown);
    assert_eq!(seen["steps"], json!(["identity true", "sleeper false", "witness true"]));
    assert_eq!(seen["parts"], json!(["sleeper"]));
    assert_eq!(seen["hidden"], json!(["/applicant/ssn", "/notes/*/secret"]));
    let refused = seen["refused"].as_str().unwrap();
    assert!(refused.starts_with("witness may not see the answer of identity; name it in"), "{refused}");
    app.stop().await.unwrap();
}
