//! What is done now and then: tasks that are done and committed are closed, positions committed, the log trimmed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anabranch_core::journal::{Line, Position};
use anabranch_kafka::{OffsetToCommit, TopicPartition};
use anabranch_protocol::TaskId;
use futures::future::join_all;
use tokio::time::Instant;

use super::partition::Partition;
use super::{Journals, Shared, load, lock};
use crate::clock;

/// How often tasks are closed and positions committed.
const TURN_EVERY: Duration = Duration::from_secs(1);
/// How often the log is trimmed, at most and at least.
const TRIM_EVERY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));
/// Most tasks that one line closes.
const CLOSED_AT_ONCE: usize = 1_000;

/// Keeps the journals until the process ends.
pub(super) async fn keep(journals: Journals) {
    let shared = journals.shared.clone();
    let trim_every = (shared.settings.keep / 2).clamp(TRIM_EVERY.0, TRIM_EVERY.1);
    let (mut trimmed_at, denied) = (Instant::now(), AtomicBool::new(false));
    let mut ticks = tokio::time::interval(TURN_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let partitions = journals.all();
        turn(&shared, &partitions).await;
        look_after_memory(&shared, &partitions, journals.share());
        if trimmed_at.elapsed() >= trim_every && !denied.load(Ordering::Relaxed) {
            trim(&shared, &partitions, &denied).await;
            trimmed_at = Instant::now();
        }
    }
}

/// Closes what is done, and commits positions that have moved.
pub(super) async fn turn(shared: &Shared, partitions: &[Arc<Partition>]) {
    let ready: Vec<&Arc<Partition>> = partitions.iter().filter(|partition| partition.is_ready()).collect();
    join_all(ready.iter().map(|partition| close(shared, partition))).await;
    let moved: Vec<(&Arc<Partition>, Position)> = ready
        .into_iter()
        .filter_map(|partition| {
            let position = partition.log().position();
            (lock(&partition.committed).as_ref() != Some(&position)).then_some((partition, position))
        })
        .collect();
    if moved.is_empty() {
        return;
    }
    let offsets = moved.iter().map(|(partition, position)| {
        let (held, epoch) = partition.right.clone();
        let offset = OffsetToCommit { offset: position.offset, metadata: load::metadata(position) };
        (partition.tp.clone(), held, epoch, offset)
    });
    match shared.committer.commit_beside(offsets.collect()).await {
        Ok(()) => {
            for (partition, position) in moved {
                *lock(&partition.committed) = Some(position);
            }
        }
        // Partitions that have left; those that stay are committed again with the next turn.
        Err(error) if error.is_stale() => {}
        Err(error) => tracing::debug!(%error, "the journal's position could not be committed, trying again"),
    }
}

/// Says which tasks are done. A task that is worked on again meanwhile waits for its end.
async fn close(shared: &Shared, partition: &Partition) {
    loop {
        let tasks: Vec<TaskId> = {
            let mut waiting = lock(&partition.to_close);
            let count = waiting.len().min(CLOSED_AT_ONCE);
            waiting.drain(..count).collect()
        };
        let (closing, again) = {
            let mut log = partition.log();
            let closing = log.close(&tasks);
            let again: Vec<TaskId> =
                tasks.into_iter().filter(|task| !closing.contains(task) && log.is_open(task)).collect();
            (closing, again)
        };
        if closing.is_empty() {
            return lock(&partition.to_close).extend(again);
        }
        let line = Line::Closed { run: partition.run.to_string(), tasks: closing.clone() };
        let written = partition.write(shared, &line).await;
        let mut to_close = lock(&partition.to_close);
        to_close.extend(again);
        if let Err(error) = written {
            tracing::warn!(error, "tasks could not be closed in the journal; their entries lapse with their deadlines");
            partition.log().not_closed(&closing);
            return;
        }
        if to_close.len() < CLOSED_AT_ONCE {
            return;
        }
    }
}

fn look_after_memory(shared: &Shared, partitions: &[Arc<Partition>], share: usize) {
    let (mut open, mut held) = (0, 0);
    for partition in partitions {
        let mut log = partition.log();
        log.expire(clock::now());
        log.set_aside(share);
        open += log.open_tasks();
        held += log.held_bytes();
    }
    shared.metrics.journal.open_tasks.set(i64::try_from(open).unwrap_or(i64::MAX));
    shared.metrics.journal.held_bytes.set(i64::try_from(held).unwrap_or(i64::MAX));
}

/// Deletes what lies below the committed positions and is older than it has to be kept.
async fn trim(shared: &Shared, partitions: &[Arc<Partition>], denied: &AtomicBool) {
    let committed = |partition: &Arc<Partition>| {
        let offset = lock(&partition.committed).as_ref()?.offset;
        (offset > *lock(&partition.trimmed)).then(|| (partition.tp.clone(), offset))
    };
    let candidates: BTreeMap<TopicPartition, i64> = partitions.iter().filter_map(committed).collect();
    if candidates.is_empty() {
        return;
    }
    let (admin, tps) = (shared.cluster.admin(), candidates.keys().cloned().collect::<Vec<_>>());
    let kept_since =
        clock::now().as_millis().saturating_sub(i64::try_from(shared.settings.keep.as_millis()).unwrap_or(i64::MAX));
    let trimmed = async {
        let kept = admin.offsets_for_timestamp(&tps, kept_since.max(0)).await?;
        let begins = admin.earliest_offsets(&tps).await?;
        let below = candidates.iter().filter_map(|(tp, offset)| {
            let below = kept.get(tp).copied().flatten().map_or(*offset, |kept| kept.min(*offset));
            (begins.get(tp).is_some_and(|begin| below > *begin)).then(|| (tp.clone(), below))
        });
        let below: BTreeMap<TopicPartition, i64> = below.collect();
        let gone: i64 = below.iter().map(|(tp, below)| below - begins.get(tp).copied().unwrap_or(*below)).sum();
        Ok::<_, anabranch_kafka::Error>((admin.delete_records(&below).await?, gone))
    };
    match trimmed.await {
        Ok((begins, gone)) => {
            shared.metrics.journal.trimmed.inc_by(u64::try_from(gone).unwrap_or(0));
            for partition in partitions {
                if let Some(begin) = begins.get(&partition.tp) {
                    *lock(&partition.trimmed) = *begin;
                }
            }
        }
        Err(error) if error.is_unauthorized() => {
            denied.store(true, Ordering::Relaxed);
            tracing::info!(topic = &*shared.topic, "may not trim the journal; its retention does");
        }
        Err(error) => tracing::debug!(%error, "the journal could not be trimmed, trying again"),
    }
}
