//! Dead letters with real processes: the limits pause an agent and let it go on, what is sent back is what it was after
//! eight times, and a case that ended as a dead letter begins anew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use std::path::PathBuf;
use std::process::Output;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anabranch_e2e::{App, Given, KYC_AGENTS, Played, Spec, binaries, clean_case, kyc, step, sure};
use anabranch_kafka::{Header, OutRecord, Record};
use anabranch_llm::mock::MockConfig;
use anabranch_protocol::dead_letter::{self, REDRIVES};
use anabranch_protocol::{Envelope, Partial, PartialStatus, Timestamp, header};
use anabranch_testkit::cluster::Reader;
use anabranch_testkit::harness::wall_clock;
use anabranch_testkit::process::Process;
use serde_json::{Value, json};
use tempfile::TempDir;

const WITHIN: Duration = Duration::from_secs(30);

/// One flaky agent, and the file that breaks it.
struct Frail {
    app: App,
    folder: TempDir,
    reader: Reader,
}

impl Frail {
    async fn start(settings: &str, broken: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("broken");
        let topology = format!(
            "name: frail\npartitions: 1\ninbound:\n  requests: frail.requests\noutbound:\n  done: frail.done\n\
             join:\n  deadline: 30m\nagents:\n  flaky: {{ {settings}, config: {{ broken: '{}' }} }}\n",
            file.display()
        );
        let spec = Spec { topology, agents: vec!["flaky"], mock: MockConfig::default(), env: Vec::new() };
        if broken {
            std::fs::write(&file, "terminal").unwrap();
        }
        let app = App::start(spec).await.unwrap();
        let topics = [app.topology.results_topic(), app.topology.dlq_topic(&app.topology.tasks_topic("flaky"))];
        let reader = app.reader(&topics).await.unwrap();
        Self { app, folder, reader }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("broken")
    }

    fn tasks(&self) -> String {
        self.app.topology.tasks_topic("flaky")
    }

    async fn send(&self, numbers: std::ops::Range<u64>, poison: bool) {
        let tasks = self.tasks();
        let task = |number: u64| {
            let request = json!({ "number": number, "poison": poison });
            let case = format!("case-{number}");
            Given { agent: "flaky", topic: &tasks, case: &case, number, request, within: Duration::from_secs(600) }
                .record()
                .unwrap()
        };
        self.app.send(numbers.map(task).collect()).await.unwrap();
    }

    fn process(&mut self) -> &mut Process {
        self.app.process("flaky").unwrap()
    }

    /// How many letters, failures and answers there are.
    fn counts(records: &[Record]) -> (usize, usize, usize) {
        let letters = records.iter().filter(|r| r.topic.ends_with(".dlq")).count();
        let parts: Vec<Partial> = records.iter().filter_map(partial).collect();
        let completed = parts.iter().filter(|p| matches!(p.status, PartialStatus::Completed(_))).count();
        (letters, parts.len() - completed, completed)
    }

    async fn until(&mut self, what: &str, wanted: (usize, usize, usize)) {
        if let Err(error) = self.reader.until(what, WITHIN, |records| Self::counts(records) == wanted).await {
            panic!("{error}: {:?}\n{}", Self::counts(self.reader.records()), self.process().log());
        }
    }

    /// Nothing more comes for a while.
    async fn stays(&mut self, span: Duration, wanted: (usize, usize, usize)) {
        let records = self.reader.settle(span).await.unwrap();
        assert_eq!(Self::counts(records), wanted);
    }

    async fn is_paused(&mut self) -> bool {
        let metrics = self.process().metrics().await.unwrap();
        metrics.lines().any(|l| l.starts_with("anabranch_paused{") && l.contains("dead_letters") && l.ends_with(" 1"))
    }

