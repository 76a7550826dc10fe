//! What `/metrics` shows. Labels come from bounded sets: topics of the topology, fixed words.

use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::journal::JournalMetrics;

/// A topic of the topology.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct TopicLabel {
    pub(crate) topic: String,
}

/// A fixed word.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ResultLabel {
    pub(crate) result: &'static str,
}

/// Who keeps the process from starting work.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct HoldLabel {
    pub(crate) by: &'static str,
}

/// The metrics of one process.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) records: Family<TopicLabel, Counter>,
    pub(crate) emitted: Family<TopicLabel, Counter>,
    pub(crate) handled: Family<ResultLabel, Counter>,
    pub(crate) retries: Counter,
    pub(crate) commits: Family<ResultLabel, Counter>,
    pub(crate) in_flight: Gauge,
    pub(crate) waiting: Gauge,
    pub(crate) held_bytes: Gauge,
    pub(crate) assigned: Gauge,
    pub(crate) broker_connected: Gauge,
    pub(crate) oldest_in_flight_seconds: Gauge<f64, AtomicU64>,
    pub(crate) work_seconds: Histogram,
    pub(crate) queue_seconds: Histogram,
    pub(crate) cases: Family<ResultLabel, Gauge<i64, AtomicI64>>,
    pub(crate) state_left: Gauge,
    pub(crate) journal: JournalMetrics,
    pub(crate) paused: Family<HoldLabel, Gauge>,
    pub(crate) retry_away: Gauge,
    pub(crate) retry_late_seconds: Histogram,
}

impl Metrics {
    /// Registers all of them under `anabranch_`, labelled with the agent.
    pub(crate) fn register(agent: &'static str) -> (Self, Registry) {
        let labels = [("agent".into(), agent.into())];
        let mut registry = Registry::with_prefix_and_labels("anabranch", labels.into_iter());
        let seconds = || Histogram::new(exponential_buckets(0.001, 2.0, 20));
        let metrics = Self {
            records: Family::default(),
            emitted: Family::default(),
            handled: Family::default(),
            retries: Counter::default(),
            commits: Family::default(),
            in_flight: Gauge::default(),
            waiting: Gauge::default(),
            held_bytes: Gauge::default(),
            assigned: Gauge::default(),
            broker_connected: Gauge::default(),
            oldest_in_flight_seconds: Gauge::default(),
            work_seconds: seconds(),
            queue_seconds: seconds(),
            cases: Family::default(),
            state_left: Gauge::default(),
            journal: JournalMetrics::register(&mut registry),
            paused: Family::default(),
            retry_away: Gauge::default(),
            retry_late_seconds: seconds(),
        };
        let r = &mut registry;
        r.register("records_read", "Records read, by topic", metrics.records.clone());
        r.register("records_emitted", "Records acknowledged by the broker, by topic", metrics.emitted.clone());
        r.register("messages_handled", "Messages done, by result", metrics.handled.clone());
        r.register("retries", "Attempts that failed and are followed by another", metrics.retries.clone());
        r.register(
            "retry_away",
            "Messages in retry topics that later ones of their key wait for",
            metrics.retry_away.clone(),
        );
        r.register_with_unit(
            "retry_late",
            "From when a retry was due to its start",
            Unit::Seconds,
            metrics.retry_late_seconds.clone(),
        );
        r.register("offset_commits", "Offset commits, by result", metrics.commits.clone());
        r.register("in_flight", "Messages being worked on", metrics.in_flight.clone());
        r.register("waiting", "Messages held behind others of their key or for a slot", metrics.waiting.clone());
        r.register("held_bytes", "Bytes of messages in flight and waiting", metrics.held_bytes.clone());
        r.register("assigned_partitions", "Partitions this process owns", metrics.assigned.clone());
        r.register("broker_connected", "1 if the broker answered lately", metrics.broker_connected.clone());
        r.register(
            "oldest_in_flight_seconds",
            "Age of the longest running handler",
            metrics.oldest_in_flight_seconds.clone(),
        );
        r.register_with_unit(
            "work",
            "Time in the handler, retries included",
            Unit::Seconds,
            metrics.work_seconds.clone(),
        );
        r.register_with_unit(
            "queue",
            "From the record's timestamp to its start",
            Unit::Seconds,
            metrics.queue_seconds.clone(),
        );
        r.register("paused", "1 while no new work is started, by what holds it up", metrics.paused.clone());
        r.register("cases", "Cases known, by phase", metrics.cases.clone());
        r.register(
            "state_records_left",
            "State records still to be read before work can start",
            metrics.state_left.clone(),
        );
        (metrics, registry)
    }

    pub(crate) fn emitted(&self, topic: &str) {
        self.emitted.get_or_create(&TopicLabel { topic: topic.to_owned() }).inc();
    }

    pub(crate) fn handled(&self, result: &'static str) {
        self.handled.get_or_create(&ResultLabel { result }).inc();
    }

    pub(crate) fn committed(&self, result: &'static str) {
        self.commits.get_or_create(&ResultLabel { result }).inc();
    }
}
