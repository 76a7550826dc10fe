//! What leaves: plain records, acknowledged by all in-sync replicas. A record that was written and whose step was not yet
//! journaled when the process died is written again.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use chrono::Utc;
use rskafka::client::partition::{Compression, PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder};
use rskafka::record::Record;
use serde_json::Value;

type Error = Box<dyn std::error::Error + Send + Sync>;

pub struct Topic(Vec<PartitionClient>);

pub struct Kafka {
    pub out: Topic,
    pub alerts: Topic,
    pub messages: Topic,
    pub dead_letters: Topic,
}

impl Kafka {
    pub async fn from_env(partitions: i32) -> Result<Self, Error> {
        let (input, out) = (std::env::var("IN_TOPIC")?, std::env::var("OUT_TOPIC")?);
        let brokers = std::env::var("BROKERS")?.split(',').map(str::to_owned).collect();
        let client = ClientBuilder::new(brokers).build().await?;
        create(&client, &input, partitions).await?;
        Ok(Self {
            alerts: open(&client, &format!("{out}.alerts"), partitions).await?,
            messages: open(&client, &format!("{out}.messages"), partitions).await?,
            dead_letters: open(&client, &format!("{input}.dlq"), partitions).await?,
            out: open(&client, &out, partitions).await?,
        })
    }

    pub async fn send(&self, topic: &Topic, case: &str, value: &Value) -> Result<(), Error> {
        self.send_bytes(topic, case, value.to_string().into_bytes()).await
    }

    pub async fn send_bytes(&self, topic: &Topic, case: &str, value: Vec<u8>) -> Result<(), Error> {
        let mut hasher = DefaultHasher::new();
        case.hash(&mut hasher);
        let at = hasher.finish() as usize % topic.0.len();
        let record =
            Record { key: Some(case.into()), value: Some(value), headers: BTreeMap::new(), timestamp: Utc::now() };
        topic.0[at].produce(vec![record], Compression::NoCompression).await?;
        Ok(())
    }
}

async fn create(client: &Client, topic: &str, partitions: i32) -> Result<(), Error> {
    if client.list_topics().await?.iter().all(|t| t.name != topic) {
        let replicas = std::env::var("REPLICAS").map_or(Ok(1), |text| text.parse())?;
        client.controller_client()?.create_topic(topic, partitions, replicas, 10_000).await?;
    }
    Ok(())
}

async fn open(client: &Client, topic: &str, partitions: i32) -> Result<Topic, Error> {
    create(client, topic, partitions).await?;
    // What was created a moment ago may not be in the metadata yet.
    let mut found = None;
    for _ in 0..100 {
        found = client.list_topics().await?.into_iter().find(|t| t.name == topic);
        if found.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut clients = Vec::new();
    for partition in found.ok_or("the topic is not there")?.partitions {
        clients.push(client.partition_client(topic, partition, UnknownTopicHandling::Retry).await?);
    }
    Ok(Topic(clients))
}
