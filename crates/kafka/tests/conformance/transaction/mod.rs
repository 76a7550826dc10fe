//! Transactions: all or nothing, once, whatever gets lost.

pub mod faults;
pub mod groups;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anabranch_kafka::{
    Commits, Delivered, ErrorKind, GroupConfig, Isolation, OffsetToCommit, OutRecord, Position, TopicPartition,
    TransactionConfig, TransactionalProducer,
};
use kafka_protocol::messages::ApiKey;

use crate::{
    cases,
    member::{Member, config},
    world::{self, Profile, SOON, World, to, values},
};

cases![
    a_commit_shows_all_at_once,
    an_abort_shows_nothing,
    the_next_waits_for_the_markers_of_the_last,
    large_sends_come_in_order,
    keys_choose_partitions,
    a_second_instance_fences_the_first,
    what_the_broker_refuses_is_aborted_and_the_next_goes_on,
    missing_rights_end_the_producer,
    a_transaction_that_runs_out_of_time_is_aborted,
];

pub fn tp(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition::new(topic, partition)
}

pub fn at(offset: i64) -> OffsetToCommit {
    OffsetToCommit { offset, metadata: format!("m{offset}") }
}

pub fn in_transactions(group: &str, topics: &[&str]) -> GroupConfig {
    GroupConfig { commits: Commits::InTransactions, ..config(group, topics) }
}

pub async fn producer(world: &World, id: &str) -> TransactionalProducer {
    world.cluster.transactional(TransactionConfig::new(id)).await.unwrap()
}

/// What readers of committed records see of a partition up to its end, which they reach when no transaction is open.
pub async fn committed(world: &World, topic: &str, partition: i32) -> Vec<String> {
    let tp = tp(topic, partition);
    let mut fetcher = world.fetcher(Isolation::ReadCommitted);
    fetcher.add(tp.clone(), Position::Earliest);
    let end =
        world.cluster.admin().end_offsets(std::slice::from_ref(&tp), Isolation::ReadUncommitted).await.unwrap()[&tp];
    let (mut next, mut records) = (0, Vec::new());
    while next < end {
        let fetched = world::next(&mut fetcher).await;
        next = fetched.next_offset;
        records.extend(fetched.records);
    }
    values(&records)
}

pub async fn offsets(world: &World, group: &str) -> BTreeMap<TopicPartition, i64> {
    let committed = world.cluster.admin().committed_offsets(group).await.unwrap();
    committed.into_iter().map(|(tp, offset)| (tp, offset.offset)).collect()
}

