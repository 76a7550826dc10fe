//! The line on which processes tell each other what they want of rate limits: the topic `<name>.limits`.
//!
//! Nothing on it is kept for long, and nothing is waited for: what got lost is said again. Age is counted by this
//! process's own clock from when an announcement arrived, so that clocks need not agree.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anabranch_kafka::{Cluster, FetchConfig, Fetched, Isolation, Position, ProducerConfig, TopicPartition};
use anabranch_llm::stack::{Announcement, Heard, LAPSE, Sharing};
use tokio::sync::watch;
use tokio::time::Instant;

use super::wire::{Address, DEMAND};

/// Most processes that are counted: records may come from anybody.
const MAX_PROCESSES: usize = 10_000;
/// Largest announcement that is read, in bytes.
const MAX_ANNOUNCEMENT_BYTES: usize = 64 * 1024;
/// An announcement that takes longer is of no use any more.
const DELIVERED_WITHIN: Duration = Duration::from_secs(2);

type Latest = Arc<Mutex<HashMap<String, (Announcement, Instant)>>>;

/// The line, as this process hears it.
#[derive(Debug)]
pub(super) struct KafkaSharing {
    latest: Latest,
    say: watch::Sender<Option<Announcement>>,
}

impl KafkaSharing {
    /// A line on which nothing is heard until [`Line::open`].
    pub(super) fn new() -> (Arc<Self>, Line) {
        let (say, said) = watch::channel(None);
        let latest = Latest::default();
        (Arc::new(Self { latest: latest.clone(), say }), Line { latest, said })
    }
}

impl Sharing for KafkaSharing {
    fn announce(&self, announcement: Announcement) {
        self.say.send_replace(Some(announcement));
    }

    fn heard(&self) -> Vec<Heard> {
        let now = Instant::now();
        let latest = lock(&self.latest);
        let heard = latest.values().map(|(announcement, at)| Heard {
            announcement: announcement.clone(),
            age: now.saturating_duration_since(*at),
        });
        heard.collect()
    }
}

/// The other end of a [`KafkaSharing`], to be connected when there is a cluster.
#[derive(Debug)]
pub(super) struct Line {
    latest: Latest,
    said: watch::Receiver<Option<Announcement>>,
}

impl Line {
    /// Connects it: from now on it carries what is said both ways. The topic must exist.
    pub(super) fn open(self, cluster: &Cluster, address: Address) {
        let config = FetchConfig { isolation: Isolation::ReadUncommitted, ..FetchConfig::default() };
        let mut fetcher = cluster.fetcher(config);
        fetcher.add(TopicPartition::new(address.topic.as_str(), 0), Position::Latest);
        let latest = self.latest;
        tokio::spawn(async move {
            loop {
                match fetcher.next().await {
                    Ok(fetched) => hear(&latest, &fetched, Instant::now()),
                    Err(error) => {
                        tracing::warn!(%error, "cannot hear how rate limits are shared, trying again");
                        tokio::time::sleep(Duration::from_millis(500)).await;
                    }
                }
            }
        });
        tokio::spawn(speak(cluster.clone(), address, self.said));
    }
}

async fn speak(cluster: Cluster, address: Address, mut said: watch::Receiver<Option<Announcement>>) {
    let producer = cluster.producer(ProducerConfig { delivery_timeout: DELIVERED_WITHIN, ..ProducerConfig::default() });
    let mut count = 0_u64;
    while said.changed().await.is_ok() {
        let Some(announcement) = said.borrow_and_update().clone() else { continue };
        count += 1;
        let id = format!("{}-{count}", announcement.process);
        let record = address.record(DEMAND, &id, &announcement.process, &announcement);
        let sent = match record {
            // Where it shall be read from; the topic has one.
            Ok(record) => {
                let record = anabranch_kafka::OutRecord { partition: Some(0), ..record };
                producer.send(record).await.map(drop).map_err(|e| e.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = sent {
            tracing::warn!(error, "could not say what is wanted of rate limits, saying it again");
        }
    }
}

fn hear(latest: &Latest, fetched: &Fetched, now: Instant) {
    let mut latest = lock(latest);
    for record in &fetched.records {
        let value = record.value.as_deref().filter(|value| value.len() <= MAX_ANNOUNCEMENT_BYTES).unwrap_or_default();
        match serde_json::from_slice::<Announcement>(value) {
            Ok(said) if latest.len() < MAX_PROCESSES || latest.contains_key(&said.process) => {
                latest.insert(said.process.clone(), (said, now));
            }
            Ok(_) => tracing::warn!("more than {MAX_PROCESSES} processes share rate limits; one is not counted"),
            Err(error) => tracing::warn!(%error, offset = record.offset, "an announcement that cannot be read"),
        }
    }
    // Who left said so for the last time, and who is silent for so long is gone: nobody asks for them any more.
    latest.retain(|_, (_, at)| now.saturating_duration_since(*at) <= LAPSE * 2);
}

fn lock(latest: &Latest) -> MutexGuard<'_, HashMap<String, (Announcement, Instant)>> {
    latest.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use anabranch_kafka::Record;
    use bytes::Bytes;

    use super::*;

    fn fetched(values: &[&str]) -> Fetched {
        let record = |(offset, value): (usize, &&str)| Record {
            topic: "kyc.limits".into(),
            partition: 0,
            offset: offset as i64,
            timestamp_ms: 0,
            key: None,
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
            headers: Vec::new(),
        };
        Fetched {
            topic: "kyc.limits".into(),
            partition: 0,
            records: values.iter().enumerate().map(record).collect(),
            next_offset: values.len() as i64,
            high_watermark: values.len() as i64,
            last_stable_offset: values.len() as i64,
            log_start_offset: 0,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_latest_of_each_process_counts_and_the_silent_are_forgotten() {
        let (sharing, line) = KafkaSharing::new();
        let a = r#"{"process":"a","demand":{"m":{"requests":5,"tokens":0}}}"#;
        let newer = r#"{"process":"a","demand":{"m":{"requests":7,"tokens":0}},"new":1}"#;
        let b = r#"{"process":"b","demand":{}}"#;
        hear(&line.latest, &fetched(&[a, "no JSON", newer, b]), Instant::now());
        tokio::time::advance(Duration::from_secs(1)).await;
        let mut heard = sharing.heard();
        heard.sort_by(|x, y| x.announcement.process.cmp(&y.announcement.process));
        assert_eq!(heard.len(), 2);
        assert_eq!(heard[0].announcement.demand["m"].requests, 7);
        assert_eq!(heard[0].age, Duration::from_secs(1));
        tokio::time::advance(LAPSE * 2).await;
        hear(&line.latest, &fetched(&[b]), Instant::now());
        assert_eq!(sharing.heard().len(), 1);
        assert_eq!(sharing.heard()[0].age, Duration::ZERO);
    }

    #[tokio::test]
    async fn only_the_last_word_is_passed_on() {
        let (sharing, mut line) = KafkaSharing::new();
        for process in ["x", "y"] {
            sharing.announce(Announcement { process: process.to_owned(), ..Announcement::default() });
        }
        line.said.changed().await.unwrap();
        assert_eq!(line.said.borrow_and_update().as_ref().unwrap().process, "y");
        assert!(!line.said.has_changed().unwrap());
    }
}
