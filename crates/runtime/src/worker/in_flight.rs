//! What is being worked on right now, for the watchdog: a handler that makes no progress is reported, never killed
//! before its time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anabranch_kafka::TopicPartition;
use dashmap::DashMap;

use crate::metrics::Metrics;

/// A handler is reported when it has run for this long, and again each time that doubles.
const REPORT_AFTER: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Running {
    tp: TopicPartition,
    offset: i64,
    correlation_id: String,
    since: Instant,
    report_at: Duration,
}

/// The running handlers of this process. Handlers come and go on many threads, the watchdog reads beside them.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    running: DashMap<u64, Running>,
    next: AtomicU64,
}

/// Ends the entry when dropped, also when the handler panics or is aborted.
pub(crate) struct Entry {
    registry: Arc<InFlight>,
    id: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.registry.running.remove(&self.id);
    }
}

impl InFlight {
    /// A handler starts.
    pub(crate) fn enter(self: &Arc<Self>, tp: TopicPartition, offset: i64, correlation_id: String) -> Entry {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let running = Running { tp, offset, correlation_id, since: Instant::now(), report_at: REPORT_AFTER };
        self.running.insert(id, running);
        Entry { registry: self.clone(), id }
    }

    /// Looks every few seconds, for ever.
    pub(crate) async fn watch(self: Arc<Self>, agent: &'static str, metrics: Arc<Metrics>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let mut oldest = Duration::ZERO;
            for mut entry in self.running.iter_mut() {
                let age = entry.since.elapsed();
                oldest = oldest.max(age);
                if age >= entry.report_at {
                    entry.report_at *= 2;
                    tracing::warn!(
                        agent,
                        correlation_id = entry.correlation_id,
                        topic = &*entry.tp.topic,
                        partition = entry.tp.partition,
                        offset = entry.offset,
                        running_seconds = age.as_secs(),
                        "a handler makes no progress"
                    );
                }
            }
            metrics.oldest_in_flight_seconds.set(oldest.as_secs_f64());
        }
    }
}
