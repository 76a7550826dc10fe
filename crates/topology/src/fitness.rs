//! Whether topics that exist can hold what the topology promises. What differs without harm is no matter here: that is
//! `anabranch topics diff`'s business.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::model::{TopicRole, TopicSpec, Topology};
use crate::unit::{Unit, show};

/// A topic as it is on the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// How many partitions it has.
    pub partitions: i32,
    /// Its configs by Kafka's names, as far as the broker tells them.
    pub configs: BTreeMap<String, String>,
}

/// A topic that nothing can be promised with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// Which one.
    pub topic: String,
    /// What is wrong with it.
    pub why: String,
    /// What mends it.
    pub help: String,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.topic, self.why, self.help)
    }
}

/// What of `specs` exists and does not do. Those that do not exist count as created the way they are specified.
///
/// Looked at: whether records stay as long as a case may take, whether topics that hold a state are compacted and those
/// that hold a flow are not, and whether topics that are joined have equally many partitions.
#[must_use]
pub fn misfits(topology: &Topology, specs: &[TopicSpec], found: &BTreeMap<String, Found>) -> Vec<Misfit> {
    let existing = specs.iter().filter_map(|spec| Some((spec, found.get(&spec.name)?)));
    let mut misfits: Vec<Misfit> = existing
        .flat_map(|(spec, found)| {
            let needed = needed_for(spec, topology.join.deadline);
            [cleanup(spec, found), retention(spec, found, needed)].into_iter().flatten()
        })
        .collect();
    misfits.extend(unequal(specs, found));
    misfits.extend(specs.iter().filter_map(|spec| too_narrow(spec, specs, found)));
    misfits.extend(journals(topology, specs, found));
    misfits
}

/// A record waits in the partition that it came from, of another number of partitions there may be none.
fn too_narrow(retry: &TopicSpec, specs: &[TopicSpec], found: &BTreeMap<String, Found>) -> Option<Misfit> {
    let (tasks, _) = retry.name.rsplit_once(".retry.").filter(|_| retry.role == TopicRole::Retry)?;
    let tasks = specs.iter().find(|spec| spec.name == tasks)?;
    let count = |spec: &TopicSpec| found.get(&spec.name).map_or(spec.partitions, |found| found.partitions);
    let (own, wanted) = (count(retry), count(tasks));
    (own < wanted).then(|| Misfit {
        topic: retry.name.clone(),
        why: format!("it has {own} partitions, but {} has {wanted}: a retry waits in its own partition", tasks.name),
        help: format!("write `partitions: {wanted}` in topics.yaml and run `anabranch topics apply`"),
    })
}

/// Whether a topic holds the latest value of each key, or `None` if that is not ours to say.
fn holds_state(role: TopicRole) -> Option<bool> {
    match role {
        TopicRole::State | TopicRole::Directory | TopicRole::Marks => Some(true),
        TopicRole::Tasks
        | TopicRole::Retry
        | TopicRole::Results
        | TopicRole::FollowUps
        | TopicRole::Ledger
        | TopicRole::Journal => Some(false),
        _ => None,
    }
}

fn cleanup(spec: &TopicSpec, found: &Found) -> Option<Misfit> {
    let is = found.configs.get("cleanup.policy")?;
    let (wanted, harm) = match holds_state(spec.role)? {
        true => ("compact", "what is still needed would be deleted after a time"),
        false => ("delete", "records of one case would replace each other"),
    };
    (is != wanted).then(|| Misfit {
        topic: spec.name.clone(),
        why: format!("cleanup.policy is {is}, and {harm}"),
        help: format!("set cleanup.policy={wanted} (`anabranch topics apply` does)"),
    })
}

/// Whether a case needs the records of the topic for as long as it may take.
fn holds_cases(role: TopicRole) -> bool {
    matches!(
        role,
        TopicRole::Requests
            | TopicRole::Review
            | TopicRole::Tasks
            | TopicRole::Retry
            | TopicRole::Journal
            | TopicRole::Results
            | TopicRole::FollowUps
    )
}

/// How long a topic must keep a record. A retry that is due before the deadline may be put in just before it.
fn needed_for(spec: &TopicSpec, deadline: Duration) -> Duration {
    let delay = spec.name.rsplit_once(".retry.").filter(|_| spec.role == TopicRole::Retry);
    let delay = delay.and_then(|(_, delay)| Unit::Duration.parse(delay).ok()).map(Duration::from_millis);
    deadline + delay.unwrap_or_default()
}

