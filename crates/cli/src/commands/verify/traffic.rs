//! Both ends: cases in, outcomes and dead letters out. All of it past the broken network: what is in doubt here would say
//! nothing about the agents.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anabranch_kafka::{Cluster, FetchConfig, Isolation, OutRecord, Position, Producer, ProducerConfig, Record};
use anabranch_protocol::{CorrelationId, Envelope, EventId, Timestamp, dead_letter, header, partition};
use anabranch_topology::{TopicRole, Topology};
use anyhow::Context as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::ledger::{Ledger, Place, Role, Seen, Sending, Violation};
use super::plan::Plan;
use super::requests::Templates;
use crate::commands::send::Inbound;
use crate::console::Console;
use crate::reading::{self, Survey};

/// `ce_source` of what is sent.
const SOURCE: &str = "/anabranch/verify";
/// Between two looks at how many cases are due.
const TICK: Duration = Duration::from_millis(20);
/// Before a case that the brokers did not take is sent again, and before reading is tried again.
const AGAIN: Duration = Duration::from_millis(500);
/// Most cases on their way to the brokers at the same time.
const MAX_UNDER_WAY: usize = 2_000;

/// The ledger, shared by those who send and those who read.
#[derive(Debug, Clone, Default)]
pub(super) struct Books(Arc<Mutex<Ledger>>);

impl Books {
    pub(super) fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which records are what.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    /// Topics on which outcomes leave.
    outcomes: BTreeSet<String>,
    /// Other outbound topics.
    others: BTreeSet<String>,
    /// Topics of dead letters that may end a case.
    dead_letters: BTreeSet<String>,
    requests: String,
}

impl Rules {
    pub(super) fn new(topology: &Topology, aliases: &[String]) -> Self {
        let of = |is_outcome: bool| {
            let topics = topology.outbound.iter().filter(move |(alias, _)| aliases.contains(alias) == is_outcome);
            topics.map(|(_, topic)| topic.name.clone()).collect::<BTreeSet<_>>()
        };
        let outcomes = of(true);
        let requests = topology.inbound.requests.name.clone();
        let dead = [topology.dlq_topic(&requests), topology.dlq_topic(&topology.results_topic())];
        // A topic with two aliases is one of outcomes if one of them is.
        Self { others: &of(false) - &outcomes, outcomes, dead_letters: dead.into(), requests }
    }

    /// All topics that count.
    pub(super) fn topics(&self) -> impl Iterator<Item = &String> {
        self.outcomes.iter().chain(&self.others).chain(&self.dead_letters)
    }

    /// What a record is to the ledger; `None` if nothing.
    pub(super) fn read(&self, record: &Record) -> Option<Seen> {
        let topic = &*record.topic;
        let role = if self.outcomes.contains(topic) {
            Role::Outcome
        } else if self.others.contains(topic) {
            Role::Other
        } else if self.dead_letters.contains(topic) && reading::ends_case(record, &self.requests) {
            Role::DeadLetter(origin(record))
        } else {
            return None;
        };
        let place = place(record);
        let id = Envelope::decode(&record.view()).map(|decoded| decoded.envelope.id);
        let id = id.unwrap_or_else(|_| EventId::mint(topic, record.partition, record.offset));
        let time = Timestamp::from_millis(record.timestamp_ms);
        Some(Seen { case: reading::case_of(record), role, place, id, time })
    }
}

fn place(record: &Record) -> Place {
    Place { topic: record.topic.to_string(), partition: record.partition, offset: record.offset }
}

/// Where the record lay that became this dead letter. One that does not say so is a dead letter of its own.
fn origin(record: &Record) -> Place {
    let written = |name| header::last(&record.headers, name);
    let number = |name| written(name).and_then(|text| text.parse::<i64>().ok());
    let partition = number(dead_letter::PARTITION).and_then(|partition| i32::try_from(partition).ok());
    match (written(dead_letter::TOPIC), partition, number(dead_letter::OFFSET)) {
        (Some(topic), Some(partition), Some(offset)) => Place { topic: topic.to_owned(), partition, offset },
        _ => place(record),
    }
}

