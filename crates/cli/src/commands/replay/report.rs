//! What came of doing a case again.

use std::process::ExitCode;

use anabranch_kafka::Record;
use anabranch_protocol::CorrelationId;
use serde::Serialize;

use super::NOT_COMPARED;
use super::again::id;
use super::compare::Difference;
use crate::console::plain;
use crate::output::{Format, json, line, table};

/// What became of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Verdict {
    /// Byte for byte.
    Same,
    /// Not.
    Differs,
    /// It was not done again, and the rest was done with it as it is.
    TakenAsItWas,
    /// It cannot be done again, as what it was done with is gone.
    Lost,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Differs => "differs",
            Self::TakenAsItWas => "as it was",
            Self::Lost => "lost",
        }
    }
}

/// One record, beside what came of doing it again.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Item {
    pub(super) verdict: Verdict,
    /// Whose record it is.
    pub(super) agent: String,
    /// What it is.
    pub(super) what: String,
    pub(super) topic: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) partition: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) offset: Option<i64>,
    /// Its `ce_id`.
    pub(super) id: String,
    /// Its model was asked anew.
    pub(super) live: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) note: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) differences: Vec<Difference>,
}

impl Item {
    /// Of a record on the cluster, or of none.
    pub(super) fn of(agent: &str, what: &str, record: Option<&Record>, verdict: Verdict) -> Self {
        Self {
            verdict,
            agent: plain(agent),
            what: plain(what),
            topic: record.map(|record| record.topic.to_string()).unwrap_or_default(),
            partition: record.map(|record| record.partition),
            offset: record.map(|record| record.offset),
            id: record.map(|record| plain(&id(&record.headers))).unwrap_or_default(),
            live: false,
            note: None,
            differences: Vec::new(),
        }
    }

    fn place(&self) -> String {
        match (self.partition, self.offset) {
            (Some(partition), Some(offset)) => format!("{}/{partition}@{offset}", self.topic),
            _ => self.topic.clone(),
        }
    }
}

/// What came of doing a case again.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) case: CorrelationId,
    /// Of all of it: `same`, `differs` or `lost`.
    pub(super) verdict: Verdict,
    /// For whom models were asked anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) live: Option<String>,
    pub(super) same: usize,
    pub(super) differs: usize,
    pub(super) taken_as_it_was: usize,
    pub(super) lost: usize,
    pub(super) items: Vec<Item>,
}

impl Report {
    pub(super) fn new(case: CorrelationId, live: Option<String>, items: Vec<Item>) -> Self {
        let count = |verdict| items.iter().filter(|item| item.verdict == verdict).count();
        let (same, differs, lost) = (count(Verdict::Same), count(Verdict::Differs), count(Verdict::Lost));
        let verdict = match (differs, lost, same) {
            (1.., _, _) => Verdict::Differs,
            // Where nothing was compared, nothing is the same.
            (0, 1.., _) | (0, 0, 0) => Verdict::Lost,
            (0, 0, _) => Verdict::Same,
        };
        let taken_as_it_was = count(Verdict::TakenAsItWas);
        Self { case, verdict, live, same, differs, taken_as_it_was, lost, items }
    }

    pub(super) fn exit_code(&self) -> ExitCode {
        match self.verdict {
            Verdict::Same | Verdict::TakenAsItWas => ExitCode::SUCCESS,
            Verdict::Differs => ExitCode::FAILURE,
            Verdict::Lost => ExitCode::from(NOT_COMPARED),
        }
    }

    pub(super) fn print(&self, format: Format) -> anyhow::Result<()> {
        match format {
            Format::Json => json(self),
            Format::Table => line(self.drawn()),
        }
    }

    /// A line for each record, the differences, and what it adds up to.
    pub(super) fn drawn(&self) -> String {
        let mut rows = table(&["VERDICT", "AGENT", "WHAT", "WHERE", "NOTE"]);
        for item in &self.items {
            let note = item.note.as_ref().map(|note| plain(note)).unwrap_or_default();
            rows.add_row([item.verdict.word(), &item.agent, &item.what, &item.place(), &note]);
        }
        let mut lines: Vec<String> = rows.lines().map(|line| line.trim_end().to_owned()).collect();
        for item in self.items.iter().filter(|item| !item.differences.is_empty()) {
            lines.push(String::new());
            lines.push(format!(" {} {} {}", item.agent, item.what, item.place()).trim_end().to_owned());
            lines.extend(item.differences.iter().map(|difference| format!("   {}", told(difference))));
        }
        lines.push(String::new());
        lines.push(format!(" {}", self.sum()));
        lines.join("\n")
    }

    fn sum(&self) -> String {
        let more = [(self.differs, "differ"), (self.taken_as_it_was, "taken as they were"), (self.lost, "lost")];
        let more = more.into_iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!(", {count} {word}"));
        let asked = match &self.live {
            Some(agent) => format!("the model was asked for {agent} alone"),
            None => "no model was asked".to_owned(),
        };
        format!("case {}: {} the same{}; {asked}", plain(self.case.as_str()), self.same, more.collect::<String>())
    }
}

fn told(difference: &Difference) -> String {
    match (&difference.recorded, &difference.replayed) {
        (Some(was), Some(is)) => format!("{}: {was} -> {is}", difference.at),
        (Some(was), None) => format!("{}: {was} -> nothing", difference.at),
        (None, Some(is)) => format!("{}: nothing -> {is}", difference.at),
        (None, None) => difference.at.clone(),
    }
}
