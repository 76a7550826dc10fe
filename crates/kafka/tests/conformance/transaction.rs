//! Transactions: all or nothing, once, whatever gets lost.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anabranch_kafka::{
    Cluster, ClusterConfig, Commits, Delivered, Ended, Error, ErrorKind, GroupConfig, Isolation, OffsetToCommit,
    OutRecord, Position, TopicPartition, TransactionConfig, TransactionalProducer,
};
use kafka_protocol::messages::ApiKey;

use crate::{
    cases,
    member::{Member, SESSION, config},
    proxy::{Net, Profile},
    world::{self, SOON, World, to, values},
};

cases![
    a_commit_shows_all_at_once,
    an_abort_shows_nothing,
    large_sends_come_in_order,
    keys_choose_partitions,
    a_second_instance_fences_the_first,
    lost_answers_are_made_up_for,
    cut_requests_are_made_up_for,
    coordinators_and_leaders_that_move_are_followed,
    what_the_broker_refuses_is_aborted_and_the_next_goes_on,
    missing_rights_end_the_producer,
    what_was_not_waited_for_is_aborted,
    an_unknown_outcome_is_settled_first,
    a_fenced_producer_learns_from_the_log_how_it_ended,
    a_transaction_that_runs_out_of_time_is_aborted,
    an_evicted_member_commits_nothing,
    a_rebalance_that_leaves_the_partition_is_waited_for,
    plain_and_transactional_commits_do_not_mix,
    many_small_transactions_with_cuts_are_each_seen_once,
];

const WRITES: [ApiKey; 5] =
    [ApiKey::AddPartitionsToTxn, ApiKey::Produce, ApiKey::AddOffsetsToTxn, ApiKey::TxnOffsetCommit, ApiKey::EndTxn];

fn tp(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition::new(topic, partition)
}

fn at(offset: i64) -> OffsetToCommit {
    OffsetToCommit { offset, metadata: format!("m{offset}") }
}

fn in_transactions(group: &str, topics: &[&str]) -> GroupConfig {
    GroupConfig { commits: Commits::InTransactions, ..config(group, topics) }
}

async fn producer(world: &World, id: &str) -> TransactionalProducer {
    world.cluster.transactional(TransactionConfig::new(id)).await.unwrap()
}

/// Calls that end soon.
fn hasty(world: &World, call_timeout: Duration) -> Cluster {
    let patient = world::config(&world.proxy);
    Cluster::new(ClusterConfig { request_timeout: call_timeout / 2, call_timeout, ..patient })
}

