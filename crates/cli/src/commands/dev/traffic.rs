//! The demo's traffic: requests and reviews in, and what the topics say of each case.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anabranch_kafka::{
    Cluster, Fetcher, Isolation, OutRecord, Position, Producer, ProducerConfig, Record, TopicPartition,
};
use anabranch_protocol::{
    CorrelationId, Envelope, EventId, FollowUp, FollowUpKind, Partial, Plan, ReviewDecision, TraceParent, dead_letter,
    header,
};
use anabranch_topology::Topology;
use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use serde_json::Value;

use super::board::{Outcome, Seen};
use super::demo::DemoCase;
use crate::reading;

/// `ce_source` of what the demo sends.
const SOURCE: &str = "/anabranch/demo";

/// What a topic tells about cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tells {
    Results,
    FollowUps,
    Outcomes,
    Alerts,
    DeadLetters,
}

/// Both ends of the application.
pub(super) struct Traffic {
    cluster: Cluster,
    producer: Producer,
    fetcher: Fetcher,
    topics: HashMap<String, Tells>,
    requests: String,
    review: Option<String>,
}

impl Traffic {
    /// Follows the topics from here on.
    ///
    /// # Errors
    /// If one does not exist, or the broker does not answer.
    pub(super) async fn open(cluster: &Cluster, topology: &Topology) -> anyhow::Result<Self> {
        let topics = topics(topology);
        let mut fetcher = reading::fetcher(cluster);
        let mut tps = Vec::new();
        for topic in topics.keys() {
            let count = cluster.partition_count(topic).await.with_context(|| format!("cannot follow {topic}"))?;
            let topic: Arc<str> = topic.as_str().into();
            tps.extend((0..count).map(|partition| TopicPartition { topic: topic.clone(), partition }));
        }
        // The ends are known before anything is sent, so that nothing can be missed.
        for (tp, end) in cluster.admin().end_offsets(&tps, Isolation::ReadCommitted).await? {
            fetcher.add(tp, Position::Offset(end));
        }
        Ok(Self {
            producer: cluster.producer(ProducerConfig::default()),
            cluster: cluster.clone(),
            fetcher,
            topics,
            requests: topology.inbound.requests.name.clone(),
            review: topology.inbound.review.as_ref().map(|t| t.name.clone()),
        })
    }

    /// Sends a case, as often as it asks for; it is with the broker when this returns.
    ///
    /// # Errors
    /// If the broker does not take it.
    pub(super) async fn send(&self, case: &DemoCase, correlation_id: &CorrelationId) -> anyhow::Result<()> {
        let record = match (&case.raw, &case.request) {
            // As a foreign producer would: a key, no headers. The runtime takes the correlation id from the key.
            (Some(raw), _) => {
                OutRecord { value: Some(Bytes::from(raw.clone())), ..self.record(&self.requests, correlation_id) }
            }
            (None, request) => {
                let mut envelope =
                    envelope(EventId::new(format!("{correlation_id}-request")), "request", correlation_id);
                envelope.deadline = case.deadline_seconds.map(|s| envelope.time.plus(Duration::from_secs(s)));
                let value = serde_json::to_vec(request).context("a request cannot be written")?;
                OutRecord {
                    value: Some(value.into()),
                    headers: envelope.headers(),
                    ..self.record(&self.requests, correlation_id)
                }
            }
        };
        let copies = usize::try_from(case.copies.unwrap_or(1))?;
        self.producer.send_all(vec![record; copies]).await.with_context(|| format!("cannot send {}", case.id))?;
        Ok(())
    }

    /// Sends what a person decided.
    ///
    /// # Errors
    /// If the topology has no topic for it, or the broker does not take it.
    pub(super) async fn review(&self, correlation_id: &CorrelationId, decision: &ReviewDecision) -> anyhow::Result<()> {
        let topic = self.review.as_ref().ok_or_else(|| anyhow!("the topology has no inbound.review topic"))?;
        let envelope = envelope(EventId::new(format!("{correlation_id}-review")), "review", correlation_id);
        let record = OutRecord {
            value: Some(serde_json::to_vec(decision).context("a review cannot be written")?.into()),
            headers: envelope.headers(),
            ..self.record(topic, correlation_id)
        };
        self.producer.send(record).await.with_context(|| format!("cannot send the review of {correlation_id}"))?;
        Ok(())
    }

