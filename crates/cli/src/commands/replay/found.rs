//! The records of a finished case, sorted by what a replay does with them.

use anabranch_core::join::{Phase, Saved, StateKey};
use anabranch_kafka::{Cluster, Record};
use anabranch_protocol::{
    CorrelationId, Envelope, Partial, Plan, Task, Timestamp, dead_letter, header,
    replay::{Content, Kept},
};
use anabranch_topology::{COMPOSER, TopicRole, Topology};
use anyhow::anyhow;
use serde::de::DeserializeOwned;

use crate::commands::trace;
use crate::reading::{self, Survey};

/// A finished case.
#[derive(Debug)]
pub(super) struct Found {
    /// On the results topic, in log order.
    pub(super) results: Vec<Record>,
    /// What people said of it, in log order, where its composer reads it.
    pub(super) reviews: Vec<Record>,
    /// What its composer wrote, each topic in log order; its state left out.
    pub(super) written: Vec<Record>,
    /// Tasks, each topic in log order.
    pub(super) tasks: Vec<Read<Task>>,
    /// Answers, in log order.
    pub(super) answers: Vec<Answer>,
    /// Partitions of the review topic.
    pub(super) review_partitions: i32,
}

/// A record and what it says.
#[derive(Debug, Clone)]
pub(super) struct Read<T> {
    pub(super) record: Record,
    pub(super) envelope: Envelope,
    pub(super) data: T,
}

/// An agent's answer.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) read: Read<Partial>,
    /// Why it did not count, if it did not.
    pub(super) late: Option<String>,
}

/// As it lies in its log.
pub(super) fn kept(record: &Record) -> Kept {
    Kept {
        topic: record.topic.to_string(),
        partition: record.partition,
        offset: record.offset,
        timestamp_ms: record.timestamp_ms,
        content: content(record),
    }
}

/// What it holds.
pub(super) fn content(record: &Record) -> Content {
    Content::new(record.key.clone(), record.value.clone(), record.headers.clone())
}

/// The envelope and the message of a record.
pub(super) fn read<T: DeserializeOwned>(record: &Record) -> Option<Read<T>> {
    let decoded = Envelope::decode(&record.view()).ok()?;
    let data = decoded.json().ok()?;
    Some(Read { record: record.clone(), envelope: decoded.envelope, data })
}

/// When a record was written.
pub(super) fn written_at(record: &Record) -> Timestamp {
    Timestamp::from_millis(record.timestamp_ms)
}

/// Reads the records of a case.
///
/// # Errors
/// If there are none, it is not finished, or too much of it is gone to be done again.
pub(super) async fn find(
    cluster: &Cluster,
    (topology, survey): (&Topology, &Survey),
    case: &CorrelationId,
) -> anyhow::Result<Found> {
    let each = |topic: &reading::Present, record: Record| (topic.spec.role, record);
    let lacks = |found: &[(TopicRole, Record)]| !found.iter().any(|(role, record)| is_plan(*role, record));
    let mut found = trace::gathered(cluster, (topology, survey), case, None, each, lacks).await?;
    if found.len() >= trace::MAX_HOPS {
        return Err(anyhow!("case {case} has more than {} records: too many to be done again", trace::MAX_HOPS));
    }
    // By topic and partition in log order, whatever was read first.
    found.sort_by(|(_, a), (_, b)| (&a.topic, a.partition, a.offset).cmp(&(&b.topic, b.partition, b.offset)));
    let review = topology.inbound.review.as_ref().and_then(|topic| survey.topic(&topic.name));
    sorted(topology, case, review.map_or(1, |topic| topic.partitions), &found)
}

fn is_plan(role: TopicRole, record: &Record) -> bool {
    role == TopicRole::Results && header::last(&record.headers, header::TYPE) == Some(Plan::TYPE)
}

pub(super) fn sorted(
    topology: &Topology,
    case: &CorrelationId,
    review_partitions: i32,
    records: &[(TopicRole, Record)],
) -> anyhow::Result<Found> {
    finished(topology, case, records)?;
    let Some(home) = records.iter().find(|(role, record)| is_plan(*role, record)).map(|(_, plan)| plan.partition)
    else {
        return Err(gone(case, &topology.results_topic(), "its plan"));
    };
    let of = |wanted: TopicRole| records.iter().filter(move |(role, _)| *role == wanted).map(|(_, record)| record);
    let at_home = |record: &&Record| record.partition == home;
    let results: Vec<Record> = of(TopicRole::Results).filter(at_home).cloned().collect();
    let late: Vec<&Record> = of(TopicRole::Late).collect();
    Ok(Found {
        answers: answers(&results, late),
        reviews: of(TopicRole::Review).filter(at_home).cloned().collect(),
        written: records
            .iter()
            .filter(|(role, record)| is_of_composer(topology, *role, record))
            .map(|(_, r)| r.clone())
            .collect(),
        tasks: of(TopicRole::Tasks).filter_map(read).collect(),
        results,
        review_partitions,
    })
}