/// Sends cases.
pub(super) struct Sender<'a> {
    producer: Producer,
    books: Books,
    topology: &'a Topology,
    templates: &'a Templates,
    /// The type of the requests.
    kind: String,
}

impl<'a> Sender<'a> {
    pub(super) fn new(cluster: &Cluster, books: &Books, topology: &'a Topology, templates: &'a Templates) -> Self {
        let producer = cluster.producer(ProducerConfig::default());
        Self { producer, books: books.clone(), topology, templates, kind: format!("{}.request", topology.name) }
    }

    /// Sends all cases of the plan over its time, and returns when the brokers have answered for all of them.
    pub(super) async fn run(&self, plan: &Plan, began: Instant) {
        let mut under_way = JoinSet::new();
        let mut sent = 0;
        while sent < plan.cases {
            let due = plan.due(began.elapsed());
            while sent < due && under_way.len() < MAX_UNDER_WAY {
                under_way.spawn(self.case(sent, &CorrelationId::new(format!("case-{sent:05}")), false));
                sent += 1;
            }
            while under_way.try_join_next().is_some() {}
            tokio::time::sleep(TICK).await;
        }
        while under_way.join_next().await.is_some() {}
    }

    /// Sends a case for each partition of the joined topics; says how many.
    pub(super) async fn fresh(&self, plan: &Plan) -> usize {
        let mut under_way = JoinSet::new();
        for (number, case) in (plan.cases..).zip(one_for_each(self.topology.partitions)) {
            under_way.spawn(self.case(number, &case, true));
        }
        let count = under_way.len();
        while under_way.join_next().await.is_some() {}
        count
    }

    /// One case, sent until the brokers have it or may have it.
    fn case(&self, number: u64, case: &CorrelationId, fresh: bool) -> impl Future<Output = ()> + Send + 'static {
        let record = Inbound {
            topic: &self.topology.inbound.requests.name,
            kind: &self.kind,
            source: SOURCE,
            case,
            key: case.as_str(),
            text: &self.templates.request(number, case.as_str()),
            deadline: None,
            now: reading::now(),
        }
        .record();
        self.books.lock().sending(case.clone(), fresh, reading::now());
        deliver(self.producer.clone(), self.books.clone(), case.clone(), record)
    }
}