    fn record(&self, topic: &str, key: &CorrelationId) -> OutRecord {
        OutRecord { topic: topic.to_owned(), key: Some(Bytes::from(key.to_string())), ..OutRecord::default() }
    }

    /// What is new, by case; records that say nothing about a case's progress are left out. Cancel-safe.
    ///
    /// # Errors
    /// If the broker is away for too long, or a topic is gone.
    pub(super) async fn next(&mut self) -> anyhow::Result<Vec<(CorrelationId, Seen)>> {
        let fetched = reading::next(&self.cluster, &mut self.fetcher).await?;
        let Some(tells) = self.topics.get(&*fetched.topic) else { return Ok(Vec::new()) };
        Ok(fetched.records.iter().filter_map(|r| Some((reading::case_of(r), read(*tells, r)?))).collect())
    }
}

fn topics(topology: &Topology) -> HashMap<String, Tells> {
    let requests = &topology.inbound.requests.name;
    let mut topics = HashMap::from([
        (topology.results_topic(), Tells::Results),
        (topology.followups_topic(), Tells::FollowUps),
        (topology.dlq_topic(requests), Tells::DeadLetters),
    ]);
    for (alias, topic) in &topology.outbound {
        let tells = if reading::names_outcomes(alias) { Tells::Outcomes } else { Tells::Alerts };
        if !alias.contains("message") {
            topics.insert(topic.name.clone(), tells);
        }
    }
    topics
}

fn envelope(id: EventId, kind: &str, correlation_id: &CorrelationId) -> Envelope {
    Envelope {
        trace: TraceParent::root(&id),
        origin_trace: TraceParent::root(&id),
        id,
        source: SOURCE.to_owned(),
        kind: format!("anabranch.demo.{kind}.v1"),
        subject: None,
        time: reading::now(),
        correlation_id: correlation_id.clone(),
        causation_id: None,
        deadline: None,
        trace_state: None,
    }
}

fn read(tells: Tells, record: &Record) -> Option<Seen> {
    if tells == Tells::DeadLetters {
        let id = EventId::mint(&record.topic, record.partition, record.offset);
        let class = header::last(&record.headers, dead_letter::CLASS).unwrap_or("dead letter");
        return Some(Seen::DeadLetter(id, crate::console::plain(class)));
    }
    // What cannot be read is not of this application's making; the case then counts as not decided.
    let decoded = Envelope::decode(&record.view()).ok()?;
    let (id, kind) = (decoded.envelope.id.clone(), decoded.envelope.kind.as_str());
    match tells {
        Tells::Results if kind == Plan::TYPE => {
            let plan: Plan = decoded.json().ok()?;
            Some(Seen::Planned(plan.steps.iter().filter(|s| !s.follows_outcome()).count()))
        }
        Tells::Results if kind == Partial::TYPE => Some(Seen::Answered(id)),
        Tells::FollowUps => {
            let follow_up: FollowUp = decoded.json().ok()?;
            (follow_up.kind == FollowUpKind::Round).then_some(Seen::Round(id))
        }
        Tells::Alerts => Some(Seen::Alert),
        Tells::Outcomes => Some(Seen::Outcome(id, outcome(&decoded.json().ok()?))),
        Tells::Results | Tells::DeadLetters => None,
    }
}

/// What the demo looks at in an outcome: `state`, `confidence`, `codes` or `reasons[].code`, `reviewer`.
fn outcome(value: &Value) -> Outcome {
    let text = |value: &Value| value.as_str().map(crate::console::plain);
    let codes = value.get("codes").or_else(|| value.get("reasons")).and_then(Value::as_array);
    let code = |entry: &Value| text(entry.get("code").unwrap_or(entry));
    let reviewer = value.get("reviewer").or_else(|| value.pointer("/review/reviewer"));
    Outcome {
        state: value.get("state").and_then(text).unwrap_or_else(|| "unknown".to_owned()),
        confidence: value.get("confidence").and_then(Value::as_f64),
        codes: codes.into_iter().flatten().filter_map(code).collect(),
        reviewer: reviewer.and_then(text),
    }
}
