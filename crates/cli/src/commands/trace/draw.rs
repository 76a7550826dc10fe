//! A waterfall as text, to fit a terminal.

use std::fmt::Write as _;

use anabranch_protocol::Timestamp;

use super::waterfall::{Row, Waterfall};
use crate::hop::Kind;

/// Widest tree; what is deeper is cut.
const MAX_LABEL: usize = 40;
/// Widest and narrowest bar.
const BAR: (usize, usize) = (12, 48);
/// Narrowest terminal that is drawn for.
const MIN_WIDTH: usize = 80;

const QUEUE: char = '░';
const WORK: char = '█';
const POINT: char = '◆';
const WAITING: char = '…';

/// Draws it within `width` characters.
pub(super) fn draw(waterfall: &Waterfall, width: usize) -> String {
    let width = width.max(MIN_WIDTH);
    let labels: Vec<String> = waterfall.hops.iter().map(label).collect();
    let label = labels.iter().map(|l| l.chars().count()).max().unwrap_or(0).clamp(3, MAX_LABEL);
    // When, after, queue, work, each with its gap.
    let numbers = 4 * 10;
    let bar = (width.saturating_sub(label + numbers + 2) / 2).clamp(BAR.0, BAR.1);
    let what = width.saturating_sub(label + numbers + bar + 4);
    let mut out = head(waterfall);
    let _ = writeln!(
        out,
        "{:<label$} {:>9} {:>9} {:>9} {:>9}  {:<bar$}  WHAT",
        "HOP", "WHEN", "AFTER", "QUEUE", "WORK", ""
    );
    for (row, name) in waterfall.hops.iter().zip(&labels) {
        let text = format!(
            "{:<label$} {:>9} {:>9} {:>9} {:>9}  {:<bar$}  {}",
            cut(name, label),
            format!("+{}", time(millis(row.hop.time, waterfall.started_at))),
            row.after_ms.map(time).unwrap_or_default(),
            row.queue_ms.map(time).unwrap_or_default(),
            row.work_ms.map(time).unwrap_or_default(),
            bar_of(row, waterfall, bar),
            cut(&remark(row), what),
        );
        out.push_str(text.trim_end());
        out.push('\n');
    }
    let _ = write!(out, "{QUEUE} in the topic  {WORK} at work  {POINT} written");
    if waterfall.hops.iter().any(|row| row.waiting) {
        let _ = write!(out, "  {WAITING} not yet answered");
    }
    out
}

fn head(waterfall: &Waterfall) -> String {
    let state =
        waterfall.state.as_deref().unwrap_or(if waterfall.open { "open" } else { "not in the composer's state" });
    let deadline = waterfall.deadline.map(|d| format!(", deadline {d}")).unwrap_or_default();
    format!(
        "case {}: {state}\n{} hops in {}, from {}{deadline}\n\n",
        crate::console::plain(waterfall.correlation_id.as_str()),
        waterfall.hops.len(),
        time(waterfall.duration_ms),
        waterfall.started_at,
    )
}

fn label(row: &Row) -> String {
    let indent = "  ".repeat(row.depth.min(MAX_LABEL));
    let agent = row.hop.agent.as_deref().unwrap_or_default();
    match row.hop.kind {
        Kind::Task | Kind::Partial | Kind::Late => format!("{indent}{} {agent}", row.hop.kind),
        Kind::Outcome | Kind::DeadLetter => format!("{indent}{} {}", row.hop.kind, row.hop.topic),
        kind => format!("{indent}{kind}"),
    }
}

fn remark(row: &Row) -> String {
    let mut parts = Vec::new();
    if row.hop.kind == Kind::Unreadable {
        parts.push(format!("{}/{}@{}:", row.hop.topic, row.hop.partition, row.hop.offset));
    }
    if row.waiting {
        parts.push("waits for the agent".to_owned());
    }
    if let Some(answer) = &row.answer {
        parts.push(answer.what.clone());
    }
    if !row.hop.what.is_empty() {
        let what = &row.hop.what;
        parts.push(if row.answer.is_some() { format!("({what})") } else { what.clone() });
    }
    if row.repeats > 0 {
        parts.push(format!("(written {} times)", row.repeats + 1));
    }
    parts.join(" ")
}

fn bar_of(row: &Row, waterfall: &Waterfall, width: usize) -> String {
    let total = waterfall.duration_ms.max(1);
    let last = width.saturating_sub(1);
    let column = |at: Timestamp| {
        let millis = millis(at, waterfall.started_at).min(total);
        // At most `last`, as `millis` is at most `total`.
        (u128::from(millis) * last as u128 / u128::from(total)) as usize
    };
    let mut cells = vec![' '; width];
    let mut fill = |from: usize, to: usize, with: char| cells[from.min(last)..=to.min(last)].fill(with);
    let start = column(row.hop.time);
    match (&row.answer, &row.hop.work) {
        (Some(answer), _) => {
            let (work, end) = (column(answer.started_at).max(start), column(answer.finished_at));
            fill(start, work, QUEUE);
            fill(work, end.max(work), WORK);
        }
        (None, Some(work)) => {
            let from = column(work.started_at);
            fill(from, column(work.finished_at).max(from), WORK);
        }
        (None, None) if row.waiting => fill(start, last, WAITING),
        (None, None) => fill(start, start, POINT),
    }
    cells.into_iter().collect::<String>().trim_end().to_owned()
}

fn millis(at: Timestamp, from: Timestamp) -> u64 {
    u64::try_from(at.since(from).as_millis()).unwrap_or(u64::MAX)
}

/// `12ms`, `1.23s`, `4m05s`, `3h07m`, `2d04h`.
pub(crate) fn time(millis: u64) -> String {
    let seconds = millis / 1000;
    match seconds {
        0 => format!("{millis}ms"),
        1..60 => format!("{seconds}.{:02}s", millis % 1000 / 10),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    cut.push('…');
    cut
}
