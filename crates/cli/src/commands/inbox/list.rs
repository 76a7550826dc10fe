//! `anabranch inbox list`.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anabranch_core::join::{Alarm, Case, Desk, Phase};
use anabranch_protocol::{CorrelationId, Standing, Timestamp};
use serde::Serialize;

use super::cases;
use crate::console::plain;
use crate::options::{Brokers, TopologyFile, time_span};
use crate::output::{Format, OutputArgs, json, line, table};
use crate::reading;

/// Widest reason in a table.
const WIDEST_REASON: usize = 60;

/// List the cases that wait for a person, the oldest first.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anabranch inbox list
  anabranch inbox list --older-than 24h --reason DOC_EXPIRED
  anabranch inbox list -o json | jq -r '.[] | select(.escalated_at) | .correlation_id'")]
pub(crate) struct Args {
    /// Only those parked for longer than this (90s, 5m, 1h30m, 7d).
    #[arg(long, value_name = "TIME", value_parser = time_span, allow_hyphen_values = true)]
    older_than: Option<Duration>,
    /// Only those with this reason code, or with this text in their reason.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    topology: TopologyFile,
    #[command(flatten)]
    brokers: Brokers,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let topology = args.topology.load()?;
    let cluster = args.brokers.connect().await?;
    let parked = cases::parked(&cluster, &topology).await?;
    let all = parked.len();
    let rows = rows(&parked, reading::now(), args.older_than, args.reason.as_deref());
    match args.output.format {
        Format::Json => json(&rows)?,
        Format::Table => {
            if !rows.is_empty() {
                line(draw(&rows))?;
            }
            eprintln!("{} of {all} parked cases", rows.len());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A parked case as it is listed.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) correlation_id: CorrelationId,
    pub(super) parked_since: Timestamp,
    pub(super) age_seconds: u64,
    /// Which time that it is parked this is.
    pub(super) parking: u32,
    pub(super) standing: Standing,
    pub(super) reason: String,
    pub(super) codes: Vec<String>,
    pub(super) reminded_at: Option<Timestamp>,
    pub(super) escalated_at: Option<Timestamp>,
    pub(super) expires_at: Option<Timestamp>,
    /// What was asked for and has not come.
    pub(super) needs: Vec<String>,
    pub(super) needed_until: Option<Timestamp>,
}

impl Row {
    /// `None` if it is not parked.
    pub(super) fn of(id: &CorrelationId, case: &Case, now: Timestamp) -> Option<Self> {
        let Phase::Parked { since, reason } = &case.phase else { return None };
        let none = Desk::default();
        let desk = case.desk().unwrap_or(&none);
        let awaited = desk.awaited.as_ref();
        Some(Self {
            correlation_id: id.clone(),
            parked_since: *since,
            age_seconds: now.since(*since).as_secs(),
            parking: case.parking(),
            standing: case.standing(),
            reason: reason.clone(),
            codes: desk.codes.clone(),
            reminded_at: rang(desk.remind),
            escalated_at: rang(desk.escalate),
            expires_at: desk.expire,
            needs: awaited.map(|awaited| awaited.needs.clone()).unwrap_or_default(),
            needed_until: awaited.and_then(|awaited| awaited.until.due()),
        })
    }

    fn has_reason(&self, text: &str) -> bool {
        let lower = text.to_lowercase();
        self.codes.iter().any(|code| code.to_lowercase() == lower) || self.reason.to_lowercase().contains(&lower)
    }

    fn state(&self) -> String {
        match (self.standing, self.escalated_at, self.reminded_at) {
            (Standing::WaitsForInformation, ..) => format!("waits for {}", self.needs.join(", ")),
            (_, Some(_), _) => "escalated".to_owned(),
            (_, None, Some(_)) => "reminded".to_owned(),
            (_, None, None) => "waits".to_owned(),
        }
    }
}

fn rang(alarm: Alarm) -> Option<Timestamp> {
    match alarm {
        Alarm::Rang(at) => Some(at),
        Alarm::Off | Alarm::At(_) => None,
    }
}

/// What is to be listed, the oldest first.
pub(super) fn rows(
    parked: &BTreeMap<CorrelationId, Case>,
    now: Timestamp,
    older_than: Option<Duration>,
    reason: Option<&str>,
) -> Vec<Row> {
    let rows = parked.iter().filter_map(|(id, case)| Row::of(id, case, now));
    let old = |row: &Row| older_than.is_none_or(|least| now.since(row.parked_since) >= least);
    let mut rows: Vec<Row> = rows.filter(|row| old(row) && reason.is_none_or(|text| row.has_reason(text))).collect();
    rows.sort_by(|a, b| (a.parked_since, &a.correlation_id).cmp(&(b.parked_since, &b.correlation_id)));
    rows
}

pub(super) fn draw(rows: &[Row]) -> String {
    let mut table = table(&["CASE", "PARKED", "STATE", "CODES", "REASON"]);
    for row in rows {
        let codes = if row.codes.is_empty() { "-".to_owned() } else { row.codes.join(" ") };
        let age = crate::commands::trace::time(row.age_seconds.saturating_mul(1000));
        let reason: String = row.reason.chars().take(WIDEST_REASON).collect();
        let cells = [row.correlation_id.to_string(), age, row.state(), codes, reason];
        table.add_row(cells.iter().map(|cell| plain(cell)));
    }
    table.to_string()
}
