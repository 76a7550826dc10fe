//! TxnOffsetCommit: offsets as part of a transaction, fenced by the group's generation (KIP-447).

use std::sync::Arc;

use anabranch_core::transaction::{Asked, Producer, Verdict, Version};
use kafka_protocol::{
    error::ResponseError,
    messages::{
        GroupId, ProducerId, TxnOffsetCommitRequest, TxnOffsetCommitResponse,
        txn_offset_commit_request::{TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic},
    },
    protocol::StrBytes,
};

use super::{
    wire::{Most, Wire, before, judge},
    writes::Tries,
};
use crate::{
    api::Api,
    config::Commits,
    error::Error,
    group::{Committer, Identity, wait_for_change},
    offsets::topic_name,
    types::{OffsetToCommit, TopicPartition},
};

const NAME: &str = TxnOffsetCommitRequest::NAME;

/// Each with the latest epoch in which its partition may have come.
pub(super) type Offsets = Vec<(TopicPartition, u64, OffsetToCommit)>;

/// Offsets to become part of a transaction, under the membership behind `committer`.
pub(super) struct Staging<'a> {
    pub(super) committer: &'a Committer,
    pub(super) offsets: Offsets,
}

impl Staging<'_> {
    /// That these can be: before anything is sent.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.committer.commits != Commits::InTransactions {
            return Err(Error::invalid(NAME, "this group commits by itself, not in transactions"));
        }
        self.all_held(&self.committer.identity.borrow())
    }

    pub(super) fn group(&self) -> Arc<str> {
        self.committer.coordinator.group.clone()
    }

    /// That every partition is still this member's.
    fn all_held(&self, current: &Identity) -> Result<(), Error> {
        let gone = |(tp, epoch, _): &&(TopicPartition, u64, _)| current.held.get(tp).is_none_or(|came| came > epoch);
        match self.offsets.iter().find(gone) {
            None => Ok(()),
            Some((tp, ..)) => {
                let error = Error::stale(NAME, "the partition is no longer this member's");
                Err(error.on_partition(&*tp.topic, tp.partition))
            }
        }
    }
}

/// Tries until they are staged, under a later generation too as long as all partitions stay. `true`: a try that got no answer
/// may arrive once more.
pub(super) async fn stage(
    wire: &Wire,
    mut tries: Tries,
    version: Version,
    producer: Producer,
    staging: &Staging<'_>,
) -> Result<bool, Error> {
    let mut identity = staging.committer.identity.clone();
    let mut straggling = false;
    loop {
        let current = identity.borrow_and_update().clone();
        staging.all_held(&current)?;
        let result = match &current.member {
            Some((member, generation)) if current.can_commit => {
                let once = wire.stage(version, producer, staging, (member, *generation));
                before(tries.deadline(), NAME, once).await
            }
            _ => Err(Error::broker_code(NAME, ResponseError::RebalanceInProgress.code(), None)),
        };
        let Err(error) = result else { return Ok(straggling) };
        straggling |= error.may_have_happened();
        let outdated = error.response_error() == Some(ResponseError::IllegalGeneration);
        match judge(Asked::Offsets, &error) {
            Verdict::Again | Verdict::FindCoordinator | Verdict::Missing => {}
            Verdict::Stale if outdated => {}
            _ => return Err(error),
        }
        // The membership hears by itself that it is over; a rebalance under way ends in another generation.
        let wait = tries.next_wait(Verdict::Again, error)?;
        wait_for_change(&mut identity, wait).await;
    }
}

impl Wire {
    /// One try at the group's coordinator.
    async fn stage(
        &self,
        version: Version,
        producer: Producer,
        staging: &Staging<'_>,
        member: (&str, i32),
    ) -> Result<(), Error> {
        let result = self.stage_once(version, producer, staging, member).await;
        result.inspect_err(|error| {
            let moved = [ResponseError::NotCoordinator, ResponseError::CoordinatorNotAvailable].map(Some);
            if error.code().is_none() || moved.contains(&error.response_error()) {
                staging.committer.coordinator.forget();
            }
        })
    }

    async fn stage_once(
        &self,
        version: Version,
        producer: Producer,
        Staging { committer, offsets }: &Staging<'_>,
        (member, generation): (&str, i32),
    ) -> Result<(), Error> {
        let address = committer.coordinator.address().await?;
        let connection = self.links.connection(&self.cluster, &address).await?;
        let answer = connection
            .call_up_to(Most::of(version).offsets, self.limit(), |_| {
                TxnOffsetCommitRequest::default()
                    .with_transactional_id(self.id())
                    .with_group_id(GroupId(StrBytes::from_string(committer.coordinator.group.to_string())))
                    .with_producer_id(ProducerId(producer.id))
                    .with_producer_epoch(producer.epoch)
                    .with_generation_id(generation)
                    .with_member_id(StrBytes::from_string(member.to_owned()))
                    .with_group_instance_id(committer.instance_id.clone().map(StrBytes::from_string))
                    .with_topics(topics(offsets))
            })
            .await?;
        read(&answer, offsets).map_err(|e| e.at_broker(&address))
    }
}

fn topics(offsets: &Offsets) -> Vec<TxnOffsetCommitRequestTopic> {
    let mut topics: Vec<TxnOffsetCommitRequestTopic> = Vec::new();
    for (tp, _, offset) in offsets {
        let partition = TxnOffsetCommitRequestPartition::default()
            .with_partition_index(tp.partition)
            .with_committed_offset(offset.offset)
            .with_committed_metadata(Some(StrBytes::from_string(offset.metadata.clone())));
        match topics.iter_mut().find(|t| **t.name == *tp.topic) {
            Some(topic) => topic.partitions.push(partition),
            None => topics.push(
                TxnOffsetCommitRequestTopic::default()
                    .with_name(topic_name(&tp.topic))
                    .with_partitions(vec![partition]),
            ),
        }
    }
    topics
}

/// All, or the error that says most.
fn read(answer: &TxnOffsetCommitResponse, offsets: &Offsets) -> Result<(), Error> {
    let mut good = 0;
    let mut worst: Option<Error> = None;
    for topic in &answer.topics {
        for p in &topic.partitions {
            if p.error_code == 0 {
                good += 1;
            } else if worst.as_ref().is_none_or(Error::is_transient) {
                let error = Error::broker_code(NAME, p.error_code, None);
                worst = Some(error.on_partition(topic.name.as_str(), p.partition_index));
            }
        }
    }
    match worst {
        Some(error) => Err(error),
        None if good == offsets.len() => Ok(()),
        None => Err(Error::malformed(NAME, "the answer leaves out partitions")),
    }
}
