//! What a cluster knows about the topology's groups.

use std::collections::BTreeMap;

use anabranch_core::join::{Phase, Saved, StateKey};
use anabranch_kafka::{Admin, Cluster, CommittedOffset, GroupInfo, Isolation, TopicPartition};
use anabranch_topology::{COMPOSER, SUPERVISOR, TopicRole, Topology};
use serde::Serialize;

use crate::reading::{self, Survey};

/// Most state records that are read to count cases: some seconds' worth at worst.
const CHEAP: i64 = 50_000;

/// All there is to tell.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    pub(super) topology: String,
    pub(super) groups: Vec<GroupStatus>,
    pub(super) dead_letters: Vec<DeadLetters>,
    /// `None`: counting them would have taken long, or no composer has run yet.
    pub(super) cases: Option<Cases>,
    /// Topics that no agent has created yet.
    pub(super) missing_topics: Vec<String>,
    pub(super) warnings: Vec<String>,
}

/// One group.
#[derive(Debug, Serialize)]
pub(super) struct GroupStatus {
    pub(super) agent: String,
    pub(super) group: String,
    pub(super) state: String,
    pub(super) members: Vec<Member>,
    /// How many of the partitions have a member.
    pub(super) assigned: usize,
    pub(super) lag: i64,
    pub(super) partitions: Vec<Partition>,
}

#[derive(Debug, Serialize)]
pub(super) struct Member {
    pub(super) client_id: String,
    pub(super) host: String,
    pub(super) instance_id: Option<String>,
    pub(super) partitions: Vec<String>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Partition {
    pub(super) topic: String,
    pub(super) partition: i32,
    /// `None`: nothing committed yet.
    pub(super) committed: Option<i64>,
    pub(super) end: i64,
    pub(super) lag: i64,
}

/// A topic of dead letters. The count is of offsets: what retention and redriving left.
#[derive(Debug, Serialize)]
pub(super) struct DeadLetters {
    pub(super) topic: String,
    pub(super) records: i64,
}

/// Cases by where they stand.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Cases {
    pub(super) joining: usize,
    pub(super) parked: usize,
    pub(super) closed: usize,
}

/// Begin and end of partitions.
type Offsets = BTreeMap<TopicPartition, i64>;

pub(super) async fn gather(cluster: &Cluster, topology: &Topology) -> anyhow::Result<Status> {
    let survey = Survey::take(cluster, topology).await?;
    survey.expect_some(topology)?;
    let admin = cluster.admin();
    let tps: Vec<TopicPartition> = survey.present.iter().flat_map(|topic| topic.all()).collect();
    let starts = admin.earliest_offsets(&tps).await?;
    let ends = admin.end_offsets(&tps, Isolation::ReadUncommitted).await?;
    let groups = groups(&admin, topology, &survey, &starts, &ends).await?;
    let dead_letters = survey.with_role(&[TopicRole::DeadLetters]).map(|topic| DeadLetters {
        topic: topic.spec.name.clone(),
        records: topic.all().map(|tp| held(&tp, &starts, &ends)).sum(),
    });
    let missing: Vec<String> = survey.missing.iter().map(|spec| spec.name.clone()).collect();
    Ok(Status {
        topology: topology.name.clone(),
        dead_letters: dead_letters.collect(),
        cases: cases(cluster, &survey, &starts, &ends).await?,
        warnings: warnings(&groups, &missing),
        missing_topics: missing,
        groups,
    })
}

/// The groups that have not yet done all there is, by agent, and how far they are behind.
pub(crate) async fn lags(cluster: &Cluster, topology: &Topology) -> anyhow::Result<Vec<(String, i64)>> {
    let survey = Survey::take(cluster, topology).await?;
    let admin = cluster.admin();
    let tps: Vec<TopicPartition> = survey.present.iter().flat_map(|topic| topic.all()).collect();
    let starts = admin.earliest_offsets(&tps).await?;
    let ends = admin.end_offsets(&tps, Isolation::ReadUncommitted).await?;
    let groups = groups(&admin, topology, &survey, &starts, &ends).await?;
    Ok(groups.into_iter().filter(|group| group.lag > 0).map(|group| (group.agent, group.lag)).collect())
}

/// How many offsets a partition holds.
fn held(tp: &TopicPartition, starts: &Offsets, ends: &Offsets) -> i64 {
    let at = |offsets: &Offsets| offsets.get(tp).copied().unwrap_or(0);
    (at(ends) - at(starts)).max(0)
}

/// What each role reads.
fn subscriptions(topology: &Topology, survey: &Survey) -> Vec<(String, Vec<String>)> {
    let review = topology.inbound.review.as_ref().map(|topic| topic.name.clone());
    let supervisor = vec![topology.inbound.requests.name.clone(), topology.followups_topic()];
    let composer = [topology.results_topic()].into_iter().chain(review).collect();
    let agents = survey.agents.iter().map(|agent| {
        let retries = topology.retry_topics(agent).into_iter().map(|(topic, _)| topic);
        (agent.clone(), [topology.tasks_topic(agent)].into_iter().chain(retries).collect())
    });
    let supervisor = (SUPERVISOR.to_owned(), supervisor);
    std::iter::once(supervisor).chain(agents).chain([(COMPOSER.to_owned(), composer)]).collect()
}

