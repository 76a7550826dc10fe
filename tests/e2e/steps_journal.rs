//! Durable steps with real processes: what is journaled is not done again after kill -9, whoever takes over reads only what
//! is open, and what is done is trimmed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anabranch_broker::{Action, ApiKey, BrokerConfig, Fault, ResponseError};
use anabranch_e2e::{App, Given, Spec};
use anabranch_kafka::{Isolation, OutRecord, Record, TopicPartition};
use anabranch_llm::mock::{Latency, MockConfig};
use anabranch_protocol::{Partial, PartialStatus};
use anabranch_testkit::cluster::{Reader, TestCluster};
use serde_json::{Value, json};

const WITHIN: Duration = Duration::from_secs(60);
const STATIC: &str = "ANABRANCH_INSTANCE_ID";

/// One stepper, with these lines for its entry in the topology, and its folder.
fn stepper(settings: &str, mock: MockConfig) -> (Spec, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let topology = format!(
        "name: step\npartitions: 1\ninbound:\n  requests: step.requests\noutbound:\n  done: step.done\n\
         join:\n  deadline: 30m\nagents:\n  stepper: {{ session_timeout: 20s, config: {{ folder: {:?} }}, {settings} }}\n",
        folder.path()
    );
    // Static members: a restart is no rebalance, and takes no session time.
    let env = vec![(STATIC.to_owned(), "one".to_owned())];
    (Spec { topology, agents: vec!["stepper"], mock, env }, folder)
}

fn key(number: u64) -> String {
    format!("job-{number}")
}

fn job(app: &App, number: u64, more: &Value) -> OutRecord {
    let mut request = json!({ "number": number });
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let topic = app.topology.tasks_topic("stepper");
    let case = key(number);
    let within = Duration::from_secs(1_800);
    Given { agent: "stepper", topic: &topic, case: &case, number, request, within }.record().unwrap()
}

fn hold(ms: u64) -> Value {
    json!({ "hold_ms": ms })
}

async fn journal(app: &App) -> Reader {
    app.reader(&[app.topology.journal_topic("stepper")]).await.unwrap()
}

fn value(record: &Record) -> Value {
    serde_json::from_slice(record.value.as_deref().unwrap()).unwrap()
}

/// Results of a step in the journal.
fn done(records: &[Record], step: &str) -> usize {
    let is = |line: &Value| line["kind"] == "step" && line["name"] == step && line.get("result").is_some();
    records.iter().filter(|record| is(&value(record))).count()
}

/// Times a step was begun, by the beginning of its name.
fn begun(records: &[Record], step: &str) -> usize {
    let named = |line: &Value| line["name"].as_str().is_some_and(|name| name.starts_with(step));
    let is = |line: &Value| line["kind"] == "step" && named(line) && line.get("result").is_none();
    records.iter().filter(|record| is(&value(record))).count()
}

/// Answers on the results topic, by number.
async fn answers(app: &App, count: usize) -> BTreeMap<u64, Value> {
    let mut reader = app.reader(&[app.topology.results_topic()]).await.unwrap();
    let read = |records: &[Record]| -> BTreeMap<u64, Value> {
        let output = |record: &Record| {
            let partial: Partial = serde_json::from_slice(record.value.as_deref()?).ok()?;
            let PartialStatus::Completed(completion) = partial.status else { return None };
            Some((completion.output["number"].as_u64()?, completion.output))
        };
        records.iter().filter_map(output).collect()
    };
    if let Err(error) = reader.until("the answers", WITHIN, |records| read(records).len() >= count).await {
        panic!("{error}\n{}", app.processes["stepper"].log());
    }
    read(reader.records())
}

fn lines(folder: &Path, file: &str) -> Vec<String> {
    std::fs::read_to_string(folder.join(file)).unwrap_or_default().lines().map(str::to_owned).collect()
}

async fn metric(app: &App, name: &str) -> u64 {
    let metrics = app.processes["stepper"].metrics().await.unwrap();
    let line = metrics.lines().find(|line| line.starts_with(&format!("anabranch_{name}{{")));
    let text = line.and_then(|line| line.rsplit(' ').next()).unwrap_or_else(|| panic!("no {name} in\n{metrics}"));
    text.parse::<f64>().unwrap() as u64
}

