//! What a run did: a line for each letter, and the sum at the end.

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde::Serialize;

use super::decide::Left;
use super::letter::LetterId;
use super::pace::Progress;
use crate::console::plain;
use crate::output::{Format, ReaderGone, json_line, line};

/// Letters that are left of which a table says why one by one.
const TOLD: u64 = 20;

/// What happened to a letter, or to a case.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Done {
    letter: LetterId,
    correlation_id: String,
    /// `redriven`, `case-redriven`, `dropped`; of a dry run what would be done; `left`.
    did: String,
    /// Where it went.
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    /// How often it was sent back with this.
    #[serde(skip_serializing_if = "Option::is_none")]
    redrives: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

impl Done {
    pub(super) fn new(letter: &LetterId, case: &str) -> Self {
        Self {
            letter: letter.clone(),
            correlation_id: case.to_owned(),
            did: String::new(),
            to: None,
            redrives: None,
            reason: None,
            why: None,
        }
    }

    /// It goes there, for so many times with this one.
    pub(super) fn sent(self, to: &str, redrives: u32) -> Self {
        Self { to: Some(to.to_owned()), redrives: Some(redrives), ..self }
    }
}

/// What a run did so far.
pub(super) struct Report {
    format: Format,
    dry_run: bool,
    /// `redriven`, `dropped`.
    word: &'static str,
    done: u64,
    already: u64,
    left: BTreeMap<&'static str, u64>,
    stopped: bool,
    progress: Progress,
}

impl Report {
    pub(super) fn new(word: &'static str, format: Format, dry_run: bool) -> Self {
        let progress = Progress::new();
        Self { format, dry_run, word, done: 0, already: 0, left: BTreeMap::new(), stopped: false, progress }
    }

    /// How many were done.
    pub(super) fn count(&self) -> u64 {
        self.done
    }

    /// It was.
    pub(super) fn done(&mut self, done: Done) -> anyhow::Result<()> {
        self.done += 1;
        let did = if self.dry_run { format!("would-be-{}", self.word) } else { self.word.to_owned() };
        self.progress.tell(&format!("{} {}", self.done, self.word));
        let done = Done { did, ..done };
        let told = match self.format {
            Format::Json => json_line(&done),
            Format::Table => {
                let to = done.to.as_ref().map(|to| format!(" -> {to}")).unwrap_or_default();
                line(format!("{}  {}  case {}{to}", done.did, done.letter, plain(&done.correlation_id)))
            }
        };
        match told {
            // What was begun is finished, also where nobody reads of it.
            Err(error) if error.is::<ReaderGone>() && !self.dry_run => Ok(()),
            told => told,
        }
    }

    /// It was dealt with before.
    pub(super) fn already(&mut self) {
        self.already += 1;
    }

    /// It cannot be.
    pub(super) fn left(&mut self, letter: &LetterId, case: &str, left: &Left) -> anyhow::Result<()> {
        *self.left.entry(left.word()).or_default() += 1;
        if self.format == Format::Json {
            let (did, reason, why) = ("left".to_owned(), Some(left.word()), Some(left.to_string()));
            return json_line(&Done { did, reason, why, ..Done::new(letter, case) });
        }
        let count: u64 = self.left.values().sum();
        if count <= TOLD {
            self.progress.line(&format!("left  {letter}  case {}: {left}", plain(case)));
        }
        Ok(())
    }

    /// It was told to stop.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
    }

    /// A failure in the middle, with how far it got.
    pub(super) fn failed(&self, error: anyhow::Error) -> anyhow::Error {
        self.progress.end();
        let (count, word) = (self.done, self.word);
        match count {
            0 => error.context(format!("nothing was {word}")),
            _ => error.context(format!("{count} {word}, then it failed; run it again to go on")),
        }
    }

    /// Says what was done. 1 if it was stopped, or if something was left.
    pub(super) fn end(self) -> ExitCode {
        self.progress.end();
        let left: u64 = self.left.values().sum();
        let would = if self.dry_run { "would be " } else { "" };
        let mut text = format!("{} {would}{}", self.done, self.word);
        if left > 0 {
            let why: Vec<String> = self.left.iter().map(|(word, count)| format!("{count} {word}")).collect();
            text.push_str(&format!(", {left} left ({})", why.join(", ")));
        }
        if self.already > 0 {
            text.push_str(&format!(", {} were sent back or dropped before", self.already));
        }
        if self.stopped {
            text.push_str("; stopped: run it again to go on");
        }
        eprintln!("{text}");
        if left > 0 || self.stopped { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}
