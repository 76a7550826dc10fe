//! `anabranch cost`: what models were asked, and what it cost.

mod sum;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use anabranch_kafka::{Record, TopicPartition};
use anabranch_llm::stack::Entry;
use anabranch_protocol::Timestamp;
use anyhow::anyhow;
use jiff::civil::Date;

use crate::console::plain;
use crate::options::{Brokers, TopologyFile};
use crate::output::{Format, OutputArgs, json, line, table};
use crate::reading::{self, Survey};
use sum::{Costs, Report, Sum, Wanted};

/// Add up the model calls that the ledger holds: tokens and money by day, agent and model.
///
/// Every call is in the ledger before its answer is used, failed ones included; it keeps them for 32 days or longer. Days
/// are UTC. Money is what the prices of topics.yaml said when a call was made. CALLS are requests at the endpoint; of
/// these FAILED were refused and cost nothing, USELESS were paid for but gave no valid answer, and UNKNOWN broke off, so
/// that their tokens are an estimate.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anabranch cost                               # everything
  anabranch cost --day 2026-11-24              # one day
  anabranch cost --agent document --day 2026-11-24
  anabranch cost --case case-17 -o json | jq .total.money")]
pub(crate) struct Args {
    /// Only this case.
    #[arg(long, value_name = "ID")]
    case: Option<String>,
    /// Only this agent.
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Only this day (UTC).
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = day, allow_hyphen_values = true)]
    day: Option<Date>,
    #[command(flatten)]
    topology: TopologyFile,
    #[command(flatten)]
    brokers: Brokers,
    #[command(flatten)]
    output: OutputArgs,
}

fn day(text: &str) -> Result<Date, String> {
    let wrong = || format!("{text:?} is no day; write for example 2026-11-24");
    // Only this form: `20261124` or a time behind it is more likely a slip than meant.
    let plain = text.len() == 10 && text.bytes().enumerate().all(|(i, b)| matches!(i, 4 | 7) == (b == b'-'));
    text.parse().ok().filter(|_| plain).ok_or_else(wrong)
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let topology = args.topology.load()?;
    let cluster = args.brokers.connect().await?;
    let survey = Survey::take(&cluster, &topology).await?;
    survey.expect_some(&topology)?;
    let name = topology.ledger_topic();
    let Some(ledger) = survey.topic(&name) else {
        let help = "agents create it when they start, and `anabranch topics apply` does";
        return Err(anyhow!("there is no ledger on this cluster: topic {name} does not exist; {help}"));
    };
    // All partitions: the topic may have been given some since the call.
    let partitions: Vec<TopicPartition> = ledger.all().collect();
    let since = args.day.and_then(sum::starts);
    let spans = reading::spans(&cluster, &partitions, since.map(Timestamp::from_millis)).await?;
    let mut costs = Costs::new(Wanted { case: args.case, agent: args.agent, day: args.day });
    reading::scan(&cluster, spans, |record| take(&mut costs, &record)).await?;
    if costs.unreadable > 0 {
        eprintln!("warning: {} records of {name} are no entries of a ledger, and are not counted", costs.unreadable);
    }
    let report = costs.report();
    match args.output.format {
        Format::Json => json(&report)?,
        Format::Table => print(&report)?,
    }
    if report.rows.is_empty() {
        eprintln!("no such model call is in the ledger");
    }
    if report.total.without_price > 0 {
        eprintln!(
            "warning: {} calls have no price; write it under `prices` in topics.yaml",
            report.total.without_price
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn take(costs: &mut Costs, record: &Record) {
    match record.value.as_deref().map(serde_json::from_slice::<Entry>) {
        Some(Ok(entry)) => costs.add(record.partition, &entry),
        Some(Err(_)) | None => costs.unreadable += 1,
    }
}

const HEADS: [&str; 10] =
    ["DAY", "AGENT", "MODEL", "CALLS", "FAILED", "USELESS", "UNKNOWN", "TOKENS IN", "TOKENS OUT", "MONEY"];

fn print(report: &Report) -> anyhow::Result<()> {
    let mut rows = table(&HEADS);
    for row in &report.rows {
        let model = match &row.fallback_for {
            Some(other) => format!("{} for {other}", row.model),
            None => row.model.clone(),
        };
        rows.add_row(cells([row.day.clone(), shown(&row.agent), shown(&model)], &row.sum));
    }
    rows.add_row(cells(["total".to_owned(), String::new(), String::new()], &report.total));
    line(rows)
}

/// Names come from records that anybody may have written.
fn shown(name: &str) -> String {
    if name.is_empty() { "-".to_owned() } else { plain(name) }
}

fn cells(names: [String; 3], sum: &Sum) -> Vec<String> {
    let numbers = [sum.calls, sum.failed, sum.useless, sum.unknown, sum.prompt_tokens, sum.completion_tokens];
    names.into_iter().chain(numbers.iter().map(u64::to_string)).chain([sum.money.clone()]).collect()
}
