//! Model calls that real processes record and replay: the reference application asks its model once, and again never.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anabranch_e2e::{App, DemoCase, Given, Spec, answers, asker, binaries, demo_cases, kyc};
use anabranch_kafka::Record;
use anabranch_llm::mock::MockConfig;
use anabranch_sdk::mask::Mask;
use anabranch_testkit::cluster::foreign;
use serde_json::{Value, json};

const WITHIN: Duration = Duration::from_secs(60);
const KEY: &str = "a-key-for-cassettes-0123456789";
/// A name that the demo's model gives of its own, in a field that is marked.
const MADE_UP: &str = "EVE SPECIMEN";
/// Cases of the demo whose agents ask the model about persons: a name that is written otherwise on the document, one like
/// a listed one, a document with text, and missing papers.
const CASES: [&str; 4] = ["S2", "S5", "HOSTILE", "REVIEWED"];

fn cases() -> Vec<DemoCase> {
    let cases: Vec<DemoCase> = demo_cases().into_iter().filter(|case| CASES.contains(&case.id.as_str())).collect();
    assert_eq!(cases.len(), CASES.len());
    cases
}

fn with_cassette(spec: Spec, setting: &str, file: &Path) -> Spec {
    let mut env = spec.env;
    env.push(("ANABRANCH_CASSETTE".to_owned(), format!("{setting}:{}", file.display())));
    env.push(("OPENAI_API_KEY".to_owned(), KEY.to_owned()));
    if setting == "replay" {
        // Nobody listens there.
        env.push(("OPENAI_BASE_URL".to_owned(), "http://127.0.0.1:9/v1".to_owned()));
    }
    Spec { env, ..spec }
}

/// What came of the cases, by topic and key, without the times; and how often the model was asked.
async fn outcomes(spec: Spec) -> (BTreeMap<(String, String), Value>, u64) {
    let app = App::start(spec).await.unwrap();
    let cases = cases();
    let record = |case: &DemoCase| foreign(app.requests(), Some(case.key().as_bytes()), Some(&case.value()));
    app.send(cases.iter().map(record).collect()).await.unwrap();
    let aliases = ["decisions", "cases", "customer-messages"];
    let topics: Vec<String> = aliases.iter().map(|alias| app.outbound(alias)).collect();
    let mut reader = app.reader(&topics).await.unwrap();
    // Each is decided or parked, and its applicant is told.
    let all = |records: &[Record]| {
        let at = |topic: &str| records.iter().filter(|r| &*r.topic == topic).count();
        at(&topics[0]) + at(&topics[1]) >= cases.len() && at(&topics[2]) >= cases.len()
    };
    if let Err(error) = reader.until("the outcomes", WITHIN, all).await {
        let logs: Vec<String> = app.processes.values().map(anabranch_testkit::process::Process::log).collect();
        panic!("{error}\n{}", logs.join("\n"));
    }
    let found = reader.settle(Duration::from_millis(500)).await.unwrap().iter().map(|record| {
        let alias = aliases[topics.iter().position(|topic| **topic == *record.topic).unwrap()];
        let mut value: Value = serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
        for time in ["opened_at", "decided_at"] {
            value.as_object_mut().unwrap().remove(time);
        }
        let key = String::from_utf8(record.key.as_deref().unwrap().to_vec()).unwrap();
        ((alias.to_owned(), key), value)
    });
    let (found, calls) = (found.collect(), app.mock.stats().calls);
    app.stop().await.unwrap();
    (found, calls)
}

