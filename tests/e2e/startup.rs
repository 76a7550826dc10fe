//! A process that cannot keep its promises on this cluster does not start, and says what to do.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::time::Duration;

use anabranch_broker::{Action, ApiKey, BrokerConfig, Fault, ResponseError, TransactionVersion};
use anabranch_e2e::{App, kyc, sleeper};
use anabranch_testkit::cluster::TestCluster;

/// Starts a process that must refuse with exit code 64, and returns what it said.
async fn refusal(app: &mut App, agent: &str, env: &[(&str, &str)]) -> String {
    let bootstrap = app.cluster.bootstrap().to_owned();
    let env: Vec<(String, String)> = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    app.spawn_at(agent, agent, &bootstrap, &env).unwrap();
    let process = app.process(agent).unwrap();
    let status = process.ended(Duration::from_secs(30)).await.unwrap();
    assert_eq!(status.code(), Some(64), "{}", process.log());
    process.log()
}

/// Sets it, and waits until the broker says so: Kafka answers before all brokers, itself included, have applied it.
async fn set(app: &App, topic: &str, config: &str, value: &str) {
    let changes = [(config.to_owned(), Some(value.to_owned()))].into();
    let admin = app.client.admin();
    admin.alter_configs(topic, changes).await.unwrap();
    let applied = async {
        loop {
            let said = admin.describe_configs(&[topic.to_owned()]).await.unwrap();
            if said[topic][config].value.as_deref() == Some(value) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), applied).await.expect("the broker applies it");
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_cannot_hold_the_promise_are_named_all_at_once() {
    let mut app = App::prepare(sleeper(2, "")).await.unwrap();
    app.create_topics(&["sleeper"]).await.unwrap();
    let (tasks, directory) = (app.topology.tasks_topic("sleeper"), app.topology.directory_topic());
    set(&app, &tasks, "retention.ms", "600000").await;
    set(&app, &directory, "cleanup.policy", "delete").await;
    let said = refusal(&mut app, "sleeper", &[]).await;
    assert!(said.contains("error: the cluster's topics do not fit the topology"), "{said}");
    assert!(said.contains(&format!("{tasks}: it keeps records for 10m")), "{said}");
    assert!(
        said.contains("a case may take 30m (join.deadline)") && said.contains("set retention.ms=1800000"),
        "{said}"
    );
    assert!(said.contains(&format!("{directory}: cleanup.policy is delete")), "{said}");

    // Mended, it starts.
    set(&app, &tasks, "retention.ms", "86400000").await;
    set(&app, &directory, "cleanup.policy", "compact").await;
    app.processes.clear();
    app.spawn("sleeper", "sleeper").unwrap();
    app.all_ready().await.unwrap();
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn joined_topics_of_unequal_size_are_refused() {
    let mut app = App::prepare(kyc()).await.unwrap();
    app.create_topics(&[]).await.unwrap();
    let results = app.topology.results_topic();
    app.client.admin().create_partitions(&results, app.topology.partitions + 6).await.unwrap();
    let said = refusal(&mut app, "composer", &[]).await;
    assert!(said.contains(&format!("but {results} has {}", app.topology.partitions + 6)), "{said}");
    assert!(said.contains("joined topics need equally many"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_topics_are_named_where_none_may_be_created() {
    let mut app = App::prepare(sleeper(2, "")).await.unwrap();
    let said = refusal(&mut app, "sleeper", &[("ANABRANCH_CREATE_TOPICS", "false")]).await;
    assert!(said.contains("told to create none; create them with `anabranch topics apply`"), "{said}");
    for topic in [app.topology.tasks_topic("sleeper"), app.topology.results_topic(), app.topology.directory_topic()] {
        assert!(said.contains(&topic), "{topic}: {said}");
    }
    app.processes.clear();
    app.create_topics(&["sleeper"]).await.unwrap();
    let bootstrap = app.cluster.bootstrap().to_owned();
    let create_none = [("ANABRANCH_CREATE_TOPICS".to_owned(), "false".to_owned())];
    app.spawn_at("sleeper", "sleeper", &bootstrap, &create_none).unwrap();
    app.all_ready().await.unwrap();
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_missing_is_told_with_what_to_do() {
    let cluster = TestCluster::embedded(BrokerConfig::default()).await.unwrap();
    let mut app = App::prepare_on(cluster, sleeper(2, "")).await.unwrap();
    let deny = Fault::new(ApiKey::CreateTopics, Action::Fail(ResponseError::TopicAuthorizationFailed));
    app.cluster.broker().unwrap().faults().inject(deny);
    let said = refusal(&mut app, "sleeper", &[]).await;
    assert!(said.contains("the broker does not let this process create them"), "{said}");
    assert!(said.contains("an account that may") && said.contains(&app.topology.results_topic()), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_transactions_is_refused_by_the_composer_alone() {
    let config = BrokerConfig { transaction_version: TransactionVersion::Off, ..BrokerConfig::default() };
    let cluster = TestCluster::embedded(config).await.unwrap();
    let mut app = App::prepare_on(cluster, kyc()).await.unwrap();
    let said = refusal(&mut app, "composer", &[]).await;
    assert!(said.contains("transactions are disabled on this cluster"), "{said}");
    assert!(said.contains("enable_transactions true"), "{said}");
    // Agents write without transactions.
    app.processes.clear();
    app.spawn("customer", "customer").unwrap();
    app.all_ready().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_the_broker_refuses_are_told_with_what_to_do() {
    for (code, help) in [
        (ResponseError::TransactionalIdAuthorizationFailed, "the rights that `anabranch acls` prints"),
        (ResponseError::InvalidTransactionTimeout, "transaction.max.timeout.ms; set a shorter one"),
    ] {
        let cluster = TestCluster::embedded(BrokerConfig::default()).await.unwrap();
        let mut app = App::prepare_on(cluster, kyc()).await.unwrap();
        app.cluster.broker().unwrap().faults().inject(Fault::new(ApiKey::InitProducerId, Action::Fail(code)));
        let said = refusal(&mut app, "composer", &[]).await;
        assert!(said.contains("does not let this process write in transactions"), "{said}");
        assert!(said.contains(help), "{said}");
    }
}
