//! Transactions on a bad network.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anabranch_kafka::{Cluster, ClusterConfig, Ended, ErrorKind, TransactionConfig};
use kafka_protocol::messages::ApiKey;

use crate::{
    cases,
    member::Member,
    world::{self, SOON, World, to},
};

use super::{at, committed, committed_offset, in_transactions, producer, tp};

cases![
    lost_answers_are_made_up_for,
    cut_requests_are_made_up_for,
    coordinators_and_leaders_that_move_are_followed,
    what_was_not_waited_for_is_aborted,
    an_unknown_outcome_is_settled_first,
    a_fenced_producer_learns_from_the_log_how_it_ended,
    many_small_transactions_with_cuts_are_each_seen_once,
];

const WRITES: [ApiKey; 5] =
    [ApiKey::AddPartitionsToTxn, ApiKey::Produce, ApiKey::AddOffsetsToTxn, ApiKey::TxnOffsetCommit, ApiKey::EndTxn];

/// Calls that end soon.
fn hasty(world: &World, call_timeout: Duration) -> Cluster {
    let patient = world::config(&world.proxy);
    Cluster::new(ClusterConfig { request_timeout: call_timeout / 2, call_timeout, ..patient })
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
            let records = vec![to(&topic, 0, &value), to(&topic, 1, &value)];
            let offsets = vec![(tp(&topic, 0), at(next))];
            if next % 2 == 0 {
                txn.send(records).await.unwrap();
                txn.commit_offsets(&member.committer, offsets).await.unwrap();
            } else {
                let offsets = offsets.into_iter().map(|(tp, offset)| (tp, u64::MAX, offset)).collect();
                let delivered = txn.write(records, &member.committer, offsets).await.unwrap();
                assert_eq!(delivered.iter().map(|d| d.partition).collect::<Vec<_>>(), [0, 1]);
            }
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

/// What an independent client reads with `read_committed`, where it is installed for `python3` or for the interpreter that
/// `ANABRANCH_PYTHON` names.
async fn librdkafka_reads(world: &World, topic: &str, partitions: i32) -> Option<BTreeMap<i32, Vec<String>>> {
    const SKIPPED: i32 = 77;
    let python = std::env::var("ANABRANCH_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/independent/read_committed.py");
    let mut command = std::process::Command::new(&python);
    command.arg(script).args([world.broker(), topic, &partitions.to_string()]);
    let output = match tokio::task::spawn_blocking(move || command.output()).await.unwrap() {
        Ok(output) if output.status.code() != Some(SKIPPED) => output,
        skipped => {
            println!("not read by librdkafka: {}", skipped.map_or_else(|e| e.to_string(), |_| "not installed".into()));
            return None;
        }
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read: BTreeMap<String, Vec<String>> = serde_json::from_slice(&output.stdout).unwrap();
    Some(read.into_iter().map(|(partition, values)| (partition.parse().unwrap(), values)).collect())
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
    for (partition, values) in &expected {
        assert_eq!(&committed(&elsewhere, &topic, *partition).await, values, "partition {partition}, seed {seed}");
    }
    if let Some(read) = librdkafka_reads(&elsewhere, &topic, 4).await {
        assert_eq!(read, expected, "by librdkafka, seed {seed}");
    }
    committed_offset(&elsewhere, &group, &tp(&topic, 0), last).await;
}
