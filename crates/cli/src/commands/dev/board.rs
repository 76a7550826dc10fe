//! The demo's cases as they come along: what was seen of each, and whether it is what was expected. No I/O.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anabranch_protocol::{CorrelationId, EventId};
use serde::Serialize;

use super::demo::{DemoCase, Expect};

/// What a record says of a case.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Seen {
    /// The supervisor planned it; so many steps have a vote.
    Planned(usize),
    /// An agent answered.
    Answered(EventId),
    /// A follow-up round was asked for.
    Round(EventId),
    /// It was decided, or parked for a human.
    Outcome(EventId, Outcome),
    /// A fraud alert.
    Alert,
    /// Its request is a dead letter.
    DeadLetter(EventId, String),
}

/// An outcome, as far as the demo looks at it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Outcome {
    /// In the application's words.
    pub(super) state: String,
    /// Of the case.
    pub(super) confidence: Option<f64>,
    /// Reason codes.
    pub(super) codes: Vec<String>,
    /// Who reviewed it.
    pub(super) reviewer: Option<String>,
}

/// The state of a dead letter, as the case files write it.
pub(super) const DEAD_LETTER: &str = "dead_letter";

/// One case.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) case: DemoCase,
    pub(super) correlation_id: CorrelationId,
    sent: Instant,
    steps: usize,
    answers: BTreeSet<EventId>,
    rounds: BTreeSet<EventId>,
    alerts: u32,
    /// Each outcome once, whatever is delivered twice, with when it came.
    outcomes: Vec<(EventId, Outcome, Duration)>,
}

impl Row {
    pub(super) fn new(case: DemoCase, correlation_id: CorrelationId, sent: Instant) -> Self {
        let (answers, rounds, outcomes) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        Self { case, correlation_id, sent, steps: 0, answers, rounds, alerts: 0, outcomes }
    }

    /// Takes in what a record says.
    pub(super) fn take(&mut self, seen: Seen, now: Instant) {
        match seen {
            Seen::Planned(steps) => self.steps = steps,
            Seen::Answered(id) => drop(self.answers.insert(id)),
            Seen::Round(id) => drop(self.rounds.insert(id)),
            Seen::Alert => self.alerts += 1,
            Seen::Outcome(id, outcome) => self.outcome(id, outcome, now),
            Seen::DeadLetter(id, why) => {
                let outcome = Outcome { state: DEAD_LETTER.to_owned(), codes: vec![why], ..Outcome::default() };
                self.outcome(id, outcome, now);
            }
        }
    }

    fn outcome(&mut self, id: EventId, outcome: Outcome, now: Instant) {
        if !self.outcomes.iter().any(|(known, ..)| *known == id) {
            self.outcomes.push((id, outcome, now.saturating_duration_since(self.sent)));
        }
    }

    /// Whether a person's decision is due now: the case has its first outcome, and the demo has a decision for it.
    pub(super) fn wants_review(&self) -> bool {
        self.outcomes.len() == 1 && self.case.review.is_some()
    }

    /// Whether all that is expected has come, as far as can be told without waiting for what must not come.
    pub(super) fn is_complete(&self) -> bool {
        let outcomes = 1 + usize::from(self.case.review.is_some());
        let alerted = self.case.expect.fraud_alert != Some(true) || self.alerts > 0;
        self.outcomes.len() >= outcomes && alerted
    }