/// What readers of committed records see of a partition up to its end, which they reach when no transaction is open.
async fn committed(world: &World, topic: &str, partition: i32) -> Vec<String> {
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

async fn offsets(world: &World, group: &str) -> BTreeMap<TopicPartition, i64> {
    let committed = world.cluster.admin().committed_offsets(group).await.unwrap();
    committed.into_iter().map(|(tp, offset)| (tp, offset.offset)).collect()
}

/// Waits for a committed offset: Apache Kafka answers a commit before it has written all markers.
async fn committed_offset(world: &World, group: &str, tp: &TopicPartition, expected: i64) {
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
            Step::Commit => return_error(txn.commit().await),
            Step::Abort => return_error(txn.abort().await),
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

fn return_error(result: Result<(), Error>) -> Error {
    result.unwrap_err()
}

/// Ten times records and offsets, after `harm` was done for each kind of request.
async fn harmed(world: &World, harm: impl Fn(ApiKey)) {
    let (topic, group) = (world.topic(2).await, world.name("g"));
    let mut member = Member::start(&world.cluster, in_transactions(&group, &[&topic]));
    member.until_held(SOON, 2).await;
    let mut expected = Vec::new();
    let mut next = 1;
    harm(ApiKey::InitProducerId);
    harm(ApiKey::FindCoordinator);
    let mut producer = producer(world, &world.name("x")).await;
    for key in WRITES {
        for commit in [true, false, true] {
            harm(key);
            let value = format!("{key:?}-{next}");
            let mut txn = producer.begin().await.unwrap();
            txn.send(vec![to(&topic, 0, &value), to(&topic, 1, &value)]).await.unwrap();
            txn.commit_offsets(&member.committer, vec![(tp(&topic, 0), at(next))]).await.unwrap();
            txn.send(vec![to(&topic, 0, &value)]).await.unwrap();
            if commit {
                txn.commit().await.unwrap_or_else(|e| panic!("{key:?}: {e}"));
                expected.push(value);
            } else {
                txn.abort().await.unwrap_or_else(|e| panic!("{key:?}: {e}"));
            }
            if commit {
                committed_offset(world, &group, &tp(&topic, 0), next).await;
            }
            next += 1;
        }
    }
    let twice: Vec<String> = expected.iter().flat_map(|v| [v.clone(), v.clone()]).collect();
    assert_eq!(committed(world, &topic, 0).await, twice);
    assert_eq!(committed(world, &topic, 1).await, expected);
}

async fn lost_answers_are_made_up_for(world: World) {
    harmed(&world, |key| world.proxy.lose_answers(key, if key == ApiKey::Produce { 1 } else { 2 })).await;
    for key in [ApiKey::InitProducerId, ApiKey::Produce, ApiKey::TxnOffsetCommit, ApiKey::EndTxn] {
        assert_eq!(world.proxy.to_lose(key), 0, "{key:?}");
    }
}

async fn cut_requests_are_made_up_for(world: World) {
    harmed(&world, |key| world.proxy.cut_requests(key, 2)).await;
    for key in [ApiKey::InitProducerId, ApiKey::Produce, ApiKey::TxnOffsetCommit, ApiKey::EndTxn] {
        assert_eq!(world.proxy.to_refuse(key), 0, "{key:?}");
    }
}

async fn coordinators_and_leaders_that_move_are_followed(world: World) {
    // COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR, CONCURRENT_TRANSACTIONS;
    // NOT_LEADER_OR_FOLLOWER, NOT_ENOUGH_REPLICAS, REQUEST_TIMED_OUT, UNKNOWN_TOPIC_OR_PARTITION
    harmed(&world, |key| match key {
        ApiKey::FindCoordinator => {}
        ApiKey::Produce => world.proxy.refuse(key, &[6, 19, 7, 3]),
        key => world.proxy.refuse(key, &[14, 15, 16, 51]),
    })
    .await;
    for key in [ApiKey::InitProducerId, ApiKey::Produce, ApiKey::TxnOffsetCommit, ApiKey::EndTxn] {
        assert_eq!(world.proxy.to_refuse(key), 0, "{key:?}");
    }
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

async fn what_was_not_waited_for_is_aborted(world: World) {
    let topic = world.topic(1).await;
    let mut producer = producer(&world, &world.name("x")).await;
    for moment in 0..40 {
        let wait = Duration::from_micros(150 * moment);
        let mut txn = producer.begin().await.unwrap();
        txn.send(vec![to(&topic, 0, "dropped")]).await.unwrap();
        let sending = txn.send(vec![to(&topic, 0, "half"), to(&topic, 0, "way")]);
        if tokio::time::timeout(wait, sending).await.is_err() {
            let error = txn.send(vec![to(&topic, 0, "more")]).await.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Invalid(_)), "{error}");
        }
    }
    let mut kept = 0;
    for moment in 0..40 {
        let mut txn = producer.begin().await.unwrap();
        txn.send(vec![to(&topic, 0, "kept")]).await.unwrap();
        let committing = tokio::time::timeout(Duration::from_micros(150 * moment), txn.commit()).await;
        match committing {
            Ok(result) => {
                result.unwrap();
                kept += 1;
            }
            Err(_) => {
                let error = producer.begin().await.unwrap_err();
                assert!(matches!(error.kind(), ErrorKind::Invalid(_)), "not before it is settled: {error}");
                match producer.settle().await.unwrap() {
                    Some(Ended::Committed) => kept += 1,
                    other => panic!("it was asked to commit: {other:?}"),
                }
            }
        }
        assert_eq!(producer.settle().await.unwrap(), None);
    }
    producer.begin().await.unwrap().abort().await.unwrap();
    assert_eq!(committed(&world, &topic, 0).await, ["kept"].repeat(kept));
}

async fn an_unknown_outcome_is_settled_first(world: World) {
    let topic = world.topic(1).await;
    let cluster = hasty(&world, Duration::from_secs(2));
    let mut producer = cluster.transactional(TransactionConfig::new(world.name("x"))).await.unwrap();
    // The commit is heard, or it is not; either way nobody tells for longer than the call may take.
    for heard in [true, false] {
        let mut txn = producer.begin().await.unwrap();
        txn.send(vec![to(&topic, 0, "x")]).await.unwrap();
        if heard {
            world.proxy.lose_answers(ApiKey::EndTxn, u32::MAX);
        } else {
            world.proxy.cut_requests(ApiKey::EndTxn, u32::MAX);
        }
        let started = Instant::now();
        let error = txn.commit().await.unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
        assert!(matches!(error.kind(), ErrorKind::OutcomeUnknown { fenced: false, .. }), "{error}");
        assert!(error.may_have_happened() && !error.is_retryable());
        assert!(matches!(producer.begin().await.unwrap_err().kind(), ErrorKind::Invalid(_)));
        assert!(producer.settle().await.unwrap_err().may_have_happened());
        world.proxy.lose_answers(ApiKey::EndTxn, 0);
        world.proxy.cut_requests(ApiKey::EndTxn, 0);
        assert_eq!(producer.settle().await.unwrap(), Some(Ended::Committed));
        assert_eq!(producer.settle().await.unwrap(), None);
    }
    let mut txn = producer.begin().await.unwrap();
    txn.send(vec![to(&topic, 0, "x")]).await.unwrap();
    txn.commit().await.unwrap();
    assert_eq!(committed(&world, &topic, 0).await, ["x"; 3]);
}

async fn a_fenced_producer_learns_from_the_log_how_it_ended(world: World) {
    let topic = world.topic(2).await;
    let elsewhere = World::new(world.profile).await;
    for heard in [true, false] {
        let id = world.name("x");
        let mut first = producer(&world, &id).await;
        let mut txn = first.begin().await.unwrap();
        txn.send(vec![to(&topic, 0, &heard.to_string()), to(&topic, 1, &heard.to_string())]).await.unwrap();
        if heard {
            world.proxy.lose_answers(ApiKey::EndTxn, u32::MAX);
        } else {
            world.proxy.cut_requests(ApiKey::EndTxn, u32::MAX);
        }
        let taken_over = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            elsewhere.cluster.transactional(TransactionConfig::new(&id)).await.unwrap();
            world.proxy.lose_answers(ApiKey::EndTxn, 0);
            world.proxy.cut_requests(ApiKey::EndTxn, 0);
        };
        let (result, ()) = tokio::join!(txn.commit(), taken_over);
        if heard {
            result.expect("it is committed, whoever came after");
        } else {
            let error = result.unwrap_err();
            assert!(error.is_fenced() && !error.may_have_happened(), "{error}");
        }
        assert!(first.begin().await.unwrap_err().is_fenced());
    }
    for partition in 0..2 {
        assert_eq!(committed(&world, &topic, partition).await, ["true"]);
    }
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
    let error = txn.commit_offsets(&zombie.committer, vec![(tp(&topic, 0), at(3))]).await.unwrap_err();
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
    let mut producer = crate::transaction::producer(&world, &world.name("x")).await;
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
    assert!(crate::transaction::offsets(&world, &group).await.is_empty());
}

