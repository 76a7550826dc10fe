//! A waiting room: the next few records of one partition of a retry topic.
//!
//! All that is in one topic waits equally long, so the order of the log is the order in which it comes out, and only the
//! head is looked at. What does not fit is left in the log, and read when its turn is near.

use std::collections::VecDeque;
use std::time::Duration;

use anabranch_protocol::Timestamp;

/// How long before the last one comes out the next ones are read, in ms.
const READ_AHEAD_MS: i64 = 250;

#[derive(Debug)]
struct Waiting<T> {
    out_at: Timestamp,
    bytes: usize,
    item: T,
}

/// The records at the head of one partition.
#[derive(Debug)]
pub struct Room<T> {
    delay: Duration,
    bytes: usize,
    waiting: VecDeque<Waiting<T>>,
}

impl<T> Room<T> {
    /// A room whose records wait for `delay` from their timestamps on.
    pub fn new(delay: Duration) -> Self {
        Self { delay, bytes: 0, waiting: VecDeque::new() }
    }

    /// Whether a record of so many bytes fits: one always does, more as long as all are at most `most_bytes`.
    pub fn fits(&self, bytes: usize, most_bytes: usize) -> bool {
        self.waiting.is_empty() || self.bytes.saturating_add(bytes) <= most_bytes
    }

    /// Takes a record in that was written at `written`. A timestamp is untrusted: whatever it says, nothing waits for
    /// longer than the delay from now on.
    pub fn take_in(&mut self, now: Timestamp, written: Timestamp, bytes: usize, item: T) {
        self.bytes += bytes;
        let out_at = written.min(now).plus(self.delay);
        self.waiting.push_back(Waiting { out_at, bytes, item });
    }

    /// The head, if its time has come.
    pub fn next_out(&mut self, now: Timestamp) -> Option<T> {
        let head = self.waiting.pop_front_if(|head| head.out_at <= now)?;
        self.bytes -= head.bytes;
        Some(head.item)
    }

    /// Whether the next records of the log are to be read.
    pub fn wants_more(&self, now: Timestamp) -> bool {
        self.read_at().is_none_or(|at| at <= now)
    }

    /// When the head comes out. `None`: nothing waits.
    pub fn out_at(&self) -> Option<Timestamp> {
        self.waiting.front().map(|head| head.out_at)
    }

    /// When more is to be read. `None`: nothing waits, so at once.
    pub fn read_at(&self) -> Option<Timestamp> {
        self.waiting.back().map(|last| Timestamp::from_millis(last.out_at.as_millis() - READ_AHEAD_MS))
    }

    /// Whether nothing waits here.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Bytes of what waits here.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What waits here, the head first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.waiting.iter().map(|waiting| &waiting.item)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn room() -> Room<u32> {
        Room::new(Duration::from_secs(5))
    }

    #[test]
    fn the_head_comes_out_when_its_time_has_come() {
        let mut room = room();
        room.take_in(at(100), at(0), 10, 1);
        room.take_in(at(100), at(50), 10, 2);
        assert_eq!((room.next_out(at(4_999)), room.out_at()), (None, Some(at(5_000))));
        assert_eq!(room.read_at(), Some(at(4_800)), "before the last one comes out");
        assert!(!room.wants_more(at(4_799)) && room.wants_more(at(4_800)));
        assert_eq!((room.next_out(at(5_000)), room.next_out(at(5_000))), (Some(1), None));
        assert_eq!((room.next_out(at(9_000)), room.is_empty(), room.bytes()), (Some(2), true, 0));
        assert_eq!((room.out_at(), room.read_at(), room.wants_more(at(0))), (None, None, true));
    }

    #[test]
    fn one_always_fits_and_more_up_to_the_bound() {
        let mut room = room();
        assert!(room.fits(500, 100));
        room.take_in(at(0), at(0), 500, 1);
        assert!(!room.fits(1, 100));
        assert_eq!(room.next_out(at(5_000)), Some(1));
        room.take_in(at(5_000), at(0), 60, 2);
        assert!(room.fits(40, 100) && !room.fits(41, 100));
    }

    #[test]
    fn a_timestamp_from_the_future_waits_no_longer_than_others() {
        let mut room = room();
        room.take_in(at(1_000), at(i64::MAX), 1, 1);
        room.take_in(at(1_000), at(-1), 1, 2);
        assert_eq!(room.next_out(at(5_999)), None);
        assert_eq!((room.next_out(at(6_000)), room.next_out(at(6_000))), (Some(1), Some(2)));
    }

    proptest! {
        #[test]
        fn comes_out_in_order_and_never_early(gaps in prop::collection::vec(0i64..2_000, 1..40), step in 1i64..700) {
            let mut room = Room::new(Duration::from_secs(5));
            let mut written = 0;
            let times: Vec<i64> = gaps.iter().map(|gap| { written += gap; written }).collect();
            for (i, time) in times.iter().enumerate() {
                room.take_in(at(*time), at(*time), 1, i);
            }
            let (mut now, mut out) = (0, Vec::new());
            while !room.is_empty() {
                while let Some(i) = room.next_out(at(now)) {
                    prop_assert!(now >= times[i] + 5_000, "never early");
                    prop_assert!(now < times[i] + 5_000 + step, "and as soon as it is looked at");
                    out.push(i);
                }
                now += step;
            }
            prop_assert!(out.is_sorted() && out.len() == times.len());
        }
    }
}