fn retention(spec: &TopicSpec, found: &Found, deadline: Duration) -> Option<Misfit> {
    // -1 is for ever; a policy without `delete` deletes nothing by age.
    let kept = found.configs.get("retention.ms")?.parse::<u64>().ok().map(Duration::from_millis)?;
    let deletes = found.configs.get("cleanup.policy").is_none_or(|policy| policy.contains("delete"));
    (holds_cases(spec.role) && deletes && kept < deadline).then(|| Misfit {
        topic: spec.name.clone(),
        why: format!(
            "it keeps records for {} (retention.ms), and a case may take {} (join.deadline): what is not done by then is lost",
            show(kept),
            show(deadline)
        ),
        help: format!("set retention.ms={} or more, or a shorter deadline", deadline.as_millis()),
    })
}

/// Results, review decisions and the composer's state are read partition by partition together.
fn unequal(specs: &[TopicSpec], found: &BTreeMap<String, Found>) -> Option<Misfit> {
    let joined = specs.iter().filter(|s| matches!(s.role, TopicRole::Results | TopicRole::Review | TopicRole::State));
    let counts: Vec<(&TopicSpec, i32, bool)> = joined
        .map(|spec| found.get(&spec.name).map_or((spec, spec.partitions, false), |f| (spec, f.partitions, true)))
        .collect();
    let most = counts.iter().max_by_key(|(_, partitions, _)| *partitions)?;
    let fewer = counts.iter().find(|(_, partitions, _)| *partitions != most.1)?;
    let name = |(spec, partitions, exists): &(&TopicSpec, i32, bool)| {
        format!("{} has {partitions}{}", spec.name, if *exists { "" } else { " by the topology" })
    };
    let others: Vec<String> = counts.iter().filter(|c| c.0.name != fewer.0.name).map(name).collect();
    Some(Misfit {
        topic: fewer.0.name.clone(),
        why: format!(
            "it has {} partitions, but {}: joined topics need equally many, or a case's records do not meet",
            fewer.1,
            others.join(" and ")
        ),
        help: format!(
            "write `partitions: {}` in topics.yaml and run `anabranch topics apply`: partitions can be added, not taken away",
            most.1
        ),
    })
}

