//! What a handler writes to the journal of its task, through `ctx.step` and through the model.

use std::collections::HashMap;
use std::fmt;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anabranch_core::journal::{Bounds, Known, Line, Step};
use anabranch_kafka::{OutRecord, TopicPartition};
use anabranch_llm::JournalError;
use anabranch_llm::journal::{Entry, Journal, Occurrence};
use anabranch_protocol::{Envelope, EventId, TaskId, Timestamp};
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::partition::Partition;
use super::{Shared, lock};
use crate::clock;
use crate::emit::EmitError;

/// `ce_type` of a step's record.
const STEP: &str = "anabranch.step.v1";
/// So long after its deadline a task is still worked on at most.
const GRACE: Duration = Duration::from_secs(60);

/// The journal of one delivery of a task.
pub(crate) struct TaskJournal {
    delivery: Arc<Delivery>,
}

struct Delivery {
    shared: Arc<Shared>,
    partition: Arc<Partition>,
    task: TaskId,
    envelope: Envelope,
    expires: Timestamp,
    /// The partition has left, and a step was to be recorded.
    abandoned: CancellationToken,
}

impl TaskJournal {
    pub(super) fn new(shared: Arc<Shared>, partition: Arc<Partition>, task: TaskId, envelope: Envelope) -> Self {
        let expires = envelope.deadline.map_or_else(|| clock::now().plus(shared.retention), |d| d.plus(GRACE));
        let abandoned = CancellationToken::new();
        Self { delivery: Arc::new(Delivery { shared, partition, task, envelope, expires, abandoned }) }
    }

    /// The journal of the next attempt.
    pub(crate) fn attempt(&self) -> Arc<dyn Journal> {
        Arc::new(Attempt { delivery: self.delivery.clone(), occurrences: Mutex::default() })
    }

    /// Returns when a step cannot be recorded because the partition has left: what its next owner does counts, and what
    /// goes on here would only be done twice.
    pub(crate) async fn abandoned(&self) {
        self.delivery.abandoned.cancelled().await;
    }

    /// The task is done, and what it led to is acknowledged. Once the offset it was read at is committed, its entries are
    /// of no use.
    pub(crate) fn finished(&self, (tp, offset): (&TopicPartition, i64)) {
        self.delivery.partition.finished(tp.clone(), offset, self.delivery.task.clone());
    }
}

impl Drop for TaskJournal {
    fn drop(&mut self) {
        self.delivery.partition.log().rest(&self.delivery.task);
    }
}

impl Delivery {
    /// Puts a step's line together and sees that it has room.
    fn line(&self, name: &str, index: u32, result: Option<Value>) -> Result<Write, JournalError> {
        let (settings, mut log) = (&self.shared.settings, self.partition.log());
        let seq = log.write();
        let line = Line::Step(Step {
            run: self.partition.run.to_string(),
            seq,
            task: self.task.clone(),
            name: name.to_owned(),
            index,
            expires: self.expires,
            result,
        });
        let checked =
            line.write().map_err(|e| JournalError::Unwritable { name: name.to_owned(), reason: e.to_string() });
        let checked = checked.and_then(|value| {
            let (bytes, limit_bytes) = (value.len(), settings.max_entry_bytes);
            if bytes > limit_bytes {
                return Err(JournalError::TooLarge { name: name.to_owned(), bytes, limit_bytes });
            }
            let bounds = Bounds { entries: settings.max_entries, bytes: settings.max_task_bytes };
            log.room(&self.task, bytes, bounds).map_err(|limit| JournalError::TaskFull { limit })?;
            Ok(value)
        });
        match checked {
            Ok(value) => Ok(Write { seq, record: self.record(name, index, &line, value), line }),
            Err(error) => {
                log.ended(seq);
                Err(error)
            }
        }
    }

    fn record(&self, name: &str, index: u32, line: &Line, value: Vec<u8>) -> OutRecord {
        let done = matches!(line, Line::Step(Step { result: Some(_), .. }));
        let which = format!("{name}/{}", if done { "done" } else { "begun" });
        let id =
            EventId::derive(&EventId::derive(&self.envelope.id, self.shared.agent, STEP, index), name, &which, index);
        let caused = self.envelope.caused(id, &self.shared.source, STEP, clock::now());
        OutRecord {
            topic: self.partition.tp.topic.to_string(),
            // Beside the task, whatever the key says.
            partition: Some(self.partition.tp.partition),
            key: Some(Bytes::from(self.task.as_str().to_owned())),
            value: Some(Bytes::from(value)),
            headers: caused.headers(),
            timestamp_ms: Some(caused.time.as_millis()),
        }
    }

