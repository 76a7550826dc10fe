//! Doing what a plan says, step by step.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::process::ExitCode;

use anabranch_kafka::{Admin, Cluster, NewTopic};
use anyhow::{Context as _, anyhow};
use serde::Serialize;

use super::plan::{Plan, Step};
use super::show;
use crate::output::{Format, json, line};
use crate::usage::usage;

/// What was done.
#[derive(Serialize)]
struct Done<'a> {
    applied: &'a [Step],
    left_over: &'a [String],
}

/// Shows the plan, asks, does it.
pub(super) async fn run(cluster: &Cluster, plan: Plan, yes: bool, format: Format) -> anyhow::Result<ExitCode> {
    if !plan.refused.is_empty() {
        let why: Vec<String> = plan.refused.iter().map(|r| format!("{}: {}", r.topic, r.why)).collect();
        return Err(anyhow!("nothing was changed, as not all of it can be done\n  {}", why.join("\n  ")));
    }
    if plan.steps.is_empty() {
        let left_over = plan.left_over.len();
        let rest = if left_over > 0 { format!("; {left_over} left over, see `topics diff`") } else { String::new() };
        eprintln!("nothing to do{rest}");
    } else {
        plan.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
        if !yes {
            confirm(&plan)?;
        }
    }
    let admin = cluster.admin();
    for (index, step) in plan.steps.iter().enumerate() {
        do_step(&admin, step).await.with_context(|| {
            format!(
                "{index} of {} steps done, then this one failed; run it again to go on: {}",
                plan.steps.len(),
                show::step(step).join("; ")
            )
        })?;
        if format == Format::Table {
            report(step);
        }
    }
    if format == Format::Json {
        json(&Done { applied: &plan.steps, left_over: &plan.left_over })?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A step that is done stays done when nobody reads of it.
fn report(step: &Step) {
    for text in show::step(step) {
        let _ = line(text);
    }
}

fn confirm(plan: &Plan) -> anyhow::Result<()> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() || !std::io::stderr().is_terminal() {
        return Err(usage("there is no terminal to ask at; look at `topics diff`, then say --yes"));
    }
    show::lines(plan).iter().for_each(|text| eprintln!("{text}"));
    eprint!("{}. Do it? [y/N] ", show::summary(plan));
    std::io::stderr().flush()?;
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer).context("cannot read the answer")?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(anyhow!("nothing was changed")),
    }
}

async fn do_step(admin: &Admin, step: &Step) -> anyhow::Result<()> {
    match step {
        Step::Create { topic, partitions, replication_factor, configs } => {
            let new = NewTopic {
                name: topic.clone(),
                partitions: *partitions,
                replication_factor: *replication_factor,
                configs: configs.clone(),
            };
            for (_, created) in admin.create_topics(vec![new]).await? {
                match created {
                    // An agent that started in between was quicker; what differs, the next diff tells.
                    Err(error) if error.is_already_exists() => {}
                    other => other?,
                }
            }
        }
        Step::SetConfigs { topic, configs } => {
            let changes = configs.iter().map(|(name, change)| (name.clone(), Some(change.new.clone())));
            admin.alter_configs(topic, changes.collect()).await?;
        }
        Step::AddPartitions { topic, new, .. } => admin.create_partitions(topic, *new).await?,
        Step::Delete { topic } => {
            for (_, deleted) in admin.delete_topics(std::slice::from_ref(topic)).await? {
                match deleted {
                    Err(error) if error.is_unknown_topic() => {}
                    other => other?,
                }
            }
        }
    }
    Ok(())
}
