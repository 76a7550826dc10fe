//! `dlq drop`: letters that nothing is to be done about.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};

use super::letter::{Letter, LetterId};
use super::marks::{How, Mark, Marks};
use super::pace::stop_on_signal;
use super::report::{Done, Report};
use super::select::Which;
use super::{Common, Site};
use crate::output::OutputArgs;
use crate::usage::usage;

/// Letters that are marked together.
const AT_ONCE: usize = 200;

/// Mark dead letters as dealt with: `dlq list` and `dlq redrive` leave them out from then on.
///
/// Nothing is deleted: their records stay as long as their topic keeps them, and `dlq list --handled` shows them. Asks
/// first on a terminal; elsewhere it wants --yes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anabranch dlq drop kyc.requests.dlq/0/3
  anabranch dlq drop --topic kyc.requests --class unreadable --until 24h --yes")]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
    /// Mark none, and say which would be.
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Drop so many and no more.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..), allow_hyphen_values = true)]
    limit: Option<u64>,
    #[command(flatten)]
    common: Common,
    /// A table, or one JSON object a line.
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let site = Site::find(&args.common).await?;
    args.which.check(&site.survey)?;
    let may_ask = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if !(args.yes || args.dry_run || may_ask) {
        return Err(usage("there is no terminal to ask at; look with --dry-run, then say --yes"));
    }
    let stop = stop_on_signal().context("cannot listen for signals")?;
    let marks = Marks::read(&site.cluster, &site.topology, &site.survey).await?;
    let mut report = Report::new("dropped", args.output.format, args.dry_run);
    let limit = args.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    let mut meant: Vec<(LetterId, Mark, Done)> = Vec::new();
    let mut scan = args.which.scan(&site.cluster, &site.survey).await?;
    while let Some(records) = scan.next().await? {
        for letter in records.into_iter().map(Letter::read).filter(|letter| args.which.matches(letter)) {
            if marks.of(&letter).is_some() {
                report.already();
            } else if meant.len() < limit {
                let (id, mark) = Mark::of(&letter, How::Dropped);
                meant.push((id, mark, Done::new(&letter.id, letter.case.as_str())));
            }
        }
    }
    if !args.yes && !args.dry_run && !meant.is_empty() {
        confirm(meant.len())?;
    }
    let producer = site.producer();
    if !args.dry_run && !meant.is_empty() {
        marks.prepare(&site.cluster, &site.topology, &site.survey).await?;
        marks.tidy(&site.cluster, &site.survey, &producer).await?;
    }
    while !meant.is_empty() {
        if stop.is_cancelled() {
            report.stop();
            break;
        }
        let portion: Vec<_> = meant.drain(..meant.len().min(AT_ONCE)).collect();
        if !args.dry_run {
            let written = portion.iter().map(|(id, mark, _)| (id.clone(), mark.clone())).collect();
            if let Err(error) = marks.write(&producer, written).await {
                return Err(report.failed(error));
            }
        }
        portion.into_iter().try_for_each(|(_, _, done)| report.done(done))?;
    }
    Ok(report.end())
}

fn confirm(count: usize) -> anyhow::Result<()> {
    eprint!("Drop {count} dead letters? [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).context("cannot read the answer")?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(anyhow!("nothing was dropped")),
    }
}
