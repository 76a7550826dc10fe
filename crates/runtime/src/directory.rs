//! The directory of agents: a compacted topic on which each agent announces its card, and which the supervisor reads.

use std::sync::Arc;
use std::time::Duration;

use anabranch_core::planning::Directory;
use anabranch_kafka::{Cluster, FetchConfig, Fetched, Isolation, OutRecord, Position, Record, TopicPartition};
use anabranch_protocol::{AgentCard, CorrelationId, Envelope, EventId};
use bytes::Bytes;
use tokio::sync::Mutex;

use crate::clock;
use crate::emit::{self, EmitError};
use crate::service::Service;

/// The directory as this process has read it. The lock is held for one look-up, never over an await of anything else.
pub(crate) type Shared = Arc<Mutex<Directory>>;

/// Announces `card` every `announce_every`, for ever.
pub(crate) async fn announce(service: Service, card: AgentCard) {
    let every = service.topology.directory.announce_every;
    loop {
        match announcement(&service, &card) {
            // Emitting waits for the broker by itself; what is left is a fault that a person must see.
            Ok(record) => {
                if let Err(error) = service.emitter.emit(vec![record]).await {
                    tracing::error!(%error, "cannot announce this agent");
                }
            }
            Err(error) => tracing::error!(%error, "cannot announce this agent"),
        }
        tokio::time::sleep(every).await;
    }
}

fn announcement(service: &Service, card: &AgentCard) -> Result<OutRecord, EmitError> {
    let now = clock::now();
    let card = AgentCard { announced_at: now, ..card.clone() };
    let id = EventId::new(format!("{}-{}", card.name, now.as_millis()));
    let envelope = Envelope {
        trace: anabranch_protocol::TraceParent::root(&id),
        origin_trace: anabranch_protocol::TraceParent::root(&id),
        id,
        source: service.source(),
        kind: AgentCard::TYPE.to_owned(),
        subject: Some(card.name.clone()),
        time: now,
        // The key of the compacted topic: one card for each agent.
        correlation_id: CorrelationId::new(card.name.clone()),
        causation_id: None,
        deadline: None,
        trace_state: None,
    };
    let mut record = emit::record(&service.topology.directory_topic(), &envelope, &card)?;
    record.key = Some(Bytes::from(card.name));
    Ok(record)
}

/// Reads the directory topic to its end, then keeps following it.
///
/// # Errors
/// If the topic cannot be read at all.
pub(crate) async fn follow(cluster: &Cluster, topic: &str, directory: Shared) -> Result<(), anabranch_kafka::Error> {
    let topic: Arc<str> = topic.into();
    let partitions = cluster.partition_count(&topic).await?;
    let tps: Vec<_> = (0..partitions).map(|partition| TopicPartition { topic: topic.clone(), partition }).collect();
    let config = FetchConfig { isolation: Isolation::ReadUncommitted, ..FetchConfig::default() };
    let mut fetcher = cluster.fetcher(config);
    let mut ends = cluster.admin().end_offsets(&tps, Isolation::ReadUncommitted).await?;
    ends.retain(|_, end| *end > 0);
    tps.into_iter().for_each(|tp| fetcher.add(tp, Position::Earliest));
    while !ends.is_empty() {
        let fetched = fetcher.next().await?;
        take_in(&directory, &fetched).await;
        ends.retain(|tp, end| tp.partition != fetched.partition || fetched.next_offset < *end);
    }
    tokio::spawn(async move {
        loop {
            match fetcher.next().await {
                Ok(fetched) => take_in(&directory, &fetched).await,
                Err(error) => {
                    tracing::warn!(%error, "cannot read the directory, trying again");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    });
    Ok(())
}

async fn take_in(directory: &Shared, fetched: &Fetched) {
    let mut directory = directory.lock().await;
    for record in &fetched.records {
        take_in_one(&mut directory, record);
    }
}

fn take_in_one(directory: &mut Directory, record: &Record) {
    if record.value.is_none() {
        if let Some(name) = record.key.as_deref().and_then(|k| std::str::from_utf8(k).ok()) {
            directory.remove(name);
        }
        return;
    }
    match Service::decode::<AgentCard>(record) {
        Ok((_, card)) => {
            let known = directory.live(clock::now()).any(|c| c.name == card.name && c.version == card.version);
            if !known {
                tracing::info!(announced = card.name, version = card.version, "an agent announced itself");
            }
            directory.announce(card);
        }
        Err(error) => tracing::warn!(%error, offset = record.offset, "a card that cannot be read"),
    }
}
