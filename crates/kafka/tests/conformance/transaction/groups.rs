//! Offsets in transactions: by whom, and under which generation.

use std::time::Duration;

use anabranch_kafka::{ErrorKind, TopicPartition};
use anabranch_testkit::kafka_proxy::Net;

use crate::{
    cases,
    member::{Member, SESSION, config},
    world::{SOON, World, to},
};

use super::{at, committed, committed_offset, in_transactions, producer, tp};

cases![
    an_evicted_member_commits_nothing,
    a_rebalance_that_leaves_the_partition_is_waited_for,
    plain_and_transactional_commits_do_not_mix,
];

async fn an_evicted_member_commits_nothing(world: World) {
    let (topic, group) = (world.topic(1).await, world.name("g"));
    let mut zombie = Member::start(&world.cluster, in_transactions(&group, &[&topic]));
    zombie.until_held(SOON, 1).await;
    let mut old = producer(&world, &world.name("x")).await;
    let mut txn = old.begin().await.unwrap();
    txn.send(vec![to(&topic, 0, "zombie")]).await.unwrap();
    // It hears nothing of the world, which goes on through another proxy.
    let elsewhere = World::new(world.profile).await;
    world.proxy.set(Net::Silent);
    let mut heir = Member::start(&elsewhere.cluster, in_transactions(&group, &[&topic]));
    heir.until_held(SESSION + Duration::from_secs(4), 1).await;
    let mut new = producer(&elsewhere, &world.name("x")).await;
    let mut heirs = new.begin().await.unwrap();
    heirs.send(vec![to(&topic, 0, "heir")]).await.unwrap();
    heirs.commit_offsets(&heir.committer, vec![(tp(&topic, 0), at(7))]).await.unwrap();
    heirs.commit().await.unwrap();
    world.proxy.set(Net::Up);
    // The record may be there, but not for those who read committed ones.
    let (records, offsets) = (vec![to(&topic, 0, "zombie too")], vec![(tp(&topic, 0), u64::MAX, at(3))]);
    let error = txn.write(records, &zombie.committer, offsets).await.unwrap_err();
    assert!(error.is_stale() && !error.is_fenced(), "{error}");
    let error = txn.commit().await.unwrap_err();
    assert!(error.is_stale() && !error.may_have_happened(), "{error}");
    assert_eq!(committed(&world, &topic, 0).await, ["heir"]);
    committed_offset(&world, &group, &tp(&topic, 0), 7).await;
    // The producer itself is as good as ever.
    zombie.until(SOON, "the loss", |m| m.log.contains(&"lost 1".to_owned())).await;
    let mut txn = old.begin().await.unwrap();
    let error = txn.commit_offsets(&zombie.committer, vec![(tp(&topic, 0), at(3))]).await.unwrap_err();
    assert!(error.is_stale(), "{error}");
    txn.abort().await.unwrap();
}

async fn a_rebalance_that_leaves_the_partition_is_waited_for(world: World) {
    let (topic, group) = (world.topic(4).await, world.name("g"));
    let mut first = Member::start(&world.cluster, in_transactions(&group, &[&topic]));
    first.until_held(SOON, 4).await;
    let committer = first.committer.clone();
    let mut producer = producer(&world, &world.name("x")).await;
    let name = topic.clone();
    let committing = tokio::spawn(async move {
        let mut counts = [(0, 0); 4];
        for round in 0..40 {
            for partition in 0..4 {
                let mut txn = producer.begin().await.unwrap();
                let offsets = vec![(TopicPartition::new(name.as_str(), partition), at(round))];
                let (good, stale) = &mut counts[usize::try_from(partition).unwrap()];
                match txn.commit_offsets(&committer, offsets).await {
                    Ok(()) => {
                        txn.commit().await.unwrap();
                        *good += 1;
                    }
                    Err(error) => {
                        assert!(error.is_stale(), "{error}");
                        txn.abort().await.unwrap();
                        *stale += 1;
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        counts
    });
    let mut second = Member::start(&world.another_cluster(), in_transactions(&group, &[&topic]));
    tokio::join!(second.until_held(SOON, 2), first.until_held(SOON, 2));
    let counts = committing.await.unwrap();
    for (partition, (good, stale)) in (0..4).zip(counts) {
        assert_eq!(good + stale, 40);
        if first.partitions().contains(&partition) {
            assert_eq!(good, 40, "what stayed was always committed");
        }
    }
    // Away and back again is not the same assignment.
    let came = second.partitions()[0];
    second.leave().await.unwrap();
    first.until_held(SOON, 4).await;
    let mut producer = super::producer(&world, &world.name("x")).await;
    let mut txn = producer.begin().await.unwrap();
    let error = txn.commit_offsets_each(&first.committer, vec![(tp(&topic, came), 1, at(90))]).await.unwrap_err();
    assert!(error.is_stale(), "{error}");
    txn.abort().await.unwrap();
    let (epoch, _) = first.held[&tp(&topic, came)];
    let mut txn = producer.begin().await.unwrap();
    txn.commit_offsets_each(&first.committer, vec![(tp(&topic, came), epoch, at(91))]).await.unwrap();
    txn.commit().await.unwrap();
    committed_offset(&world, &group, &tp(&topic, came), 91).await;
}

async fn plain_and_transactional_commits_do_not_mix(world: World) {
    let (topic, group) = (world.topic(1).await, world.name("g"));
    let offsets = || vec![(tp(&topic, 0), at(1))];
    let mut plain = Member::start(&world.cluster, config(&group, &[&topic]));
    plain.until_held(SOON, 1).await;
    let mut producer = producer(&world, &world.name("x")).await;
    let mut txn = producer.begin().await.unwrap();
    let error = txn.commit_offsets(&plain.committer, offsets()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Invalid(_)), "{error}");
    txn.abort().await.unwrap();
    plain.leave().await.unwrap();
    let mut member = Member::start(&world.cluster, in_transactions(&group, &[&topic]));
    member.until_held(SOON, 1).await;
    let error = member.committer.commit(offsets()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Invalid(_)), "{error}");
    assert!(super::offsets(&world, &group).await.is_empty());
}
