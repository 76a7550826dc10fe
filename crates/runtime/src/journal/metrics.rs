//! What `/metrics` shows of journals.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The metrics of one process's journals.
#[derive(Debug, Default)]
pub(crate) struct JournalMetrics {
    pub(crate) read_records: Counter,
    pub(crate) read_bytes: Counter,
    pub(crate) unreadable: Counter,
    pub(crate) fenced: Counter,
    pub(crate) replayed: Counter,
    pub(crate) unrecorded: Counter,
    pub(crate) trimmed: Counter,
    pub(crate) open_tasks: Gauge,
    pub(crate) held_bytes: Gauge,
}

impl JournalMetrics {
    /// Registers them.
    pub(crate) fn register(r: &mut Registry) -> Self {
        let m = Self::default();
        r.register("journal_read_records", "Journal records read when partitions came", m.read_records.clone());
        r.register("journal_read_bytes", "Bytes of journal records read when partitions came", m.read_bytes.clone());
        r.register("journal_unreadable", "Records on the journal that are no lines of one", m.unreadable.clone());
        r.register("journal_fenced", "Lines read of owners that had been taken over", m.fenced.clone());
        r.register("journal_replayed", "Steps answered from the journal", m.replayed.clone());
        r.register(
            "journal_unrecorded",
            "Steps that an earlier delivery had begun and left no result of: what they did may be done twice",
            m.unrecorded.clone(),
        );
        r.register("journal_trimmed", "Journal offsets deleted", m.trimmed.clone());
        r.register("journal_open_tasks", "Tasks with journaled steps that are not done", m.open_tasks.clone());
        r.register("journal_held_bytes", "Bytes of journaled results in memory", m.held_bytes.clone());
        m
    }
}
