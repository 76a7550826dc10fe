//! `anabranch inbox show`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;

use anabranch_core::join::{Alarm, Case, How, Judged, Phase, Piece};
use anabranch_protocol::{
    Completion, CorrelationId, InformationProvided, Partial, PartialStatus, Plan, Standing, Timestamp,
};
use anyhow::anyhow;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::cases::{self, Stored};
use super::decide::case_id;
use super::list::Row;
use crate::console::plain;
use crate::options::{Brokers, TopologyFile};
use crate::output::{Format, OutputArgs, json, line, table};
use crate::reading;

/// Most characters of an answer that a table shows.
const WIDEST_ANSWER: usize = 100;

/// Show one case that waits for a person: why, what was asked, what each agent said.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anabranch inbox show case-17
  anabranch inbox show case-17 -o json | jq .parts.document.output")]
pub(crate) struct Args {
    /// The case, as `inbox list` prints it.
    #[arg(value_name = "CORRELATION_ID")]
    case: String,
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
    let id = case_id(&args.case)?;
    let stored = cases::one(&cluster, &topology, &id).await?;
    let stored = stored.ok_or_else(|| anyhow!("no case {id} is known: it was never planned, or was forgotten"))?;
    if let Some(fault) = stored.fault {
        return Err(anyhow!("the state of case {id} cannot be read: {fault}"));
    }
    let shown = Shown::of(&id, &stored, reading::now());
    let shown = shown.ok_or_else(|| {
        let standing = stored.case.as_ref().map_or(Standing::Closed, Case::standing);
        anyhow!("case {id} does not wait for a person: it {standing}; see `anabranch trace {id}`")
    })?;
    match args.output.format {
        Format::Json => json(&shown)?,
        Format::Table => line(shown.draw())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A parked case with all that is kept of it.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    #[serde(flatten)]
    row: Row,
    opened_at: Timestamp,
    rounds: u32,
    reminder_due: Option<Timestamp>,
    escalation_due: Option<Timestamp>,
    /// The latest decision that counted, of an earlier parking.
    decided: Option<Decided>,
    request: Option<Value>,
    /// What came since because it was asked for, by name.
    information: BTreeMap<String, Value>,
    steps: Vec<Step>,
    parts: BTreeMap<String, Completion>,
}

#[derive(Debug, Serialize)]
struct Decided {
    decision: String,
    by: String,
    at: Timestamp,
}

#[derive(Debug, Serialize)]
struct Step {
    agent: String,
    required: bool,
    /// In which round it was last asked.
    asked: Option<u32>,
    answer: &'static str,
    /// Why there is none.
    why: Option<String>,
}

impl Shown {
    /// `None` if the case is not parked.
    pub(super) fn of(id: &CorrelationId, stored: &Stored, now: Timestamp) -> Option<Self> {
        let case = stored.case.as_ref().filter(|case| matches!(case.phase, Phase::Parked { .. }))?;
        let desk = case.desk();
        let decided =
            |judged: &Judged| Decided { decision: judged.decision.clone(), by: judged.reviewer.clone(), at: judged.at };
        let answers: Vec<Option<Partial>> = (0..case.steps().len()).map(|i| read(stored, Piece::Answer(i))).collect();
        let given = (0..case.informations()).filter_map(|i| read::<InformationProvided>(stored, Piece::Information(i)));
        let due = |alarm: Option<Alarm>| alarm.and_then(Alarm::due);
        Some(Self {
            row: Row::of(id, case, now)?,
            opened_at: case.opened_at,
            rounds: case.round,
            reminder_due: due(desk.map(|desk| desk.remind)),
            escalation_due: due(desk.map(|desk| desk.escalate)),
            decided: desk.and_then(|desk| desk.judged.as_ref()).map(decided),
            request: read::<Plan>(stored, Piece::Plan).map(|plan| plan.request),
            information: given.flat_map(|given| given.fields).collect(),
            steps: (0..case.steps().len()).map(|i| step(case, i, answers[i].as_ref())).collect(),
            parts: answers.into_iter().flatten().filter_map(part).collect(),
        })
    }

    pub(super) fn draw(&self) -> String {
        let row = &self.row;
        let mut out = format!("case {}: {}\n", plain(row.correlation_id.as_str()), row.standing);
        let mut put = |name: &str, text: String| {
            // A text takes whatever is written to it.
            let _ = writeln!(out, "{name:<12} {}", plain(&text));
        };
        put("reason", row.reason.clone());
        if !row.codes.is_empty() {
            put("codes", row.codes.join(" "));
        }
        put("parked", format!("since {}, for the {}. time", row.parked_since, row.parking));
        put("opened", format!("{}, {} follow-up rounds", self.opened_at, self.rounds));
        for (name, at) in [
            ("reminded", row.reminded_at),
            ("reminder", self.reminder_due),
            ("escalated", row.escalated_at),
            ("escalation", self.escalation_due),
            ("expires", row.expires_at),
        ] {
            at.into_iter().for_each(|at| put(name, at.to_string()));
        }
        if !row.needs.is_empty() {
            let until = row.needed_until.map_or("did not come in time".to_owned(), |at| format!("until {at}"));
            put("asked for", format!("{}, {until}", row.needs.join(", ")));
        }
        if let Some(decided) = &self.decided {
            put("before", format!("{} by {} at {}", decided.decision, decided.by, decided.at));
        }
        for (name, value) in &self.information {
            put("came since", format!("{name}: {value}"));
        }
        let request = self.request.as_ref().map_or("cannot be read".to_owned(), Value::to_string);
        put("request", request);
        out.push('\n');
        out.push_str(&self.table());
        out
    }

    fn table(&self) -> String {
        let mut table = table(&["AGENT", "REQUIRED", "ANSWER", "CONF.", "DISPOSITION", "WHAT"]);
        for step in &self.steps {
            let part = self.parts.get(&step.agent);
            let confidence = part.and_then(|part| part.confidence).map_or("-".to_owned(), |c| format!("{c:.3}"));
            let disposition = part.and_then(|part| part.disposition.clone()).unwrap_or_else(|| "-".to_owned());
            let what = part.map(|part| part.output.to_string()).or_else(|| step.why.clone()).unwrap_or_default();
            let what: String = what.chars().take(WIDEST_ANSWER).collect();
            let required = if step.required { "yes" } else { "no" };
            let cells = [&step.agent, required, step.answer, &confidence, &disposition, &what];
            table.add_row(cells.iter().map(|cell| plain(cell)));
        }
        table.to_string()
    }
}

fn step(case: &Case, index: usize, answer: Option<&Partial>) -> Step {
    let (step, state) = (&case.steps()[index], case.states()[index]);
    let why = match answer.map(|partial| &partial.status) {
        Some(PartialStatus::Failed { reason }) => Some(reason.clone()),
        _ => None,
    };
    let answer = match state.answer.map(|answer| answer.how) {
        Some(How::Completed) => "answered",
        Some(How::Failed) => "failed",
        Some(How::Expired) => "too late",
        None if state.asked.is_some() => "none",
        None => "not asked",
    };
    Step { agent: step.agent.clone(), required: step.required, asked: state.asked, answer, why }
}

fn part(partial: Partial) -> Option<(String, Completion)> {
    match partial.status {
        PartialStatus::Completed(completion) => Some((partial.agent, completion)),
        _ => None,
    }
}

/// A payload that was kept; `None`: it was not, or cannot be read.
fn read<T: DeserializeOwned>(stored: &Stored, piece: Piece) -> Option<T> {
    serde_json::from_slice(stored.kept.get(&piece)?.value.as_deref()?).ok()
}
