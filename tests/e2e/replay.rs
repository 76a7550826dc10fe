//! `anabranch replay`: finished cases of the reference application, done again from their records and journals by the real
//! binaries, byte for byte, with nobody else there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use anabranch_e2e::{App, DemoCase, Played, Spec, demo_cases, kyc, step, sure};
use anabranch_kafka::{Isolation, Record, TopicPartition};
use anabranch_llm::mock::{MockConfig, MockServer, Script};
use anabranch_protocol::{Completion, InformationProvided, PartialStatus, Timestamp};
use anabranch_testkit::cluster::{foreign, header};
use anabranch_testkit::harness::wall_clock;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const WITHIN: Duration = Duration::from_secs(60);

/// One that is clean, one with a follow-up round, one that a person decides, one that came twice, one that cannot be read.
const CASES: [&str; 5] = ["S1", "S2", "REVIEWED", "TWICE", "MALFORMED"];

/// The reference application; every comparison of names fails once, so that its tasks are tried again.
fn spec() -> Spec {
    let fault = json!({ "rules": [{
        "name": "fails first", "when": { "schema": "name_comparison" }, "fault": { "kind": "server_error" }, "times": 1,
    }] });
    let first: Script = serde_json::from_value(fault).unwrap();
    let spec = kyc();
    let mock = MockConfig { rules: [first.rules, spec.mock.rules].concat(), ..spec.mock };
    Spec { mock, ..spec }
}

/// The command, with the environment that the agents had.
struct Cli {
    command: std::path::PathBuf,
    topology: String,
    brokers: String,
    env: Vec<(&'static str, String)>,
}

impl Cli {
    fn of(app: &App) -> Self {
        Self {
            command: app.command(),
            topology: app.topology_file.display().to_string(),
            brokers: app.cluster.bootstrap().to_owned(),
            env: vec![
                ("OPENAI_BASE_URL", app.mock.base_url()),
                ("OPENAI_API_KEY", "test".to_owned()),
                ("KYC_REGISTRY_URL", app.mock.registry_url()),
            ],
        }
    }

    fn binaries(&self) -> &Path {
        self.command.parent().unwrap()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.command);
        command.arg("replay").args(arguments).args(["--topology", &self.topology]);
        if !arguments.contains(&"--bin-dir") {
            command.arg("--bin-dir").arg(self.binaries());
        }
        if !arguments.contains(&"--brokers") {
            command.args(["--brokers", &self.brokers]);
        }
        command.envs(self.env.iter().map(|(name, value)| (*name, value.as_str()))).output().unwrap()
    }

    /// Ends with this code; what it says on stdout, as JSON.
    fn report(&self, code: i32, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["-o", "json"]].concat());
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {err}\n{out}");
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {out}\n{err}"))
    }

    /// Ends with this code; what it says on stderr. Nothing is on stdout.
    fn refused(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {err}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{arguments:?}");
        err
    }
}

/// Where the topics end, once they stay there: Kafka answers the end of a transaction before its markers are written.
async fn settled(app: &App) -> BTreeMap<TopicPartition, i64> {
    let mut before = ends(app).await;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let after = ends(app).await;
        if after == before {
            return after;
        }
        before = after;
    }
}

/// Where every partition of the application ends: a cluster may have others, which others write to.
async fn ends(app: &App) -> BTreeMap<TopicPartition, i64> {
    let admin = app.client.admin();
    let topics = admin.list_topics().await.unwrap();
    let partitions = |topic: &anabranch_kafka::TopicInfo| {
        (0..topic.partitions).map(|partition| TopicPartition::new(topic.name.as_str(), partition)).collect::<Vec<_>>()
    };
    let results = app.topology.results_topic();
    let own = results.strip_suffix("results").unwrap();
    let all: Vec<TopicPartition> = topics.iter().filter(|t| t.name.starts_with(own)).flat_map(partitions).collect();
    assert!(all.iter().any(|tp| *tp.topic == *app.outbound("decisions")), "of {own}: {all:?}");
    admin.end_offsets(&all, Isolation::ReadUncommitted).await.unwrap().into_iter().collect()
}

fn count(records: &[Record], topic: &str, key: &str) -> usize {
    records.iter().filter(|r| &*r.topic == topic && r.key.as_deref() == Some(key.as_bytes())).count()
}

