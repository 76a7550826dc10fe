//! Producing, acknowledged by all in-sync replicas.
//!
//! One task per partition sends one batch at a time: what is queued while a request is under way makes the next
//! batch, and order holds across retries. Records go through rskafka; those it cannot express (see
//! [`fits_rskafka`](plain::fits_rskafka)), and batches with which it would wait for nothing (see
//! [`RSKAFKA_MOST_BYTES`](plain::RSKAFKA_MOST_BYTES)), go by a Produce request of our own, from the same task, so that
//! order holds between the two as well.

mod own;
mod placing;
mod plain;
mod worker;

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{Notify, Semaphore, mpsc, oneshot};

use crate::{
    batch::record_size,
    cluster::Cluster,
    config::ProducerConfig,
    error::{Error, ErrorKind},
    types::{Delivered, OutRecord},
};
pub(crate) use own::{ACKS_ALL, now_ms};
pub(crate) use placing::Placer;
use plain::PlainClient;
use worker::Job;

/// How long a topic may be unknown before a record for it is refused: brokers hear of a new topic one after another.
pub(crate) const TOPIC_GRACE: Duration = Duration::from_secs(3);

/// Writes records; clones share queues and connections.
///
/// Records to one partition keep the order in which `send` was first polled. Nothing here makes a retried record
/// unique: where an acknowledgement is lost after the append, the record is there twice.
#[derive(Clone)]
pub struct Producer {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    queues: Mutex<HashMap<(String, i32), mpsc::UnboundedSender<Job>>>,
    placer: Placer,
    /// By topic one at a time, in order: who asks for a topic's partitions must not be overtaken. A topic that is
    /// waited for holds up no other.
    placing: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// What the partitions' tasks need. It does not hold the queues, so that dropping the producer ends the tasks
/// as soon as they have sent what is queued.
struct Shared {
    cluster: Cluster,
    config: ProducerConfig,
    plain: PlainClient,
    room: Arc<Semaphore>,
    outstanding: Arc<Outstanding>,
}

/// Which sends are not settled yet.
#[derive(Default)]
struct Outstanding {
    state: Mutex<(u64, BTreeSet<u64>)>,
    settled: Notify,
}

impl Outstanding {
    fn lock(&self) -> MutexGuard<'_, (u64, BTreeSet<u64>)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(self: &Arc<Self>) -> Ticket {
        let mut state = self.lock();
        state.0 += 1;
        let number = state.0;
        state.1.insert(number);
        Ticket { number, outstanding: self.clone() }
    }
}

/// One unsettled send; dropping it settles it.
struct Ticket {
    number: u64,
    outstanding: Arc<Outstanding>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.outstanding.lock().1.remove(&self.number);
        self.outstanding.settled.notify_waiters();
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("config", &self.inner.shared.config).finish_non_exhaustive()
    }
}

impl Producer {
    pub(crate) fn new(cluster: Cluster, config: ProducerConfig) -> Self {
        let room = config.max_queued_bytes.clamp(config.max_record_bytes, Semaphore::MAX_PERMITS);
        let placer = Placer::new(cluster.clone());
        let shared = Shared {
            plain: PlainClient::new(cluster.clone()),
            cluster,
            config,
            room: Arc::new(Semaphore::new(room)),
            outstanding: Arc::default(),
        };
        let inner = Inner { shared: Arc::new(shared), queues: Mutex::default(), placer, placing: Mutex::default() };
        Self { inner: Arc::new(inner) }
    }

    /// Sends a record; resolves when all in-sync replicas have it. Waits while the queue is full.
    ///
    /// Once queued, a record is sent even if this future is dropped.
    ///
    /// # Errors
    /// A record that is too large is refused at once. Others come when retrying has used up the delivery timeout;
    /// [`Error::may_have_happened`] says whether the record may be in the log nevertheless.
    pub async fn send(&self, record: OutRecord) -> Result<Delivered, Error> {
        let (topic, answer) = self.enqueue(Arc::new(record)).await?;
        answer.await.unwrap_or_else(|_| Err(Error::closed("Produce").on_topic(topic)))
    }

    /// Sends records, each partition's in the order given; resolves when all in-sync replicas have all of them.
    ///
    /// # Errors
    /// The first record's that failed. Others may have been written: there is no transaction around them.
    pub fn send_all(&self, records: Vec<OutRecord>) -> impl Future<Output = Result<Vec<Delivered>, Error>> + Send {
        self.send_shared(records.into_iter().map(Arc::new).collect())
    }

    /// As [`send_all`](Self::send_all), for a caller that may have to send the same records again.
    ///
    /// # Errors
    /// As [`send_all`](Self::send_all).
    pub async fn send_shared(&self, records: Vec<Arc<OutRecord>>) -> Result<Vec<Delivered>, Error> {
        let mut answers = Vec::new();
        for record in records {
            answers.push(self.enqueue(record).await?);
        }
        let mut delivered = Vec::with_capacity(answers.len());
        for (topic, answer) in answers {
            delivered.push(answer.await.unwrap_or_else(|_| Err(Error::closed("Produce").on_topic(topic)))?);
        }
        Ok(delivered)
    }

    /// Resolves when everything sent before is acknowledged or has failed, which the delivery timeout bounds. How
    /// each ended, its own `send` tells.
    ///
    /// # Errors
    /// None today; the type leaves room for a producer that can be closed.
    pub async fn flush(&self) -> Result<(), Error> {
        let outstanding = &self.inner.shared.outstanding;
        let last = outstanding.lock().0;
        loop {
            let settled = outstanding.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            if outstanding.lock().1.first().is_none_or(|first| *first > last) {
                return Ok(());
            }
            settled.await;
        }
    }

    async fn enqueue(
        &self,
        record: Arc<OutRecord>,
    ) -> Result<(String, oneshot::Receiver<Result<Delivered, Error>>), Error> {
        let shared = &self.inner.shared;
        let bytes = record_size(&record);
        let limit = shared.config.max_record_bytes;
        if bytes > limit {
            let kind = ErrorKind::RecordTooLarge { bytes, limit_bytes: Some(limit) };
            return Err(Error::new("Produce", kind).on_topic(record.topic.clone()));
        }
        let placing = self.placing(&record.topic);
        let _in_order = placing.lock().await;
        let partition = self.inner.placer.place(&record).await?;
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        let room = shared.room.clone().acquire_many_owned(permits).await.map_err(|_| Error::closed("Produce"))?;
        let (done, answer) = oneshot::channel();
        let topic = record.topic.clone();
        let job = Job {
            record,
            bytes,
            deadline: Instant::now() + shared.config.delivery_timeout,
            done,
            _room: room,
            _ticket: shared.outstanding.begin(),
        };
        self.queue(topic.clone(), partition, job)?;
        Ok((topic, answer))
    }

    fn placing(&self, topic: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut placing = self.inner.placing.lock().unwrap_or_else(PoisonError::into_inner);
        match placing.get(topic) {
            Some(lock) => lock.clone(),
            None => placing.entry(topic.to_owned()).or_default().clone(),
        }
    }

    fn queue(&self, topic: String, partition: i32, job: Job) -> Result<(), Error> {
        let mut queues = self.inner.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = queues.entry((topic.clone(), partition)).or_insert_with(|| {
            let (queue, jobs) = mpsc::unbounded_channel();
            tokio::spawn(worker::run(self.inner.shared.clone(), topic.clone(), partition, jobs));
            queue
        });
        queue.send(job).map_err(|_| Error::closed("Produce").on_partition(topic, partition))
    }
}
