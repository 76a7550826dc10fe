//! Names that Kafka takes, and that do not get in each other's way.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Facts, line_of};
use crate::diagnostic::{Path, Report};
use crate::fill;
use crate::model::Topology;
use crate::names::is_role;
use crate::raw::TopicLine;

/// Longest name of a topic, in characters.
const MAX_LENGTH: usize = 249;

/// Whose a topic is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Others write it, the runtime reads it.
    Inbound,
    /// The runtime writes it, others read it.
    Outbound,
    /// The runtime's own.
    Own,
}

/// A topic and the place in the file that its name follows from.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) side: Side,
    /// `inbound.requests`, `outbound.cases`, `agents.identity`, `name`.
    pub(super) from: Path,
}

impl Named {
    fn own(name: String, from: Path) -> Self {
        Self { name, side: Side::Own, from }
    }
}

/// All topics of the topology: the user's first, then the runtime's own.
pub(super) fn collect(facts: &Facts<'_>) -> Vec<Named> {
    let mut topics = written(facts);
    let topology = facts.topology;
    let consumed: Vec<(String, Path)> = topics
        .iter()
        .filter(|t| t.side == Side::Inbound)
        .map(|t| (topology.dlq_topic(&t.name), t.from.clone()))
        .collect();
    topics.extend(consumed.into_iter().map(|(dlq, from)| Named::own(dlq, from)));
    if facts.is_named() {
        topics.extend(own(topology));
        topics.extend(tasks(facts));
    }
    topics
}

/// What the file names, by the place of the name itself.
fn written(facts: &Facts<'_>) -> Vec<Named> {
    let inbound = facts.file.inbound.as_ref();
    let requests = inbound.and_then(|i| i.requests.as_ref()).map(|t| (Side::Inbound, "inbound", "requests", t));
    let review = inbound.and_then(|i| i.review.as_ref()).map(|t| (Side::Inbound, "inbound", "review", t));
    let mut topics = vec![];
    topics.extend(requests);
    topics.extend(review);
    for alias in facts.topology.outbound.keys() {
        let line = facts.file.outbound.as_ref().and_then(|o| o.get(alias));
        topics.extend(line.map(|t| (Side::Outbound, "outbound", alias.as_str(), t)));
    }
    let named = topics.into_iter().filter_map(|(side, section, key, line)| {
        let from = Path::of(&[section, key]);
        let from = if matches!(line, TopicLine::Settings(_)) { from.key("topic") } else { from };
        fill::settings(line).topic.map(|name| Named { name, side, from })
    });
    named.collect()
}

fn own(topology: &Topology) -> Vec<Named> {
    let [results, followups] = [topology.results_topic(), topology.followups_topic()];
    let dead = [topology.dlq_topic(&results), topology.dlq_topic(&followups)];
    let rest = [topology.late_topic(), topology.state_topic(), topology.directory_topic(), topology.marks_topic()];
    let inbox = topology.inbound.review.is_some().then(|| topology.inbox_topic());
    let all = [results, followups].into_iter().chain(dead).chain(rest).chain(inbox);
    all.map(|name| Named::own(name, Path::of(&["name"]))).collect()
}

fn tasks(facts: &Facts<'_>) -> Vec<Named> {
    let mut topics = Vec::new();
    for agent in facts.known().into_iter().filter(|a| !is_role(a)) {
        let from = if facts.topology.agents.contains_key(agent) { line_of(agent) } else { Path::of(&["name"]) };
        let tasks = facts.topology.tasks_topic(agent);
        let retries = facts.topology.retry_topics(agent).into_iter();
        topics.extend(retries.map(|(topic, _)| Named::own(topic, from.clone())));
        topics.push(Named::own(facts.topology.dlq_topic(&tasks), from.clone()));
        topics.push(Named::own(tasks, from));
    }
    topics
}

/// Checks names by themselves, then against each other.
pub(super) fn check(facts: &Facts<'_>, topics: &[Named], report: &mut Report<'_>) {
    if let Some(name) = &facts.file.name {
        check_name("topology", name, &Path::of(&["name"]), report);
    }
    for topic in topics.iter().filter(|t| t.side != Side::Own) {
        check_name("topic", &topic.name, &topic.from, report);
    }
    for (i, bridge) in facts.file.bridges.iter().flatten().enumerate() {
        let at = Path::of(&["bridges"]).index(i);
        for (key, topic) in [("from", &bridge.from), ("to", &bridge.to)] {
            topic.iter().for_each(|name| check_name("topic", name, &at.key(key), report));
        }
    }
    for (section, keys) in [
        ("agents", facts.topology.agents.keys().collect::<Vec<_>>()),
        ("outbound", facts.topology.outbound.keys().collect()),
        ("models", facts.topology.models.keys().collect()),
    ] {
        keys.into_iter().for_each(|key| check_word(key, &Path::of(&[section, key]), report));
    }
    check_lengths(topics, report);
    check_clashes(topics, report);
    check_reserved(facts, topics, report);
}

/// What Kafka asks of a topic's name; also of the topology's, with which topics' names begin.
fn check_name(what: &str, name: &str, at: &Path, report: &mut Report<'_>) {
    let wrong = name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')));
    let message = match wrong {
        _ if name.is_empty() => format!("the {what}'s name is empty"),
        _ if name == "." || name == ".." => format!("Kafka refuses the name `{name}`"),
        Some(c) => format!("Kafka refuses the name `{name}`: {c:?} may not be in it"),
        None => return,
    };
    let plain: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '-' }).collect();
    let plain = plain.trim_matches(['-', '.']);
    let help = match plain.is_empty() {
        true => "write letters, digits, `.`, `_` or `-`".to_owned(),
        false => format!("write letters, digits, `.`, `_` or `-`, such as `{plain}`"),
    };
    report.error(at, message, help);
}

