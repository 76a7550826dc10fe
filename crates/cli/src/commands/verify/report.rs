//! What is said at the end: data on stdout.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::ledger::{Counts, Violation};
use super::strikes::Tally;
use super::trial::{Ended, Times, Trial, Verdict};
use crate::backing::Backing;
use crate::hop::Hop;
use crate::output::{Format, json, line, table};

/// All there is to say.
#[derive(Debug, Serialize)]
pub(super) struct Report<'a> {
    verdict: Verdict,
    seed: u64,
    topology: &'a str,
    brokers: String,
    cases: &'a Counts,
    faults: &'a Tally,
    /// From a case's sending to its outcome.
    outcome_after_ms: Option<Percentiles>,
    seconds: &'a Times,
    /// Processes that failed by themselves, and how often.
    failures: BTreeMap<&'a str, u32>,
    violation: Option<Found<'a>>,
}

/// A violation with what lies around it.
#[derive(Debug, Serialize)]
struct Found<'a> {
    text: String,
    #[serde(flatten)]
    violation: &'a Violation,
    /// All records of the case, in the order in which they were written.
    records: &'a [Hop],
    /// Why there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    records_missing: Option<&'a str>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Percentiles {
    p50: u64,
    p99: u64,
    max: u64,
}

impl Percentiles {
    /// Of sorted values.
    fn of(sorted: &[u64]) -> Option<Self> {
        let at = |share: usize| sorted.get((sorted.len() * share).div_ceil(100).saturating_sub(1)).copied();
        Some(Self { p50: at(50)?, p99: at(99)?, max: *sorted.last()? })
    }
}

impl<'a> Report<'a> {
    pub(super) fn of(trial: &'a Trial<'_>, ended: &'a Ended, backing: &Backing) -> Self {
        let embedded = if backing.is_embedded() { " (embedded)" } else { "" };
        let found = |violation: &'a Violation| Found {
            text: violation.to_string(),
            violation,
            records: ended.records.as_deref().unwrap_or_default(),
            records_missing: ended.records.as_ref().err().map(String::as_str),
        };
        Self {
            verdict: ended.verdict(),
            seed: trial.plan.seed,
            topology: &trial.site.topology.name,
            brokers: format!("{}{embedded}", backing.brokers.join(",")),
            cases: &ended.counts,
            faults: &ended.tally,
            outcome_after_ms: Percentiles::of(&ended.latencies),
            seconds: &ended.times,
            failures: trial.fleet.failures().into_iter().collect(),
            violation: ended.violation.as_ref().map(found),
        }
    }
}

/// Prints it.
pub(super) fn print(report: &Report<'_>, format: Format) -> anyhow::Result<()> {
    match format {
        Format::Json => json(report),
        Format::Table => {
            report.violation.iter().try_for_each(|found| print_violation(found, report.topology))?;
            line(summary(report))
        }
    }
}

/// The violation, and the records around it. What makes it one is marked.
fn print_violation(found: &Found<'_>, topology: &str) -> anyhow::Result<()> {
    line(format!("VIOLATION: {}\n", found.text))?;
    if let Some(why) = found.records_missing {
        return line(format!("its records cannot be shown: {why}\n"));
    }
    if found.records.is_empty() {
        return Ok(());
    }
    let case = found.violation.case().map(ToString::to_string).unwrap_or_default();
    line(format!("All records of {case} on the topics of {topology}, in the order in which they were written:\n"))?;
    let mut rows = table(&["", "TIME", "RECORD", "KIND", "BY", "CE_ID", "CAUSED BY", "WHAT"]);
    for hop in found.records {
        let topic = hop.topic.strip_prefix(topology).and_then(|rest| rest.strip_prefix('.')).unwrap_or(&hop.topic);
        rows.add_row([
            if found.violation.places().iter().any(|place| place.is_of(hop)) { "!" } else { "" }.to_owned(),
            hop.time_of_day(),
            format!("{topic}/{}@{}", hop.partition, hop.offset),
            hop.kind.to_string(),
            hop.agent.clone().unwrap_or_default(),
            short(hop.id.as_str()),
            hop.causation_id.as_ref().map(|id| short(id.as_str())).unwrap_or_default(),
            hop.what.chars().take(60).collect(),
        ]);
    }
    line(format!("{rows}\n"))
}