/// Sends the cases and sees them to their ends. On the way, one that waits for a person is refused.
async fn finish(app: &App, cli: &Cli) {
    let cases: Vec<DemoCase> = demo_cases().into_iter().filter(|case| CASES.contains(&case.id.as_str())).collect();
    assert_eq!(cases.len(), CASES.len());
    let copies = |case: &DemoCase| {
        let record = foreign(app.requests(), Some(case.key().as_bytes()), Some(&case.value()));
        vec![record; case.copies.unwrap_or(1) as usize]
    };
    app.send(cases.iter().flat_map(copies).collect()).await.unwrap();
    let [decisions, parked, told] = ["decisions", "cases", "customer-messages"].map(|alias| app.outbound(alias));
    let dead = app.topology.dlq_topic(app.requests());
    let mut reader = app.reader(&[&decisions, &parked, &told, &dead].map(Clone::clone)).await.unwrap();
    let is_there = |records: &[Record]| {
        let decided = ["S1", "S2", "TWICE"]
            .iter()
            .all(|key| count(records, &decisions, key) > 0 && count(records, &told, key) > 0);
        let waits = count(records, &parked, "REVIEWED") > 0 && count(records, &told, "REVIEWED") > 0;
        decided && waits && count(records, &dead, "MALFORMED") > 0
    };
    reader.until("the cases", WITHIN, is_there).await.unwrap();
    let error = cli.refused(2, &["REVIEWED"]);
    assert!(error.contains("is not finished: it waits for a person"), "{error}");
    let review = app.topology.inbound.review.as_ref().unwrap().name.clone();
    let reviewed = cases.iter().find(|case| case.id == "REVIEWED").unwrap();
    let decision = reviewed.review.as_ref().unwrap().to_string();
    // Twice, so that one counts and the other is answered.
    let said = foreign(&review, Some(reviewed.key().as_bytes()), Some(decision.as_bytes()));
    app.send(vec![said.clone(), said]).await.unwrap();
    let is_over =
        |records: &[Record]| count(records, &decisions, "REVIEWED") > 0 && count(records, &told, "REVIEWED") > 1;
    reader.until("the decision after the review", WITHIN, is_over).await.unwrap();
    reader.settle(Duration::from_millis(500)).await.unwrap();
}

/// Drains all processes.
async fn stop(app: &mut App) {
    for process in app.processes.values() {
        process.signal(Signal::SIGTERM).unwrap();
    }
    for (name, process) in &mut app.processes {
        assert!(process.ended(WITHIN).await.unwrap().success(), "{name}: {}", process.log());
    }
}

fn items<'a>(report: &'a Value, what: &str) -> Vec<&'a Value> {
    report["items"].as_array().unwrap().iter().filter(|item| item["what"] == what).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn finished_cases_are_done_again_byte_for_byte_with_no_model_call() {
    let mut app = App::start(spec()).await.unwrap();
    let cli = Cli::of(&app);
    finish(&app, &cli).await;
    stop(&mut app).await;
    let (before, asked) = (settled(&app).await, app.mock.stats());
    assert!(asked.calls > 4 && asked.registry.calls >= 4, "{asked:?}");

    for case in ["S1", "S2", "REVIEWED", "TWICE"] {
        let report = cli.report(0, &[case]);
        assert_eq!(report["verdict"], "same", "{report:#}");
        assert_eq!((&report["differs"], &report["lost"]), (&json!(0), &json!(0)), "{report:#}");
        let answered = items(&report, "answer").iter().filter(|answer| answer["verdict"] == "same").count() as u64;
        assert!(answered >= 5, "{report:#}");
        assert!(report["same"].as_u64().unwrap() >= 2 * answered + 3, "tasks, answers, what left: {report:#}");
        println!("{case}: {} records the same", report["same"]);
    }
    follow_up_retry_and_review(&cli);
    assert_eq!(app.mock.stats(), asked, "no model was asked, and no registry");
    live(&app, &cli).await;
    broken_input(&cli);
    assert_eq!(ends(&app).await, before, "nothing was written, whatever was asked");
    gone(&app, &cli).await;
}

fn follow_up_retry_and_review(cli: &Cli) {
    let report = cli.report(0, &["S2"]);
    let answers = items(&report, "answer");
    assert!(answers.iter().any(|answer| answer["note"] == "the answer of attempt 2"), "tried again: {report:#}");
    let asked = answers.iter().filter(|answer| answer["agent"] == "document").count();
    assert_eq!(asked, 2, "in two rounds: {report:#}");
    assert!(items(&report, "anabranch.followup.v1").len() >= 2, "{report:#}");
    let report = cli.report(0, &["REVIEWED"]);
    assert_eq!(items(&report, "anabranch.review-answer.v1").len(), 2, "{report:#}");
    // The records of one agent alone, as a table.
    let output = cli.run(&["S2", "--agent", "document"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with(" same  ")).count(), 2, "{text}");
    assert!(text.ends_with("\n case S2: 2 the same; no model was asked\n"), "{text}");
}

