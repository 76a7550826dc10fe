//! A second model, named in the topology, that stands in for one that is down.

use std::time::Duration;

use anabranch_e2e::{App, answers, asker, question};
use anabranch_kafka::Record;
use anabranch_llm::mock::{Fault, MockConfig, MockServer, Rule, Script, When};
use anabranch_llm::stack::Outcome;
use anabranch_protocol::PartialStatus;
use serde_json::Value;

use crate::books::{cost, ledger, quiet};

const WITHIN: Duration = Duration::from_secs(60);
const TASKS: u64 = 20;

const LINES: &str = "models:\n  default: { name: first, timeout: 5s, fallback: spare, breaker: { failures: 3, open_for: 300ms } }\n\
     \x20 spare: { name: second }\n\
     prices:\n  first: { input: 1, output: 2 }\n  second: { input: 10, output: 20 }\n\
     agents:\n  asker: { concurrency: 4, retry: { max_attempts: 3 } }";

fn mock(first: Option<Fault>, second: Option<Fault>) -> MockConfig {
    let rule = |model: &str, fault| Rule {
        name: model.to_owned(),
        when: When { model: Some(model.to_owned()), ..When::default() },
        fault,
        ..Rule::default()
    };
    MockConfig::default()
        .with_script(Script { rules: vec![rule("first", first), rule("second", second)], vendor: None })
}

fn asked(app: &App, model: &str) -> u64 {
    app.mock.stats().by_rule.get(model).copied().unwrap_or(0)
}

async fn send(app: &App, numbers: std::ops::Range<u64>) {
    let tasks = app.topology.tasks_topic("asker");
    let new = numbers.map(|n| question(&tasks, &format!("case-{n}"), n, 1).unwrap());
    app.send(new.collect()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_model_is_down_the_second_answers_and_it_is_on_record() {
    let down = Some(Fault::ServerError { status: 500 });
    let mut app = App::start(asker(2, LINES, mock(down.clone(), None))).await.unwrap();
    send(&app, 0..TASKS).await;
    let mut reader = app.reader(&[app.topology.results_topic()]).await.unwrap();
    let all = |count: u64| move |records: &[Record]| answers(records).len() as u64 >= count;
    reader.until("answers of the second model", WITHIN, all(TASKS)).await.unwrap();
    quiet(&app).await;
    let (first, second) = (asked(&app, "first"), asked(&app, "second"));
    assert_eq!(second, TASKS, "each task was answered by the second, once");
    assert!((1..TASKS).contains(&first), "the first is left alone for a while: {first} calls");
    for (number, _, partial) in answers(reader.records()) {
        assert!(matches!(partial.status, PartialStatus::Completed(_)), "{number}: {partial:?}");
        assert_eq!(partial.work.attempts, 1, "{number}: what the second answered was no further attempt");
    }
    let log = app.process("asker").unwrap().log();
    assert!(!log.contains("paused"), "with a second model there is no reason to: {log}");
    let tasks = app.topology.tasks_topic("asker");
    let mut dead = app.reader(&[app.topology.dlq_topic(&tasks)]).await.unwrap();
    assert!(dead.settle(Duration::from_millis(500)).await.unwrap().is_empty());

    // On record: the ledger says of every call which model it was, and for which one it stood in.
    let entries = ledger(&app).await;
    let of = |model: &str| entries.iter().filter(|e| e.model == model).collect::<Vec<_>>();
    assert_eq!((of("first").len() as u64, of("second").len() as u64), (first, second));
    assert!(of("first").iter().all(|e| e.outcome != Outcome::Answered && e.fallback_for.is_none()), "{entries:?}");
    for entry in of("second") {
        assert_eq!((entry.outcome, entry.fallback_for.as_deref()), (Outcome::Answered, Some("first")), "{entry:?}");
    }
    let report = cost(&app, &["--agent", "asker"]);
    let row = |report: &Value, model: &str| {
        let rows = report["rows"].as_array().unwrap();
        rows.iter().find(|row| row["model"] == model).unwrap_or_else(|| panic!("{report}")).clone()
    };
    let (spare, own) = (row(&report, "second"), row(&report, "first"));
    assert_eq!((&spare["fallback_for"], &spare["calls"]), (&"first".into(), &TASKS.into()), "{report}");
    let paid = 10 * spare["prompt_tokens"].as_u64().unwrap() + 20 * spare["completion_tokens"].as_u64().unwrap();
    assert_eq!(spare["money"], format!("{}.{:06}", paid / 1_000_000, paid % 1_000_000), "at its own price");
    assert_eq!((&own["fallback_for"], &own["calls"]), (&Value::Null, &first.into()), "{report}");
    let one = cost(&app, &["--case", "case-7"]);
    assert_eq!(row(&one, "second")["calls"], 1, "{one}");

    // The first is back: it is asked again, and the second is not.
    let address = app.mock.address();
    let elsewhere = MockServer::start(MockConfig::default()).await.unwrap();
    std::mem::replace(&mut app.mock, elsewhere).stop().await;
    app.mock = MockServer::start(MockConfig { listen: address, ..mock(None, None) }).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    send(&app, TASKS..TASKS + 1).await;
    reader.until("an answer of the first model", WITHIN, all(TASKS + 1)).await.unwrap();
    send(&app, TASKS + 1..TASKS + 6).await;
    reader.until("answers of the first model", WITHIN, all(TASKS + 6)).await.unwrap();
    assert_eq!((asked(&app, "first"), asked(&app, "second")), (6, 0));
    println!("the first model down: {first} calls of it failed, the second answered {second} of {TASKS} tasks");
    app.stop().await.unwrap();
}
