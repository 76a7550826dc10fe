//! Values too large for a record: a store that can be one, and limits that fit each other.

use super::Facts;
use crate::claims;
use crate::diagnostic::{Path, Report};

/// Records have at most 1,000,000 bytes; a value just under `over` must leave room for the rest.
pub(super) const MOST_OVER: usize = 900 * 1024;

/// Checks `claims`, if it is written.
pub(super) fn check(facts: &Facts<'_>, report: &mut Report<'_>) {
    let Some(line) = &facts.file.claims else { return };
    let at = |field: &str| Path::of(&["claims", field]);
    if let Some(Err((wrong, help))) = line.store.as_deref().map(claims::store) {
        report.error(&at("store"), wrong, help);
    }
    let Some(settings) = &facts.topology.claims else { return };
    if settings.over_bytes > MOST_OVER {
        let wrong = format!("a value of just under {} bytes fits into no record", settings.over_bytes);
        report.error(&at("over"), wrong, "write at most `over: 900KiB`");
    }
    if settings.most_bytes < settings.over_bytes as u64 {
        let wrong = format!(
            "values of more than {} bytes go to the store, and it takes at most {}",
            settings.over_bytes, settings.most_bytes
        );
        let field = if line.most.is_some() { "most" } else { "over" };
        report.error(&at(field), wrong, "write a `most` that is larger than `over`");
    }
}
