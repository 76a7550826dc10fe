//! Reads payloads back from where they were written: many at once, partition by partition in order of offset.
//!
//! A broker that is away is waited for. That a payload cannot be read any more is only said when a broker has said that it
//! is not in the log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anabranch_core::join::Log;
use anabranch_kafka::{
    Cluster, Error, ErrorKind, FetchConfig, Fetched, Fetcher, Isolation, Position, Record, TopicPartition,
};
use anabranch_protocol::Envelope;
use anabranch_topology::Topology;

use super::payloads::{Address, Loaded, Payload};

/// Read at once of each partition: a batch is read whole, however large, and what lies around it may not be needed.
const READ_BYTES: i32 = 128 * 1024;
/// Kafka's code for an offset that the log does not have.
const OUT_OF_RANGE: i16 = 1;
/// Tries before a corrupt batch counts as gone.
const CORRUPT_TRIES: u32 = 3;
/// Wait before a broker is asked again.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// What is still to be read.
type Left = BTreeMap<TopicPartition, BTreeSet<i64>>;

/// Reads payloads.
pub(super) struct Loader {
    cluster: Cluster,
    fetcher: Fetcher,
    results: Arc<str>,
    state: Arc<str>,
    /// Nothing lies there if there is none.
    review: Arc<str>,
}

impl Loader {
    pub(super) fn new(cluster: &Cluster, topology: &Topology) -> Self {
        // What is asked for was committed when its offset was learnt: what is not yet, or was aborted, is not asked for.
        let config = FetchConfig {
            isolation: Isolation::ReadUncommitted,
            max_partition_bytes: READ_BYTES,
            ..FetchConfig::default()
        };
        let fetcher = cluster.fetcher(config);
        let review = topology.inbound.review.as_ref().map_or("", |topic| &topic.name);
        Self {
            cluster: cluster.clone(),
            fetcher,
            results: topology.results_topic().into(),
            state: topology.state_topic().into(),
            review: review.into(),
        }
    }

    /// Reads all of `wanted`, however long it takes, and hands each to `take`. Dropping the future loses nothing but what
    /// was read.
    ///
    /// # Errors
    /// What no waiting mends: a right that is missing.
    pub(super) async fn load(
        &mut self,
        wanted: &BTreeSet<Address>,
        mut take: impl FnMut(Address, Loaded),
    ) -> Result<(), Error> {
        let stale: Vec<TopicPartition> = self.fetcher.partitions().cloned().collect();
        stale.iter().for_each(|tp| self.fetcher.remove(tp));
        let mut left = Left::new();
        for address in wanted {
            left.entry(self.topic_partition(*address)).or_default().insert(address.offset);
        }
        self.read(left, &mut take).await
    }

    fn topic_partition(&self, address: Address) -> TopicPartition {
        let topic = match address.log {
            Log::Results => self.results.clone(),
            Log::State => self.state.clone(),
            Log::Review => self.review.clone(),
        };
        TopicPartition { topic, partition: address.partition }
    }

    fn address(&self, tp: &TopicPartition, offset: i64) -> Address {
        let log = match &tp.topic {
            topic if *topic == self.state => Log::State,
            topic if *topic == self.review => Log::Review,
            _ => Log::Results,
        };
        Address { log, partition: tp.partition, offset }
    }

    async fn read(&mut self, mut left: Left, take: &mut impl FnMut(Address, Loaded)) -> Result<(), Error> {
        let tps: Vec<TopicPartition> = left.keys().cloned().collect();
        tps.iter().for_each(|tp| self.go_on(tp, &left));
        let mut corrupt = 0;
        while !left.is_empty() {
            let error = match self.fetcher.next().await {
                Ok(fetched) => {
                    if self.take_in(fetched, &mut left, take) {
                        self.weed(&mut left, take).await?;
                    }
                    continue;
                }
                Err(error) => error,
            };
            if error.code() == Some(OUT_OF_RANGE) {
                self.weed(&mut left, take).await?;
            } else if let ErrorKind::CorruptBatch { reason, .. } = error.kind() {
                corrupt += 1;
                if corrupt >= CORRUPT_TRIES {
                    return self.around_corrupt(left, reason.clone(), take).await;
                }
            } else if error.is_fatal() {
                return Err(error);
            } else {
                tracing::warn!(%error, "payloads cannot be read, trying again");
            }
        }
        Ok(())
    }

