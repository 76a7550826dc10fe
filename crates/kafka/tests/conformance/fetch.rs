//! Reading chosen partitions, whatever lies in them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use anabranch_kafka::{FetchConfig, Isolation, OutRecord, Position, TopicPartition};
use bytes::Bytes;
use kafka_protocol::{messages::ApiKey, records::Compression};

use crate::{
    cases,
    raw::{From, batch, delete_records, produce},
    txn::Txn,
    world::{World, next, read_from, to, values},
};

cases![
    many_partitions_are_read_at_once,
    positions_are_kept,
    reading_starts_in_the_middle_of_a_batch,
    an_offset_the_log_does_not_have_is_told,
    a_paused_partition_waits,
    an_empty_topic_wakes_up_at_once,
    an_idle_reader_does_next_to_nothing,
    compaction_gaps_are_stepped_over,
    aborted_records_and_markers_are_not_seen,
    what_is_not_committed_yet_is_waited_for,
    every_codec_is_read,
    a_batch_larger_than_the_limit_comes,
    a_topic_that_comes_later_is_picked_up,
    dropping_the_reader_ends_everything,
];

fn tp(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition::new(topic, partition)
}

async fn many_partitions_are_read_at_once(world: World) {
    let topics = [world.topic(12).await, world.topic(12).await];
    let producer = world.producer();
    let mut expected = BTreeSet::new();
    let mut records = Vec::new();
    for topic in &topics {
        for partition in 0..12 {
            for i in 0..20 {
                expected.insert((topic.clone(), partition, i.to_string()));
                records.push(to(topic, partition, &i.to_string()));
            }
        }
    }
    producer.send_all(records).await.unwrap();
    let config = FetchConfig { max_bytes: 2_000, max_partition_bytes: 500, ..FetchConfig::default() };
    let mut fetcher = world.cluster.fetcher(config);
    for topic in &topics {
        (0..12).for_each(|p| fetcher.add(tp(topic, p), Position::Earliest));
    }
    let read = read_from(&mut fetcher, expected.len()).await;
    let mut last: BTreeMap<(String, i32), i64> = BTreeMap::new();
    for record in &read {
        let before = last.insert((record.topic.to_string(), record.partition), record.offset);
        assert_eq!(before.map_or(0, |b| b + 1), record.offset, "in order, without gaps");
        let value = String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap();
        assert!(expected.remove(&(record.topic.to_string(), record.partition, value)));
    }
    assert!(expected.is_empty());
}

async fn positions_are_kept(world: World) {
    let topic = world.topic(1).await;
    world.send(&topic, 0, &["a", "b", "c", "d"]).await;
    let mut fetcher = world.fetcher(Isolation::ReadCommitted);
    fetcher.add(tp(&topic, 0), Position::Offset(2));
    assert_eq!(values(&read_from(&mut fetcher, 2).await), ["c", "d"]);
    fetcher.add(tp(&topic, 0), Position::Offset(1));
    assert_eq!(values(&read_from(&mut fetcher, 3).await), ["b", "c", "d"], "added anew, read anew");
    fetcher.add(tp(&topic, 0), Position::Latest);
    assert!(tokio::time::timeout(Duration::from_millis(800), read_from(&mut fetcher, 1)).await.is_err());
    world.send(&topic, 0, &["e"]).await;
    assert_eq!(values(&read_from(&mut fetcher, 1).await), ["e"]);
    fetcher.remove(&tp(&topic, 0));
    assert_eq!(fetcher.partitions().count(), 0);
}

async fn reading_starts_in_the_middle_of_a_batch(world: World) {
    let topic = world.topic(1).await;
    let mut raw = world.raw().await;
    let from = From::default();
    for codec in [Compression::None, Compression::Lz4] {
        produce(&mut raw, &from, &topic, 0, batch(&from, &["0", "1", "2", "3", "4"], codec)).await;
    }
    let mut fetcher = world.fetcher(Isolation::ReadCommitted);
    fetcher.add(tp(&topic, 0), Position::Offset(3));
    let records = read_from(&mut fetcher, 7).await;
    assert_eq!(values(&records), ["3", "4", "0", "1", "2", "3", "4"]);
    assert_eq!(records.iter().map(|r| r.offset).collect::<Vec<_>>(), (3..10).collect::<Vec<i64>>());
}

