//! Waiting for what becomes of cases.
//!
//! The composer writes what leaves before it writes where the case stands. So a case that its state says is parked or
//! closed has its outcome, and reading the outbound topics up to where they end then finds all of it. A dead letter
//! ends the wait too.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::Duration;

use anabranch_core::join::{Phase, Saved, StateKey};
use anabranch_kafka::{Cluster, Fetched, Fetcher, Isolation, Position, Record, TopicPartition};
use anabranch_protocol::{CorrelationId, Envelope, EventId, Timestamp};
use anabranch_topology::{TopicRole, Topology};
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use super::Sent;
use crate::hop::{Hop, Kind};
use crate::masking::Masking;
use crate::output::{Format, json, line};
use crate::reading::{self, Survey};

/// What became of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Status {
    /// It is decided.
    Closed,
    /// It waits for a person.
    Parked,
    /// It, or the request, was given up.
    DeadLetter,
    /// Nothing final came in time.
    Waiting,
}

/// A record that left.
#[derive(Debug, Serialize)]
struct Left {
    topic: String,
    #[serde(rename = "type")]
    kind: String,
    time: Timestamp,
    data: Value,
}

#[derive(Debug, Serialize)]
struct Outcome {
    #[serde(flatten)]
    sent: Sent,
    status: Status,
    /// Why, where there is more to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    records: Vec<Left>,
    #[serde(skip)]
    seen: BTreeSet<(String, EventId)>,
}

/// Reads outbound topics, dead letters and the composer's state from where they ended when it was started.
pub(super) struct Waiting {
    cluster: Cluster,
    fetcher: Fetcher,
    roles: BTreeMap<String, TopicRole>,
    /// Where outcomes and dead letters leave.
    leaving: Vec<TopicPartition>,
    /// How far each partition was read.
    read: BTreeMap<TopicPartition, i64>,
}

impl Waiting {
    pub(super) async fn start(cluster: &Cluster, topology: &Topology, survey: &Survey) -> anyhow::Result<Self> {
        let followed = [TopicRole::Outbound, TopicRole::DeadLetters, TopicRole::State];
        let topics: Vec<_> = survey.with_role(&followed).collect();
        if !topics.iter().any(|t| t.spec.role == TopicRole::State) {
            anyhow::bail!("{} is not on this cluster: no composer has run yet", topology.state_topic());
        }
        let tps: Vec<TopicPartition> = topics.iter().flat_map(|t| t.all()).collect();
        let read = cluster.admin().end_offsets(&tps, Isolation::ReadCommitted).await?;
        let mut fetcher = reading::fetcher(cluster);
        read.iter().for_each(|(tp, end)| fetcher.add(tp.clone(), Position::Offset(*end)));
        let leaving = topics.iter().filter(|t| t.spec.role != TopicRole::State).flat_map(|t| t.all()).collect();
        let roles = topics.iter().map(|t| (t.spec.name.clone(), t.spec.role)).collect();
        Ok(Self { cluster: cluster.clone(), fetcher, roles, leaving, read })
    }

    /// Waits, prints, and says how it went.
    pub(super) async fn run(mut self, sent: &[Sent], timeout: Duration, format: Format) -> anyhow::Result<ExitCode> {
        let deadline = Instant::now() + timeout;
        sent.iter().for_each(|sent| eprintln!("sent {}", sent.correlation_id));
        let mut outcomes: BTreeMap<CorrelationId, Outcome> = sent
            .iter()
            .map(|sent| {
                let (status, records, seen) = (Status::Waiting, Vec::new(), BTreeSet::new());
                (sent.correlation_id.clone(), Outcome { sent: sent.clone(), status, reason: None, records, seen })
            })
            .collect();
        while outcomes.values().any(|outcome| outcome.status == Status::Waiting) {
            let next = reading::next(&self.cluster, &mut self.fetcher);
            let Ok(fetched) = tokio::time::timeout_at(deadline, next).await else { break };
            self.take(&fetched?, &mut outcomes, format)?;
        }
        self.read_the_rest(&mut outcomes, format).await?;
        if format == Format::Json {
            json(&outcomes.values().collect::<Vec<_>>())?;
        }
        Ok(conclude(outcomes.values(), timeout))
    }