async fn groups(
    admin: &Admin,
    topology: &Topology,
    survey: &Survey,
    starts: &Offsets,
    ends: &Offsets,
) -> anyhow::Result<Vec<GroupStatus>> {
    let wanted = subscriptions(topology, survey);
    let names: Vec<String> = wanted.iter().map(|(agent, _)| topology.group_of(agent)).collect();
    let infos = admin.describe_groups(&names).await?;
    let mut groups = Vec::with_capacity(wanted.len());
    for ((agent, topics), (name, info)) in wanted.into_iter().zip(names.into_iter().zip(infos)) {
        let committed = match info.state.as_str() {
            // A group that does not exist has committed nothing.
            "Dead" => BTreeMap::new(),
            _ => admin.committed_offsets(&name).await?.into_iter().collect(),
        };
        let tps = topics.iter().filter_map(|topic| survey.topic(topic)).flat_map(|topic| topic.all());
        let partitions = tps.map(|tp| partition(&tp, &committed, starts, ends)).collect();
        groups.push(status_of(agent, info, partitions));
    }
    Ok(groups)
}

/// Lag counts from the beginning of the log where nothing is committed yet, or where retention was faster.
pub(super) fn partition(
    tp: &TopicPartition,
    committed: &BTreeMap<TopicPartition, CommittedOffset>,
    starts: &Offsets,
    ends: &Offsets,
) -> Partition {
    let at = |offsets: &Offsets| offsets.get(tp).copied().unwrap_or(0);
    let committed = committed.get(tp).map(|commit| commit.offset).filter(|offset| *offset >= 0);
    let (start, end) = (at(starts), at(ends));
    let from = committed.unwrap_or(start).max(start);
    Partition { topic: tp.topic.to_string(), partition: tp.partition, committed, end, lag: (end - from).max(0) }
}

pub(super) fn status_of(agent: String, info: GroupInfo, partitions: Vec<Partition>) -> GroupStatus {
    let members = info.members.into_iter().map(|member| Member {
        client_id: crate::console::plain(&member.client_id),
        host: crate::console::plain(&member.client_host),
        instance_id: member.instance_id.as_deref().map(crate::console::plain),
        partitions: member.assignment.iter().map(ToString::to_string).collect(),
    });
    let members: Vec<Member> = members.collect();
    GroupStatus {
        agent,
        group: info.group,
        state: if info.state == "Dead" { "none".to_owned() } else { info.state },
        assigned: members.iter().map(|member| member.partitions.len()).sum(),
        members,
        lag: partitions.iter().map(|partition| partition.lag).sum(),
        partitions,
    }
}

pub(super) fn warnings(groups: &[GroupStatus], missing: &[String]) -> Vec<String> {
    let mut warnings = Vec::new();
    for group in groups.iter().filter(|group| group.members.is_empty()) {
        let waiting = match group.lag {
            0 => String::new(),
            lag => format!(", and {lag} records wait for it"),
        };
        warnings.push(format!("group {} has no members: no process of {} runs{waiting}", group.group, group.agent));
    }
    for group in groups.iter().filter(|g| !g.members.is_empty() && g.assigned < g.partitions.len()) {
        let without = group.partitions.len() - group.assigned;
        warnings.push(format!("{without} partitions of group {} have no member: it is {}", group.group, group.state));
    }
    if !missing.is_empty() {
        warnings.push(format!("{} topics do not exist yet: {}", missing.len(), missing.join(", ")));
    }
    warnings
}

/// Counts cases in the composer's state, if that is short.
async fn cases(cluster: &Cluster, survey: &Survey, starts: &Offsets, ends: &Offsets) -> anyhow::Result<Option<Cases>> {
    let Some(state) = survey.with_role(&[TopicRole::State]).next() else { return Ok(None) };
    let tps: Vec<TopicPartition> = state.all().collect();
    if tps.iter().map(|tp| held(tp, starts, ends)).sum::<i64>() > CHEAP {
        return Ok(None);
    }
    let mut latest: BTreeMap<String, Option<Phase>> = BTreeMap::new();
    let spans = reading::spans(cluster, &tps, None).await?;
    reading::scan(cluster, spans, |record| {
        let Some(StateKey::Case(id)) = reading::state_key(&record) else { return };
        let phase = record.value.as_deref().and_then(|value| Saved::read(value).ok()?.phase().ok());
        latest.insert(id.to_owned(), phase);
    })
    .await?;
    let mut cases = Cases::default();
    for phase in latest.into_values().flatten() {
        match phase {
            Phase::Joining => cases.joining += 1,
            Phase::Parked { .. } => cases.parked += 1,
            Phase::Closed { .. } => cases.closed += 1,
        }
    }
    Ok(Some(cases))
}