async fn an_offset_the_log_does_not_have_is_told(world: World) {
    let topic = world.topic(2).await;
    world.send(&topic, 0, &["a", "b", "c"]).await;
    world.send(&topic, 1, &["other"]).await;
    delete_records(&mut world.raw().await, &topic, 0, 2).await;
    for offset in [0, 99] {
        let mut fetcher = world.fetcher(Isolation::ReadCommitted);
        fetcher.add(tp(&topic, 0), Position::Offset(offset));
        let error = fetcher.next().await.unwrap_err();
        assert_eq!(error.code(), Some(1), "{error}");
        assert!(!error.is_retryable() && error.to_string().contains(&format!("{topic}-0")), "{error}");
        fetcher.add(tp(&topic, 1), Position::Earliest);
        assert_eq!(values(&read_from(&mut fetcher, 1).await), ["other"], "the others go on");
        fetcher.add(tp(&topic, 0), Position::Earliest);
        let records = read_from(&mut fetcher, 1).await;
        assert_eq!((values(&records), records[0].offset), (vec!["c".to_owned()], 2));
    }
}

async fn a_paused_partition_waits(world: World) {
    let topic = world.topic(2).await;
    let mut fetcher = world.fetcher(Isolation::ReadCommitted);
    (0..2).for_each(|p| fetcher.add(tp(&topic, p), Position::Earliest));
    fetcher.pause(&tp(&topic, 0));
    world.send(&topic, 0, &["paused"]).await;
    world.send(&topic, 1, &["a", "b"]).await;
    assert_eq!(values(&read_from(&mut fetcher, 2).await), ["a", "b"]);
    assert!(tokio::time::timeout(Duration::from_millis(800), read_from(&mut fetcher, 1)).await.is_err());
    fetcher.resume(&tp(&topic, 0));
    assert_eq!(values(&read_from(&mut fetcher, 1).await), ["paused"]);
}

