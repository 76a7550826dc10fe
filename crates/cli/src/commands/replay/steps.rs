//! What the journals of agents held of the tasks of a case.

use std::collections::{BTreeMap, BTreeSet};

use anabranch_core::journal::Line;
use anabranch_core::journal::past::{Lying, of_answer};
use anabranch_kafka::{Cluster, Record, TopicPartition};
use anabranch_protocol::replay::{Recorded, StepName};
use anabranch_protocol::{TaskId, Timestamp};
use anabranch_topology::Topology;

use super::found::{Answer, Found, written_at};
use crate::reading::{self, Survey};

/// The journal of one partition, as far as it is about the case.
#[derive(Debug, Default)]
struct Journal {
    lines: Vec<Lying>,
    /// When the oldest record that is left was written; `None`: nothing is left.
    begins: Option<Timestamp>,
    /// Something was removed before that, or all of it was.
    trimmed: bool,
}

/// The journals of a case's tasks.
#[derive(Debug, Default)]
pub(super) struct Journals(BTreeMap<(String, i32), Journal>);

/// What a journal held for an answer.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) results: Vec<Recorded>,
    /// Something of that time is not there any more, so that it may have held more.
    pub(super) trimmed: bool,
}

impl Journals {
    /// Reads the journals of these agents in the partitions in which the case's tasks lay.
    ///
    /// # Errors
    /// If one cannot be read.
    pub(super) async fn read(
        cluster: &Cluster,
        (topology, survey): (&Topology, &Survey),
        found: &Found,
    ) -> anyhow::Result<Self> {
        let tasks: BTreeSet<TaskId> = found.tasks.iter().map(|task| task.data.task_id.clone()).collect();
        let mut journals: BTreeMap<(String, i32), Journal> = BTreeMap::new();
        for task in &found.tasks {
            let topic = topology.journal_topic(&task.data.agent);
            journals.entry((topic, task.record.partition)).or_default();
        }
        let has = |(topic, partition): &&(String, i32)| survey.topic(topic).is_some_and(|t| *partition < t.partitions);
        let there = journals.keys().filter(has);
        let tps: Vec<TopicPartition> = there.map(|(topic, p)| TopicPartition::new(topic.as_str(), *p)).collect();
        journals.values_mut().for_each(|journal| journal.trimmed = true);
        if !tps.is_empty() {
            for (tp, earliest) in cluster.admin().earliest_offsets(&tps).await? {
                if let Some(journal) = journals.get_mut(&(tp.topic.to_string(), tp.partition)) {
                    journal.trimmed = earliest > 0;
                }
            }
            let spans = reading::spans(cluster, &tps, None).await?;
            reading::scan(cluster, spans, |record| {
                if let Some(journal) = journals.get_mut(&(record.topic.to_string(), record.partition)) {
                    journal.take(&record, &tasks);
                }
            })
            .await?;
        }
        Ok(Self(journals))
    }

    /// What was held for this answer to the task in `partition`.
    pub(super) fn held(&self, topic: &str, partition: i32, answer: &Answer) -> Held {
        let Some(journal) = self.0.get(&(topic.to_owned(), partition)) else { return Held::default() };
        let partial = &answer.read.data;
        let entries = of_answer(&journal.lines, &partial.task_id, partial.work.finished_at);
        let result = |(name, index, value): (&str, u32, &serde_json::Value)| Recorded {
            step: StepName { name: name.to_owned(), index },
            result: value.clone(),
        };
        let left = journal.begins.is_some_and(|begins| begins <= partial.work.started_at);
        Held { results: entries.done().map(result).collect(), trimmed: journal.trimmed && !left }
    }
}

impl Journal {
    fn take(&mut self, record: &Record, tasks: &BTreeSet<TaskId>) {
        let at = written_at(record);
        self.begins = Some(self.begins.map_or(at, |begins| begins.min(at)));
        // What is no line of ours says nothing to its agent either.
        let Some(Ok(line)) = record.value.as_deref().map(Line::read) else { return };
        let concerns = match &line {
            Line::Opened { .. } => true,
            Line::Step(step) => tasks.contains(&step.task),
            Line::Closed { tasks: closed, .. } => closed.iter().any(|task| tasks.contains(task)),
        };
        if concerns {
            self.lines.push(Lying { offset: record.offset, at, line });
        }
    }
}
