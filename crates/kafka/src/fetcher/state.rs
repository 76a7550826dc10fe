//! One partition of a fetcher.

use std::time::{Duration, Instant};

use super::seek::Seek;
use crate::backoff::Backoff;

/// A batch that cannot be read is read again after this time, which doubles: another replica may have it whole, and a
/// person may remove it or raise a limit. Each try unpacks it anew, so they are few.
const CORRUPT_WAIT: Duration = Duration::from_secs(1);
/// The longest time between two tries.
const CORRUPT_MAX_WAIT: Duration = Duration::from_secs(60);

/// What is known of a partition that is being read.
pub(super) struct State {
    /// Names this `add`.
    pub(super) id: u64,
    pub(super) seek: Seek,
    pub(super) paused: bool,
    /// A request about it is under way.
    pub(super) busy: bool,
    /// Not read until it is added again.
    pub(super) suspended: bool,
    /// When it was last handed out, in ticks.
    pub(super) served: u64,
    pub(super) failures: u32,
    pub(super) backoff: Backoff,
    /// The waits while a batch cannot be read.
    pub(super) corrupt_backoff: Backoff,
    pub(super) not_before: Option<Instant>,
    /// High watermark and log start as last told.
    pub(super) told: (i64, i64),
}

impl State {
    pub(super) fn new(id: u64, seek: Seek, backoff: Backoff) -> Self {
        Self {
            id,
            seek,
            paused: false,
            busy: false,
            suspended: false,
            served: 0,
            failures: 0,
            backoff,
            corrupt_backoff: Backoff::between(CORRUPT_WAIT, CORRUPT_MAX_WAIT),
            not_before: None,
            told: (-1, -1),
        }
    }
}