    /// What a final state says has left, the topics have by now.
    async fn read_the_rest(
        &mut self,
        outcomes: &mut BTreeMap<CorrelationId, Outcome>,
        format: Format,
    ) -> anyhow::Result<()> {
        if outcomes.values().all(|outcome| outcome.status == Status::Waiting) {
            return Ok(());
        }
        let ends = self.cluster.admin().end_offsets(&self.leaving, Isolation::ReadCommitted).await?;
        let behind = |read: &BTreeMap<TopicPartition, i64>| ends.iter().any(|(tp, end)| read.get(tp) < Some(end));
        while behind(&self.read) {
            let next = reading::next(&self.cluster, &mut self.fetcher);
            let fetched = tokio::time::timeout(crate::options::PATIENCE, next).await;
            let fetched = fetched.map_err(|_| anyhow::anyhow!("the outbound topics cannot be read to their end"))??;
            self.take(&fetched, outcomes, format)?;
        }
        Ok(())
    }

    fn take(
        &mut self,
        fetched: &Fetched,
        outcomes: &mut BTreeMap<CorrelationId, Outcome>,
        format: Format,
    ) -> anyhow::Result<()> {
        self.read.insert(fetched.topic_partition(), fetched.next_offset);
        let Some(role) = self.roles.get(&*fetched.topic).copied() else { return Ok(()) };
        for record in &fetched.records {
            match role {
                TopicRole::State => take_state(record, outcomes),
                TopicRole::DeadLetters => take_dead_letter(record, outcomes),
                _ => take_outbound(record, outcomes, format)?,
            }
        }
        Ok(())
    }
}

fn take_state(record: &Record, outcomes: &mut BTreeMap<CorrelationId, Outcome>) {
    let Some(StateKey::Case(id)) = reading::state_key(record) else { return };
    let Some(outcome) = outcomes.get_mut(&CorrelationId::new(id)) else { return };
    let saved = record.value.as_deref().and_then(|value| Saved::read(value).ok());
    let Some(Ok(phase)) = saved.map(|saved| saved.phase()) else { return };
    match phase {
        Phase::Joining => {}
        // A case that nobody could decide is closed too, after its dead letter.
        Phase::Closed { .. } if outcome.status == Status::DeadLetter => {}
        Phase::Closed { .. } => outcome.status = Status::Closed,
        Phase::Parked { reason, .. } => {
            outcome.status = Status::Parked;
            outcome.reason = Some(reason);
        }
    }
}

fn take_dead_letter(record: &Record, outcomes: &mut BTreeMap<CorrelationId, Outcome>) {
    // Whoever sent it knows what it says.
    let hop = Hop::read(TopicRole::DeadLetters, record, &Masking::default());
    let Some(outcome) = outcomes.get_mut(&hop.case) else { return };
    if reading::ends_case(record, &outcome.sent.topic) && hop.kind == Kind::DeadLetter {
        outcome.status = Status::DeadLetter;
        outcome.reason = Some(hop.what);
    }
}

fn take_outbound(
    record: &Record,
    outcomes: &mut BTreeMap<CorrelationId, Outcome>,
    format: Format,
) -> anyhow::Result<()> {
    let Some(outcome) = outcomes.get_mut(&reading::case_of(record)) else { return Ok(()) };
    let Ok(decoded) = Envelope::decode(&record.view()) else { return Ok(()) };
    let Ok(data) = decoded.json::<Value>() else { return Ok(()) };
    let envelope = decoded.envelope;
    if !outcome.seen.insert((record.topic.to_string(), envelope.id)) {
        return Ok(());
    }
    if format == Format::Table {
        eprintln!("{}  {}  {}", envelope.correlation_id, record.topic, crate::console::plain(&envelope.kind));
        line(serde_json::to_string_pretty(&data)?)?;
    }
    let topic = record.topic.to_string();
    outcome.records.push(Left { topic, kind: envelope.kind, time: envelope.time, data });
    Ok(())
}

fn conclude<'a>(outcomes: impl Iterator<Item = &'a Outcome>, timeout: Duration) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for outcome in outcomes {
        let case = &outcome.sent.correlation_id;
        let reason = outcome.reason.as_deref().unwrap_or_default();
        match outcome.status {
            Status::Closed => eprintln!("{case}  closed"),
            Status::Parked => eprintln!("{case}  parked for a person: {}", crate::console::plain(reason)),
            Status::DeadLetter => {
                eprintln!("error: {case} became a dead letter: {}", crate::console::plain(reason));
                code = ExitCode::FAILURE;
            }
            Status::Waiting => {
                let seconds = timeout.as_secs_f64();
                eprintln!("error: {case} has no outcome after {seconds} s; see `anabranch trace {case}`");
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}