async fn deliver(producer: Producer, books: Books, case: CorrelationId, record: OutRecord) {
    let sending = loop {
        match producer.send(record.clone()).await {
            Ok(_) => break Sending::Acknowledged,
            Err(error) if error.may_have_happened() => break Sending::InDoubt,
            // Not there for sure: a broker that was away, most of the time.
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    };
    books.lock().sent(&case, sending);
}

/// Cases whose keys lie in all partitions of a topic with so many, one in each.
fn one_for_each(partitions: i32) -> Vec<CorrelationId> {
    let mut left: BTreeSet<i32> = (0..partitions).collect();
    let names = (0u64..).map(|number| format!("fresh-{number:03}"));
    let new = names.filter(|name| left.remove(&partition::partition_for_key(name.as_bytes(), partitions)));
    new.take(usize::try_from(partitions).unwrap_or(0)).map(CorrelationId::new).collect()
}

/// Reads what leaves into the ledger, for as long as it lives.
pub(super) struct Follower {
    task: tokio::task::JoinHandle<()>,
    /// The first violation.
    violation: watch::Receiver<Option<Violation>>,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Follower {
    /// Starts at the beginning of the topics.
    ///
    /// # Errors
    /// If one is not there.
    pub(super) async fn start(
        cluster: &Cluster,
        rules: &Rules,
        books: &Books,
        console: &Console,
    ) -> anyhow::Result<Self> {
        // Not for long: a violation ends the run, and what is seen of progress is what was read.
        let config = FetchConfig { isolation: Isolation::ReadCommitted, ..FetchConfig::default() };
        let mut fetcher = cluster.fetcher(config);
        for topic in rules.topics() {
            let count = cluster.partition_count(topic).await.with_context(|| format!("cannot follow {topic}"))?;
            for partition in 0..count {
                let tp = anabranch_kafka::TopicPartition::new(topic.as_str(), partition);
                fetcher.add(tp, Position::Earliest);
            }
        }
        let (told, violation) = watch::channel(None);
        let (cluster, rules, books, console) = (cluster.clone(), rules.clone(), books.clone(), console.clone());
        let task = tokio::spawn(async move {
            let mut complained = false;
            loop {
                match reading::next(&cluster, &mut fetcher).await {
                    Ok(fetched) => {
                        complained = false;
                        let mut ledger = books.lock();
                        for seen in fetched.records.iter().filter_map(|record| rules.read(record)) {
                            let violation = ledger.take(seen);
                            told.send_if_modified(|first| {
                                let is_first = first.is_none() && violation.is_some();
                                *first = first.take().or(violation);
                                is_first
                            });
                        }
                    }
                    Err(error) => {
                        if !std::mem::replace(&mut complained, true) {
                            console.line(&format!("warning: the outbound topics cannot be read now: {error:#}"));
                        }
                        tokio::time::sleep(AGAIN).await;
                    }
                }
            }
        });
        Ok(Self { task, violation })
    }

    /// Waits for the first violation.
    pub(super) async fn violation(&self) -> Violation {
        let mut violation = self.violation.clone();
        let seen = violation.wait_for(Option::is_some).await.map(|seen| seen.clone());
        match seen {
            Ok(Some(violation)) => violation,
            // The reader is gone, which its panic has told.
            _ => Violation::Stuck { case: None, what: "the outbound topics are not read any more".to_owned() },
        }
    }
}

/// Reads the topics from their beginning to where they end now, into a ledger of its own: what was sent is as in `books`.
///
/// # Errors
/// If they cannot be read.
pub(super) async fn read_again(
    cluster: &Cluster,
    topology: &Topology,
    rules: &Rules,
    books: &Books,
) -> anyhow::Result<(Ledger, Option<Violation>)> {
    let mut ledger = books.lock().unread();
    let mut first = None;
    let survey = Survey::take(cluster, topology).await?;
    let tps: Vec<_> = rules.topics().filter_map(|topic| survey.topic(topic)).flat_map(|topic| topic.all()).collect();
    let spans = reading::spans(cluster, &tps, None).await?;
    reading::scan(cluster, spans, |record| {
        let violation = rules.read(&record).and_then(|seen| ledger.take(seen));
        first = first.take().or(violation);
    })
    .await?;
    Ok((ledger, first))
}

/// Partitions of the topology's topics in which a transaction is still open.
///
/// # Errors
/// If the brokers do not answer.
pub(super) async fn hanging(cluster: &Cluster, topology: &Topology) -> anyhow::Result<Vec<String>> {
    let survey = Survey::take(cluster, topology).await?;
    let written = [TopicRole::Outbound, TopicRole::FollowUps, TopicRole::Late, TopicRole::Inbox, TopicRole::State];
    let tps: Vec<_> = survey.with_role(&written).flat_map(|topic| topic.all()).collect();
    let admin = cluster.admin();
    let stable = admin.end_offsets(&tps, Isolation::ReadCommitted).await?;
    let ends: BTreeMap<_, _> = admin.end_offsets(&tps, Isolation::ReadUncommitted).await?;
    Ok(ends.iter().filter(|(tp, end)| stable.get(tp) < Some(end)).map(|(tp, _)| tp.to_string()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_cases_lie_in_all_partitions() {
        for partitions in [1, 6, 37] {
            let cases = one_for_each(partitions);
            let at: BTreeSet<i32> =
                cases.iter().map(|case| partition::partition_for_key(case.as_str().as_bytes(), partitions)).collect();
            assert_eq!(at.len(), cases.len());
            assert_eq!(at, (0..partitions).collect());
        }
    }
}
