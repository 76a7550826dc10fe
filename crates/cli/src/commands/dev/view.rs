//! How the demo shows its cases: rows that are redrawn on a terminal, lines elsewhere, and a table at the end.

use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use super::board::Row;
use crate::console::Console;
use crate::output::{self, Format};

/// The cases on the screen.
pub(super) struct View<'a> {
    console: &'a Console,
    bars: Vec<ProgressBar>,
    /// The last state that was told, by row.
    told: Vec<String>,
    width: usize,
}

impl<'a> View<'a> {
    /// Draws a row for each case.
    pub(super) fn new(console: &'a Console, rows: &[Row]) -> Self {
        let width = rows.iter().map(|r| r.case.id.len()).max().unwrap_or(0);
        let bars = if console.is_terminal() { rows.iter().map(|_| console.row()).collect() } else { Vec::new() };
        let mut view = Self { console, bars, told: vec![String::new(); rows.len()], width };
        view.update(rows);
        view
    }

    /// Shows how it is now.
    pub(super) fn update(&mut self, rows: &[Row]) {
        let now = Instant::now();
        for (index, row) in rows.iter().enumerate() {
            match self.bars.get(index) {
                Some(bar) => bar.set_message(live(row, self.width, now)),
                None => self.tell(index, row, now),
            }
        }
    }

    /// A line for each new outcome; progress in between is for screens only.
    fn tell(&mut self, index: usize, row: &Row, now: Instant) {
        let state = row.state();
        let decided = row.confidence().is_some() || row.is_complete();
        if decided && self.told[index] != state {
            self.console.line(&live(row, self.width, now));
            self.told[index] = state;
        }
    }
}

/// Takes the rows away, also where the demo is broken off.
impl Drop for View<'_> {
    fn drop(&mut self) {
        self.console.end_rows();
    }
}

fn live(row: &Row, width: usize, now: Instant) -> String {
    let mark = match (row.is_complete(), row.problems().is_empty()) {
        (false, _) => " ",
        (true, true) => "✓",
        (true, false) => "✗",
    };
    let (id, state, reasons) = (&row.case.id, row.state(), reasons(row));
    format!("{mark} {id:width$}  {state:<21}  {:>5}  {:>6}  {reasons}", confidence(row), seconds(row.elapsed(now)))
}

/// The reason codes, and who decided where a person did.
fn reasons(row: &Row) -> String {
    let by = row.reviewer().map(|reviewer| format!("by {reviewer}"));
    let words: Vec<&str> = row.codes().iter().map(String::as_str).chain(by.as_deref()).collect();
    if words.is_empty() { "-".to_owned() } else { words.join(" ") }
}

fn confidence(row: &Row) -> String {
    row.confidence().map_or_else(|| "-".to_owned(), |c| format!("{c:.3}"))
}

fn seconds(elapsed: Duration) -> String {
    format!("{:.1} s", elapsed.as_secs_f64())
}

/// Writes what became of the cases to stdout.
///
/// # Errors
/// If stdout cannot be written to.
pub(super) fn results(rows: &[Row], format: Format) -> anyhow::Result<()> {
    let now = Instant::now();
    if format == Format::Json {
        return output::json(&rows.iter().map(|row| row.result(now)).collect::<Vec<_>>());
    }
    let heads = ["CASE", "EXPECTED", "CAME OUT", "CONF.", "ROUNDS", "ALERT", "TIME", "AS EXPECTED", "REASONS"];
    let mut table = output::table(&heads);
    // On a terminal that is too narrow, cells are broken rather than lines.
    table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
    for row in rows {
        let problems = row.problems();
        let verdict = if problems.is_empty() { "yes".to_owned() } else { format!("NO: {}", problems.join("; ")) };
        let alert = if row.is_alerted() { "fraud" } else { "-" };
        table.add_row([
            row.case.id.clone(),
            row.case.expect.state.clone(),
            row.state(),
            confidence(row),
            row.rounds().to_string(),
            alert.to_owned(),
            seconds(row.elapsed(now)),
            verdict,
            reasons(row),
        ]);
    }
    output::line(table)
}
