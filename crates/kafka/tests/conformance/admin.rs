//! Topics, configs, offsets and groups as an operator sees them.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anabranch_kafka::{Isolation, OffsetToCommit, TopicPartition};

use crate::{
    cases,
    member::{Member, config},
    txn::Txn,
    world::{SOON, World, new_topic},
};

cases![
    topics_are_created_with_configs,
    what_cannot_be_created_is_told_by_topic,
    a_created_topic_can_be_used_at_once,
    topics_are_listed,
    configs_are_altered_one_by_one,
    what_cannot_be_altered_is_told,
    partitions_are_added,
    topics_are_deleted,
    offsets_are_found,
    records_are_deleted_from_the_beginning,
    groups_are_listed_and_described,
    lag_can_be_computed,
];

const INVALID_CONFIG: i16 = 40;
const INVALID_PARTITIONS: i16 = 37;

async fn topics_are_created_with_configs(world: World) {
    let topic = world.topic_with(3, &[("cleanup.policy", "compact"), ("retention.ms", "86400000")]).await;
    let described = world.cluster.admin().describe_configs(std::slice::from_ref(&topic)).await.unwrap();
    let configs = &described[&topic];
    for (name, value) in [("cleanup.policy", "compact"), ("retention.ms", "86400000")] {
        assert_eq!(configs[name].value.as_deref(), Some(value));
        assert!(!configs[name].is_default, "{name} is set on the topic");
        assert!(!configs[name].sensitive && !configs[name].read_only);
    }
    assert!(configs["max.message.bytes"].is_default);
    assert_eq!(world.cluster.partition_count(&topic).await.unwrap(), 3);
}

async fn what_cannot_be_created_is_told_by_topic(world: World) {
    let exists = world.topic(1).await;
    let (good, bad) = (world.name("t"), world.name("t"));
    let results = world
        .cluster
        .admin()
        .create_topics(vec![
            new_topic(&exists, 1, &[]),
            new_topic(&bad, 1, &[("retention.ms", "soon")]),
            new_topic("not/a/name", 1, &[]),
            new_topic(&good, 2, &[]),
        ])
        .await
        .unwrap();
    let names: Vec<&str> = results.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, [exists.as_str(), &bad, "not/a/name", &good], "one result each, in order");
    assert!(results[0].1.as_ref().unwrap_err().is_already_exists());
    let error = results[1].1.as_ref().unwrap_err();
    assert_eq!(error.code(), Some(INVALID_CONFIG), "{error}");
    assert!(error.to_string().contains(&bad), "{error}");
    assert!(results[2].1.as_ref().unwrap_err().is_fatal());
    results[3].1.as_ref().unwrap();
    assert_eq!(world.cluster.partition_count(&good).await.unwrap(), 2);
    assert!(world.cluster.partition_count(&bad).await.unwrap_err().is_unknown_topic());
}

async fn a_created_topic_can_be_used_at_once(world: World) {
    for _ in 0..5 {
        let topic = world.topic(4).await;
        let started = Instant::now();
        world.send(&topic, 3, &["first"]).await;
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    }
}

async fn topics_are_listed(world: World) {
    let (a, b) = (world.topic(2).await, world.topic(5).await);
    let listed = world.cluster.admin().list_topics().await.unwrap();
    let partitions: BTreeMap<_, _> = listed.iter().map(|t| (t.name.as_str(), t.partitions)).collect();
    assert_eq!((partitions[a.as_str()], partitions[b.as_str()]), (2, 5));
    assert!(listed.is_sorted_by(|a, b| a.name < b.name));
    assert!(listed.iter().all(|t| t.internal == t.name.starts_with("__")), "{listed:?}");
}

async fn configs_are_altered_one_by_one(world: World) {
    let topic = world.topic_with(1, &[("retention.ms", "1000000"), ("cleanup.policy", "compact")]).await;
    let admin = world.cluster.admin();
    let changes = [("retention.ms", None), ("max.message.bytes", Some("5000"))];
    let changes = changes.map(|(name, value)| (name.to_owned(), value.map(str::to_owned)));
    admin.alter_configs(&topic, changes.into()).await.unwrap();
    let configs = eventually(&world, &topic, |c| c["max.message.bytes"].value.as_deref() == Some("5000")).await;
    assert!(configs["retention.ms"].is_default, "reset");
    assert_eq!(configs["cleanup.policy"].value.as_deref(), Some("compact"), "not named, not touched");
    admin.alter_configs(&topic, BTreeMap::new()).await.unwrap();
}

