//! A broker, a topology in a folder of its own, and the command.

use std::process::{Output, Stdio};
use std::time::Duration;

use anabranch_broker::{Broker, BrokerConfig};
use anabranch_core::join::Phase;
use anabranch_kafka::{
    Cluster, ClusterConfig, FetchConfig, Isolation, OutRecord, Position, ProducerConfig, Record, TopicPartition,
};
use anabranch_protocol::{
    Completion, CorrelationId, Envelope, EventId, Partial, PartialStatus, Plan, PlanId, RecordView, Step, Task, TaskId,
    Timestamp, Work,
};
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// Longest time that anything here may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

pub(crate) const TOPOLOGY: &str = "
name: kyc
partitions: 3
inbound: { requests: kyc.requests, review: kyc.review-decisions }
outbound: { decisions: kyc.decisions, cases: kyc.cases }
agents:
  identity: { required: true }
";

pub(crate) struct Setup {
    pub(crate) broker: Broker,
    pub(crate) cluster: Cluster,
    folder: TempDir,
}

impl Setup {
    /// A broker without topics.
    pub(crate) async fn empty() -> Self {
        let broker = Broker::start(BrokerConfig::default()).await.unwrap();
        let cluster = Cluster::new(ClusterConfig::new(vec![broker.bootstrap()], "test"));
        let folder = TempDir::new().unwrap();
        let setup = Self { broker, cluster, folder };
        setup.topology(TOPOLOGY);
        setup
    }

    /// A broker with the topology's topics.
    pub(crate) async fn with_topics() -> Self {
        let setup = Self::empty().await;
        let done = setup.run(&["topics", "apply", "--yes"]).await;
        assert_eq!(done.code, 0, "{done:?}");
        setup
    }

    pub(crate) fn topology(&self, text: &str) {
        self.write("topics.yaml", text);
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        std::fs::write(self.path(file), text).unwrap();
    }

