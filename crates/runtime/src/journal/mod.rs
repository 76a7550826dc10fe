//! The journal of an agent's steps, on a topic of its own: `<name>.journal.<agent>`, partition by partition beside the
//! tasks. `core::journal` says what the log means; here it is read, written, committed and trimmed.
//!
//! | room | what is in it |
//! |---|---|
//! | `partition` | the journal of one partition of tasks that this process owns |
//! | `load` | reading it from the committed position, when the partition comes |
//! | `task` | what a handler writes to it, through `ctx.step` and the model |
//! | `keeper` | what is done now and then: closing tasks, committing positions, trimming |

mod keeper;
mod load;
mod metrics;
mod partition;
mod task;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anabranch_core::journal::Begin;
use anabranch_kafka::{AssignedPartition, Cluster, Committer, TopicPartition};
use anabranch_protocol::{Envelope, TaskId};
use anabranch_topology::JournalSettings;

pub(crate) use self::metrics::JournalMetrics;
use self::partition::Partition;
pub(crate) use self::task::TaskJournal;
use crate::emit::Emitter;
use crate::metrics::Metrics;
use crate::service::Service;

/// Longest time that closing and committing may take when partitions leave. What is not said then costs the next owner
/// some reading.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);
/// Wait before a task is begun whose earlier delivery is being closed.
const AGAIN_AFTER: Duration = Duration::from_millis(10);

/// What all partitions share.
#[derive(Debug)]
struct Shared {
    agent: &'static str,
    cluster: Cluster,
    emitter: Emitter,
    committer: Committer,
    metrics: Arc<Metrics>,
    topic: Arc<str>,
    /// `ce_source` of what is written.
    source: String,
    settings: JournalSettings,
    /// How long a task without a deadline may be waited for.
    retention: Duration,
}

/// The journals of the partitions of tasks that this process owns. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Journals {
    shared: Arc<Shared>,
    partitions: Arc<Mutex<HashMap<i32, Arc<Partition>>>>,
}

/// Why a task cannot be worked on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoJournal {
    /// Its partition has left: it is delivered to the next owner.
    #[error("its partition has left")]
    Left,
    /// The journal can be neither read nor written.
    #[error("the journal cannot be used: {0}")]
    Broken(String),
}

impl Journals {
    /// Keeps journals for as long as the service runs. Positions are committed with `committer`, in the agent's group.
    pub(crate) fn start(service: &Service, committer: Committer) -> Self {
        let journals = Self {
            shared: Arc::new(Shared {
                agent: service.name,
                cluster: service.cluster.clone(),
                emitter: service.emitter.clone(),
                committer,
                metrics: service.metrics.clone(),
                topic: service.topology.journal_topic(service.name).into(),
                source: service.source(),
                settings: service.settings.journal.clone(),
                retention: service.topology.retention,
            }),
            partitions: Arc::default(),
        };
        tokio::spawn(keeper::keep(journals.clone()));
        journals
    }

    /// Partitions came: their journals are read. One that is owned already, by another topic of the same number, is not
    /// read again.
    pub(crate) fn assigned(&self, epoch: u64, came: &[AssignedPartition]) {
        let mut new = Vec::new();
        let mut partitions = lock(&self.partitions);
        for assigned in came {
            let number = assigned.tp.partition;
            match partitions.get(&number) {
                Some(partition) => partition.also_held(assigned.tp.clone()),
                None => {
                    let partition = Arc::new(Partition::new(&self.shared.topic, assigned.tp.clone(), epoch));
                    partitions.insert(number, partition.clone());
                    new.push(partition);
                }
            }
        }
        drop(partitions);
        if !new.is_empty() {
            let share = self.share();
            tokio::spawn(load::load(self.shared.clone(), new, share));
        }
    }

    /// Partitions are gone: what still runs on them writes nothing more.
    pub(crate) fn left(&self, tps: &[TopicPartition]) {
        let mut partitions = lock(&self.partitions);
        for tp in tps {
            if partitions.get(&tp.partition).is_some_and(|partition| partition.no_longer_held(tp))
                && let Some(partition) = partitions.remove(&tp.partition)
            {
                partition.leave();
            }
        }
    }

    /// Says what there is to say before partitions leave, within a bounded time.
    pub(crate) async fn leaving(&self, tps: &[TopicPartition]) {
        let partitions: Vec<_> =
            self.all().into_iter().filter(|p| tps.iter().any(|tp| tp.partition == p.tp.partition)).collect();
        if tokio::time::timeout(LEAVE_WITHIN, keeper::turn(&self.shared, &partitions)).await.is_err() {
            tracing::debug!("the journal's position was not committed; the next owner reads somewhat more");
        }
    }

    /// The offsets that `covers` says of a partition are committed: what was finished there is delivered to nobody any
    /// more.
    pub(crate) fn committed(&self, tp: &TopicPartition, covers: &dyn Fn(i64) -> bool) {
        if let Some(partition) = lock(&self.partitions).get(&tp.partition) {
            partition.committed(tp, covers);
        }
    }

    /// The journal of a task of this partition, once it is read.
    ///
    /// # Errors
    /// If its partition has left, or its journal cannot be used.
    pub(crate) async fn open(
        &self,
        partition: i32,
        task: &TaskId,
        envelope: &Envelope,
    ) -> Result<TaskJournal, NoJournal> {
        let partition = lock(&self.partitions).get(&partition).cloned().ok_or(NoJournal::Left)?;
        partition.ready().await?;
        loop {
            let begin = partition.log().work(task);
            match begin {
                Begin::Ready => break,
                Begin::Closing => tokio::time::sleep(AGAIN_AFTER).await,
                Begin::ReadBack { from, last } => {
                    let mut read =
                        load::read_back(&self.shared, &partition.tp, from, last).await.map_err(NoJournal::Broken)?;
                    partition.log().restore(task, &mut read);
                }
            }
        }
        Ok(TaskJournal::new(self.shared.clone(), partition, task.clone(), envelope.clone()))
    }

    fn all(&self) -> Vec<Arc<Partition>> {
        lock(&self.partitions).values().cloned().collect()
    }

    /// How many bytes of results one partition may hold of tasks that are not worked on.
    fn share(&self) -> usize {
        self.shared.settings.max_memory_bytes / lock(&self.partitions).len().max(1)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
