//! How much an agent's journal may hold: bounds that fit each other, and a record.

use super::claims::MOST_OVER;
use crate::diagnostic::{Path, Report};
use crate::journal::{JournalLine, JournalSettings};

/// What is written in `line` at `at`; `settings` is what follows from it.
pub(super) fn check(line: &JournalLine, settings: &JournalSettings, at: &Path, report: &mut Report<'_>) {
    let (entry, task) = (settings.max_entry_bytes, settings.max_task_bytes);
    if line.max_entry.is_some() && entry > MOST_OVER {
        let message = format!("an entry of {entry} bytes fits into no record");
        report.error(&at.key("max_entry"), message, "write at most `max_entry: 900KiB`");
    } else if (line.max_entry.is_some() || line.max_task.is_some()) && task < entry {
        let field = if line.max_task.is_some() { "max_task" } else { "max_entry" };
        let message = format!("a task may have {task} bytes of entries, and one entry {entry}");
        report.error(&at.key(field), message, "write a `max_task` that is at least as large as `max_entry`");
    }
}