    pub(crate) fn path(&self, file: &str) -> std::path::PathBuf {
        self.folder.path().join(file)
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_anabranch"));
        command
            .args(args)
            .current_dir(self.folder.path())
            .env("ANABRANCH_KAFKA", self.broker.bootstrap())
            .env_remove("ANABRANCH_TOPOLOGY")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    pub(crate) fn start(&self, args: &[&str]) -> Child {
        self.command(args).spawn().unwrap()
    }

    pub(crate) async fn run(&self, args: &[&str]) -> Done {
        finished(self.start(args)).await
    }

    /// Sends what the runtime's roles would.
    pub(crate) async fn emit(&self, records: Vec<OutRecord>) {
        self.cluster.producer(ProducerConfig::default()).send_all(records).await.unwrap();
    }

    /// Reads a topic until it has `count` records.
    pub(crate) async fn read(&self, topic: &str, count: usize) -> Vec<Record> {
        let mut fetcher =
            self.cluster.fetcher(FetchConfig { isolation: Isolation::ReadCommitted, ..FetchConfig::default() });
        for partition in 0..self.cluster.partition_count(topic).await.unwrap() {
            fetcher.add(TopicPartition::new(topic, partition), Position::Earliest);
        }
        let mut records = Vec::new();
        while records.len() < count {
            let fetched = tokio::time::timeout(LIMIT, fetcher.next()).await.expect("records come").unwrap();
            records.extend(fetched.records);
        }
        records
    }

    /// How many offsets a topic has.
    pub(crate) async fn count(&self, topic: &str) -> i64 {
        let partitions = self.cluster.partition_count(topic).await.unwrap();
        let tps: Vec<_> = (0..partitions).map(|p| TopicPartition::new(topic, p)).collect();
        self.cluster.admin().end_offsets(&tps, Isolation::ReadUncommitted).await.unwrap().values().sum()
    }
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Done {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

pub(crate) async fn finished(child: Child) -> Done {
    let ended = tokio::time::timeout(LIMIT, child.wait_with_output()).await.expect("the command ends");
    let Output { status, stdout, stderr } = ended.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Done { code: status.code().unwrap_or(-1), out: text(stdout), err: text(stderr) }
}

pub(crate) fn now() -> Timestamp {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp::from_millis(i64::try_from(now.as_millis()).unwrap())
}

pub(crate) fn decode(record: &Record) -> (Envelope, Value) {
    let view = RecordView {
        topic: &record.topic,
        partition: record.partition,
        offset: record.offset,
        timestamp_ms: record.timestamp_ms,
        key: record.key.as_deref(),
        value: record.value.as_ref(),
        headers: &record.headers,
    };
    let decoded = Envelope::decode(&view).unwrap();
    let value = decoded.json().unwrap();
    (decoded.envelope, value)
}

/// One case as the roles would write it, record by record.
pub(crate) struct Story {
    request: Envelope,
    plan: Envelope,
    plan_data: Plan,
    task: Envelope,
    partial: Envelope,
}

fn record(topic: &str, envelope: &Envelope, data: &impl Serialize) -> OutRecord {
    OutRecord::message(topic, envelope, serde_json::to_vec(data).unwrap())
}

impl Story {
    /// Of a request that was read.
    pub(crate) fn of(request: Envelope) -> Self {
        let later = |millis| Timestamp::from_millis(request.time.as_millis() + millis);
        let plan_id = PlanId::derive(&request.correlation_id, b"request", b"plan");
        let step = Step { agent: "identity".into(), required: true, after: vec![], sees: None, version: None };
        let plan_data = Plan { plan_id: plan_id.clone(), request: json!({}), steps: vec![step] };
        let mut plan = request.caused(EventId::from(&plan_id), "/kyc/supervisor", Plan::TYPE, later(10));
        plan.deadline = Some(later(300_000));
        let task_id = TaskId::derive(&plan_id, "identity", 0);
        let mut task = plan.caused(EventId::from(&task_id), "/kyc/supervisor", Task::TYPE, later(12));
        task.subject = Some("identity".into());
        let answer = EventId::derive(&task.id, "identity", Partial::TYPE, 0);
        let partial = task.caused(answer, "/kyc/identity", Partial::TYPE, later(150));
        Self { request, plan, plan_data, task, partial }
    }

    /// Of a request with this case.
    pub(crate) fn new(case: &str) -> Self {
        let view = RecordView {
            topic: "kyc.requests",
            partition: 0,
            offset: 0,
            timestamp_ms: now().as_millis() - 1_000,
            key: Some(case.as_bytes()),
            value: Some(&Bytes::from_static(b"{}")),
            headers: &[],
        };
        Self::of(Envelope::decode(&view).unwrap().envelope)
    }

    pub(crate) fn request(&self) -> OutRecord {
        record("kyc.requests", &self.request, &json!({ "name": "AVA" }))
    }

    pub(crate) fn planned(&self) -> Vec<OutRecord> {
        let plan = &self.plan_data;
        let task = Task {
            task_id: TaskId::derive(&plan.plan_id, "identity", 0),
            plan_id: plan.plan_id.clone(),
            agent: "identity".into(),
            round: 0,
            question: None,
            request: json!({}),
            parts: Default::default(),
            outcome: None,
            case: None,
        };
        vec![record("kyc.results", &self.plan, plan), record("kyc.tasks.identity", &self.task, &task)]
    }

    pub(crate) fn answered(&self) -> OutRecord {
        let at = |millis| Timestamp::from_millis(self.request.time.as_millis() + millis);
        let completion =
            Completion { output: json!({ "hits": 0 }), confidence: Some(0.98), disposition: Some("clear".into()) };
        let partial = Partial {
            task_id: TaskId::derive(&self.plan_data.plan_id, "identity", 0),
            plan_id: self.plan_data.plan_id.clone(),
            agent: "identity".into(),
            agent_version: "1".into(),
            round: 0,
            status: PartialStatus::Completed(completion),
            work: Work { started_at: at(52), finished_at: at(149), attempts: 1 },
        };
        record("kyc.results", &self.partial, &partial)
    }

    pub(crate) fn outcome(&self, topic: &str, data: &Value) -> OutRecord {
        let id = EventId::outbound(&self.request.correlation_id, topic, "kyc.decision", 0);
        let time = Timestamp::from_millis(self.request.time.as_millis() + 160);
        record(topic, &self.partial.caused(id, "/kyc/composer", "kyc.decision", time), data)
    }

    pub(crate) fn state(&self, phase: Phase) -> OutRecord {
        let (word, since, reason) = match phase {
            Phase::Joining => ("joining", None, None),
            Phase::Parked { since, reason } => ("parked", Some(since.as_millis()), Some(reason)),
            Phase::Closed { at } => ("closed", Some(at.as_millis()), None),
        };
        let value = json!({
            "phase": word, "since_ms": since, "reason": reason, "plan_id": self.plan_data.plan_id,
            "plan": { "offset": 0, "bytes": 200 }, "opened_ms": self.plan.time.as_millis(),
            "deadline_ms": self.plan.deadline.unwrap().as_millis(), "steps": [{ "agent": "identity", "asked": 0 }],
        });
        let id = self.request.correlation_id.as_str();
        OutRecord {
            topic: "kyc.composer-state".to_owned(),
            // Beside the case's results, whatever its own key says.
            partition: Some(anabranch_protocol::partition::partition_for_key(id.as_bytes(), 3)),
            key: Some(Bytes::from(format!("case/{id}"))),
            value: Some(Bytes::from(value.to_string())),
            ..OutRecord::default()
        }
    }

    pub(crate) fn case(&self) -> &CorrelationId {
        &self.request.correlation_id
    }
}