/// The texts of the cases' requests that an agent's card marks as data of persons.
fn marked() -> Vec<String> {
    let agents = ["identity", "document", "fraud", "compliance", "customer"];
    let folder = binaries(&agents).unwrap();
    let schemas = agents.map(|agent| {
        let card = Command::new(folder.join(format!("anabranch-agent-{agent}"))).arg("--card").output().unwrap();
        let card: Value = serde_json::from_slice(&card.stdout).unwrap();
        card["input_schema"].clone()
    });
    let mask = Mask::of(&schemas);
    let mut texts: Vec<String> = cases().iter().flat_map(|case| mask.data(case.request.as_ref().unwrap())).collect();
    texts.dedup();
    texts
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_is_recorded_without_persons_and_replayed_without_a_model() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("calls.jsonl");
    let (recorded, calls) = outcomes(with_cassette(kyc(), "record", &file)).await;
    assert_eq!(recorded.len(), 2 * CASES.len(), "{:?}", recorded.keys());
    let cassette = std::fs::read_to_string(&file).unwrap();
    assert_eq!(cassette.lines().count() as u64, calls, "every call is in it");

    let marked = marked();
    assert!(marked.len() > 20 && marked.contains(&"Doryan Quilfeather".to_owned()), "{marked:?}");
    for text in marked.iter().map(String::as_str).chain([KEY, "JOHN ALBERT", "SPECIMEN, EVE", MADE_UP]) {
        assert!(!cassette.contains(text), "{text} is in the cassette");
    }
    // What the model said of a person came out, and so it was asked about them.
    let parked = recorded[&("cases".to_owned(), "S5".to_owned())].to_string();
    assert!(parked.contains("Doryan Quilfeather may be a variant spelling"), "{parked}");
    assert!(recorded[&("cases".to_owned(), "HOSTILE".to_owned())].to_string().contains(MADE_UP));

    let (replayed, calls) = outcomes(with_cassette(kyc(), "replay", &file)).await;
    assert_eq!(calls, 0, "the model is not asked");
    for (place, outcome) in &recorded {
        // What the model made up of a person is in no file, and so it is not played.
        let told = outcome.to_string().replace(MADE_UP, "[masked]");
        assert_eq!(replayed[place].to_string(), told, "{place:?}");
    }
    println!(
        "{} calls of {} cases in {} bytes; replayed to the same outcomes",
        cassette.lines().count(),
        CASES.len(),
        cassette.len()
    );
}

/// One task for the asker, with this environment; its process, once it ended or answered.
async fn ask(spec: Spec) -> Result<(), String> {
    let mut app = App::prepare(spec).await.unwrap();
    app.create_topics(&["asker"]).await.unwrap();
    app.spawn("asker", "asker").unwrap();
    let topic = app.topology.tasks_topic("asker");
    let request = json!({ "text": "question", "number": 1, "times": 1 });
    let given = Given { agent: "asker", topic: &topic, case: "case-1", number: 1, request, within: WITHIN };
    app.send(vec![given.record().unwrap()]).await.unwrap();
    let mut reader = app.reader(&[app.topology.results_topic()]).await.unwrap();
    let answered = |records: &[Record]| !answers(records).is_empty();
    let process = app.processes.get_mut("asker").unwrap();
    tokio::select! {
        ended = process.ended(WITHIN) => {
            let code = ended.unwrap().code();
            return Err(format!("{code:?}\n{}", process.log()));
        }
        found = reader.until("an answer", WITHIN, answered) => found.unwrap(),
    };
    app.stop().await.unwrap();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cassette_that_cannot_be_used_stops_the_agent_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("calls.jsonl");
    let asking = |setting: &str, file: &Path| with_cassette(asker(1, "", MockConfig::default()), setting, file);
    // Before anything is asked: exit code 64.
    std::fs::write(&file, "{\"asked\": 1\n").unwrap();
    let leaks = folder.path().join("leaks.jsonl");
    std::fs::write(&leaks, format!("{}\n", json!({ "asked": KEY, "answered": {} }))).unwrap();
    for (setting, file, words) in [
        ("replay", &file, "calls.jsonl, line 1: EOF while parsing"),
        ("replay", &folder.path().join("none"), "none cannot be used: No such file"),
        ("replay", &leaks, "line 1: it holds a secret: a configured key at /asked"),
        ("record", &folder.path().join("no/such/folder"), "cannot be used: No such file"),
        ("rewind", &file, "write record:FILE or replay:FILE"),
    ] {
        let said = ask(asking(setting, file)).await.unwrap_err();
        assert!(said.starts_with("Some(64)") && said.contains(words), "{setting} {}: {said}", file.display());
    }
    // What is asked is not in it: no task can be done.
    std::fs::write(&file, "").unwrap();
    let said = ask(asking("replay", &file)).await.unwrap_err();
    assert!(
        said.starts_with("Some(1)") && said.contains("is empty, and something was asked; record it anew"),
        "{said}"
    );
    ask(asking("record", &file)).await.unwrap();
    ask(asking("replay", &file)).await.unwrap();
}
