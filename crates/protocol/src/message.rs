//! What the values are. Each type names its `ce_type`; the envelope carries case, cause, deadline and trace.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::ids::{PlanId, TaskId};
use crate::time::Timestamp;

/// What the supervisor decided for a case, on the results topic, before any task. The first plan of a case in log
/// order counts; results of any other are ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// Derives from the request and the steps.
    pub plan_id: PlanId,
    /// The request, as it came in.
    pub request: Value,
    /// What is to be done.
    pub steps: Vec<Step>,
}

impl Plan {
    /// `ce_type`.
    pub const TYPE: &'static str = "anabranch.plan.v1";
}

/// One step of a plan: one task for one agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// The agent; also the step's name, as an agent has one step in a plan.
    pub agent: String,
    /// Whether the case needs an answer. A required part that is missing counts as confidence 0.
    pub required: bool,
    /// Steps that must have answered before; [`Step::OUTCOME`] for one that runs once the case has an outcome.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
    /// Steps whose answers its agent may see, [`Step::OUTCOME`] for the outcome, [`Step::EVERYBODY`] for all of them.
    /// `None`: those that it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sees: Option<Vec<String>>,
    /// Version of the agent whose card was planned with, if one had announced itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

impl Step {
    /// In `after`: the step runs when the case has been decided or parked, and gets that outcome.
    pub const OUTCOME: &'static str = "outcome";

    /// In `sees`: all answers, and the outcome.
    pub const EVERYBODY: &'static str = "*";

    /// Whether the step waits for the outcome. Such a step has no vote.
    pub fn follows_outcome(&self) -> bool {
        self.after.iter().any(|a| a == Self::OUTCOME)
    }
}

/// One task for one agent, on `<topology>.tasks.<agent>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Task {
    /// Derives from plan, step and round. Also the `ce_id`.
    pub task_id: TaskId,
    /// The plan it belongs to.
    pub plan_id: PlanId,
    /// Whom it is for.
    pub agent: String,
    /// 0 for the plan's own tasks, then 1, 2, … for follow-up rounds.
    #[serde(default)]
    pub round: u32,
    /// What a follow-up round asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<String>,
    /// The request, as it came in, without the fields that are hidden from this agent.
    pub request: Value,
    /// Earlier answers this agent may see, by agent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<String, PriorPart>,
    /// The outcome so far, for a step after [`Step::OUTCOME`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Value>,
    /// What else of its case the agent may know. Older versions wrote none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub case: Option<CaseContext>,
}

impl Task {
    /// `ce_type`.
    pub const TYPE: &'static str = "anabranch.task.v1";
}

/// What an agent may know of its case beside the request and the answers that its task holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CaseContext {
    /// The plan: who is asked, and whether the case needs the answer.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// Whose answers it may see, in the words of [`Step::sees`].
    #[serde(default)]
    pub sees: Vec<String>,
    /// Fields of the request that are hidden from it, as JSON pointers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hidden: Vec<String>,
}

/// An earlier answer, as a later step sees it.
pub type PriorPart = Completion;

/// What an agent answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Completion {
    /// The agent's own message.
    pub output: Value,
    /// How sure the agent is, 0 to 1. `None` where an agent has no vote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// What the agent would do, in its own words (`clear`, `hit`, …). Not the same as being sure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disposition: Option<String>,
}

/// An agent's result for one task, on the results topic.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Partial {
    /// The task.
    pub task_id: TaskId,
    /// Its plan.
    pub plan_id: PlanId,
    /// Who answers.
    pub agent: String,
    /// The agent's version.
    pub agent_version: String,
    /// The task's round.
    #[serde(default)]
    pub round: u32,
    /// The answer, or why there is none.
    #[serde(flatten)]
    pub status: PartialStatus,
    /// When the work was done.
    pub work: Work,
}

impl Partial {
    /// `ce_type`.
    pub const TYPE: &'static str = "anabranch.partial.v1";
}

/// By hand: what serde derives for a flattened member reads all of the answer into memory, and then once more from there.
impl<'de> Deserialize<'de> for Partial {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let flat = FlatPartial::deserialize(deserializer)?;
        let status = match flat.status {
            Status::Completed => PartialStatus::Completed(Completion {
                output: flat.output.ok_or_else(|| D::Error::missing_field("output"))?,
                confidence: flat.confidence,
                disposition: flat.disposition,
            }),
            Status::Failed => {
                PartialStatus::Failed { reason: flat.reason.ok_or_else(|| D::Error::missing_field("reason"))? }
            }
            Status::Expired => PartialStatus::Expired,
        };
        let FlatPartial { task_id, plan_id, agent, agent_version, round, work, .. } = flat;
        Ok(Self { task_id, plan_id, agent, agent_version, round, status, work })
    }
}

