//! `dlq redrive`: records that were given up, back to where they came from.

use std::process::ExitCode;
use std::time::Duration;

use anabranch_kafka::{OutRecord, Producer};
use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use super::decide::Rules;
use super::letter::{Letter, LetterId};
use super::marks::{How, Mark, Marks};
use super::pace::{Pace, Rate, rate, stop_on_signal};
use super::report::{Done, Report};
use super::select::Which;
use super::{Common, Site, case};
use crate::options::time_span;
use crate::output::OutputArgs;
use crate::reading;

/// Send dead letters back to the topics they came from, as they were.
///
/// Key, value and headers are the original's, ids, trace and deadline with them; one header counts how often it was
/// sent back (`__anabranch.redrives`). What was sent back is marked, and the next run leaves it out; a run that is
/// killed sends at most its last portion twice, and readers drop repeats by their ids.
///
/// A task whose case is open is answered as if it had never failed. One whose case is decided changes nothing: its
/// answer goes to the late topic. --case sends the request of the whole case instead, under the same correlation id;
/// that is refused unless the case ended as a dead letter.
///
/// Exit code 1 if any of them is left where it is, if it was stopped, or if it failed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anabranch dlq redrive kyc.tasks.identity.dlq/2/17
  anabranch dlq redrive --agent fraud --class retryable --since 2h --dry-run
  anabranch dlq redrive --agent fraud --rate 50/s --limit 1000
  anabranch dlq redrive --case --correlation-id case-17 --deadline 5m")]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) which: Which,
    /// Begin the whole case anew: send its request again, once for each case.
    #[arg(long)]
    case: bool,
    /// The case must be decided within this time. Default: as its request says, else as the topology says.
    #[arg(long, value_name = "TIME", value_parser = time_span, requires = "case", allow_hyphen_values = true)]
    pub(super) deadline: Option<Duration>,
    /// Send nothing, and say what would be sent.
    #[arg(long)]
    dry_run: bool,
    /// Send at most so many: 50/s, 100/m, 5/h.
    #[arg(long, value_name = "RATE", value_parser = rate, allow_hyphen_values = true)]
    rate: Option<Rate>,
    /// Send so many and no more.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..), allow_hyphen_values = true)]
    limit: Option<u64>,
    /// Leave what was sent back so often before: it comes back again and again.
    #[arg(long, value_name = "COUNT", default_value_t = 3, allow_hyphen_values = true)]
    pub(super) max_redrives: u32,
    #[command(flatten)]
    common: Common,
    /// A table, or one JSON object a line.
    #[command(flatten)]
    output: OutputArgs,
}

/// A record on its way, and what is marked once it is there.
pub(super) struct Going {
    pub(super) record: OutRecord,
    pub(super) marks: Vec<(LetterId, Mark)>,
    pub(super) done: Done,
}

/// A run.
pub(super) struct Run<'a> {
    pub(super) args: &'a Args,
    pub(super) site: &'a Site,
    pub(super) marks: Marks,
    pub(super) report: Report,
    pub(super) stop: CancellationToken,
    producer: Producer,
    pace: Pace,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let site = Site::find(&args.common).await?;
    args.which.check(&site.survey)?;
    let stop = stop_on_signal().context("cannot listen for signals")?;
    let marks = Marks::read(&site.cluster, &site.topology, &site.survey).await?;
    let producer = site.producer();
    if !args.dry_run {
        marks.prepare(&site.cluster, &site.topology, &site.survey).await?;
        marks.tidy(&site.cluster, &site.survey, &producer).await?;
    }
    let report = Report::new(if args.case { "case-redriven" } else { "redriven" }, args.output.format, args.dry_run);
    let pace = Pace::new(args.rate);
    let mut run = Run { args: &args, site: &site, marks, report, stop, producer, pace };
    let ran = if args.case { case::run(&mut run).await } else { run.letters().await };
    match ran {
        Ok(()) => Ok(run.report.end()),
        Err(error) => Err(run.report.failed(error)),
    }
}

impl Run<'_> {
    /// The letters that are meant and not dealt with yet, batch by batch. `None`: all were read, or it is to stop.
    pub(super) async fn next(&mut self, scan: &mut reading::Scan) -> anyhow::Result<Option<Vec<Letter>>> {
        let records = tokio::select! {
            records = scan.next() => records?,
            () = self.stop.cancelled() => {
                self.report.stop();
                None
            }
        };
        let Some(records) = records else { return Ok(None) };
        let meant = records.into_iter().map(Letter::read).filter(|letter| self.args.which.matches(letter));
        let mut fresh = Vec::new();
        for letter in meant {
            match self.marks.of(&letter) {
                Some(_) => self.report.already(),
                None => fresh.push(letter),
            }
        }
        Ok(Some(fresh))
    }

    async fn letters(&mut self) -> anyhow::Result<()> {
        let site = self.site;
        let exists = |topic: &str| site.survey.topic(topic).is_some();
        let (now, max_redrives) = (reading::now(), self.args.max_redrives);
        let rules = Rules { topology: &site.topology, now, max_redrives, exists: &exists };
        let mut scan = self.args.which.scan(&site.cluster, &site.survey).await?;
        while let Some(letters) = self.next(&mut scan).await? {
            let mut going = Vec::new();
            for letter in letters {
                let case = letter.case.as_str();
                match rules.record(&letter) {
                    Ok(record) => {
                        let done = Done::new(&letter.id, case).sent(&record.topic, letter.redrives() + 1);
                        going.push(Going { record, marks: vec![Mark::of(&letter, How::Redriven)], done });
                    }
                    Err(left) => self.report.left(&letter.id, case, &left)?,
                }
            }
            if !self.go(going).await? {
                break;
            }
        }
        Ok(())
    }

    /// Sends records in portions, and marks each portion once it is there. `false`: no more is to be sent.
    pub(super) async fn go(&mut self, mut going: Vec<Going>) -> anyhow::Result<bool> {
        while !going.is_empty() {
            let room = self.args.limit.map_or(u64::MAX, |limit| limit.saturating_sub(self.report.count()));
            let count = self.pace.at_once().min(going.len()).min(usize::try_from(room).unwrap_or(usize::MAX));
            if count == 0 {
                return Ok(false);
            }
            let portion: Vec<Going> = going.drain(..count).collect();
            if !self.args.dry_run {
                if !self.pace.wait(count, &self.stop).await {
                    self.report.stop();
                    return Ok(false);
                }
                // Sent first and marked then: killed in between, it is sent again, and nothing is ever left out.
                self.producer.send_all(portion.iter().map(|going| going.record.clone()).collect()).await?;
                self.marks
                    .write(&self.producer, portion.iter().flat_map(|going| going.marks.clone()).collect())
                    .await?;
            }
            portion.into_iter().try_for_each(|going| self.report.done(going.done))?;
        }
        Ok(true)
    }
}
