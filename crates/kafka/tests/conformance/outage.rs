//! A broker that goes away and comes back, and answers that never arrive.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anabranch_kafka::{OffsetToCommit, TopicPartition};
use anabranch_testkit::kafka_proxy::Net;
use kafka_protocol::messages::ApiKey;

use crate::{
    cases,
    member::{Member, SESSION, config},
    world::{SOON, World, new_topic, to, values},
};

cases![
    after_a_cut_everything_goes_on,
    a_silent_broker_is_noticed,
    an_outage_longer_than_the_session_ends_in_a_new_membership,
    lost_answers_to_a_member_are_made_up_for,
    a_lost_answer_to_a_commit_is_made_up_for,
    a_lost_answer_to_a_creation_is_found_to_exist,
    lost_answers_to_questions_are_asked_for_again,
    a_process_that_starts_before_the_broker_waits,
];

fn at(offset: i64) -> OffsetToCommit {
    OffsetToCommit { offset, metadata: String::new() }
}

async fn after_a_cut_everything_goes_on(world: World) {
    let (topic, group) = (world.topic(3).await, world.name("g"));
    let mut member = Member::start(&world.cluster, config(&group, &[&topic]));
    member.until_held(SOON, 3).await;
    world.cluster.ping(Duration::from_secs(2)).await.unwrap();
    assert!(world.cluster.health().last_error.is_none());
    let producer = world.producer();
    let sending = {
        let topic = topic.clone();
        tokio::spawn(async move {
            for i in 0..100 {
                producer.send(to(&topic, i % 3, &i.to_string())).await.unwrap();
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
        })
    };
    member.until_records(SOON, 10).await;
    for _ in 0..2 {
        world.proxy.set(Net::Cut);
        let started = Instant::now();
        assert!(world.cluster.ping(Duration::from_secs(2)).await.unwrap_err().is_retryable());
        assert!(started.elapsed() < Duration::from_millis(2_500));
        assert!(world.cluster.health().last_error.is_some());
        member.watch(Duration::from_millis(1_500)).await;
        world.proxy.set(Net::Up);
        world.cluster.ping(Duration::from_secs(2)).await.unwrap();
        assert!(world.cluster.health().last_error.is_none());
        member.watch(Duration::from_millis(500)).await;
    }
    sending.await.unwrap();
    let all: BTreeSet<String> = (0..100).map(|i: i32| i.to_string()).collect();
    let seen = |m: &Member| values(&m.records).into_iter().collect::<BTreeSet<String>>();
    member.until(SOON, "all records", |m| seen(m) == all).await;
    assert_eq!(member.log, ["assigned 3"], "shorter than the session: nothing changed hands");
    assert!(member.fatal.is_none() && !member.reconnects.is_empty());
    member.committer.commit(vec![(TopicPartition::new(topic.as_str(), 0), at(1))]).await.unwrap();
    member.leave().await.unwrap();
}

async fn a_silent_broker_is_noticed(world: World) {
    world.cluster.ping(Duration::from_secs(2)).await.unwrap();
    let answered = world.cluster.health().last_answer.unwrap();
    world.proxy.set(Net::Silent);
    let started = Instant::now();
    let error = world.cluster.ping(Duration::from_millis(700)).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_millis(1_200), "{:?}", started.elapsed());
    assert!(error.is_retryable(), "{error}");
    let health = world.cluster.health();
    assert!(health.last_error.is_some());
    assert_eq!(health.last_answer, Some(answered));
    let started = Instant::now();
    let error = world.cluster.partition_count(&world.name("t")).await.unwrap_err();
    assert!(error.is_retryable() && !error.is_unknown_topic(), "{error}");
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    world.proxy.set(Net::Up);
    world.cluster.ping(Duration::from_secs(2)).await.unwrap();
}

async fn an_outage_longer_than_the_session_ends_in_a_new_membership(world: World) {
    let (topic, group) = (world.topic(2).await, world.name("g"));
    let mut member = Member::start(&world.cluster, config(&group, &[&topic]));
    member.until_held(SOON, 2).await;
    world.proxy.set(Net::Cut);
    member.watch(SESSION + Duration::from_secs(3)).await;
    world.proxy.set(Net::Up);
    member.until(SOON, "a new assignment", |m| m.log.len() >= 3 && m.held.len() == 2).await;
    assert_eq!(member.log, ["assigned 2", "lost 2", "assigned 2"]);
    world.send(&topic, 1, &["after"]).await;
    member.until_records(SOON, 1).await;
    let (epoch, _) = member.held[&TopicPartition::new(topic.as_str(), 1)];
    member.committer.commit_in(epoch, vec![(TopicPartition::new(topic.as_str(), 1), at(1))]).await.unwrap();
}

