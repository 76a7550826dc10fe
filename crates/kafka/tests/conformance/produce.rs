//! Writing: by rskafka where it can, by our own request where it cannot, in one order.

use std::time::{Duration, Instant};

use anabranch_kafka::{ErrorKind, Header, OutRecord, ProducerConfig, TopicPartition};
use anabranch_testkit::kafka_proxy::Net;
use bytes::Bytes;
use kafka_protocol::messages::ApiKey;

use crate::{
    cases,
    world::{World, to, values},
};

cases![
    records_come_back_as_they_were_sent,
    keys_choose_partitions_as_java_does,
    keyless_records_go_round,
    order_holds_between_both_ways_of_writing,
    no_size_waits_for_the_network,
    too_large_for_the_client_is_refused_at_once,
    too_large_for_the_broker_is_told,
    a_batch_too_large_for_the_broker_is_split,
    a_topic_that_does_not_exist_is_told_and_holds_up_nobody,
    flush_waits_for_all,
    a_lost_answer_is_tried_again,
    dropping_the_send_does_not_drop_the_record,
    nothing_is_sent_past_its_time,
];

fn header(name: &str, value: Option<&'static [u8]>) -> Header {
    Header { name: name.to_owned().into(), value: value.map(Bytes::from_static) }
}

async fn records_come_back_as_they_were_sent(world: World) {
    let topic = world.topic(1).await;
    let bytes = |b: &'static [u8]| Some(Bytes::from_static(b));
    let shapes = [
        (bytes(b"k"), bytes(b"v"), vec![]),
        (bytes(b"k"), bytes(b"v"), vec![header("a", Some(b"1")), header("b", Some(b"2"))]),
        (bytes(b"k"), bytes(b"v"), vec![header("b", Some(b"1")), header("a", Some(b"2"))]),
        (bytes(b"k"), bytes(b"v"), vec![header("a", Some(b"1")), header("a", Some(b"2")), header("a", None)]),
        (bytes(b"k"), None, vec![header("null", None)]),
        (bytes(b"k"), None, vec![]),
        (None, bytes(b"no key"), vec![header("", Some(b""))]),
        (None, None, vec![]),
        (bytes(&[0xff, 0x00, 0xfe]), bytes(&[0xc3, 0x28]), vec![header("bytes", Some(&[0xff]))]),
        (bytes(b""), bytes(b""), vec![]),
    ];
    let records: Vec<OutRecord> = shapes
        .iter()
        .zip(1_700_000_000_000..)
        .map(|((key, value, headers), time)| OutRecord {
            topic: topic.clone(),
            partition: Some(0),
            key: key.clone(),
            value: value.clone(),
            headers: headers.clone(),
            timestamp_ms: Some(time),
        })
        .collect();
    let delivered = world.producer().send_all(records.clone()).await.unwrap();
    let offsets: Vec<i64> = delivered.iter().map(|d| d.offset).collect();
    assert_eq!(offsets, (0..10).collect::<Vec<i64>>());
    let read = world.read(&topic, 0, records.len()).await;
    for (put, got) in records.iter().zip(&read) {
        let got = (&got.key, &got.value, &got.headers, Some(got.timestamp_ms));
        assert_eq!(got, (&put.key, &put.value, &put.headers, put.timestamp_ms));
    }
}

async fn keys_choose_partitions_as_java_does(world: World) {
    let topic = world.topic(7).await;
    let producer = world.producer();
    // Utils.toPositive(Utils.murmur2(key)) % 7
    for (key, expected) in [("foobar", -790332482_i32), ("21", -973932308), ("abc", 479470107)] {
        let record = OutRecord { key: Some(Bytes::from(key)), partition: None, ..to(&topic, 0, "v") };
        let delivered = producer.send(record).await.unwrap();
        assert_eq!(delivered.partition, (expected & i32::MAX) % 7, "{key}");
    }
}

async fn keyless_records_go_round(world: World) {
    let topic = world.topic(3).await;
    let records = (0..9).map(|_| OutRecord { partition: None, ..to(&topic, 0, "v") }).collect();
    let delivered = world.producer().send_all(records).await.unwrap();
    for partition in 0..3 {
        assert_eq!(delivered.iter().filter(|d| d.partition == partition).count(), 3);
    }
}

