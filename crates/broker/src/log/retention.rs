//! Deleting the old: by time, by size, and the bookkeeping that goes with it.

use std::io;

use super::{core::Log, settings::Settings};

/// How long a producer that stopped is remembered, in milliseconds; Apache Kafka's default.
const PRODUCER_EXPIRY: i64 = 24 * 60 * 60 * 1000;

impl Log {
    /// Rolls, deletes and forgets what the settings say is due.
    pub(super) fn retain(&mut self, settings: &Settings, now: i64) -> io::Result<()> {
        let age = self.active.first_append().map_or(0, |first| now.saturating_sub(first));
        let due = settings.segment_ms.min(if settings.compact { settings.max_compaction_lag_ms } else { i64::MAX });
        if age >= due {
            self.roll();
        }
        self.producers.expire(now.saturating_sub(PRODUCER_EXPIRY));
        if !settings.delete {
            return Ok(());
        }
        if let Some(retention) = settings.retention_ms {
            self.delete_older(now.saturating_sub(retention))?;
        }
        if let Some(retention) = settings.retention_bytes {
            self.delete_over(retention)?;
        }
        Ok(())
    }

    /// Deletes whole segments whose latest record is older than `time`, the active one too.
    fn delete_older(&mut self, time: i64) -> io::Result<()> {
        let stable = self.stable();
        if self.active.latest() >= 0 && self.active.latest() < time {
            self.roll();
        }
        let expired =
            self.closed.iter().take_while(|segment| segment.latest() < time && segment.next_offset() <= stable);
        match expired.last().map(super::segment::Segment::next_offset) {
            Some(start) => self.move_start(start),
            None => Ok(()),
        }
    }

    /// Deletes the oldest segments while what stays still has `retention` bytes, as Apache Kafka does.
    fn delete_over(&mut self, retention: u64) -> io::Result<()> {
        let (stable, mut size, mut start) = (self.stable(), self.size(), None);
        for segment in &self.closed {
            if size.saturating_sub(segment.len()) < retention || segment.next_offset() > stable {
                break;
            }
            size -= segment.len();
            start = Some(segment.next_offset());
        }
        start.map_or(Ok(()), |start| self.move_start(start))
    }
}