/// Waits for a committed offset: Apache Kafka answers a commit before it has written all markers.
pub async fn committed_offset(world: &World, group: &str, tp: &TopicPartition, expected: i64) {
    let deadline = Instant::now() + SOON;
    loop {
        let offset = offsets(world, group).await.get(tp).copied();
        if offset == Some(expected) {
            return;
        }
        assert!(offset.is_none_or(|o| o < expected) && Instant::now() < deadline, "{offset:?} is not {expected}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn a_commit_shows_all_at_once(world: World) {
    let (a, b, input, group) = (world.topic(3).await, world.topic(1).await, world.topic(1).await, world.name("g"));
    let mut member = Member::start(&world.cluster, in_transactions(&group, &[&input]));
    member.until_held(SOON, 1).await;
    let mut producer = producer(&world, &world.name("x")).await;
    for round in 0..3 {
        let mut txn = producer.begin().await.unwrap();
        let records = vec![to(&a, 0, "1"), to(&a, 2, "2"), to(&b, 0, "3"), to(&a, 0, "4")];
        let delivered = txn.send(records).await.unwrap();
        assert_eq!(delivered.iter().map(|d| d.partition).collect::<Vec<_>>(), [0, 2, 0, 0]);
        assert_eq!(delivered[3].offset, delivered[0].offset + 1);
        txn.commit_offsets(&member.committer, vec![(tp(&input, 0), at(round + 1))]).await.unwrap();
        txn.send(vec![to(&b, 0, "5")]).await.unwrap();
        let mut early = world.fetcher(Isolation::ReadCommitted);
        early.add(tp(&a, 2), Position::Offset(delivered[1].offset));
        while let Ok(Ok(fetched)) = tokio::time::timeout(Duration::from_millis(300), early.next()).await {
            assert!(fetched.records.is_empty(), "seen before it is committed");
        }
        txn.commit().await.unwrap();
        let times = usize::try_from(round + 1).unwrap();
        assert_eq!(committed(&world, &a, 0).await, ["1", "4"].repeat(times));
        assert_eq!(committed(&world, &a, 2).await, ["2"].repeat(times));
        assert_eq!(committed(&world, &b, 0).await, ["3", "5"].repeat(times));
        committed_offset(&world, &group, &tp(&input, 0), round + 1).await;
    }
    let kept = world.cluster.admin().committed_offsets(&group).await.unwrap();
    assert_eq!(kept[0].1.metadata, "m3");
    // Version 2 needs no adding; the capped profiles must not use it.
    let added = world.proxy.requests().contains_key(&(ApiKey::AddPartitionsToTxn as i16));
    match world.profile {
        Profile::Two => assert!(!added),
        Profile::Redpanda | Profile::Oldest => assert!(added),
        Profile::Full => {}
    }
    // One that wrote nothing asks nothing.
    let asked = world.proxy.requests().get(&(ApiKey::EndTxn as i16)).copied();
    producer.begin().await.unwrap().commit().await.unwrap();
    producer.begin().await.unwrap().abort().await.unwrap();
    assert_eq!(world.proxy.requests().get(&(ApiKey::EndTxn as i16)).copied(), asked);
}

async fn an_abort_shows_nothing(world: World) {
    let (topic, group) = (world.topic(2).await, world.name("g"));
    let mut member = Member::start(&world.cluster, in_transactions(&group, &[&topic]));
    member.until_held(SOON, 2).await;
    let mut producer = producer(&world, &world.name("x")).await;
    for (round, good) in [true, false, false, true, false].into_iter().enumerate() {
        let mut txn = producer.begin().await.unwrap();
        let value = round.to_string();
        txn.send(vec![to(&topic, 0, &value), to(&topic, 1, &value)]).await.unwrap();
        txn.commit_offsets(&member.committer, vec![(tp(&topic, 0), at(i64::try_from(round).unwrap()))]).await.unwrap();
        if good {
            txn.commit().await.unwrap();
        } else {
            txn.abort().await.unwrap();
        }
    }
    for partition in 0..2 {
        assert_eq!(committed(&world, &topic, partition).await, ["0", "3"]);
    }
    committed_offset(&world, &group, &tp(&topic, 0), 3).await;
}

/// Under version two: the broker would answer at its own pace, 20 ms later. Under version one it says at once that it is too
/// early. That the coordinator cannot be asked holds up nobody.
async fn the_next_waits_for_the_markers_of_the_last(world: World) {
    let topic = world.topic(1).await;
    let mut producer = producer(&world, &world.name("x")).await;
    // More than two: on a busy machine a moment may be a while.
    let values: Vec<String> = (0..8).map(|i: i32| i.to_string()).collect();
    for value in &values {
        if value == "5" {
            world.proxy.cut_requests(ApiKey::DescribeTransactions, 1);
        }
        let mut txn = producer.begin().await.unwrap();
        txn.send(vec![to(&topic, 0, value)]).await.unwrap();
        txn.commit().await.unwrap();
    }
    let asked = world.proxy.requests();
    let count = |key: ApiKey| asked.get(&(key as i16)).copied().unwrap_or(0);
    let adds_by_itself = count(ApiKey::AddPartitionsToTxn) == 0;
    assert_eq!(count(ApiKey::DescribeTransactions) > 0, adds_by_itself, "{asked:?}");
    assert_eq!(committed(&world, &topic, 0).await, values);
}

async fn large_sends_come_in_order(world: World) {
    let topic = world.topic(2).await;
    let small = TransactionConfig {
        max_batch_bytes: 1_000,
        max_round_bytes: 1_500,
        max_record_bytes: 5_000,
        ..TransactionConfig::new(world.name("x"))
    };
    let mut producer = world.cluster.transactional(small).await.unwrap();
    let mut txn = producer.begin().await.unwrap();
    let records: Vec<OutRecord> = (0..200).map(|i| to(&topic, i % 2, &format!("{i:0>100}"))).collect();
    let delivered = txn.send(records.clone()).await.unwrap();
    txn.commit().await.unwrap();
    for partition in 0..2 {
        let mine: Vec<&Delivered> = delivered.iter().filter(|d| d.partition == partition).collect();
        assert!(mine.iter().map(|d| d.offset).eq(0..100), "offsets in order of sending");
        let read = committed(&world, &topic, partition).await;
        assert!(read.iter().map(|v| v.parse::<i32>().unwrap()).eq((0..100).map(|i| 2 * i + partition)));
    }
    let mut txn = producer.begin().await.unwrap();
    let error = txn.send(vec![to(&topic, 0, "small"), to(&topic, 0, &"x".repeat(6_000))]).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::RecordTooLarge { limit_bytes: Some(5_000), .. }), "{error}");
    let error = txn.commit().await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::RecordTooLarge { .. }) && !error.may_have_happened(), "{error}");
    assert_eq!(committed(&world, &topic, 0).await.len(), 100);
}