/// Names that become part of topics' names, metric labels and crates' names.
fn check_word(word: &str, at: &Path, report: &mut Report<'_>) {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if word.starts_with(|c: char| c.is_ascii_lowercase()) && word.chars().all(plain) {
        return;
    }
    let mended = word.to_lowercase().replace(|c: char| !plain(c), "-");
    let mended = mended.trim_start_matches(|c: char| !c.is_ascii_lowercase()).trim_end_matches('-');
    let such = if mended.is_empty() { String::new() } else { format!(", such as `{mended}`") };
    report.error_at_key(
        at,
        format!("`{word}` cannot be a name here"),
        format!("begin with a lower-case letter, then lower-case letters, digits and `-`{such}"),
    );
}

/// The longest name that follows from each place.
fn check_lengths(topics: &[Named], report: &mut Report<'_>) {
    let mut longest: BTreeMap<String, &Named> = BTreeMap::new();
    for topic in topics {
        let entry = longest.entry(topic.from.to_string()).or_insert(topic);
        if topic.name.len() > entry.name.len() {
            *entry = topic;
        }
    }
    for topic in longest.into_values().filter(|t| t.name.len() > MAX_LENGTH) {
        let (length, over) = (topic.name.len(), topic.name.len() - MAX_LENGTH);
        let own = ": names follow from it, dead letters add `.dlq`, retries `.retry.30s`";
        let why = if topic.side == Side::Own { own } else { "" };
        report.error(
            &topic.from,
            format!("the topic `{}…` would have {length} characters; Kafka takes {MAX_LENGTH}", head(&topic.name)),
            format!("make it shorter by {over}{why}"),
        );
    }
}

fn head(name: &str) -> String {
    name.chars().take(40).collect()
}

/// Two topics of one name, and names that differ only in `.` and `_`, which Kafka does not keep apart in its metrics
/// and therefore refuses. Each place is reported once.
fn check_clashes(topics: &[Named], report: &mut Report<'_>) {
    let mut first: HashMap<String, &Named> = HashMap::new();
    let mut reported: HashSet<String> = HashSet::new();
    let mut ordered: Vec<&Named> = topics.iter().collect();
    // The place that is named should be one that the user wrote: first what is fixed, then the user's topics, then
    // what follows from those.
    ordered.sort_by_key(|t| match t.side {
        Side::Own if !matches!(t.from.first(), Some("inbound")) => 0,
        Side::Inbound | Side::Outbound => 1,
        Side::Own => 2,
    });
    for topic in ordered {
        let other = *first.entry(topic.name.replace('.', "_")).or_insert(topic);
        let own = topic.side == Side::Own;
        if std::ptr::eq(topic, other) || (own && other.side == Side::Own && topic.name == other.name) {
            continue;
        }
        // Of a topic and the dead letters of another, the former can be called otherwise.
        let (topic, other) = if own && other.side != Side::Own { (other, topic) } else { (topic, other) };
        if !reported.insert(topic.from.to_string()) {
            continue;
        }
        if topic.name == other.name {
            same_name(topic, other, report);
            continue;
        }
        report.error(
            &topic.from,
            format!("Kafka takes `{}` and `{}` for the same name", topic.name, other.name),
            "use `.` and `_` alike in all names; best only `.` and `-`",
        );
    }
}

fn same_name(topic: &Named, other: &Named, report: &mut Report<'_>) {
    let name = &topic.name;
    match (topic.side, other.side) {
        (Side::Outbound, Side::Outbound) => report.warn(
            &topic.from,
            format!("`{name}` is {} too", other.from),
            "give each alias its own topic, or use one alias",
        ),
        (Side::Outbound, Side::Inbound) => report.error(
            &topic.from,
            format!("`{name}` is both outbound and inbound ({}): outcomes would come back in", other.from),
            "let outcomes leave on a topic of their own",
        ),
        (Side::Inbound, Side::Inbound) => report.error(
            &topic.from,
            format!("`{name}` is {} too", other.from),
            "requests and review decisions need a topic each",
        ),
        (Side::Outbound, _) => report.error(
            &topic.from,
            format!("`{name}` is one of the runtime's own topics: outcomes would come back in"),
            "choose another name; `anabranch topics diff` lists the runtime's own",
        ),
        _ => report.error(
            &topic.from,
            format!("`{name}` is one of the runtime's own topics, which nobody else may write"),
            "choose another name; `anabranch topics diff` lists the runtime's own",
        ),
    }
}

/// Tasks of agents that are yet to come.
fn check_reserved(facts: &Facts<'_>, topics: &[Named], report: &mut Report<'_>) {
    if !facts.is_named() {
        return;
    }
    let prefix = facts.topology.tasks_topic("");
    let own = |name: &str| topics.iter().any(|t| t.side == Side::Own && t.name == name);
    for topic in topics.iter().filter(|t| t.side != Side::Own && t.name.starts_with(&prefix) && !own(&t.name)) {
        report.error(
            &topic.from,
            format!("names that begin with `{prefix}` are for agents' tasks"),
            "choose a name that begins otherwise",
        );
    }
}
