//! Committing: by whom, for what, and what is made of it by the next owner.

use std::time::{Duration, Instant};

use anabranch_kafka::{GroupConfig, OffsetToCommit, StartOffset, TopicPartition};
use anabranch_testkit::kafka_proxy::Net;

use crate::{
    cases,
    member::{Member, SESSION, config},
    raw::{delete_records, foreign_commit},
    world::{SOON, World, values},
};

cases![
    a_commit_waits_for_a_rebalance,
    a_commit_after_losing_the_partition_is_refused,
    foreign_metadata_is_handed_through,
    metadata_that_is_too_large_is_refused,
    a_committed_offset_that_is_gone_starts_as_configured,
    a_stale_epoch_commits_nothing,
    an_offset_beside_is_committed_by_right_of_what_is_held,
];

fn tp(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition::new(topic, partition)
}

fn at(offset: i64) -> OffsetToCommit {
    OffsetToCommit { offset, metadata: String::new() }
}

async fn a_commit_waits_for_a_rebalance(world: World) {
    let (topic, group) = (world.topic(4).await, world.name("g"));
    let mut first = Member::start(&world.cluster, config(&group, &[&topic]));
    first.until_held(SOON, 4).await;
    let (committer, topic_name) = (first.committer.clone(), topic.clone());
    let committing = tokio::spawn(async move {
        let (mut good, mut stale) = (0, 0);
        for round in 0..60 {
            for partition in 0..4 {
                match committer.commit(vec![(TopicPartition::new(topic_name.as_str(), partition), at(round))]).await {
                    Ok(()) => good += 1,
                    Err(error) => {
                        assert!(error.is_stale(), "{error}");
                        stale += 1;
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        (good, stale)
    });
    let mut second = Member::start(&world.another_cluster(), config(&group, &[&topic]));
    let mut third = Member::start(&world.another_cluster(), config(&group, &[&topic]));
    tokio::join!(second.until_held(SOON, 1), third.until_held(SOON, 1), first.until_held(SOON, 2));
    let (good, stale) = committing.await.unwrap();
    assert_eq!(good + stale, 240);
    assert!(good >= 120, "what stayed was always committed: {good} of 240");
}

async fn a_commit_after_losing_the_partition_is_refused(world: World) {
    let (topic, group) = (world.topic(1).await, world.name("g"));
    let mut zombie = Member::start(&world.cluster, config(&group, &[&topic]));
    zombie.until_held(SOON, 1).await;
    let (epoch, _) = zombie.held[&tp(&topic, 0)];
    // It hears nothing of the world, which goes on through another proxy.
    let elsewhere = World::new(world.profile).await;
    world.proxy.set(Net::Silent);
    let mut heir = Member::start(&elsewhere.cluster, config(&group, &[&topic]));
    heir.until_held(SESSION + Duration::from_secs(4), 1).await;
    heir.committer.commit(vec![(tp(&topic, 0), at(7))]).await.unwrap();
    world.proxy.set(Net::Up);
    let error = zombie.committer.commit_in(epoch, vec![(tp(&topic, 0), at(3))]).await.unwrap_err();
    assert!(error.is_stale(), "{error}");
    zombie.until(SOON, "the loss", |m| m.log.contains(&"lost 1".to_owned())).await;
    let committed = world.cluster.admin().committed_offsets(&group).await.unwrap();
    assert_eq!(committed[0].1.offset, 7);
}

async fn foreign_metadata_is_handed_through(world: World) {
    let (topic, group) = (world.topic(2).await, world.name("g"));
    world.send(&topic, 0, &["a", "b"]).await;
    let metadata = format!("{{\"not\": \"ours\"}} \u{0} \u{1f980} {}", "x".repeat(3_000));
    let mut raw = world.raw().await;
    assert_eq!(foreign_commit(&mut raw, &group, &topic, 0, 1, &metadata).await, 0);
    let mut member = Member::start(&world.cluster, config(&group, &[&topic]));
    member.until_records(SOON, 1).await;
    assert_eq!(values(&member.records), ["b"]);
    assert_eq!(member.held[&tp(&topic, 0)].1.committed.as_ref().unwrap().metadata, metadata);
}

async fn metadata_that_is_too_large_is_refused(world: World) {
    let (topic, group) = (world.topic(2).await, world.name("g"));
    let mut member = Member::start(&world.cluster, config(&group, &[&topic]));
    member.until_held(SOON, 2).await;
    let large = OffsetToCommit { offset: 1, metadata: "x".repeat(5_000) };
    let started = Instant::now();
    let error = member.committer.commit(vec![(tp(&topic, 0), large), (tp(&topic, 1), at(1))]).await.unwrap_err();
    assert_eq!(error.code(), Some(12), "{error}");
    assert!(!error.is_retryable() && !error.is_stale() && error.to_string().contains(&format!("{topic}-0")));
    assert!(started.elapsed() < Duration::from_secs(3));
}

async fn a_committed_offset_that_is_gone_starts_as_configured(world: World) {
    let topic = world.topic(2).await;
    for partition in 0..2 {
        world.send(&topic, partition, &["a", "b", "c"]).await;
    }
    let mut raw = world.raw().await;
    delete_records(&mut raw, &topic, 0, 1).await;
    for (start, expected) in
        [(StartOffset::Earliest, vec!["a", "b", "b", "c", "c"]), (StartOffset::Latest, vec!["b", "c"])]
    {
        let group = world.name("g");
        assert_eq!(foreign_commit(&mut raw, &group, &topic, 0, 0, "").await, 0, "retention took it");
        assert_eq!(foreign_commit(&mut raw, &group, &topic, 1, 1_000, "").await, 0, "the log was made anew");
        let mut member = Member::start(&world.another_cluster(), GroupConfig { start, ..config(&group, &[&topic]) });
        member.until_records(SOON, expected.len()).await;
        member.watch(Duration::from_millis(500)).await;
        let mut read = values(&member.records);
        read.sort();
        assert_eq!(read, expected, "{start:?}: below the start, what there is; past the end, as configured");
    }
}

async fn a_stale_epoch_commits_nothing(world: World) {
    let (topic, group) = (world.topic(2).await, world.name("g"));
    let mut first = Member::start(&world.cluster, config(&group, &[&topic]));
    first.until_held(SOON, 2).await;
    let mut second = Member::start(&world.another_cluster(), config(&group, &[&topic]));
    tokio::join!(second.until_held(SOON, 1), first.until_held(SOON, 1));
    let (came, stayed) = (second.partitions()[0], first.partitions()[0]);
    second.leave().await.unwrap();
    first.until_held(SOON, 2).await;
    let (epoch, _) = first.held[&tp(&topic, came)];
    assert!(epoch > 1, "it came anew");
    let error = first.committer.commit_in(1, vec![(tp(&topic, came), at(5)), (tp(&topic, stayed), at(6))]).await;
    let error = error.unwrap_err();
    assert!(error.is_stale() && error.to_string().contains(&format!("{topic}-{came}")), "{error}");
    first.committer.commit_in(epoch, vec![(tp(&topic, came), at(1))]).await.unwrap();
    let committed = world.cluster.admin().committed_offsets(&group).await.unwrap();
    let offset = |p: i32| committed.iter().find(|(t, _)| *t == tp(&topic, p)).unwrap().1.offset;
    assert_eq!((offset(came), offset(stayed)), (1, 6), "the other one was committed");
}

async fn an_offset_beside_is_committed_by_right_of_what_is_held(world: World) {
    let (topic, other, group) = (world.topic(2).await, world.topic(2).await, world.name("g"));
    let mut member = Member::start(&world.cluster, config(&group, &[&topic]));
    member.until_held(SOON, 2).await;
    let (epoch, _) = member.held[&tp(&topic, 1)];
    let with = OffsetToCommit { offset: 4, metadata: "mine".to_owned() };
    member.committer.commit_beside(vec![(tp(&other, 1), tp(&topic, 1), epoch, with)]).await.unwrap();
    let committed = member.committer.committed(&[tp(&other, 0), tp(&other, 1)]).await.unwrap();
    assert_eq!(committed.len(), 1);
    assert_eq!((committed[&tp(&other, 1)].offset, committed[&tp(&other, 1)].metadata.as_str()), (4, "mine"));
    let error = member.committer.commit_beside(vec![(tp(&other, 1), tp(&other, 1), epoch, at(9))]).await.unwrap_err();
    assert!(error.is_stale(), "what it is for is not held: {error}");
    let error =
        member.committer.commit_beside(vec![(tp(&other, 1), tp(&topic, 1), epoch - 1, at(9))]).await.unwrap_err();
    assert!(error.is_stale(), "it has come since: {error}");
    assert_eq!(member.committer.committed(&[tp(&other, 1)]).await.unwrap()[&tp(&other, 1)].offset, 4);
}
