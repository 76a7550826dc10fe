//! The one place that reads the wall clock.

use std::time::{SystemTime, UNIX_EPOCH};

use anabranch_protocol::Timestamp;

/// Now.
pub(crate) fn now() -> Timestamp {
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis());
    Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
}
