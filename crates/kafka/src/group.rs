//! Group consumers.
use crate::{AssignedPartition, Cluster, Error, Fetched, GroupConfig, OffsetToCommit, TopicPartition};
/// What happens to a member of a group.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// Partitions came.
    Assigned {
        /// Counts assignments of this consumer, from 1.
        epoch: u64,
        /// The ones that came; those held before are not repeated.
        partitions: Vec<AssignedPartition>,
    },
    /// Partitions are to be given up; work on them may be drained and committed until `done`.
    Revoked {
        /// The assignment epoch that is over for these.
        epoch: u64,
        /// The ones that leave.
        partitions: Vec<TopicPartition>,
        /// Call `done.done()`, or drop it; membership goes on then, or after the rebalance timeout.
        done: RevokeDone,
    },
    /// Partitions were taken away: fenced, or the session expired. Nothing may be committed.
    Lost {
        /// The ones that are gone.
        partitions: Vec<TopicPartition>,
    },
    /// Records came, or a position moved.
    Records(Fetched),
    /// A broker does not answer; the consumer keeps trying.
    Reconnecting {
        /// What happened.
        error: String,
    },
    /// Nothing more will come: authorization, unknown group protocol, fenced instance id.
    Fatal(Error),
}
/// Tells the membership that revoked partitions are drained.
#[derive(Debug)]
pub struct RevokeDone;
impl RevokeDone {
    /// Drained. Dropping means the same.
    pub fn done(self) {}
}
/// A member of a group.
#[derive(Debug)]
pub struct GroupConsumer;
impl GroupConsumer {
    /// Joins in the background.
    pub fn start(cluster: &Cluster, config: GroupConfig) -> GroupConsumer { unimplemented!() }
    /// What happens next. Cancel-safe.
    pub async fn next(&mut self) -> Event { unimplemented!() }
    /// Commits offsets under this membership.
    pub fn committer(&self) -> Committer { unimplemented!() }
    /// Stops handing out partitions until resumed. Unknown ones are ignored.
    pub fn pause(&mut self, tps: &[TopicPartition]) { unimplemented!() }
    /// Goes on with paused partitions.
    pub fn resume(&mut self, tps: &[TopicPartition]) { unimplemented!() }
    /// Leaves the group; a static member only stops, so that it may come back.
    pub async fn leave(self) -> Result<(), Error> { unimplemented!() }
    /// Leaves the group for good, as a static member too.
    pub async fn leave_for_good(self) -> Result<(), Error> { unimplemented!() }
}
/// Commits offsets.
#[derive(Debug, Clone)]
pub struct Committer;
impl Committer {
    /// Commits. [`Error::is_stale`] when a partition is no longer this member's.
    pub async fn commit(&self, offsets: Vec<(TopicPartition, OffsetToCommit)>) -> Result<(), Error> { unimplemented!() }
    /// As [`commit`](Self::commit), but stale also when a partition went away and came back since the `epoch`
    /// in which it was assigned.
    pub async fn commit_in(&self, epoch: u64, offsets: Vec<(TopicPartition, OffsetToCommit)>) -> Result<(), Error> { unimplemented!() }
}
