//! OffsetCommit, fenced by member id and generation, and by what is held.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use kafka_protocol::{
    error::ResponseError,
    messages::{
        GroupId, OffsetCommitRequest, OffsetCommitResponse,
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
    },
    protocol::StrBytes,
};
use tokio::sync::watch;

use super::{coordinator::Coordinator, driver::Identity};
use crate::{
    api::Api,
    backoff::Backoff,
    cluster::Purpose,
    config::Commits,
    error::{Error, ErrorKind},
    offsets::topic_name,
    types::{CommittedOffset, OffsetToCommit, TopicPartition},
};

const NAME: &str = OffsetCommitRequest::NAME;

/// Commits offsets under a membership. Clones share it; it works on while the consumer is busy elsewhere.
#[derive(Clone)]
pub struct Committer {
    pub(crate) coordinator: Coordinator,
    pub(crate) identity: watch::Receiver<Identity>,
    pub(crate) instance_id: Option<String>,
    pub(crate) commits: Commits,
}

impl std::fmt::Debug for Committer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Committer").field("group", &self.coordinator.group).finish_non_exhaustive()
    }
}

/// What is to be committed.
type Offsets = Vec<Pending>;

/// An offset to be committed.
struct Pending {
    /// Of which partition.
    tp: TopicPartition,
    /// Who must hold which partition for it: usually the same.
    held: TopicPartition,
    /// The latest epoch in which that one may have come.
    epoch: u64,
    offset: OffsetToCommit,
}

impl Committer {
    /// Commits, within the call timeout. A rebalance under way is waited for; partitions that stay with this member
    /// are then committed under the new generation.
    ///
    /// # Errors
    /// [`Error::is_stale`] when a partition is no longer this member's: what was asked for the others is committed
    /// nevertheless. Else what the coordinator last had to say.
    pub async fn commit(&self, offsets: Vec<(TopicPartition, OffsetToCommit)>) -> Result<(), Error> {
        self.commit_in(u64::MAX, offsets).await
    }

