//! What must be there before a role can work. The broker may be away when a process starts: it is waited for, and a
//! drain ends the waiting.

use std::collections::BTreeMap;
use std::time::Duration;

use anabranch_kafka::{Error, NewTopic};
use anabranch_topology::{Found, TopicSpec, Topology};
use anyhow::{Context as _, anyhow};

use crate::boot::Usage;
use crate::service::Service;

/// Wait between two tries of a step.
const AGAIN_AFTER: Duration = Duration::from_millis(250);

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

/// What a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Agent,
    Supervisor,
    Composer,
}

/// The topics that a process reads or writes. It needs no right to any other.
fn needed(topology: &Topology, role: Role, name: &str) -> Vec<TopicSpec> {
    let (access, agents) = match role {
        Role::Agent => (topology.access_of_agent(name), vec![name]),
        Role::Supervisor => (topology.access_of_supervisor(), Vec::new()),
        Role::Composer => (topology.access_of_composer(), Vec::new()),
    };
    topology.topics(&agents).into_iter().filter(|spec| access.touches(&spec.name)).collect()
}

/// Checks the topics this process needs and creates those that are missing. Topics that exist are left as they are:
/// changing them is `anabranch topics apply`'s business.
///
/// # Errors
/// If one that exists cannot hold what is promised, or one is missing and may not be created: in words a person can act
/// on, all at once.
pub(crate) async fn topics(service: &Service, role: Role) -> anyhow::Result<()> {
    let specs = needed(&service.topology, role, service.name);
    let look = async || found(service, &specs).await;
    let found = patiently(service, "cannot look at the topics this process needs", look).await?;
    let misfits = anabranch_topology::misfits(&service.topology, &specs, &found);
    if !misfits.is_empty() {
        let lines: Vec<String> = misfits.iter().map(ToString::to_string).collect();
        return Err(refusal("the cluster's topics do not fit the topology", &lines));
    }
    let missing: Vec<&TopicSpec> = specs.iter().filter(|s| !found.contains_key(&s.name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = missing.iter().map(|s| s.name.clone()).collect();
    if !service.creates_topics {
        let why =
            "topics are missing, and this process is told to create none; create them with `anabranch topics apply`";
        return Err(refusal(why, &names));
    }
    let create = async || create(service, &missing).await;
    patiently(service, "cannot create the topics this process needs", create).await.map_err(|error| {
        let denied = error.downcast_ref::<Error>().is_some_and(Error::is_unauthorized);
        let why = "topics are missing, and the broker does not let this process create them; create them with \
                   `anabranch topics apply` and an account that may";
        if denied { refusal(why, &names) } else { error }
    })
}

/// Checks that the cluster has transactions at all.
///
/// # Errors
/// If not: in words a person can act on.
pub(crate) async fn transactions(service: &Service) -> anyhow::Result<()> {
    let ask = async || service.cluster.offers_transactions().await;
    if patiently(service, "cannot learn whether the cluster has transactions", ask).await? {
        return Ok(());
    }
    let why = "transactions are disabled on this cluster, and without them an outcome could be lost or doubled; on \
               Redpanda run `rpk cluster config set enable_transactions true`";
    Err(Usage(why.to_owned()).into())
}

/// Says what to do where the broker refuses this process its transactions.
pub(crate) fn transactions_refused(error: anyhow::Error) -> anyhow::Error {
    let Some(refused) = error.chain().find_map(|e| e.downcast_ref::<Error>()) else { return error };
    let help = if refused.is_transactional_id_denied() {
        "give its account the rights that `anabranch acls` prints"
    } else if refused.is_transaction_timeout_refused() {
        "its session_timeout is longer than the broker's transaction.max.timeout.ms; set a shorter one"
    } else {
        return error;
    };
    Usage(format!("the broker does not let this process write in transactions: {refused}; {help}")).into()
}

fn refusal(why: &str, lines: &[String]) -> anyhow::Error {
    Usage(format!("{why}:\n  {}", lines.join("\n  "))).into()
}

/// What there is of `specs`.
async fn found(service: &Service, specs: &[TopicSpec]) -> Result<BTreeMap<String, Found>, Error> {
    let admin = service.cluster.admin();
    let wanted = |name: &str| specs.iter().any(|spec| spec.name == name);
    let there = admin.list_topics().await?.into_iter().filter(|topic| wanted(&topic.name));
    let mut found: BTreeMap<String, Found> =
        there.map(|t| (t.name, Found { partitions: t.partitions, configs: BTreeMap::new() })).collect();
    let names: Vec<String> = found.keys().cloned().collect();
    let described = match admin.describe_configs(&names).await {
        Err(error) if error.is_unauthorized() => {
            tracing::warn!(%error, "may not look at the configs of topics: whether they fit is not checked");
            return Ok(found);
        }
        described => described?,
    };
    for (topic, entries) in described {
        if let Some(found) = found.get_mut(&topic) {
            found.configs = entries.into_iter().filter_map(|(name, entry)| Some((name, entry.value?))).collect();
        }
    }
    Ok(found)
}

async fn create(service: &Service, missing: &[&TopicSpec]) -> Result<(), Error> {
    let new = missing.iter().map(|s| NewTopic {
        name: s.name.clone(),
        partitions: s.partitions,
        replication_factor: s.replication_factor,
        configs: s.configs.clone(),
    });
    for (topic, created) in service.cluster.admin().create_topics(new.collect()).await? {
        match created {
            Ok(()) => tracing::info!(topic, "created"),
            // Another process was quicker.
            Err(error) if error.is_already_exists() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(role: Role, name: &str) -> Vec<String> {
        let text = "name: kyc\ninbound: { requests: crm.requests, review: kyc.reviews }\noutbound: { decisions: kyc.decisions }\n\
                    agents: { identity: {}, fraud: {} }\n";
        let topology = anabranch_topology::parse("topics.yaml", text, None).unwrap().topology;
        needed(&topology, role, name).into_iter().map(|s| s.name).collect()
    }

    #[test]
    fn a_process_needs_what_it_reads_and_writes() {
        let agent = [
            "kyc.results",
            "kyc.tasks.fraud",
            "kyc.tasks.fraud.dlq",
            "kyc.tasks.fraud.retry.5s",
            "kyc.tasks.fraud.retry.30s",
            "kyc.journal.fraud",
            "kyc.agents",
            "kyc.ledger",
        ];
        assert_eq!(names(Role::Agent, "fraud"), agent);
        assert!(names(Role::Agent, "adverse-media").contains(&"kyc.tasks.adverse-media".to_owned()), "undeclared");
        let supervisor = [
            "crm.requests",
            "crm.requests.dlq",
            "kyc.results",
            "kyc.followups",
            "kyc.followups.dlq",
            "kyc.tasks.fraud",
            "kyc.tasks.fraud.dlq",
            "kyc.tasks.identity",
            "kyc.tasks.identity.dlq",
            "kyc.tasks.fraud.retry.5s",
            "kyc.tasks.fraud.retry.30s",
            "kyc.tasks.identity.retry.5s",
            "kyc.tasks.identity.retry.30s",
            "kyc.agents",
            "kyc.ledger",
        ];
        assert_eq!(names(Role::Supervisor, "supervisor"), supervisor);
        let composer = [
            "kyc.reviews",
            "kyc.reviews.dlq",
            "kyc.results",
            "kyc.results.dlq",
            "kyc.followups",
            "kyc.late",
            "kyc.inbox",
            "kyc.composer-state",
            "kyc.decisions",
        ];
        assert_eq!(names(Role::Composer, "composer"), composer);
    }
}
