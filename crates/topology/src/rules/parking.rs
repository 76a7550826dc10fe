//! Cases that wait for a person: one reminder, then an escalation, then the end.

use std::time::Duration;

use super::Facts;
use crate::diagnostic::{Path, Report};
use crate::parking::later_than;
use crate::unit::show;

/// Checks `parking`, if it is written.
pub(super) fn check(facts: &Facts<'_>, report: &mut Report<'_>) {
    if facts.file.parking.is_none() {
        return;
    }
    if facts.topology.inbound.review.is_none() {
        report.error(
            &Path::of(&["parking"]),
            "nobody can decide a parked case: there is no topic for decisions of people",
            format!("write `review: {}.review-decisions` under `inbound`", facts.topology.name),
        );
    }
    let parking = &facts.topology.parking;
    let times: [(&str, Option<Duration>); 3] = [
        ("remind_after", parking.remind_after),
        ("escalate_after", parking.escalate_after),
        ("expire_after", parking.expire_after),
    ];
    let written: Vec<(&str, Duration)> = times.into_iter().filter_map(|(name, time)| Some((name, time?))).collect();
    for pair in written.windows(2) {
        let [(earlier, before), (later, after)] = pair else { continue };
        if after <= before {
            report.error(
                &Path::of(&["parking", later]),
                format!("{} is not later than {earlier}, {}", show(*after), show(*before)),
                format!("write for example `{later}: {}`, or a shorter {earlier}", show(later_than(*before))),
            );
        }
    }
}
