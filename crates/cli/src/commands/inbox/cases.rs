//! Cases as the composer's state topic has them.

use std::collections::BTreeMap;

use anabranch_core::join::{Case, Phase, Piece, Saved, StateKey};
use anabranch_kafka::{Cluster, Record, TopicPartition};
use anabranch_protocol::CorrelationId;
use anabranch_topology::{TopicRole, Topology};
use anyhow::anyhow;

use crate::reading::{self, Survey};

/// What the state topic says of a case.
#[derive(Debug, Default)]
pub(super) struct Stored {
    /// Where it stands; `None` if no more is known than that it is closed.
    pub(super) case: Option<Case>,
    /// Where its latest record lies and what it says, if it is no case: for a message to the user.
    pub(super) fault: Option<String>,
    /// Its payloads, as far as they were kept.
    pub(super) kept: BTreeMap<Piece, Record>,
}

/// All parked cases.
pub(super) async fn parked(cluster: &Cluster, topology: &Topology) -> anyhow::Result<BTreeMap<CorrelationId, Case>> {
    let mut found = BTreeMap::new();
    let mut faults = 0;
    each(cluster, topology, None, |record| {
        let Some(StateKey::Case(id)) = reading::state_key(&record) else { return };
        let id = CorrelationId::new(id);
        match case(&record) {
            Ok(Some(case)) if matches!(case.phase, Phase::Parked { .. }) => drop(found.insert(id, case)),
            Ok(_) => drop(found.remove(&id)),
            Err(_) => faults += 1,
        }
    })
    .await?;
    if faults > 0 {
        eprintln!("warning: {faults} records of {} cannot be read", topology.state_topic());
    }
    Ok(found)
}

/// One case; `None`: the state topic does not know it.
pub(super) async fn one(cluster: &Cluster, topology: &Topology, id: &CorrelationId) -> anyhow::Result<Option<Stored>> {
    let mut stored: Option<Stored> = None;
    each(cluster, topology, Some(id), |record| match reading::state_key(&record) {
        Some(key) if key.id() != id.as_str() => {}
        Some(StateKey::Case(_)) if record.value.is_none() => stored = None,
        Some(StateKey::Case(_)) => {
            let stored = stored.get_or_insert_default();
            (stored.case, stored.fault) = match case(&record) {
                Ok(case) => (case, None),
                Err(fault) => (None, Some(format!("offset {}: {fault}", record.offset))),
            };
        }
        Some(StateKey::Kept(piece, _)) => match record.value {
            Some(_) => drop(stored.get_or_insert_default().kept.insert(piece, record)),
            None => stored.iter_mut().for_each(|stored| drop(stored.kept.remove(&piece))),
        },
        None => {}
    })
    .await?;
    Ok(stored)
}

fn case(record: &Record) -> Result<Option<Case>, String> {
    let Some(value) = record.value.as_deref() else { return Ok(None) };
    Saved::read(value).map_err(|e| e.to_string())?.whole().map_err(|e| e.to_string())
}

async fn each(
    cluster: &Cluster,
    topology: &Topology,
    only: Option<&CorrelationId>,
    take: impl FnMut(Record),
) -> anyhow::Result<()> {
    let survey = Survey::take(cluster, topology).await?;
    let state = survey.with_role(&[TopicRole::State]).next();
    let state =
        state.ok_or_else(|| anyhow!("{} is not on this cluster: no composer has run yet", topology.state_topic()))?;
    let tps: Vec<TopicPartition> = match only {
        Some(id) => state.of_case(id),
        None => state.all().collect(),
    };
    let spans = reading::spans(cluster, &tps, None).await?;
    reading::scan(cluster, spans, take).await
}
