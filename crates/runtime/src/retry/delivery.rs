//! A record to work on, as it was first read, and what is known of the attempts at it.

use anabranch_kafka::{OutRecord, Record, TopicPartition};
use anabranch_protocol::retry::{self, Tried};
use anabranch_protocol::{Header, Timestamp};
use bytes::Bytes;

use crate::attempts::Retry;

/// A record on its way to an attempt. Of one that comes out of a retry topic the record is the original: key, value and
/// headers, topic, partition, offset and timestamp.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    record: Record,
    /// Where it was read: in its own topic, or in the retry topic that it comes out of.
    read_at: (TopicPartition, i64),
    tried: Option<Tried>,
}

impl Delivery {
    /// A record that was not tried before.
    pub(crate) fn first(record: Record) -> Self {
        let read_at = place(&record);
        Self { record, read_at, tried: None }
    }

    /// A record out of a retry topic of `home`. What others wrote there is taken as it is, and tried at once.
    pub(crate) fn again(record: Record, home: &str) -> Self {
        let Some((headers, tried)) = retry::split(&record.headers).filter(|(_, tried)| tried.topic == home) else {
            tracing::warn!(
                topic = &*record.topic,
                partition = record.partition,
                offset = record.offset,
                "a record in a retry topic that was not put there by an agent: tried as it is"
            );
            return Self::first(record);
        };
        let (headers, read_at) = (headers.to_vec(), place(&record));
        let original = Record {
            topic: home.into(),
            partition: tried.partition,
            offset: tried.offset,
            timestamp_ms: tried.timestamp_ms,
            headers,
            ..record
        };
        Self { record: original, read_at, tried: Some(tried) }
    }

    /// The record, as it was first read.
    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    /// Where it was read: the offset that is committed when it is done.
    pub(crate) fn read_at(&self) -> (&TopicPartition, i64) {
        (&self.read_at.0, self.read_at.1)
    }

    /// What is known of earlier attempts.
    pub(crate) fn tried(&self) -> Option<&Tried> {
        self.tried.as_ref()
    }

    /// Attempts made so far.
    pub(crate) fn attempts(&self) -> u32 {
        self.tried.as_ref().map_or(0, |tried| tried.attempts)
    }

    /// When it first failed.
    pub(crate) fn first_failed_at(&self) -> Option<Timestamp> {
        self.tried.as_ref().map(|tried| tried.first_failed_at)
    }

    /// What is known after one more attempt that failed.
    pub(crate) fn failed(&self, retry: &Retry, now: Timestamp) -> Tried {
        let attempts = self.attempts().saturating_add(u32::from(retry.counts));
        match &self.tried {
            Some(tried) => Tried { attempts, due: retry.due, last_error: retry.error.clone(), ..tried.clone() },
            None => Tried {
                topic: self.record.topic.to_string(),
                partition: self.record.partition,
                offset: self.record.offset,
                timestamp_ms: self.record.timestamp_ms,
                attempts,
                rounds: 0,
                due: retry.due,
                first_failed_at: now,
                first_error: retry.error.clone(),
                last_error: retry.error.clone(),
            },
        }
    }

    /// The same, with what is known now. Its bytes are its own from then on: it may wait, and is not to keep alive all
    /// that was fetched with it.
    pub(crate) fn with(self, tried: Tried) -> Self {
        Self { record: detached(self.record), tried: Some(tried), ..self }
    }

    /// The record that waits in a retry topic.
    pub(super) fn to_wait_in(&self, topic: &str, tried: &Tried, now: Timestamp) -> OutRecord {
        OutRecord {
            topic: topic.to_owned(),
            // The partition of the same number: it is assigned together with its own.
            partition: Some(tried.partition),
            key: self.record.key.clone(),
            value: self.record.value.clone(),
            headers: retry::headers(&self.record.headers, tried),
            timestamp_ms: Some(now.as_millis()),
        }
    }
}

fn place(record: &Record) -> (TopicPartition, i64) {
    (TopicPartition { topic: record.topic.clone(), partition: record.partition }, record.offset)
}

/// A record whose bytes are its own.
pub(crate) fn detached(record: Record) -> Record {
    let own = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
    let headers = record.headers.into_iter().map(|h| Header { value: h.value.as_ref().map(own), ..h }).collect();
    Record { key: record.key.as_ref().map(own), value: record.value.as_ref().map(own), headers, ..record }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn record() -> Record {
        Record {
            topic: Arc::from("t"),
            partition: 2,
            offset: 40,
            timestamp_ms: 1_700_000_000_000,
            key: Some(Bytes::from_static(b"k\xff")),
            value: None,
            headers: vec![Header::text("x", "1"), Header { name: "x".into(), value: None }],
        }
    }

    fn retry(counts: bool) -> Retry {
        Retry { due: Timestamp::from_millis(1_700_000_005_000), deadline: None, error: "down".into(), counts }
    }

    #[test]
    fn what_waits_comes_back_as_it_was() {
        let now = Timestamp::from_millis(1_700_000_000_500);
        let first = Delivery::first(record());
        let tried = first.failed(&retry(true), now);
        let out = first.to_wait_in("t.retry.5s", &tried, now);
        assert_eq!((out.partition, out.key.as_ref(), out.value.as_ref()), (Some(2), record().key.as_ref(), None));
        let waiting = Record {
            topic: Arc::from("t.retry.5s"),
            offset: 3,
            timestamp_ms: now.as_millis(),
            headers: out.headers,
            ..record()
        };
        let again = Delivery::again(waiting, "t");
        assert_eq!(again.record(), &record());
        assert_eq!((again.attempts(), again.first_failed_at()), (1, Some(now)));
        assert_eq!(again.read_at(), (&TopicPartition::new("t.retry.5s", 2), 3), "that is what is committed");
        assert_eq!(first.read_at(), (&TopicPartition::new("t", 2), 40));

        let later = Retry { error: "still down".into(), ..retry(false) };
        let tried = again.failed(&later, Timestamp::from_millis(1_800_000_000_000));
        assert_eq!((tried.attempts, tried.offset), (1, 40), "it was no attempt");
        assert_eq!((tried.first_error.as_str(), tried.last_error.as_str()), ("down", "still down"));
        assert_eq!(tried.first_failed_at, now);
    }

    #[test]
    fn what_others_put_there_is_taken_as_it_is() {
        let foreign = Delivery::again(record(), "t");
        assert_eq!((foreign.record(), foreign.attempts()), (&record(), 0));
        let now = Timestamp::from_millis(1_700_000_000_500);
        let elsewhere = Delivery::first(Record { topic: Arc::from("other"), ..record() });
        let out = elsewhere.to_wait_in("t.retry.5s", &elsewhere.failed(&retry(true), now), now);
        let again = Delivery::again(Record { headers: out.headers, ..record() }, "t");
        assert!(again.tried().is_none(), "of another topic");
    }
}
