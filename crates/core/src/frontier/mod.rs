//! The offset frontier of one partition: the lowest offset not yet done, and what is done above it.
//!
//! Only what is open is tracked. Below the reading position, what is not open is done, or was never received
//! (compaction gaps, control batches, aborted records), which comes to the same: it needs no special case, and a
//! partition with one slow record costs no memory for the thousands that are done behind it.
//!
//! A commit says both, from one snapshot: the frontier as the offset, what is done above it as [`metadata`]. The next
//! owner restores it, so that a crash repeats at most what was in flight and what was done since the last commit.

pub mod metadata;
#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "a range is what is meant")]
mod tests;

use std::cell::Cell;
use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

use metadata::Size;

/// Frontier of one partition within one assignment.
#[derive(Debug, Clone)]
pub struct Frontier {
    /// Received and not done.
    open: BTreeSet<i64>,
    /// Where reading goes on.
    next: i64,
    highest_done: Option<i64>,
    /// Done in an earlier assignment and not read again yet; ascending, disjoint, ending past `next`.
    restored: VecDeque<Range<i64>>,
    /// Counts completions.
    revision: u64,
    /// The frontier and the revision that were last committed.
    committed: Option<(i64, u64)>,
    /// The last exact answer of [`is_full`](Self::is_full): the limit it was for, the revision it was given at.
    full: Cell<Option<(usize, u64, bool)>>,
}

/// Completions after which the room in the metadata is measured anew: measuring walks over all that is open, and each
/// completion changes a few bytes at most.
const MEASURE_EVERY: u64 = 64;

/// What one commit says: offset and metadata belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The frontier.
    pub offset: i64,
    /// What is done above it; empty if nothing is.
    pub metadata: String,
    revision: u64,
}

impl Snapshot {
    /// The same frontier without what is done above it.
    #[must_use]
    pub fn without_metadata(self) -> Self {
        Self { metadata: String::new(), ..self }
    }
}

impl Frontier {
    /// Starts at the offset that the assignment starts from. `committed` is what the group had committed, if anything:
    /// a group that has committed nothing commits its start, so that its lag can be seen.
    pub fn new(start: i64, committed: Option<i64>) -> Self {
        Self {
            open: BTreeSet::new(),
            next: start,
            highest_done: None,
            restored: VecDeque::new(),
            revision: 0,
            committed: committed.filter(|at| *at >= start).map(|at| (at, 0)),
            full: Cell::new(None),
        }
    }

    /// What was done above the committed offset before, as [`metadata::decode`] gives it: ascending and disjoint.
    /// These offsets are not worked on again.
    pub fn restore(&mut self, done: Vec<Range<i64>>) {
        self.restored = done.into_iter().filter(|range| range.end > self.next).collect();
    }

    /// An offset was received. `false` if it is not to be worked on: it was received before, lies before the start, or
    /// was done in an earlier assignment.
    pub fn receive(&mut self, offset: i64) -> bool {
        if offset < self.next {
            return false;
        }
        let done = self.was_done(offset);
        self.skip_to(offset + 1);
        if done {
            self.highest_done = self.highest_done.max(Some(offset));
        } else {
            self.open.insert(offset);
        }
        !done
    }

    /// Whether an offset that was not read yet was done in an earlier assignment.
    pub fn was_done(&self, offset: i64) -> bool {
        self.restored.iter().find(|range| range.end > offset).is_some_and(|range| range.contains(&offset))
    }

    /// Reading went on to `next` without records in between (control batch, compaction gap, aborted records).
    pub fn skip_to(&mut self, next: i64) {
        self.next = self.next.max(next);
        while self.restored.front().is_some_and(|range| range.end <= self.next) {
            self.restored.pop_front();
        }
    }

    /// An offset is done. `false` if it was not open: completed twice, or of another assignment.
    pub fn done(&mut self, offset: i64) -> bool {
        if !self.open.remove(&offset) {
            return false;
        }
        self.highest_done = self.highest_done.max(Some(offset));
        self.revision += 1;
        true
    }

    /// The lowest offset not done: what a commit says.
    pub fn offset(&self) -> i64 {
        self.open.first().copied().unwrap_or(self.next)
    }

    /// Where reading goes on.
    pub fn next(&self) -> i64 {
        self.next
    }

    /// The highest offset known to be done above the frontier, if there is one.
    pub fn highest_done(&self) -> Option<i64> {
        let read = self.highest_done.filter(|offset| *offset > self.offset());
        self.restored.back().map(|range| range.end - 1).or(read)
    }

    /// What is to be committed, if it is more than what was last committed. The metadata has at most `limit` bytes;
    /// where that is too few, the highest of what is done is left out.
    pub fn to_commit(&self, limit: usize) -> Option<Snapshot> {
        let offset = self.offset();
        let changed = self.committed.is_none_or(|(at, revision)| offset > at || revision != self.revision);
        changed.then(|| Snapshot {
            offset,
            metadata: metadata::encode(offset, &self.done_above(), limit),
            revision: self.revision,
        })
    }

    /// A commit was acknowledged.
    pub fn committed(&mut self, snapshot: &Snapshot) {
        self.committed = self.committed.max(Some((snapshot.offset, snapshot.revision)));
    }

    /// Received and not done.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// Offsets done above the frontier, as ascending ranges that do not touch. Offsets that were never received may lie
    /// within a range, never one that is open.
    pub fn done_above(&self) -> Vec<Range<i64>> {
        let from = self.offset();
        let mut ranges: Vec<Range<i64>> = Vec::new();
        let mut push = |range: Range<i64>| match ranges.last_mut() {
            _ if range.is_empty() => {}
            Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
            _ => ranges.push(range),
        };
        if let Some(highest) = self.highest_done.filter(|highest| *highest > from) {
            let mut at = from;
            for open in self.open.range(from..=highest) {
                push(at..*open);
                at = open + 1;
            }
            push(at..highest + 1);
        }
        self.restored.iter().for_each(|range| push(range.start.max(self.next)..range.end));
        ranges
    }

    /// Whether the metadata would take more than three quarters of `limit` bytes: time to start no new work above
    /// [`highest_done`](Self::highest_done) until the frontier moves. What runs may still fill the last quarter. Near
    /// the limit the answer may be some completions old.
    pub fn is_full(&self, limit: usize) -> bool {
        let most = limit - limit / 4;
        let Some(highest) = self.highest_done() else { return false };
        // Cheap bounds first: this is asked for every record that starts.
        let span = highest - self.offset() + 1;
        if Size::at_most(span, self.open.len() + self.restored.len() + 1) <= most {
            return false;
        }
        match self.full.get() {
            Some((of, at, full)) if of == limit && self.revision - at < MEASURE_EVERY => full,
            _ => {
                let full = Size::of(self.offset(), &self.done_above()) > most;
                self.full.set(Some((limit, self.revision, full)));
                full
            }
        }
    }
}
