//! The topology's topics as they are on a cluster: which there are, and what is in them.
//!
//! Everything here reads committed records only, belongs to no group and commits nothing, so that looking never
//! changes what the agents do. A broker that is away is an error within [`PATIENCE`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anabranch_core::join::{LOST_CASE, StateKey};
use anabranch_kafka::{Cluster, FetchConfig, Fetched, Fetcher, Isolation, Position, Record, TopicPartition};
use anabranch_protocol::{CorrelationId, Envelope, Plan, Timestamp, dead_letter, header, partition};
use anabranch_topology::{COMPOSER, SUPERVISOR, TopicRole, TopicSpec, Topology};
use anyhow::anyhow;

use crate::options::PATIENCE;

/// The time now.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_millis(jiff::Timestamp::now().as_millisecond())
}

/// A topic of the topology that exists.
#[derive(Debug, Clone)]
pub(crate) struct Present {
    pub(crate) spec: TopicSpec,
    /// How many partitions it has, whatever the topology says.
    pub(crate) partitions: i32,
}

impl Present {
    /// Its partitions.
    pub(crate) fn all(&self) -> impl Iterator<Item = TopicPartition> + '_ {
        (0..self.partitions).map(|partition| TopicPartition::new(self.spec.name.as_str(), partition))
    }

    /// Those of its partitions that can hold records of a case: one, where only the runtime writes and keys by
    /// correlation id; all, where others write too, or where the key is the original record's.
    pub(crate) fn of_case(&self, case: &CorrelationId) -> Vec<TopicPartition> {
        match self.spec.role {
            TopicRole::Requests | TopicRole::Review | TopicRole::DeadLetters | TopicRole::Late => self.all().collect(),
            TopicRole::Directory | TopicRole::Limits | TopicRole::Marks => Vec::new(),
            _ => {
                let home = partition::partition_for_key(case.as_str().as_bytes(), self.partitions);
                vec![TopicPartition::new(self.spec.name.as_str(), home)]
            }
        }
    }
}

/// The topology beside the cluster.
#[derive(Debug)]
pub(crate) struct Survey {
    /// Agents that the topology declares or that have a topic on the cluster; neither supervisor nor composer.
    pub(crate) agents: BTreeSet<String>,
    /// The topology's topics that exist.
    pub(crate) present: Vec<Present>,
    /// The topology's topics that do not.
    pub(crate) missing: Vec<TopicSpec>,
}

impl Survey {
    /// Asks the cluster which of the topology's topics there are.
    pub(crate) async fn take(cluster: &Cluster, topology: &Topology) -> anyhow::Result<Self> {
        let listed = cluster.admin().list_topics().await?;
        Ok(Self::compare(topology, &listed.into_iter().map(|t| (t.name, t.partitions)).collect()))
    }

    fn compare(topology: &Topology, on_cluster: &BTreeMap<String, i32>) -> Self {
        let mut agents = declared_agents(topology);
        agents.extend(on_cluster.keys().filter_map(|topic| agent_of_topic(topology, topic)));
        let names: Vec<&str> = agents.iter().map(String::as_str).collect();
        let (mut present, mut missing) = (Vec::new(), Vec::new());
        for spec in topology.topics(&names) {
            match on_cluster.get(&spec.name) {
                Some(partitions) => present.push(Present { spec, partitions: *partitions }),
                None => missing.push(spec),
            }
        }
        Self { agents, present, missing }
    }

    /// The topic of this name, if it exists.
    pub(crate) fn topic(&self, name: &str) -> Option<&Present> {
        self.present.iter().find(|p| p.spec.name == name)
    }

    /// The topics with one of these roles.
    pub(crate) fn with_role<'a>(&'a self, roles: &'a [TopicRole]) -> impl Iterator<Item = &'a Present> {
        self.present.iter().filter(|p| roles.contains(&p.spec.role))
    }

    /// # Errors
    /// If no topic of the topology exists: the wrong cluster, or nothing was set up yet.
    pub(crate) fn expect_some(&self, topology: &Topology) -> anyhow::Result<()> {
        if self.present.is_empty() {
            return Err(anyhow!(
                "no topic of topology {} is on this cluster; create them with `anabranch topics apply`",
                topology.name
            ));
        }
        Ok(())
    }
}

/// The agents that `topics.yaml` declares.
pub(crate) fn declared_agents(topology: &Topology) -> BTreeSet<String> {
    topology.agents.keys().filter(|name| ![SUPERVISOR, COMPOSER].contains(&name.as_str())).cloned().collect()
}

/// The agent that a topic brings tasks to, if it is a task topic of this topology.
pub(crate) fn agent_of_topic(topology: &Topology, topic: &str) -> Option<String> {
    // An agent's name has no dot, so that dead letters and retries are told from tasks.
    let name = topic.strip_prefix(&topology.tasks_topic(""))?;
    (!name.is_empty() && !name.contains('.')).then(|| name.to_owned())
}

