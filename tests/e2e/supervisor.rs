//! The plan is acknowledged before any task; a supervisor killed in between leaves a case that still ends once; and
//! nothing is dispatched for a case that is past its deadline.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::time::Duration;

use anabranch_broker::{Action, ApiKey, BrokerConfig, Fault, ResponseError};
use anabranch_e2e::{App, KYC_AGENTS, demo_cases, kyc};
use anabranch_kafka::Record;
use anabranch_protocol::{Partial, Plan, Timestamp};
use anabranch_testkit::cluster::{TestCluster, foreign, header};

const WITHIN: Duration = Duration::from_secs(90);

fn is_of(record: &Record, topic: &str, case: &str) -> bool {
    &*record.topic == topic && record.key.as_deref() == Some(case.as_bytes())
}

fn value_of<'a>(record: &'a Record, kind: &str) -> Option<&'a [u8]> {
    let header = record.headers.iter().find(|h| h.name == "ce_type")?;
    if header.value.as_deref() == Some(kind.as_bytes()) { record.value.as_deref() } else { None }
}

/// The messages of a type among the results of a case.
fn results<T: serde::de::DeserializeOwned>(records: &[Record], topic: &str, case: &str, kind: &str) -> Vec<T> {
    let values = records.iter().filter(|r| is_of(r, topic, case)).filter_map(|r| value_of(r, kind));
    values.map(|value| serde_json::from_slice(value).unwrap()).collect()
}

async fn started() -> App {
    let cluster = TestCluster::embedded(BrokerConfig::default()).await.unwrap();
    let mut app = App::prepare_on(cluster, kyc()).await.unwrap();
    app.create_topics(KYC_AGENTS).await.unwrap();
    for agent in KYC_AGENTS {
        app.spawn(agent, agent).unwrap();
    }
    app.all_ready().await.unwrap();
    app
}

