//! `anabranch send`: requests, and people's decisions, into the topology.

pub(crate) mod input;
mod wait;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anabranch_kafka::{Cluster, OutRecord, ProducerConfig};
use anabranch_protocol::{CorrelationId, Envelope, EventId, ReviewDecision, Timestamp, TraceParent};
use anabranch_topology::Topology;
use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use serde::Serialize;
use uuid::Uuid;

use super::claims::claim_check;
use crate::options::{Brokers, PATIENCE, TopologyFile, time_span};
use crate::output::{Format, OutputArgs, json, line};
use crate::reading::{self, Survey};
use crate::usage::usage;
use input::Message;

/// Send requests, or a person's decision about a parked case, and print the correlation ids.
///
/// FILE holds one JSON value or several, one after the other (JSON lines); each becomes one request. If any of it is
/// not JSON, nothing is sent. With --wait the outcomes are printed as they leave; exit code 1 if one does not come in
/// time or the case became a dead letter.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anabranch send application.json
  anabranch send application.json --wait | jq .state
  jq -c '.[]' many.json | anabranch send - --deadline 5m
  anabranch send --review --correlation-id case-17 --decision approve --reviewer ada --reason 'saw the passport'")]
pub(crate) struct Args {
    /// The JSON; - reads stdin.
    #[arg(value_name = "FILE", required_unless_present = "decision")]
    file: Option<PathBuf>,
    /// Send a person's decision about a parked case instead of requests.
    #[arg(long, requires = "correlation_id")]
    review: bool,
    /// What was decided, in the application's words (approve, reject, …).
    #[arg(long, requires = "review", requires = "reviewer", conflicts_with = "file", value_name = "WORD")]
    decision: Option<String>,
    /// Who decided.
    #[arg(long, requires = "decision", value_name = "NAME")]
    reviewer: Option<String>,
    /// Why.
    #[arg(long, requires = "decision", value_name = "TEXT")]
    reason: Option<String>,
    /// The case. Default: a new id for each request.
    #[arg(long, value_name = "ID", value_parser = correlation_id)]
    correlation_id: Option<String>,
    /// The record's key. Default: the correlation id; and without --correlation-id, a key is the correlation id.
    #[arg(long, value_name = "KEY", value_parser = correlation_id)]
    key: Option<String>,
    /// The case must be decided within this time. Default: as the topology says.
    #[arg(long, value_name = "TIME", value_parser = time_span, allow_hyphen_values = true)]
    deadline: Option<Duration>,
    /// Wait for the outcomes and print them.
    #[arg(long)]
    wait: bool,
    /// How long to wait for the outcomes.
    #[arg(long, value_name = "TIME", value_parser = time_span, default_value = "60s", requires = "wait", allow_hyphen_values = true)]
    timeout: Duration,
    #[command(flatten)]
    topology: TopologyFile,
    #[command(flatten)]
    brokers: Brokers,
    #[command(flatten)]
    output: OutputArgs,
}

fn correlation_id(text: &str) -> Result<String, String> {
    match CorrelationId::is_plain(text) {
        true => Ok(text.to_owned()),
        false => Err("1 to 256 bytes without control characters".to_owned()),
    }
}

