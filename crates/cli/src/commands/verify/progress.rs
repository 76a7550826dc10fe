//! What is seen while it runs: a row on a terminal, a line now and then elsewhere.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::ProgressBar;
use tokio::time::Instant;

use super::plan::Plan;
use super::strikes::Striker;
use super::traffic::Books;
use crate::console::Console;

/// Between two drawings of the row.
const REDRAW: Duration = Duration::from_millis(250);
/// Between two lines, where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// How far it is.
pub(super) struct Progress<'a> {
    console: &'a Console,
    books: &'a Books,
    plan: &'a Plan,
    striker: &'a Striker<'a>,
    row: ProgressBar,
    /// When the phase began, or the faults, from which on time is counted.
    phase: Mutex<(&'static str, Instant)>,
}

impl<'a> Progress<'a> {
    pub(super) fn new(console: &'a Console, books: &'a Books, plan: &'a Plan, striker: &'a Striker<'a>) -> Self {
        let Plan { seed, cases, kills, stops, cuts, span, .. } = plan;
        console.line(&format!(
            "seed     {seed}: {cases} cases, {kills} kills, {stops} stops and {cuts} cuts in {:.0} s",
            span.as_secs_f64()
        ));
        let (row, phase) = (console.row(), Mutex::new(("", Instant::now())));
        Self { console, books, plan, striker, row, phase }
    }

    /// Something else begins.
    pub(super) fn phase(&self, name: &'static str) {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner).0 = name;
        self.row.set_message(self.text());
    }

    /// The faults begin: time counts from here, as theirs does.
    pub(super) fn faults(&self, began: Instant) {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner).1 = began;
        self.phase("faults");
    }

    /// Shows it, until dropped.
    pub(super) async fn run(&self) {
        let every = if self.console.is_terminal() { REDRAW } else { LINE_EVERY };
        let mut ticks = tokio::time::interval(every);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            match self.console.is_terminal() {
                true => self.row.set_message(self.text()),
                false => self.console.line(&self.text()),
            }
        }
    }

    /// From here on there is nothing more to show.
    pub(super) fn end(&self) {
        self.row.finish_and_clear();
    }

    fn text(&self) -> String {
        let (phase, began) = *self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        let (sent, counts) = {
            let ledger = self.books.lock();
            (ledger.sent_so_far(), ledger.counts())
        };
        let cases = usize::try_from(self.plan.cases).unwrap_or(usize::MAX);
        let fresh = match sent.saturating_sub(cases) {
            0 => String::new(),
            fresh => format!(" and {fresh} fresh ones"),
        };
        let sent = sent.min(cases);
        let done: usize = counts.outcomes.values().sum::<usize>() + counts.dead_letters;
        let tally = self.striker.tally();
        let faults = tally.kills + tally.stops + tally.cuts + tally.silences;
        let all = self.plan.kills + self.plan.stops + self.plan.cuts;
        format!(
            "{:>7.1} s  {phase}: {sent} of {cases} cases{fresh} sent, {done} decided, {} open, {faults} of {all} faults",
            began.elapsed().as_secs_f64(),
            counts.open,
        )
    }
}