    async fn paused(&mut self, wanted: bool) {
        let began = Instant::now();
        while self.is_paused().await != wanted {
            assert!(began.elapsed() < WITHIN, "{}", self.process().log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn committed(&self) -> i64 {
        let group = self.app.topology.group_of("flaky");
        let committed = self.app.client.admin().committed_offsets(&group).await.unwrap();
        committed.iter().filter(|(tp, _)| *tp.topic == *self.tasks()).map(|(_, c)| c.offset).max().unwrap_or(0)
    }
}

fn partial(record: &Record) -> Option<Partial> {
    record.topic.ends_with(".results").then(|| serde_json::from_slice(record.value.as_deref()?).ok()).flatten()
}

fn header_of<'a>(record: &'a Record, name: &str) -> Option<&'a str> {
    header::last(&record.headers, name)
}

/// The command, on the application's cluster.
fn anabranch(app: &App, args: &[&str]) -> Output {
    // Built once: every other time would ask cargo again.
    static COMMAND: OnceLock<PathBuf> = OnceLock::new();
    std::process::Command::new(COMMAND.get_or_init(|| binaries(&[]).unwrap().join("anabranch")))
        .args(args)
        .env("ANABRANCH_KAFKA", app.cluster.bootstrap())
        .env("ANABRANCH_TOPOLOGY", &app.topology_file)
        .output()
        .unwrap()
}

fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

const THREE: &str =
    "concurrency: 4, session_timeout: 6s, dead_letters: { max_share: 1, max_in_a_row: 3, resume_after: 700ms }";

#[tokio::test(flavor = "multi_thread")]
async fn past_the_limit_an_agent_pauses_and_goes_on_by_itself() {
    let mut frail = Frail::start(THREE, true).await;
    frail.send(0..12, false).await;
    frail.until("three letters, and no more", (3, 3, 0)).await;
    frail.paused(true).await;
    // Some probes later it is as it was: none of them became a letter, and nothing was passed over.
    frail.stays(Duration::from_secs(2), (3, 3, 0)).await;
    assert!(frail.committed().await <= 3, "what is held is not done");
    let ready = frail.process().ready_text().await.unwrap();
    assert!(ready.contains("200 OK") && ready.contains("paused (dead_letters): 3 dead letters in a row"), "{ready}");
    let log = frail.process().log();
    assert!(log.lines().any(|l| l.contains("ERROR") && l.contains("paused: no new work is started")), "{log}");
    assert!(log.contains("a record that is held is tried again"), "{log}");

    std::fs::remove_file(frail.file()).unwrap();
    let mended = Instant::now();
    frail.until("all others are answered", (3, 3, 9)).await;
    println!("mended, the other 9 were answered after {:.2} s", mended.elapsed().as_secs_f64());
    frail.paused(false).await;
    let letter = frail.reader.records().iter().find(|r| r.topic.ends_with(".dlq")).unwrap().clone();
    let letter = dead_letter::read(&letter.headers).unwrap();
    assert_eq!(letter.causes.len(), 2, "{letter:?}");
    assert_eq!(
        (letter.causes[0], letter.class, letter.agent),
        ("the answer is nonsense", Some("terminal"), Some("flaky"))
    );
    assert!(
        letter.first_failure <= letter.last_failure && letter.correlation_id.is_some_and(|c| c.starts_with("case-"))
    );
    frail.app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_is_given_back_by_a_drain_and_a_restart_begins_anew() {
    let mut frail = Frail::start(&format!("drain_timeout: 25s, {THREE}"), true).await;
    frail.send(0..8, false).await;
    frail.until("three letters", (3, 3, 0)).await;
    frail.paused(true).await;
    let began = Instant::now();
    let ended = frail.process().stop(WITHIN).await.unwrap();
    assert!(ended.success(), "{ended}: {}", frail.process().log());
    assert!(began.elapsed() < Duration::from_secs(10), "what is held does not hold up a drain: {:?}", began.elapsed());
    frail.stays(Duration::from_millis(200), (3, 3, 0)).await;
    // Still broken, somebody looks on: three more.
    frail.app.spawn("flaky", "flaky").unwrap();
    frail.until("three more letters", (6, 6, 0)).await;
    std::fs::remove_file(frail.file()).unwrap();
    frail.until("the rest", (6, 6, 2)).await;
    frail.app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_records_in_a_row_do_not_stop_an_agent_that_works() {
    let settings = "concurrency: 2, dead_letters: { max_share: 1, max_in_a_row: 2, resume_after: 400ms }";
    let mut frail = Frail::start(settings, false).await;
    frail.send(0..3, true).await;
    frail.until("two letters, the third is held", (2, 2, 0)).await;
    frail.paused(true).await;
    frail.send(3..9, false).await;
    // Those that are held fail again; one that was not begun yet shows that the agent works.
    frail.until("all are dealt with", (3, 3, 6)).await;
    frail.paused(false).await;
    frail.app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn after_eight_redrives_a_task_is_what_it_was() {
    let mut frail = Frail::start("dead_letters: { max_in_a_row: 100 }", true).await;
    let tasks = frail.tasks();
    let request = json!({ "number": 7 });
    let given =
        Given { agent: "flaky", topic: &tasks, case: "case-7", number: 7, request, within: Duration::from_secs(900) };
    let mut task = given.record().unwrap();
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    task.headers.retain(|h| h.name != header::ORIGIN_TRACE_PARENT);
    task.headers.extend([
        Header::text(header::ORIGIN_TRACE_PARENT, trace),
        Header { name: "of-the-team".into(), value: None },
        Header::text("of-the-team", "second"),
    ]);
    frail.app.send(vec![task.clone()]).await.unwrap();
    for hop in 1..=8 {
        frail.until("the letter", (hop, hop, 0)).await;
        if hop == 8 {
            std::fs::remove_file(frail.file()).unwrap();
        }
        let bounded = anabranch(&frail.app, &["dlq", "redrive", "--all"]);
        assert_eq!(bounded.status.success(), hop <= 3, "hop {hop}: three times at most by default: {}", told(&bounded));
        if hop > 3 {
            assert!(told(&bounded).contains("1 looped"), "{}", told(&bounded));
            let more = anabranch(&frail.app, &["dlq", "redrive", "--agent", "flaky", "--max-redrives", "8"]);
            assert!(more.status.success(), "hop {hop}: {}", told(&more));
        }
    }
    frail.until("the answer", (8, 8, 1)).await;
    let records = frail.reader.records().to_vec();
    let letters: Vec<&Record> = records.iter().filter(|r| r.topic.ends_with(".dlq")).collect();
    for (hop, letter) in letters.iter().enumerate() {
        let read = dead_letter::read(&letter.headers).unwrap();
        let original: Vec<Header> = read.original.iter().filter(|h| h.name != REDRIVES).cloned().collect();
        assert_eq!(original, task.headers, "letter {hop}");
        assert_eq!((&letter.key, &letter.value), (&task.key, &task.value), "letter {hop}");
        assert_eq!(dead_letter::redrives(read.original) as usize, hop);
    }
    let answers: Vec<&Record> = records.iter().filter(|r| r.topic.ends_with(".results")).collect();
    let envelope = |record: &Record| Envelope::decode(&record.view()).unwrap().envelope;
    let (first, last) = (envelope(answers[0]), envelope(answers[8]));
    assert_eq!(Envelope { time: first.time, ..last.clone() }, first, "the same ids, cause, deadline and traces");
    assert_eq!(last.origin_trace.to_string(), trace);
    assert_eq!(last.correlation_id.as_str(), "case-7");
    let deadline = header::last(&task.headers, header::EXPIRY_TIME).and_then(Timestamp::parse);
    assert_eq!(last.deadline, deadline);
    frail.app.stop().await.unwrap();
}

fn decisions(app: &App, records: &[Record], key: &str) -> Vec<Value> {
    let topics = [app.outbound("decisions"), app.outbound("cases")];
    let of = |r: &&Record| topics.contains(&r.topic.to_string()) && r.key.as_deref() == Some(key.as_bytes());
    records.iter().filter(of).map(|r| serde_json::from_slice(r.value.as_deref().unwrap()).unwrap()).collect()
}

/// The reference application, whose cases become dead letters when their time is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_case_that_ended_as_a_dead_letter_begins_anew_and_has_one_outcome() {
    let spec = kyc();
    let policy = "  deadline: 8s\n  when_deadline_passes: dead-letter\n";
    let topology = spec.topology.replacen("  deadline: 5m\n", policy, 1);
    let topology = topology.replacen("decide_within: { high: 4m }", "decide_within: { high: 7s }", 1);
    assert!(topology.contains(policy) && topology.contains("7s"));
    let agents: Vec<&'static str> = KYC_AGENTS.iter().filter(|agent| **agent != "identity").copied().collect();
    let mut app = App::prepare(Spec { topology, agents: KYC_AGENTS.to_vec(), ..spec }).await.unwrap();
    app.create_topics(KYC_AGENTS).await.unwrap();
    for agent in &agents {
        app.spawn(agent, agent).unwrap();
    }
    app.all_ready().await.unwrap();
    let results = app.topology.results_topic();
    let letters = app.topology.dlq_topic(&results);
    let topics =
        [app.outbound("decisions"), app.outbound("cases"), letters.clone(), app.topology.late_topic(), results.clone()];
    let mut reader = app.reader(&topics).await.unwrap();

    // Nobody checks identities: the case's time passes. It has a trace of its own.
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = clean_case(&app, 1);
    let key = String::from_utf8(request.key.as_deref().unwrap().to_vec()).unwrap();
    app.send(vec![OutRecord { headers: vec![Header::text(header::TRACE_PARENT, trace)], ..request }]).await.unwrap();
    // Meanwhile the test plays another case: a failure that is answered after all, and answered again too late.
    joined_after_a_failure(&app, &mut reader).await;
    let given_up = |records: &[Record]| records.iter().any(|r| *r.topic == *letters);
    reader.until("the case's dead letter", WITHIN, given_up).await.unwrap();
    assert_eq!(decisions(&app, reader.records(), &key), [Value::Null; 0]);
    let task = anabranch(&app, &["dlq", "redrive", "--all"]);
    assert!(!task.status.success() && told(&task).contains("--case"), "{}", told(&task));

    app.spawn("identity", "identity").unwrap();
    app.all_ready().await.unwrap();
    let case = anabranch(&app, &["dlq", "redrive", "--case", "--correlation-id", &key]);
    assert!(case.status.success(), "{}", told(&case));
    let decided = |records: &[Record]| !decisions(&app, records, &key).is_empty();
    if let Err(error) = reader.until("the outcome", WITHIN, decided).await {
        panic!("{error}\n{}\n{}", app.processes["composer"].log(), app.processes["supervisor"].log());
    }
    // Sent back once more, it has its outcome, and gets no second one.
    let again = anabranch(&app, &["dlq", "redrive", "--case", "--correlation-id", &key]);
    assert!(told(&again).contains("0 case-redriven, 1 were sent back or dropped before"), "{}", told(&again));
    let records = reader.settle(Duration::from_secs(1)).await.unwrap().to_vec();
    assert_eq!(decisions(&app, &records, &key).len(), 1);
    assert_eq!(records.iter().filter(|r| *r.topic == *letters).count(), 1);
    let outcome =
        records.iter().find(|r| *r.topic == *app.outbound("decisions") && r.key.as_deref() == Some(key.as_bytes()));
    let outcome = outcome.expect("a clean case is approved");
    assert_eq!(header_of(outcome, header::ORIGIN_TRACE_PARENT), Some(trace), "the trace of its request");
    assert_eq!(header_of(outcome, header::CORRELATION_ID), Some(&*key));
    app.stop().await.unwrap();
}

async fn joined_after_a_failure(app: &App, reader: &mut Reader) {
    let (results, decided, late) = (app.topology.results_topic(), app.outbound("decisions"), app.topology.late_topic());
    let due = Timestamp::from_millis(wall_clock().as_millis() + 300_000);
    let steps = vec![step("identity", true), step("document", true)];
    let case = Played::new("played", json!({ "applicant": { "name": "AVA" } }), steps, due);
    let answer = |agent: &str, status: PartialStatus| case.answered(&results, agent, status).unwrap();
    let failed = || PartialStatus::Failed { reason: "503".to_owned() };
    let of = |records: &[Record], topic: &str| {
        records.iter().filter(|r| *r.topic == *topic && r.key.as_deref() == Some(b"played")).count()
    };
    app.send(vec![
        case.planned(&results).unwrap(),
        answer("identity", failed()),
        answer("identity", sure(0.99)),
        answer("document", sure(0.99)),
    ])
    .await
    .unwrap();
    reader.until("the decision", WITHIN, |records| of(records, &decided) == 1).await.unwrap();
    let outcome = decisions(app, reader.records(), "played").remove(0);
    assert_eq!(outcome["missing"].as_array().map_or(0, Vec::len), 0, "the failure is made good: {outcome}");
    app.send(vec![answer("identity", sure(0.99)), answer("identity", failed())]).await.unwrap();
    reader.until("what comes after the decision is late", WITHIN, |records| of(records, &late) == 2).await.unwrap();
    let reasons: Vec<&str> = reader
        .records()
        .iter()
        .filter(|r| *r.topic == *late && r.key.as_deref() == Some(b"played"))
        .filter_map(|r| header_of(r, header::LATE_REASON))
        .collect();
    assert_eq!(reasons, ["closed", "closed"]);
}
