//! Ledger and budgets.

use std::time::Duration;

use anabranch_e2e::{App, Spec, answers, asker, demo_cases, kyc, outcome_topics, question};
use anabranch_llm::Usage;
use anabranch_llm::mock::{Latency, MockConfig};
use anabranch_protocol::{Partial, PartialStatus};
use anabranch_testkit::cluster::foreign;

use crate::books::{by_case, calls_of, cost, ledger, quiet, tokens};

const WITHIN: Duration = Duration::from_secs(60);
/// What an agent says that holds its gate; an attempt that is only put off says something else.
const PAUSED: &str = "is not asked for now, because the budget is used up";

/// The demo's cases that have a request, and so often each, under keys of their own.
fn load(app: &App, times: usize) -> Vec<anabranch_kafka::OutRecord> {
    let cases = demo_cases().into_iter().filter(|case| case.request.is_some() && case.deadline_seconds.is_none());
    let cases = cases.flat_map(|case| (0..times).map(move |i| (format!("{}-{i}", case.key()), case.value())));
    cases.map(|(key, value)| foreign(app.requests(), Some(key.as_bytes()), Some(&value))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_equals_what_the_model_counted_to_the_token_through_kills() {
    let spec = kyc();
    let mock = MockConfig { latency: Latency::Fixed { ms: 400 }, ..spec.mock };
    let mut app = App::start(Spec { mock, ..spec }).await.unwrap();
    let records = load(&app, 2);
    let cases = records.len();
    app.send(records).await.unwrap();
    let mut reader = app.reader(&outcome_topics(&app)).await.unwrap();
    // Calls that are under way when their process dies are counted by the mock, and in no ledger.
    let mut under_way = 0;
    for agent in ["document", "identity", "customer"] {
        let asked = |app: &App| app.mock.stats().by_agent.get(agent).copied().unwrap_or(0);
        let before = asked(&app);
        for _ in 0..300 {
            if asked(&app) > before {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        app.process(agent).unwrap().kill().await.unwrap();
        // Read first: what is asked meanwhile only makes the bound wider.
        let entered = ledger(&app).await.len() as u64;
        under_way += app.mock.stats().calls.saturating_sub(entered);
        app.spawn(agent, agent).unwrap();
    }
    let decided = |records: &[anabranch_kafka::Record]| {
        let keys: std::collections::BTreeSet<_> = records.iter().map(|r| r.key.clone()).collect();
        keys.len() >= cases
    };
    reader.until("all outcomes", WITHIN, decided).await.unwrap();
    quiet(&app).await;

    let (stats, entries) = (app.mock.stats(), ledger(&app).await);
    let mut lost = (0, Usage::default());
    let books = by_case(&entries);
    for (case, counted) in &stats.tokens_by_correlation_id {
        let (calls, usage) = books.get(case).copied().unwrap_or_default();
        let missing = calls_of(&stats, case) - calls;
        if missing == 0 {
            assert_eq!(usage, *counted, "{case}: to the token");
        }
        lost.0 += missing;
        lost.1.prompt_tokens += counted.prompt_tokens - usage.prompt_tokens;
        lost.1.completion_tokens += counted.completion_tokens - usage.completion_tokens;
    }
    assert_eq!(stats.calls, entries.len() as u64 + lost.0, "every call is of a case");
    assert!(lost.0 <= under_way, "{} calls are in no ledger, {under_way} were under way at a kill", lost.0);
    let mut sum = tokens(&entries);
    sum += lost.1;
    assert_eq!(sum, stats.tokens);
    let total = &cost(&app, &[])["total"];
    assert_eq!(total["calls"], entries.len() as u64);
    assert_eq!(total["prompt_tokens"], tokens(&entries).prompt_tokens);
    assert_eq!(total["completion_tokens"], tokens(&entries).completion_tokens);
    let micros: u64 = entries.iter().filter_map(|entry| entry.cost_micros).sum();
    assert_eq!(total["money"], format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000));
    println!(
        "{cases} cases, 3 kills: {} calls counted, {} in the ledger, {} under way at a kill; {} + {} tokens in the ledger",
        stats.calls,
        entries.len(),
        lost.0,
        tokens(&entries).prompt_tokens,
        tokens(&entries).completion_tokens
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_case_over_its_budget_asks_nothing_more() {
    let lines = "models:\n  default: { max_output_tokens: 50 }\nbudgets:\n  per_case: { tokens: 2000 }";
    let mut app = App::start(asker(2, lines, MockConfig::default())).await.unwrap();
    let tasks = app.topology.tasks_topic("asker");
    app.send(vec![question(&tasks, "dear", 1, 1000).unwrap()]).await.unwrap();
    let mut reader = app.reader(&[app.topology.results_topic()]).await.unwrap();
    let ended = |count: usize| move |records: &[anabranch_kafka::Record]| records.len() >= count;
    reader.until("the end of the dear task", WITHIN, ended(1)).await.unwrap();
    let calls = calls_of(&app.mock.stats(), "dear");
    assert!(calls > 1, "{calls}");

    // The same in another process, which learns of it from the ledger.
    app.process("asker").unwrap().kill().await.unwrap();
    app.spawn("asker", "asker").unwrap();
    app.send(vec![question(&tasks, "dear", 2, 1).unwrap(), question(&tasks, "other", 3, 1).unwrap()]).await.unwrap();
    // The first may be delivered again, as the process was killed: then it fails a second time.
    let both = |records: &[anabranch_kafka::Record]| {
        let dear = records.iter().filter(|r| r.key.as_deref() == Some(b"dear")).count();
        dear >= 2 && !answers(records).is_empty()
    };
    let records = reader.until("the ends of the others", WITHIN, both).await.unwrap();
    let partials: Vec<Partial> =
        records.iter().map(|r| serde_json::from_slice(r.value.as_deref().unwrap()).unwrap()).collect();
    for (record, partial) in records.iter().zip(&partials).filter(|(r, _)| r.key.as_deref() == Some(b"dear")) {
        let PartialStatus::Failed { reason } = &partial.status else { panic!("{record:?}") };
        assert!(reason.contains("over the case's budget") && reason.contains("2000"), "{reason}");
    }
    assert_eq!(answers(records).len(), 1, "the other case is not touched");
    let stats = app.mock.stats();
    assert_eq!(calls_of(&stats, "dear"), calls, "not one more");
    assert_eq!(calls_of(&stats, "other"), 1);
    let spent = stats.tokens_by_correlation_id["dear"].total_tokens();
    assert!(spent <= 2000, "{spent}");
    assert_eq!(cost(&app, &["--case", "dear"])["total"]["calls"], calls);
    let mut dead = app.reader(&[app.topology.dlq_topic(&tasks)]).await.unwrap();
    dead.until("both tasks of the case are dead letters", WITHIN, ended(2)).await.unwrap();
    println!("a case with 2000 tokens: {calls} calls, {spent} tokens, then none");
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_over_its_budget_pauses_the_agent_and_loses_nothing() {
    let lines = "models:\n  default: { max_output_tokens: 50 }\nbudgets:\n  per_agent_per_day: { tokens: 2000 }";
    let mut app = App::start(asker(2, lines, MockConfig::default())).await.unwrap();
    let tasks = app.topology.tasks_topic("asker");
    let many = (0..50).map(|number| question(&tasks, &format!("case-{number}"), number, 1).unwrap());
    app.send(many.collect()).await.unwrap();
    // Some may wait for others to tell what they cost, and are asked later.
    for _ in 0..300 {
        if app.process("asker").unwrap().log().contains(PAUSED) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let log = app.process("asker").unwrap().log();
    assert!(log.contains(PAUSED), "{log}");
    quiet(&app).await;
    let stats = app.mock.stats();
    assert!(stats.calls > 1 && stats.tokens.total_tokens() <= 2000, "{stats:?}");
    let mut reader = app.reader(&[app.topology.results_topic(), app.topology.dlq_topic(&tasks)]).await.unwrap();
    let records = reader.settle(Duration::from_secs(1)).await.unwrap();
    assert_eq!(answers(records).len() as u64, stats.calls, "what was asked is answered");
    for record in records {
        let partial: Partial = serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
        // Those that had begun cannot wait for tomorrow if their deadline is today; all others are not begun.
        assert!(matches!(partial.status, PartialStatus::Completed(_) | PartialStatus::Expired), "{partial:?}");
    }
    assert!(records.iter().all(|r| r.topic.ends_with(".results")), "no dead letter");
    println!("a day with 2000 tokens: {} calls, {} tokens, then a pause", stats.calls, stats.tokens.total_tokens());
}