    /// Writes a line and takes it in. It goes on when the attempt that asked for it has been given up: what was done is
    /// then known to the next one. Never returns once the partition has left.
    async fn write(self: Arc<Self>, write: Write) -> Result<(), EmitError> {
        let bytes = write.record.value.as_ref().map_or(0, Bytes::len);
        let writing = tokio::spawn(async move {
            let partition = &self.partition;
            let sent = tokio::select! {
                sent = self.shared.emitter.emit(vec![write.record]) => sent,
                () = partition.gone().cancelled() => {
                    self.abandoned.cancel();
                    return None;
                }
            };
            let mut log = partition.log();
            log.ended(write.seq);
            Some(sent.map(|delivered| {
                for at in delivered {
                    log.apply(at.offset, &write.line, bytes);
                }
            }))
        });
        match writing.await {
            Ok(Some(sent)) => sent,
            // Whoever waits is dropped, or the runtime ends.
            Ok(None) | Err(_) => pending().await,
        }
    }
}

/// A line on its way.
struct Write {
    seq: u64,
    line: Line,
    record: OutRecord,
}

/// The journal of one attempt.
struct Attempt {
    delivery: Arc<Delivery>,
    occurrences: Mutex<HashMap<String, u32>>,
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt").field("task", &self.delivery.task).finish_non_exhaustive()
    }
}

impl Journal for Attempt {
    fn next(&self, name: &str) -> Occurrence {
        let index = {
            let mut occurrences = lock(&self.occurrences);
            let next = occurrences.entry(name.to_owned()).or_default();
            *next += 1;
            *next - 1
        };
        let Delivery { shared, partition, task, .. } = &*self.delivery;
        let known = partition.log().entries(task).and_then(|entries| {
            let known = entries.get(name, index)?.clone();
            Some((known, entries.is_of(name, index, &partition.run)))
        });
        let recorded = known.map(|(known, own)| match known {
            Known::Done(value) => {
                shared.metrics.journal.replayed.inc();
                Entry::Done((*value).clone())
            }
            Known::Begun => {
                // What this process has begun itself has failed, and said so.
                if !own {
                    shared.metrics.journal.unrecorded.inc();
                    tracing::warn!(step = name, index, "a step that was begun before a restart has left no result");
                }
                Entry::Begun
            }
        });
        Occurrence { index, recorded }
    }

    fn begin(&self, name: &str, index: u32) -> Result<(), JournalError> {
        let delivery = &self.delivery;
        let known = delivery.partition.log().entries(&delivery.task).is_some_and(|e| e.get(name, index).is_some());
        // Where there is no room for this, there is none for the result either, which says so.
        if let (false, Ok(write)) = (known, delivery.line(name, index, None)) {
            let (delivery, name) = (delivery.clone(), name.to_owned());
            tokio::spawn(async move {
                if let Err(error) = delivery.write(write).await {
                    tracing::warn!(step = name, %error, "that a step began could not be journaled");
                }
            });
        }
        Ok(())
    }

    fn record<'a>(&'a self, name: &'a str, index: u32, entry: Entry) -> BoxFuture<'a, Result<(), JournalError>> {
        async move {
            let result = match entry {
                Entry::Done(value) => Some(value),
                Entry::Begun => None,
            };
            let write = self.delivery.line(name, index, result)?;
            let bytes = write.record.value.as_ref().map_or(0, Bytes::len);
            self.delivery.clone().write(write).await.map_err(|error| refusal(name, bytes, &error))
        }
        .boxed()
    }
}

fn refusal(name: &str, bytes: usize, error: &EmitError) -> JournalError {
    match error.size_limit() {
        Some(limit_bytes) => JournalError::TooLarge { name: name.to_owned(), bytes, limit_bytes },
        None => JournalError::Refused { message: error.to_string() },
    }
}