async fn restarted(app: &mut App) {
    app.spawn("stepper", "stepper").unwrap();
    app.all_ready().await.unwrap();
}

/// kill -9 when the last step is journaled and nothing is committed, so many times.
async fn killed_after_the_journal(times: u64) {
    let (spec, folder) = stepper("concurrency: 16", MockConfig::default());
    let mut app = App::start(spec).await.unwrap();
    let mut reader = journal(&app).await;
    let jobs = 2;
    for round in 0..times {
        let numbers = round * jobs..(round + 1) * jobs;
        app.send(numbers.map(|number| job(&app, number, &hold(1_000))).collect()).await.unwrap();
        let all = usize::try_from((round + 1) * jobs).unwrap();
        reader.until("the last steps in the journal", WITHIN, |r| done(r, "last") >= all).await.unwrap();
        app.process("stepper").unwrap().kill().await.unwrap();
        restarted(&mut app).await;
    }
    let count = usize::try_from(times * jobs).unwrap();
    let answers = answers(&app, count).await;
    let stats = app.mock.stats();
    for number in 0..times * jobs {
        assert_eq!(stats.by_correlation_id[&key(number)], 2, "two questions of job {number}, each asked once");
        assert!(answers[&number]["receipt"].as_str().unwrap().starts_with("paid "), "{}", answers[&number]);
    }
    assert_eq!(stats.calls, 2 * times * jobs);
    for file in ["notes", "payments"] {
        assert_eq!(lines(folder.path(), file).len(), count, "each once: {file}");
    }
    assert_eq!(lines(folder.path(), "questions"), [""; 0], "nobody had to ask");
    assert_eq!(done(reader.settle(Duration::from_millis(500)).await.unwrap(), "last"), count);
    println!("{times} times killed: {count} jobs, {} model calls, each made once", stats.calls);
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_journaled_is_not_done_again_after_a_crash() {
    killed_after_the_journal(3).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a minute: cargo test -p anabranch-e2e --test steps_journal -- --ignored"]
async fn nor_after_a_hundred() {
    killed_after_the_journal(100).await;
}

/// Between the model's answer and the journal a crash makes the call again, and it is counted.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_an_answer_and_the_journal_repeats_the_call_and_is_counted() {
    let cluster = TestCluster::embedded(BrokerConfig::default()).await.unwrap();
    let (spec, _folder) = stepper("", MockConfig { latency: Latency::Fixed { ms: 500 }, ..MockConfig::default() });
    let mut app = App::prepare_on(cluster, spec).await.unwrap();
    app.create_topics(&["stepper"]).await.unwrap();
    restarted(&mut app).await;
    let mut reader = journal(&app).await;
    app.send(vec![job(&app, 1, &hold(0))]).await.unwrap();
    reader.until("the call to begin", WITHIN, |r| begun(r, "model:") == 1).await.unwrap();
    // The answer will come, and finds no journal.
    let topic = app.topology.journal_topic("stepper");
    let fault = Fault::new(ApiKey::Produce, Action::Fail(ResponseError::NotEnoughReplicas)).topic(&topic);
    let refused = app.cluster.broker().unwrap().faults().inject(fault);
    let deadline = tokio::time::Instant::now() + WITHIN;
    while refused.hits() == 0 {
        assert!(tokio::time::Instant::now() < deadline, "nothing was journaled");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    app.process("stepper").unwrap().kill().await.unwrap();
    refused.remove();
    restarted(&mut app).await;
    answers(&app, 1).await;
    assert_eq!(app.mock.stats().by_correlation_id[&key(1)], 3, "the first question twice, the second once");
    assert_eq!(metric(&app, "journal_unrecorded_total").await, 1);
    app.stop().await.unwrap();
}

/// A task that waits in a retry topic keeps its journal, whoever takes it out.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_in_a_retry_topic_keeps_its_journal() {
    let (spec, folder) = stepper("retry: { tiers: [1s] }", MockConfig::default());
    let mut app = App::start(spec).await.unwrap();
    let again = json!({ "again_after_ms": 5_000 });
    app.send(vec![job(&app, 1, &again), job(&app, 2, &again)]).await.unwrap();
    let tier = format!("{}.retry.1s", app.topology.tasks_topic("stepper"));
    let mut waiting = app.reader(&[tier]).await.unwrap();
    waiting.until("both in the retry topic", WITHIN, |records| records.len() >= 2).await.unwrap();
    // Their offsets on the tasks topic are done; time enough to commit them.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    app.process("stepper").unwrap().kill().await.unwrap();
    restarted(&mut app).await;
    answers(&app, 2).await;
    assert_eq!(app.mock.stats().calls, 4, "each question once");
    assert_eq!(lines(folder.path(), "notes").len(), 2);
    assert_eq!(metric(&app, "journal_replayed_total").await, 10);
    assert_eq!(metric(&app, "journal_unrecorded_total").await, 0);
    app.stop().await.unwrap();
}

/// A step that may have happened is asked for outside: paid and not journaled, or not paid at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_step_with_a_reconciler_happens_once_wherever_the_crash_is() {
    let (spec, folder) = stepper("", MockConfig::default());
    let mut app = App::start(spec).await.unwrap();
    for (number, crash, receipt) in [(1, "after-paying", "found "), (2, "before-paying", "paid ")] {
        app.send(vec![job(&app, number, &json!({ "crash": crash }))]).await.unwrap();
        let status = app.process("stepper").unwrap().ended(WITHIN).await.unwrap();
        assert!(!status.success());
        restarted(&mut app).await;
        let answers = answers(&app, usize::try_from(number).unwrap()).await;
        assert!(answers[&number]["receipt"].as_str().unwrap().starts_with(receipt), "{crash}: {}", answers[&number]);
    }
    assert_eq!(lines(folder.path(), "payments").len(), 2);
    assert_eq!(lines(folder.path(), "questions"), ["1", "2"], "each asked for once");
    assert_eq!(lines(folder.path(), "notes"), ["1", "2"], "what was journaled before stays");
    assert_eq!(app.mock.stats().calls, 4);
    app.stop().await.unwrap();
}