fn task_topics(app: &App) -> Vec<String> {
    let agents = KYC_AGENTS.iter().filter(|a| !["supervisor", "composer"].contains(a));
    agents.map(|agent| app.topology.tasks_topic(agent)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_killed_between_plan_and_tasks_leaves_a_case_that_ends_once() {
    let mut app = started().await;
    let (tasks, plans) = (task_topics(&app), app.topology.results_topic());
    let faults = app.cluster.broker().unwrap().faults();
    let refuse = |topic: &String| {
        let fault = Fault::new(ApiKey::Produce, Action::Fail(ResponseError::NotEnoughReplicas)).topic(topic.clone());
        faults.inject(fault)
    };
    let refused: Vec<_> = tasks.iter().map(refuse).collect();

    let case = demo_cases().into_iter().find(|c| c.expect.state == "approved").expect("a case that is approved");
    let key = case.key().to_owned();
    app.send(vec![foreign(app.requests(), Some(key.as_bytes()), Some(&case.value()))]).await.unwrap();
    let decisions = app.outbound("decisions");
    let topics: Vec<String> = tasks.iter().cloned().chain([plans.clone(), decisions.clone()]).collect();
    let mut reader = app.reader(&topics).await.unwrap();
    let planned = |records: &[Record]| !results::<Plan>(records, &plans, &key, Plan::TYPE).is_empty();
    reader.until("the plan", WITHIN, planned).await.unwrap();
    let tried = async {
        while refused.iter().all(|fault| fault.hits() == 0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(WITHIN, tried).await.expect("the supervisor tries to emit a task");
    app.process("supervisor").unwrap().kill().await.unwrap();
    refused.iter().for_each(anabranch_broker::Injected::remove);
    assert!(!reader.records().iter().any(|r| tasks.contains(&r.topic.to_string())), "the plan comes before any task");

    app.spawn("supervisor-again", "supervisor").unwrap();
    app.processes.remove("supervisor");
    let decided = |records: &[Record]| records.iter().any(|r| is_of(r, &decisions, &key));
    reader.until("the decision", WITHIN, decided).await.unwrap();
    let records = reader.settle(Duration::from_secs(2)).await.unwrap();
    assert_eq!(records.iter().filter(|r| is_of(r, &decisions, &key)).count(), 1, "one outcome");
    let all_plans: Vec<Plan> = results(records, &plans, &key, Plan::TYPE);
    assert_eq!(all_plans.len(), 2, "redelivered, it was planned again");
    let partials: Vec<Partial> = results(records, &plans, &key, Partial::TYPE);
    assert!(!partials.is_empty());
    assert!(partials.iter().all(|p| p.plan_id == all_plans[0].plan_id), "the first plan in log order counts");
    for topic in &tasks {
        let count = records.iter().filter(|r| is_of(r, topic, &key)).count();
        assert!(count <= 1, "{topic}: {count} tasks");
    }
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_dispatched_for_a_case_past_its_deadline() {
    let app = started().await;
    let case = demo_cases().into_iter().find(|c| c.expect.state == "approved").expect("a case that is approved");
    let past = Timestamp::from_millis(anabranch_testkit::harness::wall_clock().as_millis() - 1_000);
    let mut request = foreign(app.requests(), Some(b"too-late"), Some(&case.value()));
    request.headers.push(header("ce_expirytime", &past.to_string()));
    app.send(vec![request]).await.unwrap();
    let outcomes: Vec<String> = app.topology.outbound.values().map(|t| t.name.clone()).collect();
    let tasks = task_topics(&app);
    let topics: Vec<String> = tasks.iter().chain(&outcomes).cloned().collect();
    let mut reader = app.reader(&topics).await.unwrap();
    let ended = |records: &[Record]| records.iter().any(|r| outcomes.iter().any(|topic| is_of(r, topic, "too-late")));
    reader.until("an outcome, never silence", WITHIN, ended).await.unwrap();
    let records = reader.settle(Duration::from_secs(2)).await.unwrap();
    let before_outcome: Vec<_> = records.iter().filter(|r| tasks.contains(&r.topic.to_string())).collect();
    let voting = before_outcome.iter().filter(|r| &*r.topic != app.topology.tasks_topic("customer").as_str());
    assert_eq!(voting.count(), 0, "no work for a case that is over");
    app.stop().await.unwrap();
}

/// Restarted with other settings, a supervisor may plan a redelivered request differently. The first plan in log order
/// counts, and what the loser's tasks were answered with changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_plans_the_first_in_the_log_counts() {
    let cluster = TestCluster::embedded(BrokerConfig::default()).await.unwrap();
    let mut app = App::prepare_on(cluster, kyc()).await.unwrap();
    app.create_topics(KYC_AGENTS).await.unwrap();
    let case = demo_cases().into_iter().find(|c| c.expect.state == "approved").expect("a case that is approved");
    let key = case.key().to_owned();
    app.send(vec![foreign(app.requests(), Some(key.as_bytes()), Some(&case.value()))]).await.unwrap();
    let (plans, decisions) = (app.topology.results_topic(), app.outbound("decisions"));
    let topics: Vec<String> = task_topics(&app).into_iter().chain([plans.clone(), decisions.clone()]).collect();

    // The first supervisor writes its plan, cannot commit, and dies. Its tasks are out.
    let faults = app.cluster.broker().unwrap().faults();
    let no_commit = faults.inject(Fault::new(ApiKey::OffsetCommit, Action::Fail(ResponseError::RequestTimedOut)));
    app.spawn("supervisor", "supervisor").unwrap();
    let mut reader = app.reader(&topics).await.unwrap();
    let fraud = app.topology.tasks_topic("fraud");
    let dispatched = |records: &[Record]| records.iter().any(|r| is_of(r, &fraud, &key));
    reader.until("a task for fraud", WITHIN, dispatched).await.unwrap();
    app.process("supervisor").unwrap().kill().await.unwrap();
    no_commit.remove();

    // Another topology: without fraud. The same request is planned again, with other steps.
    let text = std::fs::read_to_string(&app.topology_file).unwrap();
    std::fs::write(&app.topology_file, text.replace("  fraud:\n", "  fraud:\n    when: 'false'\n")).unwrap();
    app.processes.remove("supervisor");
    app.spawn("supervisor-again", "supervisor").unwrap();
    let planned = |records: &[Record]| results::<Plan>(records, &plans, &key, Plan::TYPE).len() == 2;
    reader.until("the second plan", WITHIN, planned).await.unwrap();
    std::fs::write(&app.topology_file, text).unwrap();
    for agent in KYC_AGENTS.iter().filter(|a| **a != "supervisor") {
        app.spawn(agent, agent).unwrap();
    }
    let decided = |records: &[Record]| records.iter().any(|r| is_of(r, &decisions, &key));
    reader.until("the decision", WITHIN, decided).await.unwrap();
    let records = reader.settle(Duration::from_secs(3)).await.unwrap();

    let both: Vec<Plan> = results(records, &plans, &key, Plan::TYPE);
    let steps = |plan: &Plan| plan.steps.iter().map(|s| s.agent.clone()).collect::<Vec<_>>();
    assert_ne!(both[0].plan_id, both[1].plan_id, "{:?} and {:?}", steps(&both[0]), steps(&both[1]));
    assert!(steps(&both[0]).contains(&"fraud".to_owned()) && !steps(&both[1]).contains(&"fraud".to_owned()));
    let outcomes: Vec<&Record> = records.iter().filter(|r| is_of(r, &decisions, &key)).collect();
    assert_eq!(outcomes.len(), 1, "one outcome");
    let outcome = String::from_utf8_lossy(outcomes[0].value.as_deref().unwrap());
    assert!(outcome.contains("fraud"), "decided by the first plan, in which fraud has a vote: {outcome}");
    app.stop().await.unwrap();
}
