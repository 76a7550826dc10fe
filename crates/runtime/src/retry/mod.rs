//! Where a record waits until it is tried again, and how it comes back.
//!
//! A short wait is spent in memory: no slot is taken, the record's offset stays open. A longer one is spent in a retry
//! topic of the tasks topic, in the partition of the same number: what waits there is in the log, its offset in the tasks
//! topic is done, and whoever owns the partition then takes it out.
//!
//! | room | what is in it |
//! |---|---|
//! | `delivery` | a record to work on, and what is known of the attempts at it |
//! | `tail` | what waits in the retry topics when a partition comes |

mod delivery;
pub(crate) mod tail;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anabranch_core::retry::{Place, RetryPolicy};
use anabranch_kafka::{Cluster, TopicPartition};
use anabranch_protocol::Timestamp;
use anabranch_protocol::retry::Tried;

pub(crate) use self::delivery::{Delivery, detached};
use crate::emit::{EmitError, Emitter};
use crate::prepare;
use crate::service::Service;

/// The retry topics of one tasks topic.
#[derive(Debug)]
pub(crate) struct Retries {
    pub(crate) policy: RetryPolicy,
    /// The topic whose records wait.
    pub(crate) home: Arc<str>,
    /// The topic of each tier, as in the policy.
    topics: Vec<Arc<str>>,
    /// All that are read, with their delays; also those of tiers that are no longer there.
    read: BTreeMap<Arc<str>, Duration>,
    pub(crate) cluster: Cluster,
    emitter: Emitter,
}

/// Where a record was put to wait.
#[derive(Debug)]
pub(crate) enum Put {
    /// It waits here.
    Here(Box<Delivery>),
    /// It is in the log of a tier.
    Away(TopicPartition, i64),
}

impl Retries {
    /// All waits are spent in memory.
    pub(crate) fn in_memory(service: &Service, home: &str) -> Self {
        Self::of(service, home, &[], [].into())
    }

    /// With the retry topics of an agent, and those that earlier tiers left on the cluster: what still waits there is not
    /// to be stranded.
    ///
    /// # Errors
    /// If a drain comes before the broker answers.
    pub(crate) async fn in_topics(service: &Service) -> anyhow::Result<Self> {
        let tiers = service.topology.retry_topics(service.name);
        let home = service.topology.tasks_topic(service.name);
        let list = async || service.cluster.admin().list_topics().await;
        let listed = prepare::patiently(service, "cannot look for retry topics", list).await?;
        let delay = |name: String| service.topology.retry_delay(&home, &name).map(|delay| (name.into(), delay));
        let mut read: BTreeMap<Arc<str>, Duration> = listed.into_iter().filter_map(|t| delay(t.name)).collect();
        for name in read.keys().filter(|name| !tiers.iter().any(|(tier, _)| **tier == ***name)) {
            tracing::info!(
                topic = &**name,
                "a retry topic of a tier that is no longer there: what waits in it is taken out"
            );
        }
        read.extend(tiers.iter().map(|(name, delay)| (name.as_str().into(), *delay)));
        Ok(Self::of(service, &home, &tiers, read))
    }

    fn of(service: &Service, home: &str, tiers: &[(String, Duration)], read: BTreeMap<Arc<str>, Duration>) -> Self {
        let delays = tiers.iter().map(|(_, delay)| *delay).collect();
        Self {
            policy: RetryPolicy { tiers: delays, ..service.retry_policy() },
            home: home.into(),
            topics: tiers.iter().map(|(name, _)| name.as_str().into()).collect(),
            read,
            cluster: service.cluster.clone(),
            emitter: service.emitter.clone(),
        }
    }

    /// The topics to subscribe to.
    pub(crate) fn subscription(&self) -> Vec<String> {
        std::iter::once(&self.home).chain(self.read.keys()).map(|topic| topic.to_string()).collect()
    }

    /// The retry topics that are read, with their delays.
    pub(crate) fn delays(&self) -> &BTreeMap<Arc<str>, Duration> {
        &self.read
    }

    /// Whether a wait is too long to be spent in memory.
    pub(crate) fn is_long(&self, wait: Duration) -> bool {
        self.policy.place(wait) != Place::Memory
    }

    /// When a record that is due then is to be tried, if memory is short: not sooner, but after a wait in a tier. As it
    /// was, where there is no tier or no time for it.
    pub(crate) fn postponed(&self, due: Timestamp, now: Timestamp, deadline: Option<Timestamp>) -> Timestamp {
        let Some(shortest) = self.policy.tiers.first() else { return due };
        let later = due.max(now.plus(*shortest));
        if deadline.is_some_and(|deadline| later >= deadline) { due } else { later }
    }

    /// Puts a record where it waits until it is due, and returns when that is acknowledged.
    ///
    /// # Errors
    /// What no retry mends.
    pub(crate) async fn put(&self, delivery: Delivery, tried: Tried, now: Timestamp) -> Result<Put, EmitError> {
        let Place::Tier(tier) = self.policy.place(tried.due.since(now)) else {
            return Ok(Put::Here(Box::new(delivery.with(tried))));
        };
        let Some(topic) = self.topics.get(tier) else { return Ok(Put::Here(Box::new(delivery.with(tried)))) };
        let tried = Tried { rounds: tried.rounds.saturating_add(1), ..tried };
        match self.emitter.emit(vec![delivery.to_wait_in(topic, &tried, now)]).await {
            Ok(delivered) => {
                let at = delivered.first().copied();
                let tp = |partition| TopicPartition { topic: topic.clone(), partition };
                Ok(at.map_or_else(
                    || Put::Here(Box::new(delivery.with(tried))),
                    |at| Put::Away(tp(at.partition), at.offset),
                ))
            }
            // It was not too large for the tasks topic: the headers of the retry made it so. Or the topic, or the
            // partition, is not there.
            Err(error) if error.is_too_large() || error.is_unknown_topic() => {
                tracing::error!(%error, topic = &**topic, "cannot be put into the retry topic, and waits in memory");
                Ok(Put::Here(Box::new(delivery.with(tried))))
            }
            Err(error) => Err(error),
        }
    }
}