    /// Whether it should have come by now.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        !self.is_complete() && now.saturating_duration_since(self.sent) > self.case.patience()
    }

    /// In a word or two, while it runs and after.
    pub(super) fn state(&self) -> String {
        match (&self.outcomes[..], self.rounds.len()) {
            ([], _) if self.steps == 0 => "sent".to_owned(),
            ([], 0) => format!("working {}/{}", self.answers.len(), self.steps),
            ([], round) => format!("round {round}"),
            ([.., (_, last, _)], _) => last.state.clone(),
        }
    }

    /// The latest outcome's confidence.
    pub(super) fn confidence(&self) -> Option<f64> {
        self.outcomes.last().and_then(|(_, outcome, _)| outcome.confidence)
    }

    /// Who decided it, if a person did.
    pub(super) fn reviewer(&self) -> Option<&str> {
        self.outcomes.last().and_then(|(_, outcome, _)| outcome.reviewer.as_deref())
    }

    /// Follow-up rounds.
    pub(super) fn rounds(&self) -> usize {
        self.rounds.len()
    }

    /// Whether there was a fraud alert.
    pub(super) fn is_alerted(&self) -> bool {
        self.alerts > 0
    }

    /// The reason codes of the automatic outcome; a person's decision does not take them back.
    pub(super) fn codes(&self) -> &[String] {
        self.outcomes.first().map_or(&[], |(_, outcome, _)| &outcome.codes)
    }

    /// Until the latest outcome, or until now.
    pub(super) fn elapsed(&self, now: Instant) -> Duration {
        let so_far = now.saturating_duration_since(self.sent);
        if self.is_complete() { self.outcomes.last().map_or(so_far, |(.., at)| *at) } else { so_far }
    }

    /// How what came differs from what was expected; empty if it does not.
    pub(super) fn problems(&self) -> Vec<String> {
        let expect = &self.case.expect;
        let Some((_, first, _)) = self.outcomes.first() else { return vec!["not decided".to_owned()] };
        let mut problems = Vec::new();
        if first.state != expect.state {
            problems.push(format!("expected {}, came out {}", expect.state, first.state));
        }
        let missing: Vec<&str> = expect.codes.iter().filter(|c| !first.codes.contains(c)).map(String::as_str).collect();
        if !missing.is_empty() {
            problems.push(format!("without {}", missing.join(", ")));
        }
        match expect.fraud_alert {
            Some(true) if self.alerts == 0 => problems.push("no fraud alert".to_owned()),
            Some(false) if self.alerts > 0 => problems.push("a fraud alert".to_owned()),
            _ => {}
        }
        problems.extend(self.review_problem());
        problems
    }

    fn review_problem(&self) -> Option<String> {
        let later = &self.outcomes[1..];
        match (&self.case.review, later) {
            (None, []) => None,
            (None, _) => Some(format!("decided {} times", self.outcomes.len())),
            (Some(_), []) => Some("not decided after the review".to_owned()),
            (Some(review), [(_, outcome, _)]) if outcome.reviewer.as_ref() == Some(&review.reviewer) => None,
            (Some(review), [_]) => Some(format!("the decision does not name the reviewer {}", review.reviewer)),
            (Some(_), _) => Some(format!("decided {} times after the review", later.len())),
        }
    }

    /// For `-o json`.
    pub(super) fn result(&self, now: Instant) -> CaseResult<'_> {
        let problems = self.problems();
        CaseResult {
            case: &self.case.id,
            about: &self.case.about,
            correlation_id: &self.correlation_id,
            expected: &self.case.expect,
            states: self.outcomes.iter().map(|(_, outcome, _)| outcome.state.as_str()).collect(),
            confidence: self.confidence(),
            codes: self.codes(),
            fraud_alert: self.is_alerted(),
            reviewer: self.reviewer(),
            follow_up_rounds: self.rounds(),
            elapsed_ms: u64::try_from(self.elapsed(now).as_millis()).unwrap_or(u64::MAX),
            as_expected: problems.is_empty(),
            problems,
        }
    }
}

/// What became of a case.
#[derive(Debug, Serialize)]
pub(super) struct CaseResult<'a> {
    case: &'a str,
    about: &'a str,
    correlation_id: &'a CorrelationId,
    expected: &'a Expect,
    /// Of each outcome, in the order they came: the automatic one, then a person's.
    states: Vec<&'a str>,
    confidence: Option<f64>,
    codes: &'a [String],
    fraud_alert: bool,
    reviewer: Option<&'a str>,
    follow_up_rounds: usize,
    elapsed_ms: u64,
    as_expected: bool,
    problems: Vec<String>,
}
