//! W8: a million cases that wait for their answers. How long a composer takes to have them, how much memory they take, how
//! long a fresh one takes to take them over, and how late deadlines are kept while they stay open.

use std::time::{Duration, Instant};

use anabranch_kafka::{OutRecord, Producer, ProducerConfig};
use anabranch_protocol::{CorrelationId, Envelope, EventId, Plan, PlanId, Step, Timestamp, TraceParent};
use anabranch_topology::COMPOSER;
use bytes::Bytes;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{Course, Load};
use crate::error::BenchError;
use crate::ledger::Ledger;
use crate::load::now;
use crate::report::{Figures, JoinFigures};
use crate::requests;
use crate::schedule::Pace;

/// Plans that are on their way at once.
const AT_ONCE: usize = 20_000;
/// From writing plans to the first deadline: time enough to join them.
const LEAD: Duration = Duration::from_secs(10);
/// Deadlines a second.
const RATE: f64 = 1_000.0;
/// Of how many open cases one falls due, at the most 20,000.
const DUE_OF: u64 = 50;
/// The deadline of those that stay open.
const OPEN_FOR: Duration = Duration::from_secs(20 * 3600);
/// Between two looks at the composer's figures.
const LOOK: Duration = Duration::from_millis(100);

impl Course<'_> {
    /// `None` where it was interrupted.
    pub(super) async fn joins(&mut self, stop: &CancellationToken) -> Result<Option<Figures>, BenchError> {
        stop.run_until_cancelled(Box::pin(self.all_joins())).await.transpose()
    }

    async fn all_joins(&mut self) -> Result<Figures, BenchError> {
        let cases = self.settings.cases;
        let results = self.site.topology.results_topic();
        let producer = self.site.cluster.producer(ProducerConfig::default());
        let empty = self.composer_bytes()?;
        self.site.launcher.meter.begin();
        let watching = self.site.launcher.meter.watch();

        let (began, tomorrow) = (Instant::now(), now().plus(OPEN_FOR));
        let open = (0..cases).map(|number| (format!("open-{number:08}-0000-4000-8000-{number:012}"), tomorrow));
        write(&producer, &results, open).await?;
        let written = began.elapsed();
        self.until_joining(cases).await?;
        let joined = began.elapsed();

        let takeover = self.replace_composer().await?;
        self.until_joining(cases).await?;
        let resident = self.composer_bytes()?;

        let (ledger, complete) = self.deadlines(&producer, &results).await?;
        let (taken, peak_resident_bytes) = self.site.launcher.meter.taken();
        drop(watching);
        let joins = JoinFigures {
            open: cases,
            written_seconds: written.as_secs_f64(),
            joined_seconds: joined.as_secs_f64(),
            takeover_seconds: takeover.as_secs_f64(),
            composer_bytes: resident,
            composer_bytes_when_empty: empty,
        };
        let load = Load { complete, kills: Vec::new() };
        Ok(Figures { joins: Some(joins), taken, peak_resident_bytes, ..self.figures(&ledger, load, None) })
    }

    /// Cases that fall due one after the other while the rest stays open: their latency counts from the deadline.
    async fn deadlines(&mut self, producer: &Producer, results: &str) -> Result<(Ledger, bool), BenchError> {
        let due = (self.settings.cases / DUE_OF).clamp(1, 20_000);
        let pace = Pace::new(due, Some(RATE));
        let (began, wall) = (Instant::now() + LEAD, now().plus(LEAD));
        {
            let mut seen = self.outcomes.lock();
            (seen.ledger, seen.began) = (Ledger::paced(due, &pace), began);
        }
        write(producer, results, (0..due).map(|n| (requests::key(n), wall.plus(pace.due_at(n))))).await?;
        let limit = LEAD + pace.span() + self.settings.patience;
        let decided = self.outcomes.until(limit, |seen| seen.ledger.open() == 0).await?;
        tokio::time::sleep(super::AFTER).await;
        Ok((self.outcomes.lock().ledger.clone(), decided))
    }

    fn composer_bytes(&mut self) -> Result<u64, BenchError> {
        let (_, process) = self.site.agents.get(COMPOSER).ok_or_else(no_composer)?;
        process.resident_bytes().ok_or_else(no_composer)
    }

    /// How long a fresh process takes until it is ready, once the one before has left.
    async fn replace_composer(&mut self) -> Result<Duration, BenchError> {
        self.site.stop_agent(COMPOSER).await?;
        let began = Instant::now();
        self.site.start_agent(COMPOSER, 1)?;
        self.site.all_ready().await?;
        Ok(began.elapsed())
    }

    /// Waits until the composer says that it has so many.
    async fn until_joining(&mut self, cases: u64) -> Result<(), BenchError> {
        let deadline = Instant::now() + self.settings.patience * 6;
        loop {
            let metrics = self.site.metrics_of(COMPOSER).await?;
            let joining = joining(&metrics);
            if joining == Some(cases) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let seconds = (self.settings.patience * 6).as_secs();
                return Err(BenchError::Process(format!("after {seconds} s {joining:?} of {cases} cases are joined")));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn no_composer() -> BenchError {
    BenchError::Process("the composer has ended".to_owned())
}

/// The gauge of cases that wait for their answers.
fn joining(metrics: &str) -> Option<u64> {
    let line = metrics.lines().find(|line| line.starts_with("anabranch_cases{") && line.contains("\"joining\""))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// Writes plans as a supervisor would.
async fn write(
    producer: &Producer,
    results: &str,
    cases: impl Iterator<Item = (String, Timestamp)>,
) -> Result<(), BenchError> {
    let request: Value = serde_json::from_str(requests::TEMPLATE)
        .map_err(|error| BenchError::Process(format!("the request's template: {error}")))?;
    let mut records: Vec<OutRecord> = Vec::with_capacity(AT_ONCE);
    let mut cases = cases.peekable();
    while let Some((key, due)) = cases.next() {
        records.push(plan(results, &key, due, &request));
        if records.len() == AT_ONCE || cases.peek().is_none() {
            let sent = producer.send_all(std::mem::take(&mut records)).await;
            sent.map_err(BenchError::kafka("writing plans"))?;
        }
    }
    Ok(())
}

/// The plan of a case of four agents, and one after the outcome.
fn plan(results: &str, key: &str, due: Timestamp, request: &Value) -> OutRecord {
    let case = CorrelationId::new(key);
    let step = |agent: &str, required: bool, after: &[&str]| Step {
        agent: agent.to_owned(),
        required,
        after: after.iter().map(|step| (*step).to_owned()).collect(),
        sees: None,
        version: None,
    };
    let mut steps = ["identity", "document", "fraud", "compliance"].map(|agent| step(agent, true, &[])).to_vec();
    steps.push(step("customer", false, &[Step::OUTCOME]));
    let plan_id = PlanId::derive(&case, key.as_bytes(), b"bench");
    let id = EventId::from(&plan_id);
    let envelope = Envelope {
        trace: TraceParent::root(&id),
        origin_trace: TraceParent::root(&id),
        id,
        source: "/anabranch/bench".to_owned(),
        kind: Plan::TYPE.to_owned(),
        subject: None,
        time: now(),
        correlation_id: case,
        causation_id: Some(EventId::new("request")),
        deadline: Some(due),
        trace_state: None,
    };
    OutRecord {
        topic: results.to_owned(),
        key: Some(key.to_owned().into()),
        // A plan is plain data: it always has a JSON form.
        value: serde_json::to_vec(&Plan { plan_id, request: request.clone(), steps }).ok().map(Bytes::from),
        headers: envelope.headers(),
        ..OutRecord::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_composers_gauge_is_read() {
        let metrics = "# TYPE anabranch_cases gauge\nanabranch_cases{phase=\"parked\"} 3\nanabranch_cases{phase=\"joining\"} 42\n";
        assert_eq!(joining(metrics), Some(42));
        assert_eq!(joining(""), None);
    }

    #[test]
    fn a_plan_is_read_as_one() {
        let record = plan("r", "case-00000001", Timestamp::from_millis(5), &Value::Null);
        let plan: Plan = serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
        assert_eq!(plan.steps.len(), 5);
        assert!(record.headers.iter().any(|header| header.name == "ce_expirytime"));
    }
}