async fn lost_answers_to_a_member_are_made_up_for(world: World) {
    let topic = world.topic(2).await;
    let keys = [ApiKey::FindCoordinator, ApiKey::JoinGroup, ApiKey::SyncGroup, ApiKey::OffsetFetch, ApiKey::Fetch];
    for key in keys {
        let group = world.name("g");
        world.proxy.lose_answers(key, 1);
        let cluster = world.another_cluster();
        let mut member = Member::start(&cluster, config(&group, &[&topic]));
        member.until_held(SOON, 2).await;
        member.until(SOON, "the loss", |_| world.proxy.to_lose(key) == 0).await;
        world.proxy.lose_answers(ApiKey::Heartbeat, 1);
        member.watch(Duration::from_secs(2)).await;
        assert_eq!(world.proxy.to_lose(ApiKey::Heartbeat), 0);
        let tps: Vec<_> = member.held.keys().map(|tp| (tp.clone(), at(0))).collect();
        member.committer.commit(tps).await.unwrap();
        member.leave().await.unwrap();
    }
}

async fn a_lost_answer_to_a_commit_is_made_up_for(world: World) {
    let (topic, group) = (world.topic(1).await, world.name("g"));
    let mut member = Member::start(&world.cluster, config(&group, &[&topic]));
    member.until_held(SOON, 1).await;
    world.proxy.lose_answers(ApiKey::OffsetCommit, 2);
    member.committer.commit(vec![(TopicPartition::new(topic.as_str(), 0), at(4))]).await.unwrap();
    assert_eq!(world.proxy.to_lose(ApiKey::OffsetCommit), 0);
    assert_eq!(world.cluster.admin().committed_offsets(&group).await.unwrap()[0].1.offset, 4);
}

async fn a_lost_answer_to_a_creation_is_found_to_exist(world: World) {
    let name = world.name("t");
    world.proxy.lose_answers(ApiKey::CreateTopics, 1);
    let results = world.cluster.admin().create_topics(vec![new_topic(&name, 2, &[])]).await.unwrap();
    assert!(results[0].1.as_ref().unwrap_err().is_already_exists());
    world.proxy.lose_answers(ApiKey::CreatePartitions, 1);
    world.cluster.admin().create_partitions(&name, 4).await.unwrap();
    assert_eq!(world.cluster.partition_count(&name).await.unwrap(), 4);
    world.proxy.lose_answers(ApiKey::DeleteTopics, 1);
    let results = world.cluster.admin().delete_topics(&[name]).await.unwrap();
    assert!(results[0].1.as_ref().unwrap_err().is_unknown_topic());
}

async fn lost_answers_to_questions_are_asked_for_again(world: World) {
    let topic = world.topic(1).await;
    let admin = world.cluster.admin();
    let tps = [TopicPartition::new(topic.as_str(), 0)];
    world.proxy.lose_answers(ApiKey::Metadata, 1);
    assert!(admin.list_topics().await.unwrap().iter().any(|t| t.name == topic));
    world.proxy.lose_answers(ApiKey::ListOffsets, 2);
    assert_eq!(admin.earliest_offsets(&tps).await.unwrap()[&tps[0]], 0);
    world.proxy.lose_answers(ApiKey::DescribeConfigs, 1);
    admin.describe_configs(&[topic]).await.unwrap();
    world.proxy.lose_answers(ApiKey::ListGroups, 1);
    admin.list_groups().await.unwrap();
    world.proxy.lose_answers(ApiKey::DescribeGroups, 1);
    assert_eq!(admin.describe_groups(&[world.name("g")]).await.unwrap()[0].state, "Dead");
    world.proxy.lose_answers(ApiKey::ApiVersions, 1);
    world.another_cluster().admin().list_topics().await.unwrap();
}

async fn a_process_that_starts_before_the_broker_waits(world: World) {
    let (topic, group) = (world.topic(1).await, world.name("g"));
    world.proxy.set(Net::Cut);
    let mut member = Member::start(&world.another_cluster(), config(&group, &[&topic]));
    let cluster = world.another_cluster();
    let sending = tokio::spawn({
        let record = to(&topic, 0, "early");
        async move { cluster.producer(anabranch_kafka::ProducerConfig::default()).send(record).await }
    });
    member.watch(Duration::from_secs(2)).await;
    assert!(!member.reconnects.is_empty() && member.reconnects.len() < 60, "{}", member.reconnects.len());
    world.proxy.set(Net::Up);
    member.until_records(SOON, 1).await;
    sending.await.unwrap().unwrap();
}