/// Whoever takes over reads from the committed position, not the history; what is done is trimmed.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_reads_only_what_is_open_and_what_is_done_is_trimmed() {
    const JOBS: u64 = 150;
    let (spec, _folder) = stepper("journal: { keep: 1s }", MockConfig::default());
    let mut app = App::start(spec).await.unwrap();
    app.send((0..JOBS).map(|number| job(&app, number, &hold(0))).collect()).await.unwrap();
    answers(&app, usize::try_from(JOBS).unwrap()).await;
    let tp = TopicPartition::new(app.topology.journal_topic("stepper").as_str(), 0);
    let admin = app.client.admin();
    let end = admin.end_offsets(std::slice::from_ref(&tp), Isolation::ReadUncommitted).await.unwrap()[&tp];
    assert!(end > 8 * i64::try_from(JOBS).unwrap(), "{end} records in the journal");
    let group = app.topology.group_of("stepper");
    let deadline = tokio::time::Instant::now() + WITHIN;
    let (mut committed, mut begin) = (0, 0);
    while committed < end || begin < end {
        assert!(tokio::time::Instant::now() < deadline, "committed {committed} of {end}, trimmed to {begin}");
        tokio::time::sleep(Duration::from_millis(100)).await;
        let offsets = admin.committed_offsets(&group).await.unwrap();
        committed = offsets.iter().find(|(of, _)| *of == tp).map_or(0, |(_, committed)| committed.offset);
        begin = admin.earliest_offsets(std::slice::from_ref(&tp)).await.unwrap()[&tp];
    }
    assert_eq!(metric(&app, "journal_open_tasks").await, 0);

    let mut reader = journal(&app).await;
    app.send(vec![job(&app, JOBS, &hold(500))]).await.unwrap();
    reader.until("the last step", WITHIN, |r| done(r, "last") == 1).await.unwrap();
    app.process("stepper").unwrap().kill().await.unwrap();
    restarted(&mut app).await;
    answers(&app, usize::try_from(JOBS).unwrap() + 1).await;
    let (records, bytes) =
        (metric(&app, "journal_read_records_total").await, metric(&app, "journal_read_bytes_total").await);
    assert!((10..=20).contains(&records), "{records} records, {bytes} bytes read of {end}");
    assert_eq!(metric(&app, "journal_replayed_total").await, 5);
    assert_eq!(app.mock.stats().by_correlation_id[&key(JOBS)], 2);
    println!("{end} records written; {records} records, {bytes} bytes read at takeover");
    app.stop().await.unwrap();
}
