//! rskafka, an independent client, against the broker.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anabranch_broker::{Action, ApiKey, Broker, BrokerConfig, Fault, Profile, ResponseError, Storage};
use rskafka::{
    client::{
        Client, ClientBuilder,
        partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling},
    },
    record::Record,
};

async fn start() -> Broker {
    Broker::start(BrokerConfig::default()).await.unwrap()
}

async fn client(broker: &Broker) -> Client {
    ClientBuilder::new(vec![broker.bootstrap()]).build().await.unwrap()
}

async fn partition(client: &Client, topic: &str) -> Arc<PartitionClient> {
    Arc::new(client.partition_client(topic, 0, UnknownTopicHandling::Error).await.unwrap())
}

async fn create(client: &Client, topic: &str, partitions: i32) {
    client.controller_client().unwrap().create_topic(topic, partitions, 1, 5_000).await.unwrap();
}

fn record(value: &str) -> Record {
    Record {
        key: Some(b"key".to_vec()),
        value: Some(value.as_bytes().to_vec()),
        headers: BTreeMap::from([("h".to_owned(), b"1".to_vec())]),
        timestamp: now(),
    }
}

fn now() -> rskafka::chrono::DateTime<rskafka::chrono::Utc> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    rskafka::chrono::DateTime::from_timestamp_millis(since.as_millis().try_into().unwrap()).unwrap()
}

async fn values(partition: &Arc<PartitionClient>, offset: i64) -> Vec<String> {
    let (records, _) = partition.fetch_records(offset, 1..10_000_000, 1_000).await.unwrap();
    let text = |record: rskafka::record::RecordAndOffset| String::from_utf8(record.record.value.unwrap()).unwrap();
    records.into_iter().map(text).collect()
}

#[tokio::test]
async fn create_produce_and_fetch_with_every_codec() {
    for profile in [Profile::Kafka, Profile::Redpanda] {
        let broker = Broker::start(BrokerConfig { profile, ..BrokerConfig::default() }).await.unwrap();
        let client = client(&broker).await;
        create(&client, "topic", 3).await;
        let topics = client.list_topics().await.unwrap();
        assert_eq!((topics[0].name.as_str(), topics[0].partitions.len()), ("topic", 3));
        let partition = partition(&client, "topic").await;
        let mut expected = Vec::new();
        let codecs =
            [Compression::NoCompression, Compression::Gzip, Compression::Lz4, Compression::Snappy, Compression::Zstd];
        for (lap, codec) in codecs.into_iter().enumerate() {
            let batch: Vec<_> = (0..10).map(|n| format!("{lap}-{n}")).collect();
            let offsets = partition.produce(batch.iter().map(|value| record(value)).collect(), codec).await.unwrap();
            let first = i64::try_from(lap * 10).unwrap();
            assert_eq!(offsets, (first..first + 10).collect::<Vec<_>>());
            expected.extend(batch);
        }
        let mut found = Vec::new();
        while found.len() < expected.len() {
            found.extend(values(&partition, i64::try_from(found.len()).unwrap()).await);
        }
        assert_eq!(found, expected);
        assert_eq!(values(&partition, 17).await[0], "1-7", "inside a batch");
        assert_eq!(partition.get_offset(OffsetAt::Latest).await.unwrap(), 50);
        partition.delete_records(20, 1_000).await.unwrap();
        assert_eq!(partition.get_offset(OffsetAt::Earliest).await.unwrap(), 20);
        assert!(partition.fetch_records(3, 1..1_000, 10).await.is_err(), "an offset that was deleted is an error");
        broker.stop().await;
    }
}

#[tokio::test]
async fn a_waiting_fetch_is_woken_by_an_append() {
    let broker = start().await;
    let (reading, writing) = (client(&broker).await, client(&broker).await);
    create(&writing, "topic", 1).await;
    let (reader, writer) = (partition(&reading, "topic").await, partition(&writing, "topic").await);
    writer.produce(vec![record("0")], Compression::NoCompression).await.unwrap();
    values(&reader, 0).await;
    let waiting = tokio::spawn(async move {
        let (records, _) = reader.fetch_records(1, 1..1_000, 20_000).await.unwrap();
        (records.len(), std::time::Instant::now())
    });
    // Long enough that the fetch waits; if it does not, the test still holds.
    tokio::time::sleep(Duration::from_millis(200)).await;
    writer.produce(vec![record("1")], Compression::NoCompression).await.unwrap();
    let produced = std::time::Instant::now();
    let (count, fetched) = waiting.await.unwrap();
    assert_eq!(count, 1);
    assert!(fetched.saturating_duration_since(produced) < Duration::from_secs(5), "it waited for its time to run out");
    broker.stop().await;
}

#[tokio::test]
async fn a_restart_in_the_same_directory_finds_everything() {
    let directory = tempfile::tempdir().unwrap();
    let config =
        || BrokerConfig { storage: Storage::Directory(directory.path().to_owned()), ..BrokerConfig::default() };
    let broker = Broker::start(config()).await.unwrap();
    let second = Broker::start(config()).await.unwrap_err();
    assert!(second.to_string().contains("in use"), "{second}");
    let first = client(&broker).await;
    create(&first, "topic", 2).await;
    partition(&first, "topic").await.produce(vec![record("kept")], Compression::Zstd).await.unwrap();
    broker.stop().await;
    let broker = Broker::start(config()).await.unwrap();
    let again = client(&broker).await;
    assert_eq!(values(&partition(&again, "topic").await, 0).await, ["kept"]);
    broker.stop().await;
}

#[tokio::test]
async fn faults_hit_requests_and_are_counted() {
    let broker = start().await;
    let client = client(&broker).await;
    create(&client, "topic", 1).await;
    let partition = partition(&client, "topic").await;
    let produce = || partition.produce(vec![record("v")], Compression::NoCompression);

    let refused = Fault::new(ApiKey::Produce, Action::Fail(ResponseError::MessageTooLarge)).topic("topic").times(1);
    let refused = broker.faults().inject(refused);
    assert!(produce().await.is_err());
    assert_eq!(produce().await.unwrap(), [0], "the refused record is not there");
    assert_eq!(refused.hits(), 1);

    // rskafka sends again what it has no answer to: the record is there twice.
    let lost = broker.faults().inject(Fault::new(ApiKey::Produce, Action::LoseAnswer).times(1));
    assert_eq!(produce().await.unwrap(), [2]);
    let cut = broker.faults().inject(Fault::new(ApiKey::Produce, Action::Cut).times(1));
    assert_eq!(produce().await.unwrap(), [3]);
    assert_eq!((lost.hits(), cut.hits()), (1, 1));

    let late = broker.faults().inject(Fault::new(ApiKey::Produce, Action::Delay(Duration::from_millis(300))));
    let began = std::time::Instant::now();
    produce().await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(300));
    late.remove();
    broker.stop().await;
}

#[tokio::test]
async fn only_loopback() {
    let listen = "0.0.0.0:0".parse().unwrap();
    let error = Broker::start(BrokerConfig { listen, ..BrokerConfig::default() }).await.unwrap_err();
    assert!(error.to_string().contains("loopback"), "{error}");
}