async fn an_empty_topic_wakes_up_at_once(world: World) {
    let topic = world.topic(8).await;
    let config = FetchConfig { max_wait: Duration::from_secs(10), ..FetchConfig::default() };
    let mut fetcher = world.cluster.fetcher(config);
    (0..8).for_each(|p| fetcher.add(tp(&topic, p), Position::Earliest));
    let reading = tokio::spawn(async move {
        let records = read_from(&mut fetcher, 1).await;
        (records, Instant::now(), fetcher)
    });
    let producer = world.producer();
    // Warm, so that what is timed is the wake-up.
    producer.send(to(&world.topic(1).await, 0, "warm")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let sent = Instant::now();
    producer.send(to(&topic, 5, "wake")).await.unwrap();
    let (records, woken, _) = reading.await.unwrap();
    assert_eq!(values(&records), ["wake"]);
    assert!(woken - sent < Duration::from_secs(2), "{:?}", woken - sent);
}

async fn an_idle_reader_does_next_to_nothing(world: World) {
    let topic = world.topic(6).await;
    let mut fetcher = world.fetcher(Isolation::ReadCommitted);
    (0..6).for_each(|p| fetcher.add(tp(&topic, p), Position::Earliest));
    let fetches = || world.proxy.requests().get(&(ApiKey::Fetch as i16)).copied().unwrap_or(0);
    let settled = tokio::time::timeout(Duration::from_secs(1), read_from(&mut fetcher, 1)).await;
    assert!(settled.is_err());
    let before = fetches();
    let idle = tokio::time::timeout(Duration::from_secs(3), read_from(&mut fetcher, 1)).await;
    assert!(idle.is_err());
    assert!((1..=14).contains(&(fetches() - before)), "{} fetches in 3 s of 500 ms waits", fetches() - before);
}

async fn compaction_gaps_are_stepped_over(world: World) {
    let configs = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "100"),
        ("min.cleanable.dirty.ratio", "0.001"),
        ("max.compaction.lag.ms", "100"),
    ];
    let topic = world.topic_with(1, &configs).await;
    let producer = world.producer();
    let record = |key: usize, value: usize| OutRecord {
        key: Some(Bytes::from(format!("k{key}"))),
        ..to(&topic, 0, &value.to_string())
    };
    let mut sent = 0;
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        producer.send_all((0..30).map(|i| record(i % 3, sent + i)).collect()).await.unwrap();
        sent += 30;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let before = world.proxy.requests().get(&(ApiKey::Fetch as i16)).copied().unwrap_or(0);
        let mut fetcher = world.fetcher(Isolation::ReadCommitted);
        fetcher.add(tp(&topic, 0), Position::Earliest);
        let mut records = Vec::new();
        let mut position = 0;
        while position < i64::try_from(sent).unwrap() {
            let fetched = next(&mut fetcher).await;
            position = fetched.next_offset;
            records.extend(fetched.records);
        }
        let after = world.proxy.requests().get(&(ApiKey::Fetch as i16)).copied().unwrap_or(0);
        assert!(after - before < 20, "{} fetches to read a log of {sent}", after - before);
        assert!(records.is_sorted_by(|a, b| a.offset < b.offset));
        for key in 0..3 {
            let last = records.iter().rfind(|r| r.key.as_deref() == Some(format!("k{key}").as_bytes())).unwrap();
            assert_eq!(values(std::slice::from_ref(last)), [(sent - 3 + key).to_string()]);
        }
        if records.len() < sent {
            return;
        }
        assert!(Instant::now() < deadline, "the broker compacts nothing");
    }
}

async fn aborted_records_and_markers_are_not_seen(world: World) {
    let topic = world.topic(1).await;
    let (mut one, mut two) =
        (Txn::new(world.broker(), &world.name("txn")).await, Txn::new(world.broker(), &world.name("txn")).await);
    one.send(&topic, 0, &["bad 1", "bad 2"]).await;
    two.send(&topic, 0, &["good 1"]).await;
    world.send(&topic, 0, &["plain"]).await;
    one.end(false).await;
    two.send(&topic, 0, &["good 2"]).await;
    two.end(true).await;
    one.send(&topic, 0, &["good 3"]).await;
    one.end(true).await;
    two.send(&topic, 0, &["bad 3"]).await;
    two.end(false).await;
    let end = world.cluster.admin().end_offsets(&[tp(&topic, 0)], Isolation::ReadUncommitted).await.unwrap();
    let all = ["bad 1", "bad 2", "good 1", "plain", "good 2", "good 3", "bad 3"];
    let good = ["good 1", "plain", "good 2", "good 3"];
    for (isolation, expected) in [(Isolation::ReadUncommitted, &all[..]), (Isolation::ReadCommitted, &good[..])] {
        for start in [Position::Earliest, Position::Offset(1)] {
            let mut fetcher = world.fetcher(isolation);
            fetcher.add(tp(&topic, 0), start);
            let mut records = Vec::new();
            let mut fetched = next(&mut fetcher).await;
            while fetched.next_offset < end[&tp(&topic, 0)] {
                records.append(&mut fetched.records);
                fetched = next(&mut fetcher).await;
            }
            records.append(&mut fetched.records);
            let skipped = usize::from(isolation == Isolation::ReadUncommitted && start == Position::Offset(1));
            assert_eq!(values(&records), expected[skipped..], "{isolation:?} from {start:?}");
        }
    }
}