async fn keys_choose_partitions(world: World) {
    let topic = world.topic(5).await;
    let keyed = |key: &str| OutRecord { partition: None, key: Some(key.to_owned().into()), ..to(&topic, 0, key) };
    let keys: Vec<String> = (0..20).map(|i| format!("key-{i}")).collect();
    let mut producer = producer(&world, &world.name("x")).await;
    let mut txn = producer.begin().await.unwrap();
    let ours = txn.send(keys.iter().map(|k| keyed(k)).collect()).await.unwrap();
    txn.commit().await.unwrap();
    let plain = world.producer().send_all(keys.iter().map(|k| keyed(k)).collect()).await.unwrap();
    let partitions = |d: &[Delivered]| d.iter().map(|d| d.partition).collect::<Vec<_>>();
    assert_eq!(partitions(&ours), partitions(&plain));
    let error = producer.begin().await.unwrap().send(vec![to(&world.name("none"), 0, "")]).await.unwrap_err();
    assert!(error.is_unknown_topic(), "{error}");
}

/// What the first instance does when it hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Begin,
    Send,
    Offsets,
    Commit,
    Abort,
}

async fn a_second_instance_fences_the_first(world: World) {
    let (topic, group) = (world.topic(1).await, world.name("g"));
    let mut member = Member::start(&world.cluster, in_transactions(&group, &[&topic]));
    member.until_held(SOON, 1).await;
    for (round, step) in [Step::Begin, Step::Send, Step::Offsets, Step::Commit, Step::Abort].into_iter().enumerate() {
        let id = world.name("x");
        let mut first = producer(&world, &id).await;
        let offsets = || vec![(tp(&topic, 0), at(100))];
        let mut txn = first.begin().await.unwrap();
        if step != Step::Begin {
            txn.send(vec![to(&topic, 0, "first")]).await.unwrap();
        }
        let other = world.another_cluster();
        let mut second = other.transactional(TransactionConfig::new(&id)).await.unwrap();
        let error = match step {
            Step::Begin => txn.send(vec![to(&topic, 0, "first")]).await.unwrap_err(),
            Step::Send => txn.send(vec![to(&topic, 0, "late")]).await.unwrap_err(),
            Step::Offsets => txn.commit_offsets(&member.committer, offsets()).await.unwrap_err(),
            Step::Commit => txn.commit().await.unwrap_err(),
            Step::Abort => txn.abort().await.unwrap_err(),
        };
        assert!(error.is_fenced() && !error.may_have_happened() && !error.is_retryable(), "{step:?}: {error}");
        assert!(first.is_over());
        for _ in 0..2 {
            let error = first.begin().await.unwrap_err();
            assert!(error.is_fenced(), "{error}");
        }
        assert_eq!(first.settle().await.unwrap(), None);
        let mut txn = second.begin().await.unwrap();
        txn.send(vec![to(&topic, 0, "second")]).await.unwrap();
        txn.commit().await.unwrap();
        assert_eq!(committed(&world, &topic, 0).await, ["second"].repeat(round + 1), "{step:?}");
    }
    assert!(offsets(&world, &group).await.is_empty());
}

async fn what_the_broker_refuses_is_aborted_and_the_next_goes_on(world: World) {
    let topic = world.topic(1).await;
    let mut producer = producer(&world, &world.name("x")).await;
    let mut round = 0;
    // OUT_OF_ORDER_SEQUENCE_NUMBER, INVALID_TXN_STATE, UNKNOWN_PRODUCER_ID, INVALID_PRODUCER_ID_MAPPING, MESSAGE_TOO_LARGE,
    // TOPIC_AUTHORIZATION_FAILED, TRANSACTION_ABORTABLE
    for code in [45, 48, 59, 49, 10, 29, 120] {
        let mut txn = producer.begin().await.unwrap();
        txn.send(vec![to(&topic, 0, "bad")]).await.unwrap();
        world.proxy.refuse(ApiKey::Produce, &[code]);
        let error = txn.send(vec![to(&topic, 0, "bad")]).await.unwrap_err();
        assert_eq!(error.code(), Some(code), "{error}");
        assert!(!error.is_fenced());
        let again = txn.send(vec![to(&topic, 0, "bad")]).await.unwrap_err();
        assert!(matches!(again.kind(), ErrorKind::Invalid(_)), "{again}");
        let refused = txn.commit().await.unwrap_err();
        assert_eq!((refused.code(), refused.may_have_happened()), (Some(code), false), "the reason: {refused}");
        let mut txn = producer.begin().await.unwrap();
        txn.send(vec![to(&topic, 0, "good"), to(&topic, 0, "good")]).await.unwrap();
        txn.commit().await.unwrap();
        round += 2;
        assert_eq!(committed(&world, &topic, 0).await, ["good"].repeat(round), "{code}");
    }
    // A commit that the coordinator refuses. INVALID_TXN_STATE, INVALID_PRODUCER_ID_MAPPING, TRANSACTION_ABORTABLE
    for code in [48, 49, 120] {
        let mut txn = producer.begin().await.unwrap();
        txn.send(vec![to(&topic, 0, "bad")]).await.unwrap();
        world.proxy.refuse(ApiKey::EndTxn, &[code]);
        let error = txn.commit().await.unwrap_err();
        assert_eq!((error.code(), error.may_have_happened()), (Some(code), false), "{error}");
        if code == 120 {
            producer.begin().await.unwrap().abort().await.unwrap();
            continue;
        }
        // It is open in truth, so that the coordinator fences whoever starts over.
        let error = match producer.begin().await {
            Ok(txn) => {
                txn.abort().await.unwrap();
                continue;
            }
            Err(error) => error,
        };
        assert!(error.is_fenced(), "{error}");
        producer = world.cluster.transactional(TransactionConfig::new(world.name("x"))).await.unwrap();
    }
    assert_eq!(committed_soon(&world, &topic, round).await, ["good"].repeat(round));
}