    /// Takes in what came. `true`: a partition seems to end before what is wanted of it.
    fn take_in(&mut self, fetched: Fetched, left: &mut Left, take: &mut impl FnMut(Address, Loaded)) -> bool {
        let tp = fetched.topic_partition();
        let Some(offsets) = left.get_mut(&tp) else { return false };
        let empty = fetched.records.is_empty();
        for record in fetched.records {
            if offsets.remove(&record.offset) {
                take(self.address(&tp, record.offset), payload(&record));
            }
        }
        let next = fetched.next_offset.max(fetched.log_start_offset);
        while let Some(passed) = offsets.first().copied().filter(|offset| *offset < next) {
            offsets.remove(&passed);
            take(self.address(&tp, passed), Err(format!("offset {passed} of {tp} is not in the log any more")));
        }
        let ends_before = empty && offsets.first().is_some_and(|first| fetched.high_watermark <= *first);
        self.go_on_or_end(&tp, left);
        ends_before
    }

    /// Reads a partition at the first offset that is wanted of it.
    fn go_on(&mut self, tp: &TopicPartition, left: &Left) {
        if let Some(first) = left.get(tp).and_then(BTreeSet::first) {
            self.fetcher.add(tp.clone(), Position::Offset(*first));
        }
    }

    fn go_on_or_end(&mut self, tp: &TopicPartition, left: &mut Left) {
        if left.get(tp).is_none_or(BTreeSet::is_empty) {
            left.remove(tp);
            self.fetcher.remove(tp);
        } else {
            self.go_on(tp, left);
        }
    }

    /// Asks where logs begin and end, and gives up what is outside.
    async fn weed(&mut self, left: &mut Left, take: &mut impl FnMut(Address, Loaded)) -> Result<(), Error> {
        let tps: Vec<TopicPartition> = left.keys().cloned().collect();
        let (starts, ends) = self.bounds(&tps).await?;
        for tp in &tps {
            let (Some(start), Some(end), Some(offsets)) = (starts.get(tp), ends.get(tp), left.get_mut(tp)) else {
                continue;
            };
            let outside: Vec<i64> = offsets.iter().copied().filter(|o| o < start || o >= end).collect();
            for offset in outside {
                offsets.remove(&offset);
                let why = format!("offset {offset} of {tp} is not in the log any more: it goes from {start} to {end}");
                take(self.address(tp, offset), Err(why));
            }
            self.go_on_or_end(tp, left);
        }
        // Where nothing was outside, the broker that said so may not have caught up.
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok(())
    }

    async fn bounds(
        &self,
        tps: &[TopicPartition],
    ) -> Result<(BTreeMap<TopicPartition, i64>, BTreeMap<TopicPartition, i64>), Error> {
        let admin = self.cluster.admin();
        loop {
            let asked = async {
                let starts = admin.earliest_offsets(tps).await?;
                Ok((starts, admin.end_offsets(tps, Isolation::ReadUncommitted).await?))
            };
            match asked.await {
                Ok(bounds) => return Ok(bounds),
                Err(error) if error.is_fatal() => return Err(error),
                Err::<_, Error>(error) => tracing::warn!(%error, "where logs begin and end is not known, asking again"),
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    /// A batch stays corrupt. Which one is known once each partition is read alone; then it is given up.
    async fn around_corrupt(
        &mut self,
        mut left: Left,
        reason: String,
        take: &mut impl FnMut(Address, Loaded),
    ) -> Result<(), Error> {
        left.keys().for_each(|tp| self.fetcher.remove(tp));
        if left.len() == 1
            && let Some((tp, offsets)) = left.iter_mut().next()
            && let Some(first) = offsets.pop_first()
        {
            tracing::error!(topic = &*tp.topic, partition = tp.partition, offset = first, reason, "corrupt");
            take(self.address(tp, first), Err(format!("offset {first} of {tp} is corrupt: {reason}")));
            left.retain(|_, offsets| !offsets.is_empty());
        }
        for (tp, offsets) in left {
            Box::pin(self.read(Left::from([(tp, offsets)]), take)).await?;
        }
        Ok(())
    }
}

fn payload(record: &Record) -> Loaded {
    match Envelope::decode(&record.view()) {
        Ok(decoded) => Ok(Arc::new(Payload::of(&decoded))),
        Err(error) => Err(format!(
            "what lies at offset {} of {}-{} cannot be read: {error}",
            record.offset, record.topic, record.partition
        )),
    }
}