/// The model is asked for one agent alone; where it says something else than then, that is shown.
async fn live(app: &App, cli: &Cli) {
    let before = app.mock.stats();
    let report = cli.report(0, &["S2", "--live", "document"]);
    assert_eq!(report["live"], "document");
    assert!(items(&report, "answer").iter().all(|a| a["live"] == (a["agent"] == "document")), "{report:#}");
    let after = app.mock.stats();
    assert_eq!(after.calls, before.calls + 2, "each question of two rounds once");
    let by = |stats: &anabranch_llm::mock::Stats| stats.by_agent.get("document").copied().unwrap_or_default();
    assert_eq!(by(&after), by(&before) + 2, "and nobody else asked");

    let other = json!({ "rules": [{ "when": { "schema": "name_comparison" }, "answer": { "json": {
        "explanation": "Jon Albert Specimen is somebody else.", "confidence": 0.11,
    } } }] });
    let script: Script = serde_json::from_value(other).unwrap();
    let mock = MockServer::start(MockConfig::default().with_script(script)).await.unwrap();
    let mut env = cli.env.clone();
    env[0].1 = mock.base_url();
    let cli = Cli { command: cli.command.clone(), topology: cli.topology.clone(), brokers: cli.brokers.clone(), env };
    let report = cli.report(1, &["S2", "--live", "document"]);
    assert_eq!((&report["verdict"], &report["differs"]), (&json!("differs"), &json!(2)), "{report:#}");
    let differs: Vec<&Value> = items(&report, "answer").into_iter().filter(|a| a["verdict"] == "differs").collect();
    assert!(differs.iter().all(|answer| answer["agent"] == "document"), "{report:#}");
    let places: Vec<&str> =
        differs[0]["differences"].as_array().unwrap().iter().map(|d| d["at"].as_str().unwrap()).collect();
    assert!(places.contains(&"/confidence") && places.iter().any(|at| at.starts_with("/output/")), "{places:?}");
    assert!(report.to_string().contains("is somebody else"), "what it says today: {report:#}");
    assert!(!report.to_string().contains("Jon Albert Specimen"), "personal data is masked: {report:#}");
    assert_eq!(mock.stats().calls, 2);
    mock.stop().await;
}

fn broken_input(cli: &Cli) {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().display().to_string();
    let told = |code: i32, arguments: &[&str], words: &str| {
        let error = cli.refused(code, arguments);
        assert!(error.contains(words), "{arguments:?}: {words:?} is not in {error}");
    };
    told(2, &["nobody"], "no record of case nobody is on the");
    told(2, &["MALFORMED"], "ended as a dead letter before it was planned");
    told(2, &["S1", "--brokers", "127.0.0.1:1"], "no broker answers at 127.0.0.1:1");
    told(64, &[], "CORRELATION_ID");
    told(64, &["S1", "--live", "nobody"], "no answer of nobody counts in this case; there are those of compliance");
    told(64, &["S1", "--agent", "supervisor"], "no answer of supervisor counts in this case");
    told(64, &["S1", "--bin-dir", &empty], "holds no executable named anabranch-agent-<name>");
    std::os::unix::fs::symlink(
        cli.binaries().join("anabranch-agent-fraud"),
        folder.path().join("anabranch-agent-fraud"),
    )
    .unwrap();
    told(64, &["S1", "--bin-dir", &empty], "there is no agent \"compliance\"; there are: fraud");
    told(64, &["S1", "--bin-dir", "/nowhere"], "cannot read --bin-dir /nowhere");
    // A program that is something else, and one that is another agent.
    std::os::unix::fs::symlink("/bin/false", folder.path().join("anabranch-agent-identity")).unwrap();
    told(2, &["S1", "--agent", "identity", "--bin-dir", &empty], "identity ended with exit status: 1");
}

/// What is needed is gone: first the journals, then the plan.
async fn gone(app: &App, cli: &Cli) {
    let admin = app.client.admin();
    let deleted = admin.delete_topics(&[app.topology.journal_topic("identity")]).await.unwrap();
    deleted.into_iter().for_each(|(_, deleted)| deleted.unwrap());
    let report = cli.report(2, &["S1"]);
    assert_eq!((&report["verdict"], &report["lost"]), (&json!("lost"), &json!(1)), "{report:#}");
    let lost = items(&report, "answer").into_iter().find(|answer| answer["verdict"] == "lost").unwrap();
    let note = lost["note"].as_str().unwrap();
    assert!(note.contains("does not hold its time any more (journal.keep); it lacks `registry` (0)"), "{note}");
    let deleted = admin.delete_topics(&[app.topology.results_topic()]).await.unwrap();
    deleted.into_iter().for_each(|(_, deleted)| deleted.unwrap());
    let error = cli.refused(2, &["S1"]);
    assert!(error.contains("case S1 cannot be done again: its plan is not on"), "{error}");
}

