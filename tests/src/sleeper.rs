//! The application that is about the runtime alone: one agent that sleeps.

use anabranch_kafka::{OutRecord, Record};
use anabranch_llm::mock::MockConfig;
use anabranch_protocol::{CorrelationId, Envelope, EventId, Partial, PlanId, Task, TaskId, Timestamp, TraceParent};
use bytes::Bytes;
use serde_json::json;

use crate::app::Spec;

/// One sleeper, with these lines for its entry in the topology.
pub fn sleeper(partitions: u32, settings: &str) -> Spec {
    let topology = format!(
        "name: nap\npartitions: {partitions}\ninbound:\n  requests: nap.requests\noutbound:\n  done: nap.done\n\
         join:\n  deadline: 30m\nagents:\n  sleeper: {{ {settings} }}\n"
    );
    Spec { topology, agents: vec!["sleeper"], mock: MockConfig::default(), env: Vec::new() }
}

/// A task for the sleeper, as a supervisor would write it.
///
/// # Errors
/// If it has no JSON form.
pub fn nap(topic: &str, key: &str, number: u64, sleep_ms: u64) -> serde_json::Result<OutRecord> {
    let plan_id = PlanId::new(format!("plan-{number}"));
    let task_id = TaskId::derive(&plan_id, "sleeper", 0);
    let id = EventId::from(&task_id);
    let task = Task {
        task_id,
        plan_id,
        agent: "sleeper".to_owned(),
        round: 0,
        question: None,
        request: json!({ "sleep_ms": sleep_ms, "number": number }),
        parts: Default::default(),
        outcome: None,
    };
    let now = anabranch_testkit::harness::wall_clock();
    let envelope = Envelope {
        trace: TraceParent::root(&id),
        origin_trace: TraceParent::root(&id),
        id,
        source: "/e2e".to_owned(),
        kind: Task::TYPE.to_owned(),
        subject: None,
        time: now,
        correlation_id: CorrelationId::new(key),
        causation_id: None,
        deadline: Some(Timestamp::from_millis(now.as_millis() + 1_800_000)),
        trace_state: None,
    };
    Ok(OutRecord {
        topic: topic.to_owned(),
        partition: None,
        key: Some(Bytes::from(key.to_owned())),
        value: Some(Bytes::from(serde_json::to_vec(&task)?)),
        headers: envelope.headers(),
        timestamp_ms: None,
    })
}

/// The sleeper's answers among these records: number, process and partial, in log order.
pub fn answers(records: &[Record]) -> Vec<(u64, u64, Partial)> {
    let read = |record: &Record| {
        let partial: Partial = serde_json::from_slice(record.value.as_deref()?).ok()?;
        let anabranch_protocol::PartialStatus::Completed(completion) = &partial.status else { return None };
        let number = completion.output.get("number")?.as_u64()?;
        let pid = completion.output.get("pid")?.as_u64()?;
        Some((number, pid, partial))
    };
    records.iter().filter_map(read).collect()
}
