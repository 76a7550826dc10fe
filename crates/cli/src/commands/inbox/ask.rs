//! Saying something about a case, and waiting for the answer.

use std::process::ExitCode;
use std::time::Duration;

use anabranch_kafka::{Cluster, Delivered, Fetcher, Isolation, Position, ProducerConfig, Record, TopicPartition};
use anabranch_protocol::{Answered, CorrelationId, Envelope, EventId, ReviewAnswer};
use anabranch_topology::{TopicRole, Topology};
use anyhow::{Context as _, anyhow};
use tokio::time::Instant;

use crate::commands::send::Inbound;
use crate::console::plain;
use crate::options::{PATIENCE, time_span};
use crate::output::{Format, json, line};
use crate::reading::{self, Present, Survey};
use crate::usage::usage;

/// What is said of a case.
pub(super) struct Said<'a> {
    pub(super) case: &'a CorrelationId,
    /// The record's `ce_id`.
    pub(super) id: EventId,
    /// `ce_type`.
    pub(super) kind: &'a str,
    /// The value.
    pub(super) text: String,
}

/// Whether, and how long, to wait for an answer.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct WaitArgs {
    /// Send it and do not wait for the answer.
    #[arg(long, conflicts_with = "timeout")]
    no_wait: bool,
    /// How long to wait for the answer.
    #[arg(long, value_name = "TIME", value_parser = time_span, default_value = "30s", allow_hyphen_values = true)]
    timeout: Duration,
}

impl WaitArgs {
    /// With how the answer is written.
    pub(super) fn wait(&self, format: Format) -> Wait {
        Wait { within: (!self.no_wait).then_some(self.timeout), format }
    }
}

/// How long to wait, and how the answer is printed.
pub(super) struct Wait {
    /// `None`: not at all.
    pub(super) within: Option<Duration>,
    pub(super) format: Format,
}

/// The topic for what people decide.
pub(super) fn review_topic(topology: &Topology) -> anyhow::Result<&str> {
    let review = topology.inbound.review.as_ref().map(|topic| topic.name.as_str());
    review.ok_or_else(|| usage("the topology has no review topic; name one as inbound.review in topics.yaml"))
}

/// Says it, and prints what it is answered. The exit code is 1 if it does not count.
pub(super) async fn ask(
    cluster: &Cluster,
    topology: &Topology,
    said: &Said<'_>,
    wait: &Wait,
) -> anyhow::Result<ExitCode> {
    let topic = review_topic(topology)?;
    let survey = Survey::take(cluster, topology).await?;
    if survey.topic(topic).is_none() {
        return Err(anyhow!("{topic} is not on this cluster; create it with `anabranch topics apply`"));
    }
    let inbox = survey.with_role(&[TopicRole::Inbox]).next();
    // Before anything is sent, so that no answer is missed.
    let answers = match (wait.within, inbox) {
        (None, _) => None,
        (Some(_), Some(inbox)) => Some(Answers::from_here(cluster, inbox, said.case).await?),
        (Some(_), None) => {
            let inbox = topology.inbox_topic();
            return Err(anyhow!(
                "{inbox} is not on this cluster: no composer has run yet; --no-wait sends all the same"
            ));
        }
    };
    let at = send(cluster, topic, said).await?;
    let (Some(mut answers), Some(within)) = (answers, wait.within) else {
        eprintln!("sent; the answer comes on {}", topology.inbox_topic());
        return Ok(ExitCode::SUCCESS);
    };
    match answers.next(said, at, within).await? {
        Some(answer) => print(said.case, &answer, wait.format),
        None => Err(anyhow!(
            "no answer within {} s: is a composer running? What was said is in {topic} and counts when one reads it",
            within.as_secs_f64()
        )),
    }
}

async fn send(cluster: &Cluster, topic: &str, said: &Said<'_>) -> anyhow::Result<Delivered> {
    let inbound = Inbound {
        topic,
        kind: said.kind,
        source: "/anabranch/inbox",
        case: said.case,
        key: said.case.as_str(),
        text: &said.text,
        deadline: None,
        now: reading::now(),
    };
    let producer = cluster.producer(ProducerConfig { delivery_timeout: PATIENCE, ..ProducerConfig::default() });
    producer.send(inbound.with_id(said.id.clone())).await.with_context(|| format!("cannot write to {topic}"))
}

fn print(case: &CorrelationId, answer: &ReviewAnswer, format: Format) -> anyhow::Result<ExitCode> {
    match format {
        Format::Json => json(answer)?,
        Format::Table => line(format!("{}: {}", plain(case.as_str()), plain(&answer.answer.to_string())))?,
    }
    let counts = matches!(answer.answer, Answered::Accepted { .. } | Answered::Repeat { .. });
    Ok(if counts { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Answers that come from now on.
struct Answers {
    cluster: Cluster,
    fetcher: Fetcher,
}

impl Answers {
    async fn from_here(cluster: &Cluster, inbox: &Present, case: &CorrelationId) -> anyhow::Result<Self> {
        let tps: Vec<TopicPartition> = inbox.of_case(case);
        let ends = cluster.admin().end_offsets(&tps, Isolation::ReadCommitted).await?;
        let mut fetcher = reading::fetcher(cluster);
        ends.iter().for_each(|(tp, end)| fetcher.add(tp.clone(), Position::Offset(*end)));
        Ok(Self { cluster: cluster.clone(), fetcher })
    }

    /// `None`: it did not come in time.
    async fn next(&mut self, said: &Said<'_>, at: Delivered, within: Duration) -> anyhow::Result<Option<ReviewAnswer>> {
        let deadline = Instant::now() + within;
        loop {
            let next = reading::next(&self.cluster, &mut self.fetcher);
            let Ok(fetched) = tokio::time::timeout_at(deadline, next).await else { return Ok(None) };
            let answer = fetched?.records.iter().find_map(|record| answer(record, said, at));
            if answer.is_some() {
                return Ok(answer);
            }
        }
    }
}

/// The answer to what lies there. Where a decision was moved to another partition, its id tells.
fn answer(record: &Record, said: &Said<'_>, at: Delivered) -> Option<ReviewAnswer> {
    let decoded = Envelope::decode(&record.view()).ok().filter(|d| d.envelope.kind == ReviewAnswer::TYPE)?;
    let answer: ReviewAnswer = decoded.json().ok()?;
    let here = answer.partition == at.partition && (answer.offset == at.offset || at.offset < 0);
    (answer.to == said.id && (here || answer.partition != at.partition)).then_some(answer)
}