async fn what_is_not_committed_yet_is_waited_for(world: World) {
    let topic = world.topic(1).await;
    let mut open = Txn::new(world.broker(), &world.name("txn")).await;
    world.send(&topic, 0, &["before"]).await;
    open.send(&topic, 0, &["open"]).await;
    world.send(&topic, 0, &["after"]).await;
    let mut fetcher = world.fetcher(Isolation::ReadCommitted);
    fetcher.add(tp(&topic, 0), Position::Earliest);
    let fetched = next(&mut fetcher).await;
    assert_eq!(values(&fetched.records), ["before"]);
    assert_eq!((fetched.last_stable_offset, fetched.high_watermark), (1, 3));
    assert!(tokio::time::timeout(Duration::from_millis(800), read_from(&mut fetcher, 1)).await.is_err());
    let ended = Instant::now();
    open.end(true).await;
    assert_eq!(values(&read_from(&mut fetcher, 2).await), ["open", "after"]);
    assert!(ended.elapsed() < Duration::from_secs(3));
    assert_eq!(values(&world.read(&topic, 0, 3).await), ["before", "open", "after"]);
}

async fn every_codec_is_read(world: World) {
    let topic = world.topic(1).await;
    let mut raw = world.raw().await;
    let from = From::default();
    let long = "long enough to be worth packing ".repeat(100);
    let codecs = [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd, Compression::None];
    for codec in codecs {
        produce(&mut raw, &from, &topic, 0, batch(&from, &["a", &long, "b"], codec)).await;
    }
    let read = values(&world.read(&topic, 0, 15).await);
    for chunk in read.chunks(3) {
        assert_eq!(chunk, ["a", long.as_str(), "b"]);
    }
}

async fn a_batch_larger_than_the_limit_comes(world: World) {
    let topic = world.topic(2).await;
    let big = "x".repeat(100_000);
    for partition in 0..2 {
        world.send(&topic, partition, &[&big]).await;
        world.send(&topic, partition, &["small"]).await;
    }
    let config = FetchConfig { max_bytes: 1_000, max_partition_bytes: 1_000, ..FetchConfig::default() };
    let mut fetcher = world.cluster.fetcher(config);
    (0..2).for_each(|p| fetcher.add(tp(&topic, p), Position::Earliest));
    let read = read_from(&mut fetcher, 4).await;
    assert_eq!(read.iter().filter(|r| r.value.as_ref().unwrap().len() == big.len()).count(), 2);
}

async fn a_topic_that_comes_later_is_picked_up(world: World) {
    let topic = world.name("t");
    let mut fetcher = world.fetcher(Isolation::ReadCommitted);
    fetcher.add(tp(&topic, 0), Position::Offset(0));
    let error = tokio::time::timeout(Duration::from_secs(10), fetcher.next()).await.expect("told").unwrap_err();
    assert!(error.is_unknown_topic() && error.to_string().contains(&topic), "{error}");
    world.create(crate::world::new_topic(&topic, 1, &[])).await;
    world.send(&topic, 0, &["at last"]).await;
    loop {
        match tokio::time::timeout(Duration::from_secs(5), fetcher.next()).await.expect("picked up") {
            Ok(fetched) if fetched.records.is_empty() => {}
            Ok(fetched) => return assert_eq!(values(&fetched.records), ["at last"]),
            Err(error) => assert!(error.is_unknown_topic() || error.is_retryable(), "{error}"),
        }
    }
}

async fn dropping_the_reader_ends_everything(world: World) {
    let topic = world.topic(2).await;
    world.cluster.ping(Duration::from_secs(5)).await.unwrap();
    world.cluster.partition_count(&topic).await.unwrap();
    let pooled = world.proxy.open();
    let mut fetcher = world.fetcher(Isolation::ReadUncommitted);
    (0..2).for_each(|p| fetcher.add(tp(&topic, p), Position::Offset(0)));
    assert!(tokio::time::timeout(Duration::from_millis(700), fetcher.next()).await.is_ok(), "marks are told");
    assert!(world.proxy.open() > pooled, "connections of its own");
    drop(fetcher);
    let deadline = Instant::now() + Duration::from_secs(3);
    while world.proxy.open() > pooled {
        assert!(Instant::now() < deadline, "{} connections, {pooled} pooled", world.proxy.open());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
