//! Limits of dead letters that an agent can work with.

use crate::diagnostic::{Path, Report};
use crate::letters::{DeadLetterSettings, DeadLettersLine};

/// Checks a line at `at`; `settings` is what follows from it.
pub(super) fn check(line: &DeadLettersLine, settings: &DeadLetterSettings, at: &Path, report: &mut Report<'_>) {
    let most = settings.max_share * settings.over as f64;
    if most >= 1.0 {
        return;
    }
    let field = if line.max_share.is_some() { "max_share" } else { "over" };
    let help = if settings.max_share > 0.0 {
        format!("write at least `over: {}`, or a larger share", (1.0 / settings.max_share).ceil())
    } else {
        "write a share above 0, or `max_in_a_row: 1` to pause at the second in a row".to_owned()
    };
    report.error(
        &at.key(field),
        format!(
            "a share of {} of {} records is less than one record: the first dead letter would pause the agent",
            settings.max_share, settings.over
        ),
        help,
    );
}