/// An id, as far as it tells one from another on a screen; the JSON has all of it.
fn short(id: &str) -> String {
    crate::console::plain(id).chars().take(13).collect()
}

fn summary(report: &Report<'_>) -> String {
    let mut text = String::new();
    let mut say = |name: &str, what: String| {
        let _ = writeln!(text, "{name:<9}{what}");
    };
    let Counts { acknowledged, fresh, in_doubt, outcomes, dead_letters, dead_letters_repeated, open } = report.cases;
    let doubt = if *in_doubt > 0 { format!(", {in_doubt} in doubt") } else { String::new() };
    say("cases", format!("{acknowledged} acknowledged under faults{doubt}, {fresh} after them; {open} open"));
    let topics: Vec<String> = outcomes.iter().map(|(topic, count)| format!("{count} on {topic}")).collect();
    let repeated = match dead_letters_repeated {
        0 => String::new(),
        count => format!(" ({count} written again after a crash)"),
    };
    let total: usize = outcomes.values().sum();
    let where_from = if topics.is_empty() { String::new() } else { format!(" ({})", topics.join(", ")) };
    say("outcomes", format!("{total}{where_from}; {dead_letters} dead letters{repeated}"));
    if let Some(Percentiles { p50, p99, max }) = &report.outcome_after_ms {
        let seconds = |ms: &u64| *ms as f64 / 1000.0;
        let (p50, p99, max) = (seconds(p50), seconds(p99), seconds(max));
        say("", format!("decided after {p50:.1} s (median), {p99:.1} s (99th percentile), {max:.1} s (longest)"));
    }
    let Tally { kills, stops, stops_beyond_session, cuts, silences, missed } = report.faults;
    let missed = if *missed > 0 { format!("; {missed} hit nobody") } else { String::new() };
    say(
        "faults",
        format!(
            "{kills} kill -9, {stops} stops ({stops_beyond_session} beyond the session time), {cuts} cuts, {silences} \
             silences{missed}"
        ),
    );
    let own: Vec<String> = report.failures.iter().map(|(label, count)| format!("{label} {count}")).collect();
    if !own.is_empty() {
        say("", format!("processes that failed by themselves and were started again: {}", own.join(", ")));
    }
    if let Some(times) = times(report.seconds) {
        say("time", times);
    }
    let verdict = match report.verdict {
        Verdict::Held => "held: every acknowledged case has exactly one outcome or dead letter, and everything moves",
        Verdict::Violated => "VIOLATED",
        Verdict::Interrupted => "interrupted: nothing was seen that is not as promised, but it was not seen to its end",
    };
    say("verdict", verdict.to_owned());
    say("seed", report.seed.to_string());
    text.trim_end().to_owned()
}

fn times(times: &Times) -> Option<String> {
    let Times { faults, ready, decided, fresh, quiet } = times;
    let part = |seconds: &Option<f64>, what: &str| seconds.map(|seconds| format!("{what} {seconds:.1} s"));
    let parts = [
        part(faults, "faults"),
        part(ready, "agents ready after"),
        part(decided, "open cases decided after"),
        part(fresh, "fresh cases after"),
        part(quiet, "all quiet after"),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_there() {
        assert_eq!(Percentiles::of(&[]), None);
        assert_eq!(Percentiles::of(&[7]), Some(Percentiles { p50: 7, p99: 7, max: 7 }));
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!(Percentiles::of(&hundred), Some(Percentiles { p50: 50, p99: 99, max: 100 }));
    }
}