/// A record that the broker has.
#[derive(Debug, Clone, Serialize)]
struct Sent {
    correlation_id: CorrelationId,
    topic: String,
    partition: i32,
    offset: i64,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let topology = args.topology.load()?;
    let topic = target(&topology, args.review)?.to_owned();
    let messages = checked_in(&args, &topology, messages(&args)?).await?;
    let records = records(&args, &topology, &topic, &messages)?;
    let cluster = args.brokers.connect().await?;
    let survey = Survey::take(&cluster, &topology).await?;
    if survey.topic(&topic).is_none() {
        return Err(anyhow!("topic {topic} is not on this cluster; create it with `anabranch topics apply`"));
    }
    // Before anything is sent, so that no outcome is missed.
    let waiting = match args.wait {
        true => Some(wait::Waiting::start(&cluster, &topology, &survey).await?),
        false => None,
    };
    let sent = send(&cluster, records).await?;
    match (waiting, args.output.format) {
        (Some(waiting), format) => waiting.run(&sent, args.timeout, format).await,
        (None, Format::Json) => json(&sent).map(|()| ExitCode::SUCCESS),
        (None, Format::Table) => {
            sent.iter().try_for_each(|sent| line(&sent.correlation_id))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn target(topology: &Topology, review: bool) -> anyhow::Result<&str> {
    if !review {
        return Ok(&topology.inbound.requests.name);
    }
    let review = topology.inbound.review.as_ref().map(|topic| topic.name.as_str());
    review.ok_or_else(|| usage("the topology has no review topic; name one as inbound.review in topics.yaml"))
}

fn messages(args: &Args) -> anyhow::Result<Vec<Message>> {
    let messages = match (&args.file, &args.decision, &args.reviewer) {
        (Some(file), _, _) => input::read(file)?,
        (None, Some(decision), Some(reviewer)) => {
            let (decision, reviewer, reason) = (decision.clone(), reviewer.clone(), args.reason.clone());
            let decision = ReviewDecision { decision, reviewer, reason, ..ReviewDecision::default() };
            vec![Message { text: serde_json::to_string(&decision)?, line: 1 }]
        }
        _ => return Err(usage("name a FILE, or say --review with --decision and --reviewer")),
    };
    if messages.len() > 1 && (args.correlation_id.is_some() || args.key.is_some()) {
        return Err(usage(format!(
            "--correlation-id and --key are for one request, and there are {}; leave them out",
            messages.len()
        )));
    }
    if args.review {
        messages.iter().try_for_each(input::check_review)?;
    }
    Ok(messages)
}

/// Puts what is too large for a record into the topology's claim store, if it has one.
async fn checked_in(args: &Args, topology: &Topology, mut messages: Vec<Message>) -> anyhow::Result<Vec<Message>> {
    if args.review {
        return Ok(messages);
    }
    let Some(claims) = claim_check(topology)? else { return Ok(messages) };
    for message in &mut messages {
        if let Some(json) = claims.check_in(&message.text).await.context("nothing was sent")? {
            message.text = json;
        }
    }
    Ok(messages)
}

fn records(
    args: &Args,
    topology: &Topology,
    topic: &str,
    messages: &[Message],
) -> anyhow::Result<Vec<(CorrelationId, OutRecord)>> {
    let limit = ProducerConfig::default().max_record_bytes;
    let now = reading::now();
    let kind = if args.review { "review-decision" } else { "request" };
    let record = |message: &Message| {
        let named = args.correlation_id.clone().or_else(|| args.key.clone());
        let case = CorrelationId::new(named.unwrap_or_else(|| Uuid::now_v7().to_string()));
        let inbound = Inbound {
            topic,
            kind: &format!("{}.{kind}", topology.name),
            source: "/anabranch/send",
            case: &case,
            key: args.key.as_deref().unwrap_or(case.as_str()),
            text: &message.text,
            deadline: args.deadline.map(|span| now.plus(span)),
            now,
        };
        let record = inbound.record();
        // What headers and key add is known to be small; the producer counts exactly.
        match message.text.len() < limit - 4096 {
            true => Ok((case, record)),
            false => Err(usage(format!(
                "line {}: {} bytes are too many for one record, of at most {limit} bytes; {}nothing was sent",
                message.line,
                message.text.len(),
                if topology.claims.is_none() { "name a claim store in topics.yaml for large fields; " } else { "" }
            ))),
        }
    };
    messages.iter().map(record).collect()
}

/// A record for an inbound topic, as the runtime's own producers write it.
pub(crate) struct Inbound<'a> {
    pub(crate) topic: &'a str,
    /// `ce_type`.
    pub(crate) kind: &'a str,
    /// `ce_source`.
    pub(crate) source: &'a str,
    pub(crate) case: &'a CorrelationId,
    pub(crate) key: &'a str,
    /// The value.
    pub(crate) text: &'a str,
    pub(crate) deadline: Option<Timestamp>,
    pub(crate) now: Timestamp,
}

impl Inbound<'_> {
    /// The record, with a `ce_id` and a trace of its own.
    pub(crate) fn record(&self) -> OutRecord {
        self.with_id(EventId::new(Uuid::now_v7().to_string()))
    }

    /// The record with this `ce_id`.
    pub(crate) fn with_id(&self, id: EventId) -> OutRecord {
        let trace = TraceParent::root(&id);
        let envelope = Envelope {
            id,
            source: self.source.to_owned(),
            kind: self.kind.to_owned(),
            subject: None,
            time: self.now,
            correlation_id: self.case.clone(),
            causation_id: None,
            deadline: self.deadline,
            trace,
            trace_state: None,
            origin_trace: trace,
        };
        let record = OutRecord::message(self.topic, &envelope, self.text.to_owned());
        OutRecord { key: Some(Bytes::from(self.key.to_owned())), ..record }
    }
}

/// Sends all, and says how far it got if it fails.
async fn send(cluster: &Cluster, records: Vec<(CorrelationId, OutRecord)>) -> anyhow::Result<Vec<Sent>> {
    let producer = cluster.producer(ProducerConfig { delivery_timeout: PATIENCE, ..ProducerConfig::default() });
    let count = records.len();
    let sending = records.into_iter().map(|(correlation_id, record)| {
        let producer = &producer;
        async move {
            let topic = record.topic.clone();
            let at = producer.send(record).await?;
            Ok(Sent { correlation_id, topic, partition: at.partition, offset: at.offset })
        }
    });
    let results: Vec<Result<Sent, anabranch_kafka::Error>> = futures::future::join_all(sending).await;
    let (mut sent, mut failed) = (Vec::with_capacity(count), None);
    for result in results {
        match result {
            Ok(at) => sent.push(at),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    match failed {
        None => Ok(sent),
        Some(error) => {
            // So that what is on its way can be followed.
            sent.iter().for_each(|sent| eprintln!("sent {}", sent.correlation_id));
            let doubt = if error.may_have_happened() { "; one may be there nevertheless" } else { "" };
            Err(anyhow::Error::new(error).context(format!("{} of {count} sent{doubt}", sent.len())))
        }
    }
}
