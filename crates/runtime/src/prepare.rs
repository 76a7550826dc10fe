//! What must be there before a role can work. The broker may be away when a process starts: it is waited for, and a
//! drain ends the waiting.

use std::collections::HashSet;
use std::time::Duration;

use anabranch_kafka::{Error, NewTopic};
use anabranch_topology::TopicSpec;
use anyhow::{Context as _, anyhow};

use crate::service::Service;

/// Wait between two tries of a step.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Repeats a step of the start while the broker is away, or has not heard yet of a topic that was just created.
///
/// # Errors
/// What no waiting mends, with `what` in front; or that a drain came first.
pub(crate) async fn patiently<T>(
    service: &Service,
    what: &'static str,
    mut step: impl AsyncFnMut() -> Result<T, Error>,
) -> anyhow::Result<T> {
    let drain = service.shutdown.drain.clone();
    let trying = async {
        loop {
            match step().await {
                Ok(value) => return Ok(value),
                Err(error) if error.is_retryable() || error.is_unknown_topic() => {
                    tracing::warn!(%error, "waiting for the broker");
                }
                Err(error) => return Err(error).context(what),
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    };
    tokio::select! {
        result = trying => result,
        () = drain.cancelled() => Err(anyhow!("stopped before the broker answered")),
    }
}

/// Creates what is missing of the topics this process needs, and waits for the broker to do so. Topics that exist are
/// left as they are: changing them is `anabranch topics apply`'s business.
pub(crate) async fn topics(service: &Service, agents: &[&str]) -> anyhow::Result<()> {
    let specs = service.topology.topics(agents);
    let create = async || create_missing(service, &specs).await;
    patiently(service, "cannot create the topics this agent needs", create).await
}

async fn create_missing(
    service: &Service,
    specs: &[TopicSpec],
) -> Result<(), Error> {
    let admin = service.cluster.admin();
    let existing: HashSet<String> = admin.list_topics().await?.into_iter().map(|t| t.name).collect();
    let missing = specs.iter().filter(|s| !existing.contains(&*s.name)).map(|s| NewTopic {
        name: s.name.to_string(),
        partitions: s.partitions,
        replication_factor: s.replication_factor,
        configs: s.configs.clone(),
    });
    let missing: Vec<NewTopic> = missing.collect();
    if missing.is_empty() {
        return Ok(());
    }
    for (topic, created) in admin.create_topics(missing).await? {
        match created {
            Ok(()) => tracing::info!(topic, "created"),
            // Another process was quicker.
            Err(error) if error.is_already_exists() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