/// What a composer did because of people and clocks. The test plays supervisor and agents, so that only the composer's part
/// is done again.
#[tokio::test(flavor = "multi_thread")]
async fn reminders_information_deadlines_and_ends_are_done_again() {
    let spec = kyc();
    let shipped = "  remind_after: 24h\n  escalate_after: 72h\n";
    assert!(spec.topology.contains(shipped));
    let parking = "  remind_after: 500ms\n  escalate_after: 1s\n  expire_after: 3s\n";
    let topology = spec.topology.replace(shipped, parking);
    let mut app = App::start(Spec { topology, agents: vec!["composer"], ..spec }).await.unwrap();
    let cli = Cli::of(&app);
    let (results, review) = (app.topology.results_topic(), app.topology.inbound.review.as_ref().unwrap().name.clone());
    let played = |name: &str, within_ms: i64| {
        let due = Timestamp::from_millis(wall_clock().as_millis() + within_ms);
        let request = json!({ "applicant": { "name": "AVA", "email": "ava@example.test" }, "documents_provided": [] });
        Played::new(name, request, vec![step("identity", true), step("compliance", true)], due)
    };
    let [asked, expired, overdue] =
        [("asked", 60_000), ("expired", 60_000), ("overdue", 700)].map(|(n, d)| played(n, d));
    let lacks = json!({ "code": "MISSING_DOCUMENT", "effect": "gate", "detail": "", "evidence": { "needed": ["id"] } });
    let lacking = PartialStatus::Completed(Completion {
        output: json!({ "findings": [lacks] }),
        confidence: Some(0.99),
        disposition: None,
    });
    let mut records = Vec::new();
    for case in [&asked, &expired, &overdue] {
        records.push(case.planned(&results).unwrap());
        records.push(case.answered(&results, "identity", sure(0.99)).unwrap());
    }
    records.push(asked.answered(&results, "compliance", lacking.clone()).unwrap());
    records.push(expired.answered(&results, "compliance", lacking).unwrap());
    app.send(records).await.unwrap();

    let [inbox, followups, decisions, parked] =
        [app.topology.inbox_topic(), app.topology.followups_topic(), app.outbound("decisions"), app.outbound("cases")];
    let letters = app.topology.dlq_topic(&results);
    let mut reader = app.reader(&[&inbox, &followups, &decisions, &parked, &letters].map(Clone::clone)).await.unwrap();
    let told = |records: &[Record]| count(records, &inbox, "asked") >= 2 && count(records, &parked, "overdue") >= 1;
    reader.until("reminder and escalation, and the one whose time is up", WITHIN, told).await.unwrap();
    let says = |key: &str, value: Value| foreign(&review, Some(key.as_bytes()), Some(value.to_string().as_bytes()));
    let late = overdue.answered(&results, "compliance", sure(0.99)).unwrap();
    app.send(vec![
        says("asked", json!({ "decision": "request-information", "reviewer": "kim" })),
        late,
        says("overdue", json!({ "decision": "approve", "reviewer": "kim" })),
    ])
    .await
    .unwrap();
    let waits =
        |records: &[Record]| count(records, &parked, "asked") >= 2 && count(records, &decisions, "overdue") >= 1;
    reader.until("what is asked for, and a decision", WITHIN, waits).await.unwrap();
    let fields = json!({ "fields": { "documents_provided": ["passport"] } });
    let mut information = says("asked", fields);
    information.headers.push(header("ce_type", InformationProvided::TYPE));
    app.send(vec![information]).await.unwrap();
    reader.until("another round", WITHIN, |records| count(records, &followups, "asked") >= 1).await.unwrap();
    app.send(vec![asked.answered_in_round(&results, "compliance", 1, sure(0.99)).unwrap()]).await.unwrap();
    let over =
        |records: &[Record]| count(records, &decisions, "asked") >= 1 && count(records, &letters, "expired") >= 1;
    reader.until("the ends", WITHIN, over).await.unwrap();
    reader.settle(Duration::from_millis(500)).await.unwrap();
    stop(&mut app).await;

    for (case, least) in [("asked", 8), ("expired", 4), ("overdue", 4)] {
        let report = cli.report(0, &[case, "--agent", "composer"]);
        assert_eq!(report["verdict"], "same", "{report:#}");
        assert!(report["same"].as_u64().unwrap() >= least, "{report:#}");
        println!("{case}: {} records of the composer the same", report["same"]);
    }
    let error = cli.refused(2, &["asked", "--agent", "identity"]);
    assert!(error.contains("the task that identity answered is not on"), "{error}");
}