type Configs = BTreeMap<String, anabranch_kafka::ConfigEntry>;

/// A broker hears of a change a moment after the controller has made it.
async fn eventually(world: &World, topic: &str, done: impl Fn(&Configs) -> bool) -> Configs {
    let deadline = Instant::now() + SOON;
    loop {
        let mut described = world.cluster.admin().describe_configs(&[topic.to_owned()]).await.unwrap();
        let configs = described.remove(topic).unwrap();
        if done(&configs) {
            return configs;
        }
        assert!(Instant::now() < deadline, "{configs:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn what_cannot_be_altered_is_told(world: World) {
    let topic = world.topic(1).await;
    let admin = world.cluster.admin();
    let change = |value: &str| BTreeMap::from([("retention.ms".to_owned(), Some(value.to_owned()))]);
    let error = admin.alter_configs(&topic, change("soon")).await.unwrap_err();
    assert_eq!(error.code(), Some(INVALID_CONFIG), "{error}");
    let started = Instant::now();
    let error = admin.alter_configs(&world.name("nowhere"), change("5")).await.unwrap_err();
    assert!(error.is_unknown_topic(), "{error}");
    let error = admin.describe_configs(&[topic, world.name("nowhere")]).await.unwrap_err();
    assert!(error.is_unknown_topic() && error.to_string().contains("nowhere"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(3), "at once, not after the call timeout");
}

async fn partitions_are_added(world: World) {
    let topic = world.topic(2).await;
    let admin = world.cluster.admin();
    assert_eq!(world.cluster.partition_count(&topic).await.unwrap(), 2);
    admin.create_partitions(&topic, 5).await.unwrap();
    assert_eq!(world.cluster.partition_count(&topic).await.unwrap(), 5);
    world.send(&topic, 4, &["in a new one"]).await;
    let error = admin.create_partitions(&topic, 3).await.unwrap_err();
    assert_eq!(error.code(), Some(INVALID_PARTITIONS), "{error}");
    let error = admin.create_partitions(&world.name("nowhere"), 3).await.unwrap_err();
    assert!(error.is_unknown_topic(), "{error}");
}

async fn topics_are_deleted(world: World) {
    let (topic, unknown) = (world.topic(1).await, world.name("nowhere"));
    let results = world.cluster.admin().delete_topics(&[unknown.clone(), topic.clone()]).await.unwrap();
    assert_eq!(results[0].0, unknown);
    assert!(results[0].1.as_ref().unwrap_err().is_unknown_topic());
    results[1].1.as_ref().unwrap();
    let deadline = Instant::now() + SOON;
    while world.cluster.admin().list_topics().await.unwrap().iter().any(|t| t.name == topic) {
        assert!(Instant::now() < deadline, "still listed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(world.cluster.partition_count(&topic).await.unwrap_err().is_unknown_topic());
}

async fn offsets_are_found(world: World) {
    let topic = world.topic(2).await;
    let producer = world.producer();
    for (value, time) in [("a", 1_000), ("b", 2_000), ("c", 3_000)] {
        let record = anabranch_kafka::OutRecord { timestamp_ms: Some(time), ..crate::world::to(&topic, 0, value) };
        producer.send(record).await.unwrap();
    }
    let tps = [TopicPartition::new(topic.as_str(), 0), TopicPartition::new(topic.as_str(), 1)];
    let admin = world.cluster.admin();
    let pair = |found: BTreeMap<TopicPartition, i64>| (found[&tps[0]], found[&tps[1]]);
    assert_eq!(pair(admin.earliest_offsets(&tps).await.unwrap()), (0, 0));
    assert_eq!(pair(admin.end_offsets(&tps, Isolation::ReadCommitted).await.unwrap()), (3, 0));
    let at = async |time| admin.offsets_for_timestamp(&tps, time).await.unwrap()[&tps[0]];
    assert_eq!((at(0).await, at(1_500).await, at(3_000).await, at(3_001).await), (Some(0), Some(1), Some(2), None));
    assert_eq!(admin.offsets_for_timestamp(&tps, 1).await.unwrap()[&tps[1]], None, "an empty partition");
    assert!(admin.offsets_for_timestamp(&tps, -1).await.is_err());

    let mut open = Txn::new(world.broker(), &world.name("txn")).await;
    open.send(&topic, 1, &["not yet"]).await;
    assert_eq!(pair(admin.end_offsets(&tps, Isolation::ReadCommitted).await.unwrap()), (3, 0));
    assert_eq!(pair(admin.end_offsets(&tps, Isolation::ReadUncommitted).await.unwrap()), (3, 1));
    open.end(true).await;

    let missing = [TopicPartition::new(topic.as_str(), 9)];
    let cluster = anabranch_kafka::Cluster::new(anabranch_kafka::ClusterConfig {
        call_timeout: Duration::from_secs(1),
        ..crate::world::config(&world.proxy)
    });
    assert!(cluster.admin().earliest_offsets(&missing).await.unwrap_err().is_unknown_topic());
}

async fn groups_are_listed_and_described(world: World) {
    let (topic, group) = (world.topic(3).await, world.name("g"));
    let settings = anabranch_kafka::GroupConfig { instance_id: Some("one".into()), ..config(&group, &[&topic]) };
    let mut member = Member::start(&world.cluster, settings);
    member.until_held(SOON, 3).await;
    let admin = world.cluster.admin();
    let listed = admin.list_groups().await.unwrap();
    let listing = listed.iter().find(|g| g.group == group).expect("listed");
    assert_eq!(listing.protocol_type, "consumer");
    assert!(listing.state.as_ref().is_none_or(|s| s == "Stable"), "{listing:?}");
    let unknown = world.name("g");
    let described = admin.describe_groups(&[unknown.clone(), group.clone()]).await.unwrap();
    assert_eq!((described[0].group.as_str(), described[0].state.as_str()), (unknown.as_str(), "Dead"));
    let info = &described[1];
    assert_eq!((info.group.as_str(), info.state.as_str()), (group.as_str(), "Stable"));
    assert_eq!(info.protocol, "anabranch-cooperative-sticky");
    let [only] = &info.members[..] else { panic!("{info:?}") };
    assert_eq!(only.client_id, "conformance");
    assert!(only.instance_id.as_deref().is_none_or(|i| i == "one"), "told from version 4 on");
    let expected: Vec<_> = (0..3).map(|p| TopicPartition::new(topic.as_str(), p)).collect();
    assert_eq!(only.assignment, expected);
}

async fn lag_can_be_computed(world: World) {
    let (topic, group) = (world.topic(1).await, world.name("g"));
    world.send(&topic, 0, &["a", "b", "c"]).await;
    let mut member = Member::start(&world.cluster, config(&group, &[&topic]));
    member.until_records(SOON, 3).await;
    let tp = TopicPartition::new(topic.as_str(), 0);
    let commit = OffsetToCommit { offset: 2, metadata: "m".into() };
    member.committer.commit(vec![(tp.clone(), commit)]).await.unwrap();
    let admin = world.cluster.admin();
    let committed = admin.committed_offsets(&group).await.unwrap();
    let [(committed_tp, offset)] = &committed[..] else { panic!("{committed:?}") };
    assert_eq!((committed_tp, offset.offset, offset.metadata.as_str()), (&tp, 2, "m"));
    let end = admin.end_offsets(std::slice::from_ref(&tp), Isolation::ReadCommitted).await.unwrap();
    assert_eq!(end[&tp] - offset.offset, 1);
    assert_eq!(admin.committed_offsets(&world.name("g")).await.unwrap(), vec![]);
}

async fn records_are_deleted_from_the_beginning(world: World) {
    let topic = world.topic(2).await;
    let tp = |partition| TopicPartition::new(topic.as_str(), partition);
    for partition in 0..2 {
        world.send(&topic, partition, &["a", "b", "c"]).await;
    }
    let admin = world.cluster.admin();
    let begins = admin.delete_records(&BTreeMap::from([(tp(0), 2), (tp(1), 0)])).await.unwrap();
    assert_eq!(begins, BTreeMap::from([(tp(0), 2), (tp(1), 0)]));
    assert_eq!(admin.earliest_offsets(&[tp(0), tp(1)]).await.unwrap(), begins);
    let again = admin.delete_records(&BTreeMap::from([(tp(0), 1)])).await.unwrap();
    assert_eq!(again[&tp(0)], 2, "nothing comes back");
    let started = Instant::now();
    assert!(admin.delete_records(&BTreeMap::from([(tp(0), 99)])).await.is_err(), "past the end");
    assert!(started.elapsed() < Duration::from_secs(3), "no waiting mends that");
    assert!(admin.delete_records(&BTreeMap::new()).await.unwrap().is_empty());
}
