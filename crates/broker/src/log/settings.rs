//! How a topic's logs behave.

use super::validate::Rules;

/// The part of a topic's configuration that its logs follow. Times are in milliseconds, sizes in bytes; `None` is no
/// limit.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    pub(crate) delete: bool,
    pub(crate) compact: bool,
    pub(crate) retention_ms: Option<i64>,
    pub(crate) retention_bytes: Option<u64>,
    pub(crate) segment_bytes: u64,
    pub(crate) segment_ms: i64,
    pub(crate) max_message_bytes: usize,
    pub(crate) log_append_time: bool,
    pub(crate) before_max_ms: i64,
    pub(crate) after_max_ms: i64,
    pub(crate) min_cleanable_dirty_ratio: f64,
    pub(crate) min_compaction_lag_ms: i64,
    pub(crate) max_compaction_lag_ms: i64,
    pub(crate) delete_retention_ms: i64,
}

impl Settings {
    pub(crate) fn rules(&self) -> Rules {
        Rules {
            max_bytes: self.max_message_bytes,
            keys_required: self.compact,
            log_append_time: self.log_append_time,
            before_max_ms: self.before_max_ms,
            after_max_ms: self.after_max_ms,
        }
    }
}
