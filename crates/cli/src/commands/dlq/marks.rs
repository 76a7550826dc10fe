//! Which dead letters are dealt with: a compacted topic, one record for each letter that was sent back or dropped. So
//! what one run did, another knows, wherever it runs.
//!
//! A letter is marked after it was sent back: a run that ends in between sends it back once more the next time.

use std::collections::BTreeMap;

use anabranch_kafka::{Cluster, NewTopic, OutRecord, Producer};
use anabranch_protocol::Timestamp;
use anabranch_topology::{TopicRole, Topology};
use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::letter::{Letter, LetterId};
use super::select::letter_topics;
use crate::reading::{self, Survey};

/// Most marks of letters that are gone that one run removes.
const REMOVED_AT_ONCE: usize = 10_000;

/// What was done with a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum How {
    /// Its record was sent back.
    Redriven,
    /// Its case began anew.
    CaseRedriven,
    /// Nothing is to be done about it.
    Dropped,
}

/// What is remembered of a letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    pub(super) how: How,
    /// When.
    pub(super) at: Timestamp,
    /// When the letter was written: a topic that was made anew has other letters at the same offsets.
    letter_time: Timestamp,
}

impl Mark {
    /// Of this letter, now.
    pub(super) fn of(letter: &Letter, how: How) -> (LetterId, Self) {
        (letter.id.clone(), Self { how, at: reading::now(), letter_time: letter.at })
    }
}

/// All marks.
#[derive(Debug, Default)]
pub(super) struct Marks {
    topic: String,
    marks: BTreeMap<LetterId, Mark>,
}

impl Marks {
    /// Reads them. There are none before the first letter was dealt with.
    pub(super) async fn read(cluster: &Cluster, topology: &Topology, survey: &Survey) -> anyhow::Result<Self> {
        let mut marks = Self { topic: topology.marks_topic(), marks: BTreeMap::new() };
        let Some(topic) = survey.topic(&marks.topic) else { return Ok(marks) };
        let spans = reading::spans(cluster, &topic.all().collect::<Vec<_>>(), None).await?;
        let mut unread = 0;
        reading::scan(cluster, spans, |record| {
            if !marks.take(record.key.as_deref(), record.value.as_deref()) {
                unread += 1;
            }
        })
        .await?;
        if unread > 0 {
            eprintln!("warning: {unread} records on {} are no marks of dead letters", topic.spec.name);
        }
        Ok(marks)
    }

    /// `false`: it is no mark.
    fn take(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) -> bool {
        let key = key.and_then(|key| std::str::from_utf8(key).ok()).and_then(|key| key.parse::<LetterId>().ok());
        let mark = value.map(serde_json::from_slice::<Mark>);
        match (key, mark) {
            (Some(id), Some(Ok(mark))) => _ = self.marks.insert(id, mark),
            (Some(id), None) => _ = self.marks.remove(&id),
            _ => return false,
        }
        true
    }

    /// What was done with a letter, if anything.
    pub(super) fn of(&self, letter: &Letter) -> Option<&Mark> {
        self.marks.get(&letter.id).filter(|mark| mark.letter_time == letter.at)
    }

    /// Makes the topic, if it is not there.
    ///
    /// # Errors
    /// If the broker does not let this user.
    pub(super) async fn prepare(&self, cluster: &Cluster, topology: &Topology, survey: &Survey) -> anyhow::Result<()> {
        if survey.topic(&self.topic).is_some() {
            return Ok(());
        }
        let spec = topology.topics(&[]).into_iter().find(|spec| spec.role == TopicRole::Marks);
        let spec = spec.ok_or_else(|| anyhow!("the topology has no topic for marks"))?;
        let new = NewTopic {
            name: spec.name.clone(),
            partitions: spec.partitions,
            replication_factor: spec.replication_factor,
            configs: spec.configs,
        };
        for (_, created) in cluster.admin().create_topics(vec![new]).await? {
            match created {
                Err(error) if error.is_already_exists() => {}
                other => other.with_context(|| {
                    format!("{} is not there and cannot be created; create it with `anabranch topics apply`", spec.name)
                })?,
            }
        }
        Ok(())
    }

    /// Writes marks and waits until they are there.
    pub(super) async fn write(&self, producer: &Producer, marks: Vec<(LetterId, Mark)>) -> anyhow::Result<()> {
        let record = |(id, mark): (LetterId, Mark)| Ok(self.record(&id, Some(Bytes::from(serde_json::to_vec(&mark)?))));
        let records = marks.into_iter().map(record).collect::<anyhow::Result<Vec<OutRecord>>>()?;
        producer.send_all(records).await?;
        Ok(())
    }

    /// Removes marks of letters that the brokers do not have any more.
    pub(super) async fn tidy(&self, cluster: &Cluster, survey: &Survey, producer: &Producer) -> anyhow::Result<()> {
        let tps: Vec<_> = letter_topics(survey).flat_map(|topic| topic.all()).collect();
        if self.marks.is_empty() || tps.is_empty() {
            return Ok(());
        }
        let starts = cluster.admin().earliest_offsets(&tps).await?;
        let gone = |id: &&LetterId| starts.get(&id.tp()).is_some_and(|start| id.offset < *start);
        let gone: Vec<OutRecord> =
            self.marks.keys().filter(gone).take(REMOVED_AT_ONCE).map(|id| self.record(id, None)).collect();
        if !gone.is_empty() {
            producer.send_all(gone).await?;
        }
        Ok(())
    }

    fn record(&self, id: &LetterId, value: Option<Bytes>) -> OutRecord {
        OutRecord { topic: self.topic.clone(), key: Some(Bytes::from(id.to_string())), value, ..OutRecord::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::dlq::letter::example;

    #[test]
    fn a_mark_is_of_one_letter_until_it_is_removed() {
        let letter = example("kyc.tasks.identity", 4, &[], b"{}", "boom");
        let (id, mark) = Mark::of(&letter, How::Redriven);
        let (key, value) = (id.to_string().into_bytes(), serde_json::to_vec(&mark).unwrap());
        let mut marks = Marks::default();
        assert!(marks.take(Some(&key), Some(&value)));
        assert_eq!(marks.of(&letter), Some(&mark));
        let later = Letter { at: Timestamp::from_millis(9_999), ..letter.clone() };
        assert_eq!(marks.of(&later), None, "the topic was made anew: another letter at the same offset");
        for (key, value) in
            [(None, Some(&value[..])), (Some(&b"x"[..]), Some(&value[..])), (Some(&key[..]), Some(&b"{}"[..]))]
        {
            assert!(!marks.take(key, value));
        }
        assert_eq!(marks.of(&letter), Some(&mark));
        assert!(marks.take(Some(&key), None));
        assert_eq!(marks.of(&letter), None);
    }
}