    /// As [`commit`](Self::commit), but stale also for a partition that went away and came back since `epoch`, the
    /// one in which the caller got it.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub async fn commit_in(&self, epoch: u64, offsets: Vec<(TopicPartition, OffsetToCommit)>) -> Result<(), Error> {
        self.commit_each(offsets.into_iter().map(|(tp, offset)| (tp, epoch, offset)).collect()).await
    }

    /// As [`commit_in`](Self::commit_in), with an epoch for each partition, in one request.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub async fn commit_each(&self, offsets: Vec<(TopicPartition, u64, OffsetToCommit)>) -> Result<(), Error> {
        let pending = offsets.into_iter().map(|(tp, epoch, offset)| Pending { held: tp.clone(), tp, epoch, offset });
        self.commit_all(pending.collect()).await
    }

    /// Commits offsets of partitions that are not assigned by the group, each by right of one that is: `(tp, held, epoch,
    /// offset)`. Stale if `held` is no longer this member's, or went away and came back since `epoch`.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub async fn commit_beside(
        &self,
        offsets: Vec<(TopicPartition, TopicPartition, u64, OffsetToCommit)>,
    ) -> Result<(), Error> {
        let pending = offsets.into_iter().map(|(tp, held, epoch, offset)| Pending { tp, held, epoch, offset });
        self.commit_all(pending.collect()).await
    }

    /// What the group has committed for these partitions, whether it assigns them or not.
    ///
    /// # Errors
    /// When the coordinator could not be asked, or refused.
    pub async fn committed(&self, tps: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, CommittedOffset>, Error> {
        super::committed(&self.coordinator, Some(tps), true).await
    }

    async fn commit_all(&self, offsets: Offsets) -> Result<(), Error> {
        if self.commits != Commits::Plain {
            return Err(Error::invalid(NAME, "this group commits in transactions"));
        }
        let config = self.coordinator.cluster.config();
        let deadline = Instant::now() + config.call_timeout;
        let mut backoff = Backoff::new(config);
        let mut identity = self.identity.clone();
        let mut pending = offsets;
        let mut stale = None;
        while !pending.is_empty() {
            let current = identity.borrow_and_update().clone();
            drop_stale(&current, &mut pending, &mut stale);
            if pending.is_empty() {
                break;
            }
            let result = match &current.member {
                Some((member, generation)) if current.can_commit => {
                    self.commit_once(member, *generation, &mut pending).await
                }
                _ => Err(Error::broker_code(NAME, ResponseError::RebalanceInProgress.code(), None)),
            };
            let Err(error) = result else { continue };
            if error.response_error() == Some(ResponseError::IllegalGeneration) || error.is_retryable() {
                let wait = backoff.next_wait();
                if Instant::now() + wait >= deadline {
                    return Err(error);
                }
                wait_for_change(&mut identity, wait).await;
            } else {
                return Err(error);
            }
        }
        stale.map_or(Ok(()), Err)
    }

    /// One request. What it committed is taken out of `pending`.
    async fn commit_once(&self, member: &str, generation: i32, pending: &mut Offsets) -> Result<(), Error> {
        let answer = self.request(member, generation, pending).await;
        let result = answer.and_then(|answer| read(&answer, pending));
        let moved = |e: &Error| {
            let moved = [ResponseError::NotCoordinator, ResponseError::CoordinatorNotAvailable].map(Some);
            e.code().is_none() || moved.contains(&e.response_error())
        };
        result.inspect_err(|e| {
            if moved(e) {
                self.coordinator.forget();
            }
        })
    }

    async fn request(&self, member: &str, generation: i32, pending: &Offsets) -> Result<OffsetCommitResponse, Error> {
        let connection = self.coordinator.connection(Purpose::Commit).await?;
        let mut topics: Vec<OffsetCommitRequestTopic> = Vec::new();
        for Pending { tp, offset, .. } in pending {
            let partition = OffsetCommitRequestPartition::default()
                .with_partition_index(tp.partition)
                .with_committed_offset(offset.offset)
                .with_committed_metadata(Some(StrBytes::from_string(offset.metadata.clone())));
            match topics.iter_mut().find(|t| **t.name == *tp.topic) {
                Some(topic) => topic.partitions.push(partition),
                None => topics.push(
                    OffsetCommitRequestTopic::default()
                        .with_name(topic_name(&tp.topic))
                        .with_partitions(vec![partition]),
                ),
            }
        }
        let limit = self.coordinator.cluster.config().request_timeout;
        let answer = connection.call(limit, |version| {
            let request = OffsetCommitRequest::default()
                .with_group_id(GroupId(StrBytes::from_string(self.coordinator.group.to_string())))
                .with_generation_id_or_member_epoch(generation)
                .with_member_id(StrBytes::from_string(member.to_owned()))
                .with_topics(topics);
            match &self.instance_id {
                Some(id) if version >= 7 => request.with_group_instance_id(Some(StrBytes::from_string(id.clone()))),
                _ => request,
            }
        });
        answer.await
    }
}

/// Takes out what is no longer held.
fn drop_stale(current: &Identity, pending: &mut Offsets, stale: &mut Option<Error>) {
    pending.retain(|Pending { held: tp, epoch, .. }| {
        let held = current.held.get(tp).is_some_and(|came| came <= epoch);
        if !held {
            let error = Error::stale(NAME, "the partition is no longer this member's");
            *stale = Some(error.on_partition(&*tp.topic, tp.partition));
        }
        held
    });
}

fn read(answer: &OffsetCommitResponse, pending: &mut Offsets) -> Result<(), Error> {
    let mut done = BTreeSet::new();
    let mut worst: Option<Error> = None;
    for topic in &answer.topics {
        for p in &topic.partitions {
            if p.error_code == 0 {
                done.insert(TopicPartition::new(topic.name.as_str(), p.partition_index));
            } else if worst.as_ref().is_none_or(Error::is_retryable) {
                let error = Error::broker_code(NAME, p.error_code, None);
                worst = Some(error.on_partition(topic.name.as_str(), p.partition_index));
            }
        }
    }
    pending.retain(|p| !done.contains(&p.tp));
    match worst {
        Some(error) => Err(error),
        None if pending.is_empty() => Ok(()),
        None => Err(Error::new(NAME, ErrorKind::Malformed("the answer leaves out partitions".into()))),
    }
}

/// A rebalance that ends is noticed at once; else a wait passes.
pub(crate) async fn wait_for_change(identity: &mut watch::Receiver<Identity>, wait: Duration) {
    // After a timeout, or when the membership has ended, the caller looks anew at what is held.
    if let Ok(Err(_)) = tokio::time::timeout(wait, identity.changed()).await {
        tokio::time::sleep(wait).await;
    }
}