/// That something of a case is not there any more.
pub(super) fn gone(case: &CorrelationId, topic: &str, what: &str) -> anyhow::Error {
    anyhow!("case {case} cannot be done again: {what} is not on {topic} (any more; see the topic's retention)")
}

/// # Errors
/// If the case is under way or waits for a person, or was never planned.
fn finished(topology: &Topology, case: &CorrelationId, records: &[(TopicRole, Record)]) -> anyhow::Result<()> {
    let of = |wanted: TopicRole| records.iter().filter(move |(role, _)| *role == wanted).map(|(_, record)| record);
    let ended = of(TopicRole::DeadLetters).any(|letter| reading::ends_case(letter, &topology.inbound.requests.name));
    let planned = records.iter().any(|(role, record)| is_plan(*role, record));
    if ended && !planned {
        return Err(anyhow!(
            "case {case} ended as a dead letter before it was planned: nothing was done that could be done again; see `anabranch dlq show`"
        ));
    }
    let is_state = |record: &&Record| matches!(reading::state_key(record), Some(StateKey::Case(_)));
    match of(TopicRole::State).rfind(is_state).map(|state| state.value.as_deref()) {
        // Removed when it was forgotten.
        Some(None) => Ok(()),
        Some(Some(value)) => match phase(value) {
            Ok(Phase::Closed { .. }) => Ok(()),
            Ok(Phase::Joining) => {
                Err(anyhow!("case {case} is not finished: answers are coming in; only a finished case is done again"))
            }
            Ok(Phase::Parked { .. }) => Err(anyhow!(
                "case {case} is not finished: it waits for a person (`anabranch inbox show`); only a finished case is done again"
            )),
            Err(why) => Err(anyhow!("where case {case} stands cannot be read from {}: {why}", topology.state_topic())),
        },
        None if ended || of(TopicRole::Outbound).next().is_some() => Ok(()),
        None => Err(anyhow!("case {case} is not finished: its composer has not seen it yet")),
    }
}

fn phase(value: &[u8]) -> Result<Phase, String> {
    let saved = Saved::read(value).map_err(|error| error.to_string())?;
    saved.phase().map_err(|error| error.to_string())
}

/// Whether the composer wrote it, and not only to know it again itself.
fn is_of_composer(topology: &Topology, role: TopicRole, record: &Record) -> bool {
    let source = format!("/{}/{COMPOSER}", topology.name);
    match role {
        TopicRole::Outbound | TopicRole::FollowUps | TopicRole::Inbox => {
            header::last(&record.headers, header::SOURCE) == Some(source.as_str())
        }
        TopicRole::Late => true,
        TopicRole::DeadLetters => {
            dead_letter::read(&record.headers).is_some_and(|letter| letter.agent == Some(COMPOSER))
        }
        _ => false,
    }
}

/// Answers, and why those do not count of which there is a copy among the late records. Where several are alike the last
/// ones do not.
fn answers(results: &[Record], mut late: Vec<&Record>) -> Vec<Answer> {
    let partials = results.iter().filter_map(read::<Partial>);
    let mut answers: Vec<Answer> = partials.map(|read| Answer { read, late: None }).collect();
    for answer in answers.iter_mut().rev() {
        let is_copy = |copy: &&Record| copy.value == answer.read.record.value;
        if let Some(index) = late.iter().rposition(is_copy) {
            let copy = late.remove(index);
            let reason = header::last(&copy.headers, header::LATE_REASON);
            answer.late = Some(reason.unwrap_or("no reason given").to_owned());
        }
    }
    answers
}

impl Found {
    /// The task that was answered: of those with its id the last one before work began, if there is one with the answer's
    /// deadline. One that was planned twice, or sent back, has another.
    pub(super) fn task_of(&self, answer: &Answer) -> Option<&Read<Task>> {
        let (cause, began) = (answer.read.envelope.causation_id.as_ref(), answer.read.data.work.started_at);
        let of_answer = |task: &&Read<Task>| Some(&task.envelope.id) == cause;
        let before = |task: &&Read<Task>| written_at(&task.record) <= began;
        let alike = |task: &&Read<Task>| task.envelope.deadline == answer.read.envelope.deadline;
        let tasks = || self.tasks.iter().filter(of_answer);
        let last = tasks().filter(before).rfind(alike);
        last.or_else(|| tasks().rfind(before)).or_else(|| tasks().next())
    }

    /// Tasks that nobody answered.
    pub(super) fn unanswered(&self) -> Vec<&Read<Task>> {
        let answered = |task: &Read<Task>| {
            self.answers.iter().any(|answer| answer.read.envelope.causation_id.as_ref() == Some(&task.envelope.id))
        };
        let mut seen = std::collections::BTreeSet::new();
        self.tasks.iter().filter(|task| !answered(task) && seen.insert(task.envelope.id.clone())).collect()
    }
}