/// Whether outcomes leave by this alias, as far as its name tells. Aliases are the application's own words: what is
/// neither an alert nor a message to somebody is an outcome.
pub(crate) fn names_outcomes(alias: &str) -> bool {
    !alias.contains("alert") && !alias.contains("message")
}

/// A part of a partition, to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    tp: TopicPartition,
    from: Position,
    to: i64,
}

/// What these partitions hold now, from `since` on or from their beginning. Empty ones are left out.
pub(crate) async fn spans(
    cluster: &Cluster,
    tps: &[TopicPartition],
    since: Option<Timestamp>,
) -> anyhow::Result<Vec<Span>> {
    if tps.is_empty() {
        return Ok(Vec::new());
    }
    let admin = cluster.admin();
    let ends = admin.end_offsets(tps, Isolation::ReadCommitted).await?;
    let starts: BTreeMap<TopicPartition, Option<i64>> = match since {
        Some(since) => admin.offsets_for_timestamp(tps, since.as_millis().max(0)).await?,
        None => admin.earliest_offsets(tps).await?.into_iter().map(|(tp, offset)| (tp, Some(offset))).collect(),
    };
    let span = |(tp, to): (TopicPartition, i64)| {
        let start = starts.get(&tp).copied().flatten()?;
        // From the beginning is asked for as such: retention may move it before it is read.
        let from = if since.is_some() { Position::Offset(start) } else { Position::Earliest };
        (start < to).then_some(Span { tp, from, to })
    };
    Ok(ends.into_iter().filter_map(span).collect())
}

impl Span {
    /// From an offset up to another, both of which the log must have. A partition has one span in a scan.
    pub(crate) fn between(tp: TopicPartition, from: i64, to: i64) -> Self {
        Self { tp, from: Position::Offset(from), to }
    }
}

/// Reads spans to their ends.
pub(crate) async fn scan(cluster: &Cluster, spans: Vec<Span>, mut each: impl FnMut(Record)) -> anyhow::Result<()> {
    let mut scan = Scan::new(cluster, spans);
    while let Some(records) = scan.next().await? {
        records.into_iter().for_each(&mut each);
    }
    Ok(())
}

/// Spans that are read to their ends, batch by batch.
pub(crate) struct Scan {
    cluster: Cluster,
    fetcher: Fetcher,
    left: BTreeMap<TopicPartition, i64>,
}

impl Scan {
    /// Nothing is read yet.
    pub(crate) fn new(cluster: &Cluster, spans: Vec<Span>) -> Self {
        let mut fetcher = fetcher(cluster);
        let mut left = BTreeMap::new();
        for span in spans {
            fetcher.add(span.tp.clone(), span.from);
            left.insert(span.tp, span.to);
        }
        Self { cluster: cluster.clone(), fetcher, left }
    }

    /// The next records of one partition, in order; `None`: all are read. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Vec<Record>>> {
        while !self.left.is_empty() {
            let next = tokio::time::timeout(PATIENCE, next(&self.cluster, &mut self.fetcher));
            let fetched = next.await.map_err(|_| {
                let (count, patience) = (self.left.len(), PATIENCE.as_secs());
                anyhow!("{count} partitions cannot be read: their brokers give nothing for {patience} s")
            })??;
            let tp = fetched.topic_partition();
            let Some(to) = self.left.get(&tp).copied() else { continue };
            if fetched.next_offset.max(fetched.log_start_offset) >= to {
                self.left.remove(&tp);
                self.fetcher.remove(&tp);
            }
            let records: Vec<Record> = fetched.records.into_iter().filter(|record| record.offset < to).collect();
            if !records.is_empty() {
                return Ok(Some(records));
            }
        }
        Ok(None)
    }
}

/// A reader as the commands use it.
pub(crate) fn fetcher(cluster: &Cluster) -> Fetcher {
    cluster.fetcher(FetchConfig { isolation: Isolation::ReadCommitted, ..FetchConfig::default() })
}

/// The next batch, however long it takes to come, as long as brokers answer.
///
/// # Errors
/// If a partition cannot be read, or no broker has answered for [`PATIENCE`].
pub(crate) async fn next(cluster: &Cluster, fetcher: &mut Fetcher) -> anyhow::Result<Fetched> {
    let (began, mut told) = (Instant::now(), None);
    loop {
        match tokio::time::timeout(Duration::from_secs(1), fetcher.next()).await {
            Ok(Ok(fetched)) => return Ok(fetched),
            Ok(Err(error)) if !error.is_retryable() => return Err(error.into()),
            Ok(Err(error)) => told = Some(error.to_string()),
            Err(_) => {}
        }
        let health = cluster.health();
        let silent = health.last_answer.map_or(began.elapsed(), |at| at.elapsed().min(began.elapsed()));
        if silent >= PATIENCE {
            let why = health.last_error.or(told).unwrap_or_else(|| "no answer".to_owned());
            return Err(anyhow!("no broker has answered for {} s: {why}", silent.as_secs()));
        }
    }
}

