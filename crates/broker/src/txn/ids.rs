//! Producer ids: every one is given out once, also across restarts. A block is reserved in the journal at a time.

/// Ids reserved by one record.
const BLOCK: i64 = 1000;

/// Ids not given out yet.
#[derive(Debug, Default)]
pub(super) struct Ids {
    next: i64,
    below: i64,
}

impl Ids {
    /// After a restart: what was reserved counts as given out.
    pub(super) fn from(below: i64) -> Self {
        Self { next: below, below }
    }

    /// What has to be reserved before the next [`Ids::take`], if anything.
    pub(super) fn must_reserve(&self) -> Option<i64> {
        (self.next >= self.below).then(|| self.below.saturating_add(BLOCK))
    }

    pub(super) fn reserve(&mut self, below: i64) {
        self.below = below;
    }

    pub(super) fn take(&mut self) -> i64 {
        let id = self.next;
        self.next = self.next.saturating_add(1);
        id
    }

    /// Everything below is given out, or is to count as such after a restart.
    pub(super) fn below(&self) -> i64 {
        self.below
    }
}
