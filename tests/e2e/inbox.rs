//! People and parked cases: decisions and their answers, reminders, information that was asked for; with a real composer and
//! the real command. The test plays supervisor and agents.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

use std::process::Output;
use std::time::{Duration, Instant};

use anabranch_e2e::{App, Played, Spec, binaries, kyc, step, sure};
use anabranch_kafka::{Header, OutRecord, ProducerConfig, Record};
use anabranch_protocol::{
    Completion, FollowUp, InformationProvided, PartialStatus, ReviewAnswer, Timestamp, dead_letter, header,
};
use anabranch_testkit::cluster::{Reader, foreign};
use anabranch_testkit::harness::wall_clock;
use serde_json::{Value, json};

const WITHIN: Duration = Duration::from_secs(30);

/// The composer of the reference application, with these times for parked cases.
async fn start(parking: &str) -> App {
    let spec = kyc();
    let shipped = "  remind_after: 24h\n  escalate_after: 72h\n";
    assert!(spec.topology.contains(shipped));
    let topology = spec.topology.replace(shipped, parking);
    App::start(Spec { topology, agents: vec!["composer"], ..spec }).await.unwrap()
}

fn case(name: &str) -> Played {
    let due = Timestamp::from_millis(wall_clock().as_millis() + 3_600_000);
    let request = json!({ "applicant": { "name": "AVA", "email": "ava@example.test" }, "documents_provided": [] });
    Played::new(name, request, vec![step("identity", true), step("compliance", true)], due)
}

/// Compliance lacks a document.
fn lacking() -> PartialStatus {
    let evidence = json!({ "needed": ["proof_of_address"] });
    let finding = json!({ "code": "MISSING_DOCUMENT", "effect": "gate", "detail": "", "evidence": evidence });
    PartialStatus::Completed(Completion {
        output: json!({ "findings": [finding] }),
        confidence: Some(0.99),
        disposition: None,
    })
}

/// Plan and answers of cases that are then parked.
fn parking(app: &App, cases: &[Played]) -> Vec<OutRecord> {
    let results = app.topology.results_topic();
    let records = cases.iter().flat_map(|case| {
        [
            case.planned(&results).unwrap(),
            case.answered(&results, "identity", sure(0.99)).unwrap(),
            case.answered(&results, "compliance", lacking()).unwrap(),
        ]
    });
    records.collect()
}

fn review_topic(app: &App) -> String {
    app.topology.inbound.review.as_ref().unwrap().name.clone()
}

/// A decision as anybody may write it.
fn says(app: &App, key: &str, value: &Value) -> OutRecord {
    foreign(&review_topic(app), Some(key.as_bytes()), Some(value.to_string().as_bytes()))
}

fn of<'a>(records: &'a [Record], topic: &'a str, key: &'a str) -> impl Iterator<Item = &'a Record> {
    records.iter().filter(move |r| *r.topic == *topic && r.key.as_deref() == Some(key.as_bytes()))
}

fn value(record: &Record) -> Value {
    serde_json::from_slice(record.value.as_deref().unwrap()).unwrap()
}

fn kind(record: &Record) -> &str {
    header::last(&record.headers, header::TYPE).unwrap()
}

/// The answers about a case, in order.
fn answers(app: &App, records: &[Record], key: &str) -> Vec<Value> {
    let inbox = app.topology.inbox_topic();
    let told = of(records, &inbox, key).filter(|record| kind(record) == ReviewAnswer::TYPE);
    told.map(value).collect()
}

/// A reader of all that leaves.
async fn reader(app: &App) -> Reader {
    let mut topics: Vec<String> = app.topology.outbound.values().map(|topic| topic.name.clone()).collect();
    topics.extend([app.topology.inbox_topic(), app.topology.followups_topic()]);
    topics.extend([review_topic(app), app.topology.results_topic()].map(|topic| app.topology.dlq_topic(&topic)));
    app.reader(&topics).await.unwrap()
}

async fn all_parked(app: &App, reader: &mut Reader, cases: &[Played]) {
    let topic = app.outbound("cases");
    app.send(parking(app, cases)).await.unwrap();
    let parked = |records: &[Record]| cases.iter().all(|case| of(records, &topic, case.key()).count() > 0);
    reader.until("all are parked", WITHIN, parked).await.unwrap();
}

