//! Partitions that come: their state is read before anything is joined.

use std::future::Future;

use anabranch_core::join::Join;
use anabranch_kafka::{AssignedPartition, Error, TopicPartition};
use anabranch_sdk::composer::Composer;

use super::partition::PartitionJoin;
use super::state::{self, Ends};
use super::{AGAIN_AFTER, Membership};
use crate::worker::Halt;

/// A state that was read.
pub(super) struct Restored {
    partition: i32,
    tenure: u64,
    result: Result<(Join, Ends), Error>,
}

impl<C: Composer> Membership<C> {
    pub(super) fn on_assigned(&mut self, epoch: u64, partitions: &[AssignedPartition]) {
        for assigned in partitions {
            if let Some(tenure) = self.slots.assign(epoch, assigned) {
                tokio::spawn(self.restore(assigned.tp.partition, tenure));
            }
        }
        // Nothing is joined before the state is there.
        let reading = self.slots.iter().filter(|s| s.join.is_none()).flat_map(|s| s.partitions().cloned());
        let reading: Vec<TopicPartition> = reading.collect();
        self.consumer.pause(&reading);
        // In this order: a probe in between must not take it for ready.
        self.service().health.prepared(reading.is_empty());
        self.service().health.joined(true);
        self.count_partitions();
    }

    fn restore(&self, partition: i32, tenure: u64) -> impl Future<Output = ()> + Send + use<C> {
        let (service, sender) = (self.service().clone(), self.restored.0.clone());
        let permits = self.restores.clone();
        async move {
            // It is never closed; without a permit a restore would only take more memory.
            let _permit = permits.acquire_owned().await.ok();
            let result = state::read(&service, partition).await;
            // The loop is gone: nobody needs the state any more.
            let _ = sender.send(Restored { partition, tenure, result }).await;
        }
    }

    pub(super) fn on_restored(&mut self, restored: Restored) -> Result<(), Halt> {
        let Restored { partition, tenure, result } = restored;
        if self.slots.get_mut(partition).is_none_or(|s| s.tenure != tenure) {
            return Ok(());
        }
        let (join, ends) = match result {
            Ok(read) => read,
            Err(error) if error.is_fatal() => return Err(Halt::Group(error)),
            Err(error) => {
                tracing::warn!(partition, %error, "cannot read the state, trying again");
                let again = self.restore(partition, tenure);
                tokio::spawn(async move {
                    tokio::time::sleep(AGAIN_AFTER).await;
                    again.await;
                });
                return Ok(());
            }
        };
        let (composer, site) = (self.role.composer.clone(), self.role.service.site());
        let review_partitions = self.role.review_partitions;
        let Some(slot) = self.slots.get_mut(partition) else { return Ok(()) };
        slot.ends = Some(ends);
        slot.join = Some(PartitionJoin::new(partition, join, composer, site, review_partitions));
        let resumed: Vec<TopicPartition> = slot.partitions().cloned().collect();
        let backlog = std::mem::take(&mut slot.backlog);
        self.consumer.resume(&resumed);
        backlog.iter().for_each(|fetched| self.on_records(fetched));
        Ok(())
    }
}