async fn order_holds_between_both_ways_of_writing(world: World) {
    let topic = world.topic(2).await;
    let record = |i: usize| {
        let headers = if i.is_multiple_of(3) { vec![header("null", None)] } else { vec![header("x", Some(b"1"))] };
        OutRecord { headers, ..to(&topic, i32::try_from(i % 2).unwrap(), &i.to_string()) }
    };
    let producer = world.producer();
    let delivered = producer.send_all((0..400).map(record).collect()).await.unwrap();
    for partition in 0..2_usize {
        let offsets: Vec<i64> = delivered.iter().skip(partition).step_by(2).map(|d| d.offset).collect();
        assert_eq!(offsets, (0..200).collect::<Vec<i64>>());
        let read = world.read(&topic, i32::try_from(partition).unwrap(), 200).await;
        let expected: Vec<String> = (partition..400).step_by(2).map(|i| i.to_string()).collect();
        assert_eq!(values(&read), expected);
    }
}

async fn too_large_for_the_client_is_refused_at_once(world: World) {
    let topic = world.topic(1).await;
    let producer = world.cluster.producer(ProducerConfig { max_record_bytes: 1_000, ..ProducerConfig::default() });
    let error = producer.send(to(&topic, 0, &"x".repeat(1_000))).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::RecordTooLarge { limit_bytes: Some(1_000), .. }), "{error}");
    assert!(!error.is_retryable() && !error.may_have_happened());
    producer.send(to(&topic, 0, &"x".repeat(900))).await.unwrap();
}

async fn too_large_for_the_broker_is_told(world: World) {
    let topic = world.topic_with(1, &[("max.message.bytes", "2000")]).await;
    let producer = world.producer();
    for headers in [vec![], vec![header("null", None)]] {
        let error = producer.send(OutRecord { headers, ..to(&topic, 0, &"x".repeat(3_000)) }).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::RecordTooLarge { limit_bytes: None, .. }), "{error}");
        assert!(!error.is_retryable() && !error.may_have_happened());
    }
    producer.send(to(&topic, 0, "small")).await.unwrap();
}

async fn a_batch_too_large_for_the_broker_is_split(world: World) {
    let topic = world.topic_with(1, &[("max.message.bytes", "2000")]).await;
    for null_header in [false, true] {
        let headers = if null_header { vec![header("null", None)] } else { vec![] };
        let record = |i: i32| {
            let value = if i == 17 { "x".repeat(3_000) } else { format!("{i:0300}") };
            OutRecord { headers: headers.clone(), ..to(&topic, 0, &value) }
        };
        let producer = world.producer();
        let sending = (0..40).map(|i| producer.send(record(i)));
        let results = futures::future::join_all(sending).await;
        for (i, result) in results.iter().enumerate() {
            assert_eq!(result.is_err(), i == 17, "{i}: {result:?}");
        }
        let offsets: Vec<i64> = results.iter().flatten().map(|d| d.offset).collect();
        assert!(offsets.is_sorted_by(|a, b| a < b), "{offsets:?}");
    }
    let numbers: Vec<i32> = values(&world.read(&topic, 0, 78).await).iter().map(|v| v.parse().unwrap()).collect();
    let expected: Vec<i32> = (0..40).filter(|i| *i != 17).collect();
    assert_eq!(numbers, [expected.clone(), expected].concat());
}

async fn a_topic_that_does_not_exist_is_told_and_holds_up_nobody(world: World) {
    let (good, bad) = (world.topic(1).await, world.name("nowhere"));
    let producer = world.producer();
    let started = Instant::now();
    let (by_key, by_partition, null_header, other) = tokio::join!(
        producer.send(OutRecord { partition: None, ..to(&bad, 0, "v") }),
        producer.send(to(&bad, 0, "v")),
        producer.send(OutRecord { headers: vec![header("null", None)], ..to(&bad, 1, "v") }),
        async {
            producer.send(to(&good, 0, "v")).await.unwrap();
            started.elapsed()
        },
    );
    for error in [by_key, by_partition, null_header].map(Result::unwrap_err) {
        assert!(error.is_unknown_topic() && !error.is_retryable(), "{error}");
        assert!(error.to_string().contains(&bad), "{error}");
    }
    assert!(other < Duration::from_secs(2), "{other:?}");
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    let error = producer.send(to(&good, 7, "v")).await.unwrap_err();
    assert!(error.is_unknown_topic(), "a partition that does not exist: {error}");
}