/// A [`Partial`] as it is written.
#[derive(Deserialize)]
struct FlatPartial {
    task_id: TaskId,
    plan_id: PlanId,
    agent: String,
    agent_version: String,
    #[serde(default)]
    round: u32,
    status: Status,
    #[serde(default, deserialize_with = "there")]
    output: Option<Value>,
    confidence: Option<f64>,
    disposition: Option<String>,
    reason: Option<String>,
    work: Work,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Completed,
    Failed,
    Expired,
}

/// A null that is written is an answer.
fn there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// The answer, or why there is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum PartialStatus {
    /// The agent answered.
    Completed(Completion),
    /// The task became a dead letter.
    Failed {
        /// The error, as text.
        reason: String,
    },
    /// The deadline passed before the agent could answer.
    Expired,
}

/// When and how often a task was worked on. Queue time is `started_at` less the task record's timestamp.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Work {
    /// First attempt of the delivery that answered.
    pub started_at: Timestamp,
    /// End of the last attempt.
    pub finished_at: Timestamp,
    /// Attempts in that delivery, from 1.
    pub attempts: u32,
}

/// What the composer asks of the supervisor, on the follow-ups topic: to emit these tasks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FollowUp {
    /// The plan of the case.
    pub plan_id: PlanId,
    /// Why.
    pub kind: FollowUpKind,
    /// The tasks, complete: the supervisor keeps no state to look anything up in.
    pub tasks: Vec<Task>,
}

impl FollowUp {
    /// `ce_type`.
    pub const TYPE: &'static str = "anabranch.followup.v1";
}

/// Why tasks are asked for after the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FollowUpKind {
    /// What a step waits for is in.
    StepReady,
    /// The answers were middling: another round.
    Round,
    /// The case was decided or parked: steps after the outcome.
    Outcome,
    /// A second plan came; the tasks of the first, which counts, may never have been emitted.
    Replan,
}

/// What an agent says of itself on the compacted directory topic, keyed by its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AgentCard {
    /// The agent.
    pub name: String,
    /// What it does; a planning model reads this.
    pub description: String,
    /// Its version.
    pub version: String,
    /// CEL over `request`: whether a case needs this agent. `None`: always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// Steps it waits for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
    /// Steps whose answers it may see; `None`: those that it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sees: Option<Vec<String>>,
    /// Whether a case needs its answer.
    pub required: bool,
    /// JSON Schema of what it reads from the request.
    pub input_schema: Value,
    /// JSON Schema of what it answers.
    pub output_schema: Value,
    /// When this card was announced; it lapses a set time after.
    pub announced_at: Timestamp,
}

impl AgentCard {
    /// `ce_type`.
    pub const TYPE: &'static str = "anabranch.agent-card.v1";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_reads_as_plain_json() {
        let partial = Partial {
            task_id: TaskId::new("t"),
            plan_id: PlanId::new("p"),
            agent: "identity".into(),
            agent_version: "1".into(),
            round: 0,
            status: PartialStatus::Completed(Completion {
                output: serde_json::json!({"hits": 0}),
                confidence: Some(0.99),
                disposition: Some("clear".into()),
            }),
            work: Work { started_at: Timestamp::from_millis(0), finished_at: Timestamp::from_millis(1), attempts: 1 },
        };
        let text = serde_json::to_string(&partial).unwrap();
        assert!(text.contains(r#""status":"completed","output":{"hits":0},"confidence":0.99"#), "{text}");
        assert_eq!(serde_json::from_str::<Partial>(&text).unwrap(), partial);
    }

    #[test]
    fn a_partial_is_read_whatever_its_status_and_not_without_what_that_needs() {
        let read = |rest: serde_json::Value| {
            let mut all = serde_json::json!({"task_id": "t", "plan_id": "p", "agent": "a", "agent_version": "1",
                "work": {"started_at": "1970-01-01T00:00:00Z", "finished_at": "1970-01-01T00:00:00Z", "attempts": 1}});
            all.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
            serde_json::from_value::<Partial>(all)
        };
        let status = |rest| read(rest).map(|partial| partial.status).map_err(|e| e.to_string());
        let answer = Completion { output: Value::Null, confidence: None, disposition: None };
        assert_eq!(
            status(serde_json::json!({"status": "completed", "output": null, "confidence": null})),
            Ok(PartialStatus::Completed(answer))
        );
        assert_eq!(status(serde_json::json!({"status": "completed"})), Err("missing field `output`".into()));
        let failed = PartialStatus::Failed { reason: "r".into() };
        assert_eq!(status(serde_json::json!({"status": "failed", "reason": "r", "more": 1})), Ok(failed));
        assert_eq!(status(serde_json::json!({"status": "failed"})), Err("missing field `reason`".into()));
        assert_eq!(status(serde_json::json!({"status": "expired"})), Ok(PartialStatus::Expired));
        assert!(status(serde_json::json!({"status": "other"})).is_err());
        assert!(status(serde_json::json!({})).is_err());
    }
}