/// The key of a record of the composer's state; `None` if the runtime did not write it.
pub(crate) fn state_key(record: &Record) -> Option<StateKey<'_>> {
    StateKey::parse(record.key.as_deref()?)
}

/// The case of any record but the composer's state, also of one that cannot be read.
pub(crate) fn case_of(record: &Record) -> CorrelationId {
    let written = |name| header::last(&record.headers, name).filter(|text| CorrelationId::is_plain(text));
    // A dead letter's original may have had no id of its own: it was minted from where that lay.
    if let Some(id) = written(dead_letter::CORRELATION_ID) {
        return CorrelationId::new(id);
    }
    match (Envelope::decode(&record.view()), written(header::CORRELATION_ID)) {
        (Ok(decoded), _) => decoded.envelope.correlation_id,
        (Err(_), Some(id)) => CorrelationId::new(id),
        (Err(_), None) => CorrelationId::mint(record.key.as_deref(), &record.topic, record.partition, record.offset),
    }
}

/// Whether a dead letter ends its case: the request of topic `inbound` is one, or the case's plan, which is what the
/// composer makes of a case that it cannot decide, or what is left of a case whose plan was lost. A task that an agent
/// gave up is the composer's to judge; the case goes on.
pub(crate) fn ends_case(dead_letter: &Record, inbound: &str) -> bool {
    header::last(&dead_letter.headers, dead_letter::TOPIC) == Some(inbound)
        || Envelope::decode(&dead_letter.view())
            .is_ok_and(|d| [Plan::TYPE, LOST_CASE].contains(&d.envelope.kind.as_str()))
}

/// A topology for tests.
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
pub(crate) fn example() -> Topology {
    let text = "
name: kyc
partitions: 6
inbound: { requests: kyc.requests, review: kyc.review-decisions }
outbound: { decisions: kyc.decisions, cases: kyc.cases }
agents:
  identity: { required: true }
  customer: { after: [outcome] }
  fraud: { after: [identity] }
";
    anabranch_topology::parse("topics.yaml", text, None).unwrap().topology
}

#[cfg(test)]
mod tests {
    use anabranch_protocol::Header;
    use bytes::Bytes;

    use super::*;

    fn record(headers: Vec<Header>) -> Record {
        Record {
            topic: "kyc.requests".into(),
            partition: 1,
            offset: 7,
            timestamp_ms: 0,
            key: None,
            value: Some(Bytes::from_static(b"{")),
            headers,
        }
    }

    #[test]
    fn a_record_has_the_case_that_the_runtime_gives_it() {
        let minted = CorrelationId::mint(None, "kyc.requests", 1, 7);
        assert_eq!(case_of(&record(vec![])), minted);
        assert_eq!(
            case_of(&record(vec![Header::text(header::CORRELATION_ID, "")])),
            minted,
            "an empty one counts as none"
        );
        assert_eq!(case_of(&record(vec![Header::text(header::CORRELATION_ID, "c-1")])).as_str(), "c-1");
        let dead = vec![Header::text(dead_letter::CORRELATION_ID, "c-0"), Header::text(header::CORRELATION_ID, "c-1")];
        assert_eq!(case_of(&record(dead)).as_str(), "c-0");
    }

    #[test]
    fn agents_are_those_declared_and_those_with_a_task_topic() {
        let topology = example();
        let on_cluster = ["kyc.requests", "kyc.tasks.adverse-media", "kyc.tasks.adverse-media.dlq", "other.tasks.x"];
        let survey = Survey::compare(&topology, &on_cluster.iter().map(|name| ((*name).to_owned(), 3)).collect());
        assert_eq!(survey.agents.iter().collect::<Vec<_>>(), ["adverse-media", "customer", "fraud", "identity"]);
        let present: Vec<&str> = survey.present.iter().map(|p| p.spec.name.as_str()).collect();
        assert_eq!(present, ["kyc.requests", "kyc.tasks.adverse-media", "kyc.tasks.adverse-media.dlq"]);
        assert!(survey.missing.iter().any(|spec| spec.name == "kyc.results"));
    }

    #[test]
    fn a_case_is_looked_for_where_its_key_puts_it() {
        let topology = example();
        let all = topology.topics(&[]).into_iter().map(|spec| (spec.name, 6)).collect();
        let survey = Survey::compare(&topology, &all);
        let case = CorrelationId::new("case-1");
        let count = |name: &str| survey.topic(name).unwrap().of_case(&case).len();
        assert_eq!((count("kyc.results"), count("kyc.tasks.fraud"), count("kyc.decisions")), (1, 1, 1));
        assert_eq!((count("kyc.requests"), count("kyc.requests.dlq"), count("kyc.agents")), (6, 6, 0));
    }
}
