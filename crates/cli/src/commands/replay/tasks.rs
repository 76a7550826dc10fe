//! The supervisor's tasks, made again of the plans and follow-ups that they came of.

use anabranch_core::dispatch;
use anabranch_protocol::replay::Content;
use anabranch_protocol::{Envelope, FollowUp, Plan, Task, dead_letter};
use anabranch_topology::{SUPERVISOR, Topology};
use bytes::Bytes;

use super::compare::contents;
use super::found::{Found, Read, content, read};
use super::report::{Item, Verdict};
use crate::masking::Masking;

/// Every task beside the one that is made again.
///
/// # Errors
/// If one cannot be written as JSON.
pub(super) fn again(found: &Found, topology: &Topology, masking: &Masking) -> anyhow::Result<Vec<Item>> {
    let made = made(found, topology);
    let item = |task: &Read<Task>| {
        let item = |verdict| Item::of(SUPERVISOR, &format!("task of {}", task.data.agent), Some(&task.record), verdict);
        if dead_letter::redrives(&task.record.headers) > 0 {
            let note = Some("it was sent back from the dead letters".to_owned());
            return Ok(Item { note, ..item(Verdict::TakenAsItWas) });
        }
        let Some((cause, again)) = cause_of(task, &made) else {
            let note = Some("no plan and no follow-up asks for it".to_owned());
            return Ok(Item { note, ..item(Verdict::Differs) });
        };
        let source = format!("/{}/{SUPERVISOR}", topology.name);
        let envelope = dispatch::envelope(cause, &again.task_id, &again.agent, &source, task.envelope.time);
        let key = Bytes::from(envelope.correlation_id.as_str().to_owned());
        let again = Content::new(Some(key), Some(serde_json::to_vec(again)?.into()), envelope.headers());
        let differences = contents(&content(&task.record), &again, masking);
        let verdict = if differences.is_empty() { Verdict::Same } else { Verdict::Differs };
        Ok(Item { differences, ..item(verdict) })
    };
    found.tasks.iter().map(item).collect()
}

/// What asks for a task, and the task as it is asked for. A request that came twice has two plans with one id, each with a
/// deadline of its own.
fn cause_of<'a>(task: &Read<Task>, made: &'a [(Envelope, Vec<Task>)]) -> Option<(&'a Envelope, &'a Task)> {
    let causes = || made.iter().filter(|(cause, _)| Some(&cause.id) == task.envelope.causation_id.as_ref());
    let alike = |(cause, _): &&(Envelope, Vec<Task>)| cause.deadline == task.envelope.deadline;
    let (cause, tasks) = causes().find(alike).or_else(|| causes().next())?;
    Some((cause, tasks.iter().find(|made| made.task_id == task.data.task_id)?))
}

/// What each plan and each follow-up asks for.
fn made(found: &Found, topology: &Topology) -> Vec<(Envelope, Vec<Task>)> {
    let plans = found.results.iter().filter_map(read::<Plan>);
    let plans = plans.map(|plan| (plan.envelope, dispatch::first_tasks(topology, &plan.data)));
    let follow_ups = found.written.iter().filter_map(read::<FollowUp>);
    plans.chain(follow_ups.map(|asked| (asked.envelope, asked.data.tasks))).collect()
}