/// What is journaled of a task lies in the partition of the same number.
fn journals(topology: &Topology, specs: &[TopicSpec], found: &BTreeMap<String, Found>) -> Vec<Misfit> {
    let prefix = topology.tasks_topic("");
    let tasks = specs.iter().filter(|spec| spec.role == TopicRole::Tasks);
    let pairs = tasks.filter_map(|spec| {
        let journal = topology.journal_topic(spec.name.strip_prefix(&prefix)?);
        let (tasks, steps) = (found.get(&spec.name)?.partitions, found.get(&journal)?.partitions);
        (steps < tasks).then(|| Misfit {
            why: format!("it has {steps} partitions, but {} has {tasks}, and each needs its own here", spec.name),
            help: format!("write `partitions: {tasks}` in topics.yaml and run `anabranch topics apply`"),
            topic: journal,
        })
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology() -> Topology {
        let text = "name: kyc\npartitions: 6\ninbound: { requests: kyc.requests, review: kyc.reviews }\n\
                    outbound: { decisions: kyc.decisions }\njoin: { deadline: 1h }\n";
        crate::parse("topics.yaml", text, None).unwrap().topology
    }

    /// A cluster with all topics as they are specified, after `change`.
    fn check(change: impl FnOnce(&mut BTreeMap<String, Found>)) -> Vec<String> {
        let topology = topology();
        let specs = topology.topics(&["identity"]);
        let as_specified = |s: &TopicSpec| Found { partitions: s.partitions, configs: s.configs.clone() };
        let mut found = specs.iter().map(|s| (s.name.clone(), as_specified(s))).collect();
        change(&mut found);
        misfits(&topology, &specs, &found).iter().map(ToString::to_string).collect()
    }

    fn set(found: &mut BTreeMap<String, Found>, topic: &str, config: &str, value: &str) {
        found.get_mut(topic).unwrap().configs.insert(config.to_owned(), value.to_owned());
    }

    #[test]
    fn what_is_as_specified_or_not_there_does() {
        assert_eq!(check(|_| {}), [""; 0]);
        assert_eq!(check(BTreeMap::clear), [""; 0]);
        assert_eq!(check(|found| set(found, "kyc.results", "retention.ms", "-1")), [""; 0]);
        assert_eq!(check(|found| set(found, "kyc.late", "retention.ms", "1000")), [""; 0], "no case needs it");
        assert_eq!(
            check(|found| set(found, "kyc.decisions", "cleanup.policy", "compact")),
            [""; 0],
            "its readers' choice"
        );
    }

    #[test]
    fn records_must_stay_as_long_as_a_case_takes() {
        let said = check(|found| {
            set(found, "kyc.tasks.identity", "retention.ms", "600000");
            set(found, "kyc.requests", "retention.ms", "3599999");
        });
        assert_eq!(said.len(), 2);
        assert!(said[0].starts_with("kyc.requests: it keeps records for "), "{}", said[0]);
        assert_eq!(
            said[1],
            "kyc.tasks.identity: it keeps records for 10m (retention.ms), and a case may take 1h (join.deadline): what is \
             not done by then is lost; set retention.ms=3600000 or more, or a shorter deadline"
        );
    }

    #[test]
    fn a_state_is_compacted_and_a_flow_is_not() {
        let said = check(|found| {
            set(found, "kyc.composer-state", "cleanup.policy", "compact,delete");
            set(found, "kyc.results", "cleanup.policy", "compact");
        });
        assert_eq!(said.len(), 2);
        assert!(
            said[0].contains("records of one case would replace each other; set cleanup.policy=delete"),
            "{}",
            said[0]
        );
        assert!(said[1].starts_with("kyc.composer-state: cleanup.policy is compact,delete, and"), "{}", said[1]);
    }

    #[test]
    fn a_journal_has_a_partition_for_each_of_its_tasks() {
        let grown = ["kyc.tasks.identity", "kyc.tasks.identity.retry.5s", "kyc.tasks.identity.retry.30s"];
        let said = check(|found| grown.iter().for_each(|topic| found.get_mut(*topic).unwrap().partitions = 12));
        assert_eq!(
            said,
            [
                "kyc.journal.identity: it has 6 partitions, but kyc.tasks.identity has 12, and each needs its own here; write \
              `partitions: 12` in topics.yaml and run `anabranch topics apply`"
            ]
        );
        assert_eq!(check(|found| found.get_mut("kyc.journal.identity").unwrap().partitions = 12), [""; 0]);
    }

    #[test]
    fn a_retry_topic_keeps_what_waits_and_has_a_place_for_every_partition() {
        let said = check(|found| {
            let (short, narrow) = ("kyc.tasks.identity.retry.5s", "kyc.tasks.identity.retry.30s");
            set(found, short, "retention.ms", "3600000");
            set(found, narrow, "cleanup.policy", "compact");
            let grown = ["kyc.tasks.identity", "kyc.journal.identity", short];
            grown.iter().for_each(|topic| found.get_mut(*topic).unwrap().partitions = 12);
        });
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(said[0].starts_with("kyc.tasks.identity.retry.5s: it keeps records for 1h"), "{}", said[0]);
        assert!(said[0].ends_with("set retention.ms=3605000 or more, or a shorter deadline"), "{}", said[0]);
        assert!(said[1].starts_with("kyc.tasks.identity.retry.30s: cleanup.policy is compact"), "{}", said[1]);
        assert!(
            said[2].starts_with("kyc.tasks.identity.retry.30s: it has 6 partitions, but kyc.tasks.identity has 12")
        );
    }

    #[test]
    fn joined_topics_have_equally_many_partitions() {
        let said = check(|found| found.get_mut("kyc.results").unwrap().partitions = 12);
        assert_eq!(
            said,
            [
                "kyc.reviews: it has 6 partitions, but kyc.results has 12 and kyc.composer-state has 6: joined topics need \
              equally many, or a case's records do not meet; write `partitions: 12` in topics.yaml and run `anabranch \
              topics apply`: partitions can be added, not taken away"
            ]
        );
        let one_missing = check(|found| {
            found.remove("kyc.composer-state");
            ["kyc.results", "kyc.reviews"].iter().for_each(|t| found.get_mut(*t).unwrap().partitions = 12);
        });
        assert!(one_missing[0].starts_with("kyc.composer-state: it has 6 partitions, but kyc.reviews has 12"));
    }
}
