use std::collections::BTreeMap;

use anabranch_kafka::{Event, GroupConfig, GroupConsumer, NewTopic};

use crate::support::{LIMIT, Setup, TOPOLOGY};

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_cluster_is_filled_and_then_there_is_nothing_to_do() {
    let setup = Setup::empty().await;
    let diff = setup.run(&["topics", "diff"]).await;
    assert_eq!(diff.code, 0, "{diff:?}");
    assert!(diff.out.contains("+ kyc.requests  3 partitions"), "{diff:?}");
    assert!(diff.out.lines().all(|line| line.starts_with("+ ")), "{diff:?}");
    assert_eq!(setup.run(&["topics", "diff", "--exit-code"]).await.code, 1);

    let unasked = setup.run(&["topics", "apply"]).await;
    assert_eq!(unasked.code, 64, "without a terminal nobody can be asked: {unasked:?}");
    assert!(unasked.err.contains("--yes"), "{unasked:?}");
    assert_eq!(setup.cluster.admin().list_topics().await.unwrap(), []);

    let applied = setup.run(&["topics", "apply", "--yes"]).await;
    assert_eq!((applied.code, applied.out), (0, diff.out), "each step is printed: {}", applied.err);
    let after = setup.run(&["topics", "diff", "--exit-code"]).await;
    assert_eq!((after.code, after.out.as_str()), (0, ""), "{}", after.err);
    assert!(after.err.contains("nothing to do"), "{}", after.err);
    let configs = setup.cluster.admin().describe_configs(&["kyc.composer-state".to_owned()]).await.unwrap();
    assert_eq!(configs["kyc.composer-state"]["cleanup.policy"].value.as_deref(), Some("compact"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_differs_is_changed_and_the_rest_left_alone() {
    let setup = Setup::with_topics().await;
    let admin = setup.cluster.admin();
    let own = BTreeMap::from([
        ("retention.ms".to_owned(), Some("1000".to_owned())),
        ("max.message.bytes".to_owned(), Some("2000000".to_owned())),
    ]);
    admin.alter_configs("kyc.late", own).await.unwrap();
    setup.topology(&TOPOLOGY.replace("partitions: 3", "partitions: 4"));

    let diff = setup.run(&["topics", "diff", "-o", "json"]).await.json();
    assert_eq!(diff["differs"], true);
    let warnings = diff["warnings"].to_string();
    assert!(warnings.contains("open case") && warnings.contains("kyc.requests"), "{warnings}");

    let applied = setup.run(&["topics", "apply", "--yes"]).await;
    assert_eq!(applied.code, 0, "{applied:?}");
    assert!(applied.out.contains("~ kyc.late  retention.ms: 1000 → 604800000"), "{applied:?}");
    assert!(applied.out.contains("~ kyc.results  partitions: 3 → 4"), "{applied:?}");
    assert_eq!(setup.run(&["topics", "diff", "--exit-code"]).await.code, 0);
    let configs = admin.describe_configs(&["kyc.late".to_owned()]).await.unwrap();
    assert_eq!(configs["kyc.late"]["max.message.bytes"].value.as_deref(), Some("2000000"), "not the topology's");

    setup.topology(TOPOLOGY);
    let fewer = setup.run(&["topics", "apply", "--yes"]).await;
    assert_eq!(fewer.code, 1, "{fewer:?}");
    assert!(fewer.err.contains("Kafka cannot take partitions away"), "{fewer:?}");
    assert_eq!(fewer.out, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn left_over_topics_are_deleted_only_when_asked() {
    let setup = Setup::with_topics().await;
    let admin = setup.cluster.admin();
    let new =
        |name: &str| NewTopic { name: name.to_owned(), partitions: 1, replication_factor: 1, configs: BTreeMap::new() };
    let others = ["kyc.tasks.gone", "kyc.tasks.gone.dlq", "kyc.notes"];
    for (_, created) in admin.create_topics(others.iter().map(|name| new(name)).collect()).await.unwrap() {
        created.unwrap();
    }
    let blind = setup.run(&["topics", "apply", "--yes", "--delete"]).await;
    assert_eq!(blind.code, 64, "outside of a workspace nobody knows all agents: {blind:?}");
    setup.write("Cargo.toml", "[workspace]\nmembers = []\nresolver = \"3\"\n");
    let names = async || admin.list_topics().await.unwrap().into_iter().map(|t| t.name).collect::<Vec<_>>();

    let diff = setup.run(&["topics", "diff"]).await;
    assert!(diff.out.lines().all(|line| line.starts_with("- kyc.tasks.gone")), "{diff:?}");
    assert_eq!(setup.run(&["topics", "apply", "--yes"]).await.code, 0);
    assert!(names().await.contains(&"kyc.tasks.gone".to_owned()));

    let deleted = setup.run(&["topics", "apply", "--yes", "--delete", "-o", "json"]).await;
    assert_eq!(deleted.code, 0, "{deleted:?}");
    assert_eq!(deleted.json()["applied"].as_array().unwrap().len(), 2);
    let left = names().await;
    assert!(!left.contains(&"kyc.tasks.gone".to_owned()) && left.contains(&"kyc.notes".to_owned()), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn apply_goes_on_where_it_stopped() {
    let setup = Setup::empty().await;
    let results =
        NewTopic { name: "kyc.results".to_owned(), partitions: 3, replication_factor: 1, configs: BTreeMap::new() };
    setup.cluster.admin().create_topics(vec![results]).await.unwrap().remove(0).1.unwrap();
    let applied = setup.run(&["topics", "apply", "--yes"]).await;
    assert_eq!(applied.code, 0, "{applied:?}");
    assert!(!applied.out.contains("+ kyc.results "), "{applied:?}");
    assert_eq!(setup.run(&["topics", "diff", "--exit-code"]).await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_topics_of_an_agent_that_runs_are_not_left_over() {
    let setup = Setup::with_topics().await;
    setup.write("Cargo.toml", "[workspace]\nmembers = []\nresolver = \"3\"\n");
    let name = "kyc.tasks.elsewhere".to_owned();
    let new = NewTopic { name: name.clone(), partitions: 3, replication_factor: 1, configs: BTreeMap::new() };
    setup.cluster.admin().create_topics(vec![new]).await.unwrap().remove(0).1.unwrap();
    assert!(setup.run(&["topics", "diff"]).await.out.contains("- kyc.tasks.elsewhere"));

    let mut consumer = GroupConsumer::start(&setup.cluster, GroupConfig::new("kyc.elsewhere", vec![name]));
    while !matches!(tokio::time::timeout(LIMIT, consumer.next()).await.expect("it joins"), Event::Assigned { .. }) {}
    let diff = setup.run(&["topics", "diff"]).await;
    assert!(!diff.out.contains("- "), "{diff:?}");
    assert!(diff.out.contains("+ kyc.tasks.elsewhere.dlq"), "{diff:?}");
    tokio::time::timeout(LIMIT, consumer.leave()).await.expect("it leaves").unwrap();
}
