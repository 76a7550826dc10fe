//! The offset frontier of one partition: the lowest offset not yet done.
//!
//! Only offsets really received are tracked, so that compaction gaps, control batches and aborted records need no
//! special case. What is done above the frontier will go into the commit's metadata; its place is [`Frontier::done_above`].

use std::collections::BTreeMap;

/// Frontier of one partition within one assignment.
#[derive(Debug, Clone)]
pub struct Frontier {
    /// Received; the value says whether it is done. Done ones below the lowest open one are dropped.
    seen: BTreeMap<i64, bool>,
    open: usize,
    next: i64,
    committed: Option<i64>,
}

impl Frontier {
    /// Starts at the offset that the assignment starts from. `committed` is what the group had committed, if anything:
    /// a group that has committed nothing commits its start, so that its lag can be seen.
    pub fn new(start: i64, committed: Option<i64>) -> Self {
        Self { seen: BTreeMap::new(), open: 0, next: start, committed }
    }

    /// An offset was received. `false` if it was received before, or lies before the start: not to be worked on again.
    pub fn receive(&mut self, offset: i64) -> bool {
        if offset < self.next {
            return false;
        }
        self.seen.insert(offset, false);
        self.open += 1;
        self.next = offset + 1;
        true
    }

    /// Reading went on to `next` without records in between (control batch, compaction gap, aborted records).
    pub fn skip_to(&mut self, next: i64) {
        self.next = self.next.max(next);
    }

    /// An offset is done. `false` if it was not open: completed twice, or of another assignment.
    pub fn done(&mut self, offset: i64) -> bool {
        match self.seen.get_mut(&offset) {
            Some(done) if !*done => *done = true,
            _ => return false,
        }
        self.open -= 1;
        while let Some(first) = self.seen.first_entry().filter(|e| *e.get()) {
            first.remove();
        }
        true
    }

    /// The lowest offset not done: what a commit says.
    pub fn offset(&self) -> i64 {
        self.seen.first_key_value().map_or(self.next, |(offset, _)| *offset)
    }

    /// The frontier, if it is past what was last committed.
    pub fn to_commit(&self) -> Option<i64> {
        let offset = self.offset();
        self.committed.is_none_or(|committed| offset > committed).then_some(offset)
    }

    /// A commit was acknowledged.
    pub fn committed(&mut self, offset: i64) {
        self.committed = self.committed.max(Some(offset));
    }

    /// Received and not done.
    pub fn open(&self) -> usize {
        self.open
    }

    /// Offsets done above the frontier, ascending.
    pub fn done_above(&self) -> impl Iterator<Item = i64> + '_ {
        self.seen.iter().filter(|(_, done)| **done).map(|(offset, _)| *offset)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_lowest_open_offset_holds_the_frontier() {
        let mut f = Frontier::new(10, Some(10));
        for o in [10, 11, 15] {
            assert!(f.receive(o));
        }
        assert!(f.done(11) && f.done(15));
        assert_eq!((f.offset(), f.to_commit()), (10, None));
        assert_eq!(f.done_above().collect::<Vec<_>>(), [11, 15]);
        assert!(f.done(10));
        assert_eq!(f.to_commit(), Some(16));
        f.committed(16);
        assert_eq!(f.to_commit(), None);
    }

    #[test]
    fn a_group_without_a_commit_commits_its_start() {
        let mut f = Frontier::new(0, None);
        assert_eq!(f.to_commit(), Some(0));
        f.committed(0);
        assert_eq!(f.to_commit(), None);
        // A committed offset that the log no longer has: reading starts elsewhere, and says so.
        assert_eq!(Frontier::new(7, Some(3)).to_commit(), Some(7));
    }

    #[test]
    fn a_gap_moves_the_frontier_only_when_nothing_is_open() {
        let mut f = Frontier::new(0, None);
        f.receive(0);
        f.skip_to(9);
        assert_eq!(f.offset(), 0);
        f.done(0);
        assert_eq!(f.offset(), 9);
        assert!(!f.receive(3), "before the position: a repeat");
    }

    proptest! {
        #[test]
        fn never_passes_an_open_offset(gaps in prop::collection::vec(1i64..4, 1..60), order in any::<u64>()) {
            let mut f = Frontier::new(0, None);
            let mut open = BTreeSet::new();
            let mut at = -1;
            for gap in gaps {
                at += gap;
                prop_assert!(f.receive(at));
                open.insert(at);
            }
            let mut seed = order;
            while !open.is_empty() {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let pick = *open.iter().nth((seed >> 33) as usize % open.len()).unwrap();
                open.remove(&pick);
                prop_assert!(f.done(pick));
                prop_assert!(!f.done(pick));
                prop_assert_eq!(f.offset(), open.first().copied().unwrap_or(at + 1));
                prop_assert_eq!(f.open(), open.len());
            }
        }
    }
}
