//! Numbers that must fit each other.

use std::time::Duration;

use super::{Facts, line_of};
use crate::diagnostic::{Path, Report, suggest};
use crate::fill;
use crate::model::{AgentSettings, Topic};
use crate::raw::{Retry, TopicLine, Tuning};
use crate::unit::show;

/// Brokers refuse shorter sessions.
const MIN_SESSION: Duration = Duration::from_secs(6);
/// Brokers refuse longer sessions (`group.max.session.timeout.ms`, by default).
const MAX_SESSION: Duration = Duration::from_secs(30 * 60);
/// A record of the usual largest size must fit.
const MIN_IN_FLIGHT: usize = 1024 * 1024;
/// More delays than these nobody tells apart.
const MOST_TIERS: usize = 8;
/// Shorter waits are spent in memory.
const MIN_TIER: Duration = Duration::from_millis(100);
const RETENTION: &str = "retention.ms";

/// Checks everything but names and agents' dependencies.
pub(super) fn check(facts: &Facts<'_>, report: &mut Report<'_>) {
    topics(facts, report);
    deadline(facts, report);
    bands(facts, report);
    directory(facts, report);
    if let Some(defaults) = &facts.file.defaults {
        tuning(facts, defaults, &facts.topology.defaults, &Path::of(&["defaults"]), report);
    }
    for (name, line) in facts.lines() {
        tuning(facts, &line.tuning, &facts.topology.agent(name), &line_of(name), report);
    }
}

fn topics(facts: &Facts<'_>, report: &mut Report<'_>) {
    let inbound = facts.file.inbound.as_ref();
    let lines =
        [("requests", inbound.and_then(|i| i.requests.as_ref())), ("review", inbound.and_then(|i| i.review.as_ref()))];
    for (key, line) in lines {
        line.into_iter().for_each(|line| retention_twice(line, &Path::of(&["inbound", key]), report));
    }
    for (alias, line) in facts.file.outbound.iter().flatten() {
        retention_twice(line, &Path::of(&["outbound", alias]), report);
    }
    if facts.file.outbound.as_ref().is_some_and(|o| o.is_empty()) {
        let help = "write an alias and its topic, such as `decisions: kyc.decisions`";
        report.error(&Path::of(&["outbound"]), "outcomes have no topic to leave on", help);
    }
    let (joined, own) = (facts.topology.inbound.review.as_ref(), facts.topology.partitions);
    if let Some(review) = joined.filter(|r| r.partitions != own) {
        report.error(
            &Path::of(&["inbound", "review", "partitions"]),
            format!(
                "{} partitions, but the topics it is joined with (results, composer-state) have {own}",
                review.partitions
            ),
            format!(
                "remove the line, or write `partitions: {own}` here or `partitions: {}` at the top",
                review.partitions
            ),
        );
    }
}

fn retention_twice(line: &TopicLine, at: &Path, report: &mut Report<'_>) {
    let settings = fill::settings(line);
    if settings.retention.is_some() && settings.configs.is_some_and(|c| c.contains_key(RETENTION)) {
        report.error(
            &at.key("configs").key(RETENTION),
            "`retention` says it too",
            "keep `retention`, remove this line",
        );
    }
}

/// What a case needs must stay as long as the case may take.
fn deadline(facts: &Facts<'_>, report: &mut Report<'_>) {
    own_retention(facts, report);
    inbound_retention(facts, report);
    closed_memory(facts, report);
}

fn own_retention(facts: &Facts<'_>, report: &mut Report<'_>) {
    let topology = facts.topology;
    let deadline = topology.join.deadline;
    let written = facts.file.join.as_ref().is_some_and(|j| j.deadline.is_some());
    if deadline > topology.retention {
        let at = if written { Path::of(&["join", "deadline"]) } else { Path::of(&["retention"]) };
        report.error(
            &at,
            format!(
                "a deadline of {} is longer than the {} that tasks and results stay",
                show(deadline),
                show(topology.retention)
            ),
            format!("write a shorter deadline, or at least `retention: {}` at the top", show(deadline)),
        );
    }
}

fn inbound_retention(facts: &Facts<'_>, report: &mut Report<'_>) {
    let topology = facts.topology;
    let deadline = topology.join.deadline;
    let inbound = [("requests", Some(&topology.inbound.requests)), ("review", topology.inbound.review.as_ref())];
    for (key, topic) in inbound {
        let Some((topic, kept)) = topic.and_then(|t| Some((t, retention_of(t)?))).filter(|(_, r)| deadline > *r) else {
            continue;
        };
        report.error(
            &Path::of(&["inbound", key, "retention"]),
            format!(
                "a deadline of {} is longer than the {} that `{}` keeps records",
                show(deadline),
                show(kept),
                topic.name
            ),
            format!("write at least `retention: {}`, or a shorter deadline under `join`", show(deadline)),
        );
    }
}

fn closed_memory(facts: &Facts<'_>, report: &mut Report<'_>) {
    let (memory, deadline) = (facts.topology.join.closed_memory, facts.topology.join.deadline);
    if memory < deadline && facts.file.join.as_ref().is_some_and(|j| j.closed_memory.is_some()) {
        report.warn(
            &Path::of(&["join", "closed_memory"]),
            format!("a closed case is forgotten after {}, before the deadline of {}", show(memory), show(deadline)),
            format!("write at least `closed_memory: {}`, or late answers are not known as such", show(deadline)),
        );
    }
}