async fn until_answered(app: &App, reader: &mut Reader, key: &str, count: usize) -> Vec<Value> {
    let enough = |records: &[Record]| answers(app, records, key).len() >= count;
    let records = reader.until(&format!("{count} answers of {key}"), WITHIN, enough).await.unwrap();
    let told = answers(app, records, key);
    assert_eq!(told.len(), count, "{told:?}");
    told
}

/// Runs `anabranch inbox …`.
async fn inbox(app: &App, args: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(binaries(&[]).unwrap().join("anabranch"));
    command.arg("inbox").args(args);
    command.args(["--brokers", app.cluster.bootstrap(), "--topology"]).arg(&app.topology_file);
    command.output().await.unwrap()
}

#[track_caller]
fn said(output: &Output, code: i32, words: &str) {
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(words), "{text}");
}

async fn decide(app: &App, key: &str, decision: &str, reviewer: &str) -> Output {
    inbox(app, &["decide", key, "--decision", decision, "--reviewer", reviewer, "--reason", "seen"]).await
}

/// A composer that remembers nothing but what is written.
async fn restart(app: &mut App) {
    assert!(app.process("composer").unwrap().stop(WITHIN).await.unwrap().success());
    app.spawn("composer", "composer").unwrap();
    app.all_ready().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_decisions_one_counts_and_every_one_is_answered() {
    let mut app = start("").await;
    let mut reader = reader(&app).await;
    let decisions = app.outbound("decisions");
    all_parked(&app, &mut reader, &["both", "broken", "cli"].map(case)).await;
    let listed = inbox(&app, &["list", "--reason", "missing_document", "-o", "json"]).await;
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 3, "{listed}");
    assert_eq!((&listed[0]["codes"], &listed[0]["parking"]), (&json!(["MISSING_DOCUMENT"]), &json!(1)));

    // At once.
    let approve = json!({ "decision": "approve", "reviewer": "ada" });
    let reject = json!({ "decision": "reject", "reviewer": "bob", "parking": 1 });
    app.send(vec![says(&app, "both", &approve), says(&app, "both", &reject)]).await.unwrap();
    let told = until_answered(&app, &mut reader, "both", 2).await;
    assert_eq!((&told[0]["answer"], &told[0]["case"]), (&json!("accepted"), &json!("closed")));
    assert_eq!((&told[1]["answer"], &told[1]["by"]), (&json!("already-decided"), &json!("ada")));
    assert_eq!((&told[1]["was"], &told[1]["reviewer"]), (&json!("approve"), &json!("bob")));
    // Late, repeated, and after a restart.
    restart(&mut app).await;
    said(&decide(&app, "both", "approve", "ada").await, 0, "a repeat: the same decision counted at ");
    said(&decide(&app, "both", "reject", "bob").await, 1, "already decided by ada at ");
    said(&decide(&app, "nobody", "approve", "ada").await, 1, "no such case is known");

    // Broken ones: a dead letter where it cannot be read, an answer where it can.
    let mut broken = vec![foreign(&review_topic(&app), Some(b"broken"), Some(b"approve!"))];
    broken.push(says(&app, "broken", &json!({ "decision": "approve" })));
    for (decision, reviewer) in [("approve", " "), ("perhaps", "ada"), ("recheck\u{0}", "ada")] {
        broken.push(says(&app, "broken", &json!({ "decision": decision, "reviewer": reviewer })));
    }
    broken.push(says(&app, "broken", &json!({ "decision": "approve", "reviewer": "a".repeat(100_000) })));
    broken.push(says(
        &app,
        "broken",
        &json!({ "decision": "approve", "reviewer": "a", "reason": "b".repeat(900_000) }),
    ));
    app.send(broken).await.unwrap();
    let told = until_answered(&app, &mut reader, "broken", 5).await;
    let why: Vec<&str> = told.iter().map(|told| told["why"].as_str().unwrap()).collect();
    assert!(why[0].contains("names no reviewer") && why[1].contains("it can be approve, reject"), "{why:?}");
    assert!(why[3].contains("longer than") && why[4].contains("longer than"), "{why:?}");
    said(&decide(&app, "broken", "perhaps", "ada").await, 1, "refused, the case stays as it is: ");
    said(&decide(&app, "broken", "", "ada").await, 64, "it names no decision");

    let accepted = decide(&app, "cli", "reject", "kim").await;
    said(&accepted, 0, "accepted, the case is closed");
    said(&inbox(&app, &["list"]).await, 0, "1 of 1 parked cases");
    said(&inbox(&app, &["show", "broken"]).await, 0, "MISSING_DOCUMENT");
    said(&inbox(&app, &["show", "cli"]).await, 1, "does not wait for a person: it is closed");
    said(&inbox(&app, &["show", "nobody"]).await, 1, "no case nobody is known");

    let records = reader.settle(Duration::from_secs(1)).await.unwrap();
    let letters = app.topology.dlq_topic(&review_topic(&app));
    let letters: Vec<_> =
        of(records, &letters, "broken").map(|r| header::last(&r.headers, dead_letter::MESSAGE).unwrap()).collect();
    assert_eq!(letters.len(), 2, "{letters:?}");
    assert!(letters[1].contains("missing field `reviewer`"), "{letters:?}");
    for (key, outcomes) in [("both", 1), ("broken", 0), ("cli", 1)] {
        assert_eq!(of(records, &decisions, key).count(), outcomes, "{key}");
    }
    let decided = value(of(records, &decisions, "cli").next().unwrap());
    assert_eq!((&decided["reviewer"], &decided["review"]["reason"]), (&json!("kim"), &json!("seen")));
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_reminded_once_then_it_is_escalated_then_it_ends() {
    let mut app = start("  remind_after: 1s\n  escalate_after: 4s\n  expire_after: 6s\n").await;
    let mut reader = reader(&app).await;
    let inbox_topic = app.topology.inbox_topic();
    let letters = app.topology.dlq_topic(&app.topology.results_topic());
    all_parked(&app, &mut reader, &["waits", "decided"].map(case)).await;
    app.send(vec![says(&app, "decided", &json!({ "decision": "approve", "reviewer": "ada" }))]).await.unwrap();
    let kinds = |records: &[Record], key: &str| -> Vec<String> {
        of(records, &inbox_topic, key).map(|record| kind(record).to_owned()).collect()
    };
    reader.until("a reminder", WITHIN, |records| !kinds(records, "waits").is_empty()).await.unwrap();
    // It is not forgotten that people were told.
    restart(&mut app).await;
    let listed: Value = serde_json::from_slice(&inbox(&app, &["list", "-o", "json"]).await.stdout).unwrap();
    assert!(listed[0]["reminded_at"].is_string() && listed[0]["expires_at"].is_string(), "{listed}");
    let ended = |records: &[Record]| of(records, &letters, "waits").count() > 0;
    reader.until("the end", WITHIN, ended).await.unwrap();
    let records = reader.settle(Duration::from_secs(1)).await.unwrap();
    assert_eq!(kinds(records, "waits"), ["anabranch.parked-reminder.v1", "anabranch.parked-escalation.v1"]);
    assert_eq!(kinds(records, "decided"), [ReviewAnswer::TYPE], "who decides is not reminded");
    let reminder = value(of(records, &inbox_topic, "waits").next().unwrap());
    assert_eq!((&reminder["notice"], &reminder["codes"]), (&json!("reminder"), &json!(["MISSING_DOCUMENT"])));
    let letter: Vec<&Record> = of(records, &letters, "waits").collect();
    assert_eq!(letter.len(), 1);
    let message = header::last(&letter[0].headers, dead_letter::MESSAGE).unwrap();
    assert!(message.contains("nobody decided in time"), "{message}");
    said(&decide(&app, "waits", "approve", "ada").await, 1, "does not wait for a person: it is closed");
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_applicant_was_asked_for_resumes_the_case() {
    let mut app = start("").await;
    let mut reader = reader(&app).await;
    let asked = case("asked");
    all_parked(&app, &mut reader, std::slice::from_ref(&asked)).await;
    let requested = decide(&app, "asked", "request-information", "kim").await;
    said(&requested, 0, "accepted, the case waits for information");
    let messages = app.outbound("customer-messages");
    let letter = |records: &[Record]| of(records, &messages, "asked").next().map(value);
    let records = reader.until("the letter", WITHIN, |records| letter(records).is_some()).await.unwrap();
    let letter = letter(records).unwrap();
    assert_eq!((&letter["needs"], &letter["email"]), (&json!(["documents_provided"]), &json!("ava@example.test")));
    said(&inbox(&app, &["show", "asked"]).await, 0, "asked for    documents_provided, until ");

    restart(&mut app).await;
    for (field, words) in [("source={}", "it lacks documents_provided"), ("documents_provided=no", "not JSON")] {
        let refused = inbox(&app, &["provide", "asked", "--field", field]).await;
        assert!(!refused.status.success());
        assert!(String::from_utf8_lossy(&[refused.stdout, refused.stderr].concat()).contains(words));
    }
    let field = r#"documents_provided=["passport","utility_bill"]"#;
    let provided = inbox(&app, &["provide", "asked", "--field", field, "--by", "portal"]).await;
    said(&provided, 0, "accepted, the case waits for answers of agents");
    said(&inbox(&app, &["provide", "asked", "--field", field]).await, 1, "does not wait for a person");
    let followups = app.topology.followups_topic();
    let records = reader.records();
    assert!(of(records, &followups, "asked").count() <= 1);
    let asks = |records: &[Record]| of(records, &followups, "asked").next().cloned();
    let records = reader.until("a round of its own", WITHIN, |records| asks(records).is_some()).await.unwrap();
    let round: FollowUp = serde_json::from_slice(asks(records).unwrap().value.as_deref().unwrap()).unwrap();
    assert_eq!(round.tasks.len(), 1, "who lacked it");
    let task = &round.tasks[0];
    assert_eq!((task.agent.as_str(), task.round), ("compliance", 1));
    assert_eq!(task.request["documents_provided"], json!(["passport", "utility_bill"]), "what came is in the request");
    assert_eq!(task.request["applicant"]["name"], "AVA");

    let results = app.topology.results_topic();
    app.send(vec![asked.answered_in_round(&results, "compliance", 1, sure(0.99)).unwrap()]).await.unwrap();
    let decisions = app.outbound("decisions");
    let decided = |records: &[Record]| of(records, &decisions, "asked").count() > 0;
    reader.until("a decision", WITHIN, decided).await.unwrap();
    let records = reader.settle(Duration::from_secs(1)).await.unwrap();
    let outcome = value(of(records, &decisions, "asked").next().unwrap());
    assert_eq!((&outcome["state"], &outcome["information"]), (&json!("approved"), &json!(["documents_provided"])));
    let states: Vec<Value> = of(records, &app.outbound("cases"), "asked").map(|r| value(r)["state"].clone()).collect();
    assert_eq!(states, ["human", "information_requested"]);
    let told: Vec<Value> = answers(&app, records, "asked").iter().map(|told| told["answer"].clone()).collect();
    assert_eq!(told, ["accepted", "refused", "accepted", "not-parked"]);
    app.stop().await.unwrap();
}

/// Information that anybody may write: none of it stops the composer.
#[tokio::test(flavor = "multi_thread")]
async fn information_that_nobody_asked_for_changes_nothing() {
    let app = start("").await;
    let mut reader = reader(&app).await;
    all_parked(&app, &mut reader, &["parked"].map(case)).await;
    let information = |key: &str, value: &str| {
        let headers = vec![Header::text(header::TYPE, InformationProvided::TYPE)];
        OutRecord { headers, ..foreign(&review_topic(&app), Some(key.as_bytes()), Some(value.as_bytes())) }
    };
    let large = json!({ "fields": { "documents_provided": "x".repeat(100_000) } }).to_string();
    app.send(vec![
        information("parked", r#"{"fields":{"documents_provided":[]}}"#),
        information("parked", &large),
        information("nobody", r#"{"fields":{}}"#),
        information("parked", r#"{"fields":[]}"#),
    ])
    .await
    .unwrap();
    let told = until_answered(&app, &mut reader, "parked", 2).await;
    assert!(told[0]["why"].as_str().unwrap().contains("nothing was asked for"), "{told:?}");
    assert!(told[1]["why"].as_str().unwrap().contains("more than 65536 bytes"), "{told:?}");
    assert_eq!(until_answered(&app, &mut reader, "nobody", 1).await[0]["answer"], "unknown-case");
    let letters = app.topology.dlq_topic(&review_topic(&app));
    reader.until("a dead letter", WITHIN, |records| of(records, &letters, "parked").count() == 1).await.unwrap();
    said(&decide(&app, "parked", "approve", "ada").await, 0, "accepted, the case is closed");
    app.stop().await.unwrap();
}

/// Resident memory of the composer, in bytes.
fn resident(app: &App) -> u64 {
    let pid = app.processes["composer"].pid().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

async fn gauge(app: &App, phase: &str) -> usize {
    let metrics = app.processes["composer"].metrics().await.unwrap();
    let line = metrics.lines().find(|l| l.starts_with("anabranch_cases{") && l.contains(&format!("\"{phase}\"")));
    line.and_then(|line| line.rsplit(' ').next()).and_then(|count| count.parse().ok()).unwrap_or(0)
}

async fn until_gauge(app: &App, phase: &str, count: usize) {
    let deadline = Instant::now() + Duration::from_secs(300);
    while gauge(app, phase).await != count {
        assert!(Instant::now() < deadline, "{} of {count} are {phase}", gauge(app, phase).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Parks so many cases; how long a decision takes after a restart, and what a parked case takes more than an open one.
async fn many_parked(count: usize) {
    let mut app = start("  remind_after: 24h\n  escalate_after: 72h\n").await;
    let cases: Vec<Played> = (0..count).map(|number| case(&format!("case-{number:05}"))).collect();
    let (results, decisions) = (app.topology.results_topic(), app.outbound("decisions"));
    let producer = app.client.producer(ProducerConfig::default());
    let planned = cases.iter().map(|case| case.planned(&results).unwrap());
    producer.send_all(planned.collect()).await.unwrap();
    until_gauge(&app, "joining", count).await;
    restart(&mut app).await;
    until_gauge(&app, "joining", count).await;
    let open = resident(&app);
    let answered = cases.iter().flat_map(|case| {
        let identity = case.answered(&results, "identity", sure(0.99));
        [identity, case.answered(&results, "compliance", lacking())].map(Result::unwrap)
    });
    producer.send_all(answered.collect()).await.unwrap();
    until_gauge(&app, "parked", count).await;
    let began = Instant::now();
    restart(&mut app).await;
    let ready = began.elapsed();
    until_gauge(&app, "parked", count).await;
    let parked = resident(&app);

    let mut reader = app.reader(&[decisions.clone(), app.topology.inbox_topic()]).await.unwrap();
    let key = cases[count / 2].key().to_owned();
    let (approve, reject) =
        (json!({ "decision": "approve", "reviewer": "ada" }), json!({ "decision": "reject", "reviewer": "bob" }));
    let began = Instant::now();
    app.send(vec![says(&app, &key, &approve), says(&app, &key, &reject)]).await.unwrap();
    reader.until("the decision", WITHIN, |records| of(records, &decisions, &key).count() > 0).await.unwrap();
    let resumed = began.elapsed();
    let told = until_answered(&app, &mut reader, &key, 2).await;
    assert_eq!((&told[0]["answer"], &told[1]["answer"]), (&json!("accepted"), &json!("already-decided")));
    // Parked cases hold no slot: another one passes at once.
    let other = case("other");
    let records = [
        other.planned(&results),
        other.answered(&results, "identity", sure(0.99)),
        other.answered(&results, "compliance", sure(0.99)),
    ];
    let began = Instant::now();
    app.send(records.into_iter().map(Result::unwrap).collect()).await.unwrap();
    reader.until("another case", WITHIN, |records| of(records, &decisions, "other").count() > 0).await.unwrap();
    let passed = began.elapsed();
    let bytes = |total: u64| total / count as u64;
    println!(
        "{count} parked cases: a stop and a start take {} ms; the decision after it {} ms, two decisions: one counts, one is \
         answered; another case passes in {} ms; resident with open cases {} bytes each, with parked ones {} bytes each",
        ready.as_millis(),
        resumed.as_millis(),
        passed.as_millis(),
        bytes(open),
        bytes(parked)
    );
    assert!(resumed < Duration::from_secs(1), "{resumed:?}");
    assert!(passed < Duration::from_secs(1), "{passed:?}");
    let more = parked.saturating_sub(open) / count as u64;
    // With what the allocator keeps of reading their copies on the way.
    assert!(count < 10_000 || more < 2_048, "a parked case takes {more} bytes more than an open one");
    until_gauge(&app, "parked", count - 1).await;
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_after_a_restart_resumes_at_once() {
    many_parked(200).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a minute: cargo test -p anabranch-e2e --test inbox -- --ignored --nocapture ten_thousand"]
async fn ten_thousand_parked_cases_take_no_slot_and_little_memory() {
    many_parked(10_000).await;
}
