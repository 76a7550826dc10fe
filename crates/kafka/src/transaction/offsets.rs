//! TxnOffsetCommit: offsets as part of a transaction, fenced by the group's generation (KIP-447).

use std::time::Instant;

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
    TransactionalProducer,
    wire::{Most, Wire, before},
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

impl TransactionalProducer {
    pub(super) async fn commit_offsets(&mut self, committer: &Committer, offsets: Offsets) -> Result<(), Error> {
        if committer.commits != Commits::InTransactions {
            return Err(Error::invalid(NAME, "this group commits by itself, not in transactions"));
        }
        let producer = self.writable(NAME)?;
        if offsets.is_empty() {
            return Ok(());
        }
        let deadline = self.deadline();
        all_held(&committer.identity.borrow(), &offsets)?;
        self.machine.launch();
        self.add_group(deadline, producer, committer.coordinator.group.clone()).await?;
        self.stage(deadline, producer, committer, &offsets).await?;
        self.machine.landed();
        Ok(())
    }

    /// Tries until they are staged, under a later generation too as long as all partitions stay.
    async fn stage(
        &mut self,
        deadline: Instant,
        producer: Producer,
        committer: &Committer,
        offsets: &Offsets,
    ) -> Result<(), Error> {
        let mut tries = self.tries(deadline);
        let mut identity = committer.identity.clone();
        let (wire, version) = (self.wire.clone(), self.machine.version());
        loop {
            let current = identity.borrow_and_update().clone();
            all_held(&current, offsets)?;
            let result = match &current.member {
                Some((member, generation)) if current.can_commit => {
                    let once = wire.stage(version, producer, committer, (member, *generation), offsets);
                    before(deadline, NAME, once).await
                }
                _ => Err(Error::broker_code(NAME, ResponseError::RebalanceInProgress.code(), None)),
            };
            let Err(error) = result else { return Ok(()) };
            let outdated = error.response_error() == Some(ResponseError::IllegalGeneration);
            match self.weigh(Asked::Offsets, &error) {
                Verdict::Again | Verdict::FindCoordinator | Verdict::Missing => {}
                Verdict::Stale if outdated => {}
                _ => return Err(error),
            }
            // The membership hears by itself that it is over; a rebalance under way ends in another generation.
            let wait = tries.next_wait(Verdict::Again, error)?;
            wait_for_change(&mut identity, wait).await;
        }
    }
}

/// That every partition is still this member's.
fn all_held(current: &Identity, offsets: &Offsets) -> Result<(), Error> {
    let gone = offsets.iter().find(|(tp, epoch, _)| current.held.get(tp).is_none_or(|came| came > epoch));
    match gone {
        None => Ok(()),
        Some((tp, ..)) => {
            let error = Error::stale(NAME, "the partition is no longer this member's");
            Err(error.on_partition(&*tp.topic, tp.partition))
        }
    }
}

impl Wire {
    /// One try at the group's coordinator.
    async fn stage(
        &self,
        version: Version,
        producer: Producer,
        committer: &Committer,
        member: (&str, i32),
        offsets: &Offsets,
    ) -> Result<(), Error> {
        let result = self.stage_once(version, producer, committer, member, offsets).await;
        result.inspect_err(|error| {
            let moved = [ResponseError::NotCoordinator, ResponseError::CoordinatorNotAvailable].map(Some);
            if error.code().is_none() || moved.contains(&error.response_error()) {
                committer.coordinator.forget();
            }
        })
    }

    async fn stage_once(
        &self,
        version: Version,
        producer: Producer,
        committer: &Committer,
        (member, generation): (&str, i32),
        offsets: &Offsets,
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
