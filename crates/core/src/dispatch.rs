//! The tasks of a plan, and how they leave.

use anabranch_protocol::{Envelope, EventId, Plan, Step, Task, TaskId, Timestamp};
use anabranch_topology::Topology;

use crate::visibility::Sight;

/// The tasks of the steps that wait for nobody, with what their agents may see.
pub fn first_tasks(topology: &Topology, plan: &Plan) -> Vec<Task> {
    plan.steps.iter().filter(|step| step.after.is_empty()).map(|step| first_task(topology, plan, step)).collect()
}

fn first_task(topology: &Topology, plan: &Plan, step: &Step) -> Task {
    let settings = topology.agent(&step.agent);
    let sight = Sight::new(step, &settings);
    Task {
        task_id: TaskId::derive(&plan.plan_id, &step.agent, 0),
        plan_id: plan.plan_id.clone(),
        agent: step.agent.clone(),
        round: 0,
        question: None,
        request: sight.request(&plan.request),
        parts: Default::default(),
        outcome: None,
        case: Some(sight.context(&plan.steps)),
    }
}

/// The envelope of a task for `agent` that `source` emits because of a plan or a follow-up.
pub fn envelope(cause: &Envelope, task: &TaskId, agent: &str, source: &str, now: Timestamp) -> Envelope {
    let caused = cause.caused(EventId::from(task), source, Task::TYPE, now);
    Envelope { subject: Some(agent.to_owned()), ..caused }
}

#[cfg(test)]
mod tests {
    use anabranch_protocol::{CorrelationId, PlanId, TraceParent};
    use serde_json::json;

    use super::*;

    #[test]
    fn steps_that_wait_for_nobody_get_a_task_without_what_is_hidden() {
        let text = "name: a\ninbound: { requests: in }\noutbound: { x: out }\n\
                    agents: { one: { hidden_fields: [/secret] }, two: {} }\n";
        let topology = anabranch_topology::parse("topics.yaml", text, None).unwrap().topology;
        let step = |agent: &str, after: &[&str]| Step {
            agent: agent.into(),
            required: true,
            after: after.iter().map(|agent| (*agent).to_owned()).collect(),
            sees: None,
            version: None,
        };
        let steps = vec![step("one", &[]), step("two", &["one"])];
        let plan = Plan { plan_id: PlanId::new("p"), request: json!({ "secret": 1, "open": 2 }), steps };
        let tasks = first_tasks(&topology, &plan);
        assert_eq!(tasks.len(), 1);
        assert_eq!((tasks[0].agent.as_str(), &tasks[0].request), ("one", &json!({ "open": 2 })));
        assert_eq!(tasks[0].case.as_ref().unwrap().steps, plan.steps);
        let id = EventId::new("p");
        let cause = Envelope {
            trace: TraceParent::root(&id),
            origin_trace: TraceParent::root(&id),
            id,
            source: "/a/supervisor".into(),
            kind: Plan::TYPE.into(),
            subject: None,
            time: Timestamp::from_millis(1),
            correlation_id: CorrelationId::new("c"),
            causation_id: None,
            deadline: Some(Timestamp::from_millis(9)),
            trace_state: None,
        };
        let left = envelope(&cause, &tasks[0].task_id, "one", "/a/supervisor", Timestamp::from_millis(2));
        assert_eq!((left.id.as_str(), left.subject.as_deref()), (tasks[0].task_id.as_str(), Some("one")));
        assert_eq!((left.causation_id, left.deadline, left.time.as_millis()), (Some(cause.id), cause.deadline, 2));
    }
}