async fn flush_waits_for_all(world: World) {
    let topic = world.topic(4).await;
    let producer = world.producer();
    let mut sending = Vec::new();
    for i in 0..200 {
        let (producer, record) = (producer.clone(), to(&topic, i % 4, &i.to_string()));
        sending.push(tokio::spawn(async move { producer.send(record).await }));
    }
    while !world.proxy.requests().contains_key(&(ApiKey::Produce as i16)) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    producer.flush().await.unwrap();
    for sent in sending {
        sent.await.unwrap().unwrap();
    }
    producer.flush().await.unwrap();
}

async fn a_lost_answer_is_tried_again(world: World) {
    let topic = world.topic(1).await;
    let producer = world.producer();
    producer.send(to(&topic, 0, "before")).await.unwrap();
    for headers in [vec![], vec![header("null", None)]] {
        world.proxy.lose_answers(ApiKey::Produce, 1);
        producer.send(OutRecord { headers, ..to(&topic, 0, "twice") }).await.unwrap();
        assert_eq!(world.proxy.to_lose(ApiKey::Produce), 0);
    }
    producer.send(to(&topic, 0, "after")).await.unwrap();
    let read = values(&world.read(&topic, 0, 6).await);
    assert_eq!(read, ["before", "twice", "twice", "twice", "twice", "after"], "appended both times, and in order");
}

async fn dropping_the_send_does_not_drop_the_record(world: World) {
    let topic = world.topic(1).await;
    let producer = world.producer();
    producer.send(to(&topic, 0, "a")).await.unwrap();
    // Polled once and dropped. On a busy machine the acknowledgement may be there by then: queued is what counts.
    drop(futures::poll!(Box::pin(producer.send(to(&topic, 0, "b")))));
    producer.flush().await.unwrap();
    assert_eq!(values(&world.read(&topic, 0, 2).await), ["a", "b"]);
    // Nor does dropping the producer.
    drop(futures::poll!(Box::pin(producer.send(to(&topic, 0, "c")))));
    drop(producer);
    assert_eq!(values(&world.read(&topic, 0, 3).await), ["a", "b", "c"]);
}

async fn nothing_is_sent_past_its_time(world: World) {
    let topic = world.topic(1).await;
    let limit = Duration::from_millis(1_500);
    let producer = world.cluster.producer(ProducerConfig { delivery_timeout: limit, ..ProducerConfig::default() });
    producer.send(to(&topic, 0, "a")).await.unwrap();
    world.proxy.set(Net::Silent);
    let started = Instant::now();
    let error = producer.send(to(&topic, 0, "b")).await.unwrap_err();
    assert!(started.elapsed() < limit + Duration::from_secs(1), "{:?}", started.elapsed());
    assert!(error.is_retryable() && error.may_have_happened(), "{error}");
    world.proxy.set(Net::Up);
    let end = async || {
        let tps = [TopicPartition::new(topic.as_str(), 0)];
        world.cluster.admin().end_offsets(&tps, anabranch_kafka::Isolation::ReadUncommitted).await.unwrap()[&tps[0]]
    };
    producer.send(to(&topic, 0, "c")).await.unwrap();
    assert!((2..=3).contains(&end().await));
}

/// A request in two pieces, the second of which waits until TCP has acknowledged the first, waits 40 ms at least. Timings
/// on a busy machine are loose; half of many that are all slow are not.
async fn no_size_waits_for_the_network(world: World) {
    let topic = world.topic(1).await;
    let producer = world.producer();
    for bytes in [1_000, 8_000, 9_000, 30_000] {
        let record = to(&topic, 0, &"x".repeat(bytes));
        let mut times = Vec::new();
        for _ in 0..15 {
            let began = Instant::now();
            producer.send(record.clone()).await.unwrap();
            times.push(began.elapsed());
        }
        times.sort();
        assert!(times[4] < Duration::from_millis(38), "a third of {bytes} bytes take longer: {times:?}");
    }
}