async fn many_small_transactions_with_cuts_are_each_seen_once(world: World) {
    use rand::{RngExt, SeedableRng, rngs::StdRng};
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    let (topic, group) = (world.topic(4).await, world.name("g"));
    let elsewhere = World::new(world.profile).await;
    let mut member = Member::start(&elsewhere.cluster, in_transactions(&group, &[&topic]));
    member.until_held(SOON, 4).await;
    let mut producer = producer(&world, &world.name("x")).await;
    let mut expected: BTreeMap<i32, Vec<String>> = (0..4).map(|p| (p, Vec::new())).collect();
    let mut last = -1;
    for round in 0..1_000_i64 {
        let harm = WRITES[dice.random_range(0..WRITES.len())];
        match dice.random_range(0..20) {
            0 => world.proxy.lose_answers(harm, 1),
            1 => world.proxy.cut_requests(harm, 1),
            2 => {
                let (proxy, wait) = (world.proxy.clone(), Duration::from_micros(dice.random_range(0..4_000)));
                tokio::spawn(async move {
                    tokio::time::sleep(wait).await;
                    proxy.blink();
                });
            }
            _ => {}
        }
        let mut txn = producer.begin().await.unwrap();
        let records = (0..4).map(|p| to(&topic, p, &round.to_string())).collect();
        txn.send(records).await.unwrap();
        txn.commit_offsets(&member.committer, vec![(tp(&topic, 0), at(round))]).await.unwrap();
        if dice.random_range(0..10) == 0 {
            txn.abort().await.unwrap();
            continue;
        }
        txn.commit().await.unwrap();
        last = round;
        expected.values_mut().for_each(|values| values.push(round.to_string()));
    }
    for (partition, values) in expected {
        assert_eq!(committed(&elsewhere, &topic, partition).await, values, "partition {partition}, seed {seed}");
    }
    committed_offset(&elsewhere, &group, &tp(&topic, 0), last).await;
}
