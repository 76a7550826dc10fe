//! Membership of a consumer group, without I/O: who owns which partition, and when what is to be sent.
//!
//! [`Membership`] is the state machine of one member of a classic group with cooperative rebalancing (KIP-429):
//! partitions that stay are never interrupted, partitions that leave are drained first, and nobody is given a
//! partition that another member still claims. [`assign`] is the leader's part, a pure function.
//!
//! A shell performs the [`Action`]s and reports back; `now` is an argument of every call.

mod action;
mod assignor;
mod codes;
mod membership;

use std::sync::Arc;

pub use action::{Action, Config, Failure, JoinReply, JoinRequest, Notice, Outcome, SyncRequest};
pub use assignor::{Member, Subscription, assign};
pub use codes::Verdict;
pub use membership::Membership;

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition's number.
    pub partition: i32,
}

impl TopicPartition {
    /// Names a partition.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl std::fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

#[cfg(test)]
mod assignor_tests;
#[cfg(test)]
mod tests;
