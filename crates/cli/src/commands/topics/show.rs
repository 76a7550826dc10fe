//! A plan as text.

use super::plan::{Plan, Step};
use crate::output::line;

/// Prints a plan; the summary and what the reader should know go to stderr.
pub(super) fn print(plan: &Plan) -> anyhow::Result<()> {
    for text in lines(plan) {
        line(text)?;
    }
    for warning in &plan.warnings {
        eprintln!("warning: {warning}");
    }
    eprintln!("{}", summary(plan));
    Ok(())
}

/// One line for each thing that differs.
pub(super) fn lines(plan: &Plan) -> Vec<String> {
    let mut lines: Vec<String> = plan.steps.iter().flat_map(step).collect();
    let deleted = |topic: &String| plan.steps.iter().any(|s| matches!(s, Step::Delete { topic: t } if t == topic));
    let left_over = plan.left_over.iter().filter(|topic| !deleted(topic));
    lines.extend(left_over.map(|topic| format!("- {topic}  left over, no agent of that name; --delete deletes it")));
    lines.extend(plan.refused.iter().map(|refused| format!("! {}  {}", refused.topic, refused.why)));
    lines
}

/// The lines of one step.
pub(super) fn step(step: &Step) -> Vec<String> {
    match step {
        Step::Create { topic, partitions, replication_factor, configs } => {
            let copies =
                if *replication_factor > 0 { format!(", {replication_factor} replicas") } else { String::new() };
            let configs: String = configs.iter().map(|(name, value)| format!(", {name}={value}")).collect();
            vec![format!("+ {topic}  {}{copies}{configs}", partitions_of(*partitions))]
        }
        Step::SetConfigs { topic, configs } => configs
            .iter()
            .map(|(name, c)| format!("~ {topic}  {name}: {} → {}", c.old.as_deref().unwrap_or("?"), c.new))
            .collect(),
        Step::AddPartitions { topic, old, new } => vec![format!("~ {topic}  partitions: {old} → {new}")],
        Step::Delete { topic } => vec![format!("- {topic}  deleted with all its records")],
    }
}

fn partitions_of(count: i32) -> String {
    match count {
        1 => "1 partition".to_owned(),
        ..=0 => "the broker's number of partitions".to_owned(),
        count => format!("{count} partitions"),
    }
}

/// One sentence.
pub(super) fn summary(plan: &Plan) -> String {
    if !plan.differs {
        return "nothing to do: the cluster has what the topology says".to_owned();
    }
    let count = |is: fn(&Step) -> bool| plan.steps.iter().filter(|step| is(step)).count();
    let create = count(|s| matches!(s, Step::Create { .. }));
    let change = count(|s| matches!(s, Step::SetConfigs { .. } | Step::AddPartitions { .. }));
    let delete = count(|s| matches!(s, Step::Delete { .. }));
    let stays = plan.left_over.len() - delete.min(plan.left_over.len());
    let parts = [
        (create, "to create"),
        (change, "to change"),
        (delete, "to delete"),
        (stays, "left over"),
        (plan.refused.len(), "that cannot be done"),
    ];
    let parts = parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}"));
    parts.collect::<Vec<_>>().join(", ")
}