/// Once the transactions that a case left behind are aborted.
async fn committed_soon(world: &World, topic: &str, count: usize) -> Vec<String> {
    let mut fetcher = world.fetcher(Isolation::ReadCommitted);
    fetcher.add(tp(topic, 0), Position::Earliest);
    values(&world::read_from(&mut fetcher, count).await)
}

async fn missing_rights_end_the_producer(world: World) {
    let topic = world.topic(1).await;
    const TRANSACTIONAL_ID_AUTHORIZATION_FAILED: i16 = 53;
    world.proxy.refuse(ApiKey::InitProducerId, &[TRANSACTIONAL_ID_AUTHORIZATION_FAILED]);
    let started = Instant::now();
    let error = world.cluster.transactional(TransactionConfig::new(world.name("x"))).await.unwrap_err();
    assert!(error.is_fatal() && started.elapsed() < Duration::from_secs(3), "{error}");
    let mut producer = producer(&world, &world.name("x")).await;
    let mut txn = producer.begin().await.unwrap();
    world.proxy.refuse(ApiKey::Produce, &[TRANSACTIONAL_ID_AUTHORIZATION_FAILED]);
    assert!(txn.send(vec![to(&topic, 0, "x")]).await.unwrap_err().is_fatal());
    assert!(txn.commit().await.unwrap_err().is_fatal());
    assert!(producer.begin().await.unwrap_err().is_fatal());
    let long = TransactionConfig {
        transaction_timeout: Duration::from_secs(60 * 60 * 24),
        ..TransactionConfig::new(world.name("x"))
    };
    let error = world.cluster.transactional(long).await.unwrap_err();
    assert_eq!((error.code(), error.is_fatal()), (Some(50), true), "a setting must be changed: {error}");
}

async fn a_transaction_that_runs_out_of_time_is_aborted(world: World) {
    let topic = world.topic(1).await;
    let short =
        || TransactionConfig { transaction_timeout: Duration::from_secs(1), ..TransactionConfig::new(world.name("x")) };
    let mut slow = world.cluster.transactional(short()).await.unwrap();
    let mut txn = slow.begin().await.unwrap();
    txn.send(vec![to(&topic, 0, "late")]).await.unwrap();
    world.producer().send(to(&topic, 0, "plain")).await.unwrap();
    // Apache Kafka looks for such transactions every 10 s.
    let mut fetcher = world.fetcher(Isolation::ReadCommitted);
    fetcher.add(tp(&topic, 0), Position::Earliest);
    let read = world::read_from(&mut fetcher, 1).await;
    assert_eq!(values(&read), ["plain"], "the aborted one is not seen, and holds up nobody");
    let error = txn.commit().await.unwrap_err();
    assert!(!error.may_have_happened(), "{error}");
    // Under version 2 Apache Kafka lets the producer itself start over; else it is fenced as if by another.
    match slow.begin().await {
        Ok(mut txn) => {
            assert_eq!(error.code(), Some(48), "{error}");
            txn.send(vec![to(&topic, 0, "next")]).await.unwrap();
            txn.commit().await.unwrap();
            assert_eq!(committed(&world, &topic, 0).await, ["plain", "next"]);
        }
        Err(again) => {
            assert!(error.is_fenced() && again.is_fenced(), "{error}; {again}");
            assert_eq!(committed(&world, &topic, 0).await, ["plain"]);
        }
    }
}