/// How long a topic keeps records; `None`: for ever, or as the broker says.
fn retention_of(topic: &Topic) -> Option<Duration> {
    topic.configs.get(RETENTION)?.parse::<u64>().ok().map(Duration::from_millis)
}

fn bands(facts: &Facts<'_>, report: &mut Report<'_>) {
    let bands = &facts.topology.confidence;
    if bands.follow_up_above <= bands.publish_above {
        return;
    }
    let written = facts.file.confidence.as_ref().is_some_and(|c| c.follow_up_above.is_some());
    let field = if written { "follow_up_above" } else { "publish_above" };
    report.error(
        &Path::of(&["confidence", field]),
        format!("follow_up_above is {}, above publish_above, {}", bands.follow_up_above, bands.publish_above),
        format!("write a `follow_up_above` of at most {}", bands.publish_above),
    );
}

fn directory(facts: &Facts<'_>, report: &mut Report<'_>) {
    let directory = &facts.topology.directory;
    let least = directory.announce_every.saturating_mul(2);
    if directory.lapse_after >= least {
        return;
    }
    let written = facts.file.directory.as_ref().is_some_and(|d| d.lapse_after.is_some());
    let field = if written { "lapse_after" } else { "announce_every" };
    report.error(
        &Path::of(&["directory", field]),
        format!(
            "cards lapse after {} but are announced only every {}: one late announcement and an agent is forgotten",
            show(directory.lapse_after),
            show(directory.announce_every)
        ),
        format!("write at least `lapse_after: {}`", show(least)),
    );
}

/// What is written in `tuning` at `at`; `settings` is what follows from it.
fn tuning(facts: &Facts<'_>, tuning: &Tuning, settings: &AgentSettings, at: &Path, report: &mut Report<'_>) {
    if tuning.session_timeout.is_some() {
        session(settings.session_timeout, &at.key("session_timeout"), report);
    }
    if tuning.max_in_flight.is_some() && settings.max_in_flight_bytes < MIN_IN_FLIGHT {
        let message =
            format!("{} bytes do not hold one record of the usual largest size", settings.max_in_flight_bytes);
        report.error(&at.key("max_in_flight"), message, "write at least `max_in_flight: 1MiB`");
    }
    if let Some(retry) = &tuning.retry {
        backoff(retry, settings, &at.key("retry"), report);
        if retry.tiers.is_some() {
            tiers(settings, facts.topology.join.deadline, &at.key("retry").key("tiers"), report);
        }
    }
    if let Some(line) = &tuning.journal {
        super::journal::check(line, &settings.journal, &at.key("journal"), report);
    }
    if let Some(line) = &tuning.dead_letters {
        super::letters::check(line, &settings.dead_letters, &at.key("dead_letters"), report);
    }
    let deadline = facts.topology.join.deadline;
    if tuning.handler_timeout.is_some() && settings.handler_timeout > deadline {
        report.warn(
            &at.key("handler_timeout"),
            format!("{} is longer than a case's deadline, {}", show(settings.handler_timeout), show(deadline)),
            format!("write at most `handler_timeout: {}`", show(deadline)),
        );
    }
    if let Some(model) = tuning.model.as_ref().filter(|m| !facts.topology.models.contains_key(*m)) {
        let help = suggest(model, facts.topology.models.keys().map(String::as_str));
        report.error(&at.key("model"), format!("no model has the alias `{model}`"), help);
    }
}

fn session(session: Duration, at: &Path, report: &mut Report<'_>) {
    let (wrong, help) = if session < MIN_SESSION {
        ("shorter", "write at least `session_timeout: 6s`")
    } else if session > MAX_SESSION {
        ("longer", "write at most `session_timeout: 30m`")
    } else {
        return;
    };
    report.error(at, format!("{} is {wrong} than brokers take", show(session)), help);
}

/// Each tier is a topic of its own.
fn tiers(settings: &AgentSettings, deadline: Duration, at: &Path, report: &mut Report<'_>) {
    let tiers = &settings.retry.tiers;
    if tiers.len() > MOST_TIERS {
        let message = format!("{} tiers are {} topics, each with as many partitions", tiers.len(), tiers.len());
        report.error(at, message, format!("write at most {MOST_TIERS}"));
    }
    if let Some(i) = tiers.windows(2).position(|pair| pair[0] >= pair[1]) {
        let (first, second) = (show(tiers[i]), show(tiers[i + 1]));
        let message = format!("{second} does not come after {first}: tiers ascend");
        report.error(&at.index(i + 1), message, "write each delay once, the shortest first");
    }
    if let Some(i) = tiers.iter().position(|tier| *tier < MIN_TIER) {
        let message = format!("{} is too short for a way through the broker", show(tiers[i]));
        report.error(&at.index(i), message, "write at least `100ms`; shorter waits are spent in memory");
    }
    if let Some(i) = tiers.iter().position(|tier| *tier >= deadline) {
        let message = format!("{} is not shorter than a case's deadline, {}", show(tiers[i]), show(deadline));
        report.warn(&at.index(i), message, "remove it: what waits that long has expired");
    }
}

fn backoff(written: &Retry, settings: &AgentSettings, at: &Path, report: &mut Report<'_>) {
    let (first, longest) = (settings.retry.initial_backoff, settings.retry.max_backoff);
    if first <= longest {
        return;
    }
    let field = if written.initial_backoff.is_some() { "initial_backoff" } else { "max_backoff" };
    report.error(
        &at.key(field),
        format!("the first wait, {}, is longer than the longest, {}", show(first), show(longest)),
        format!("write `initial_backoff: {}` or a longer `max_backoff`", show(longest)),
    );
}
