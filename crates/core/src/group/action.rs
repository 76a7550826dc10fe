//! What goes in and out of a [`Membership`](super::Membership).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{Member, Subscription, TopicPartition};

/// What a membership is started with.
#[derive(Debug, Clone)]
pub struct Config {
    /// The topics subscribed to.
    pub topics: BTreeSet<Arc<str>>,
    /// `group.instance.id`, if static.
    pub instance_id: Option<String>,
    /// Time between heartbeats.
    pub heartbeat_interval: Duration,
    /// How long a revoked partition may drain.
    pub rebalance_timeout: Duration,
    /// How often the leader looks whether topics have come or grown.
    pub counts_interval: Duration,
    /// First wait after a failure; it doubles.
    pub initial_backoff: Duration,
    /// Longest wait between two tries.
    pub max_backoff: Duration,
    /// Seeds the jitter of the waits.
    pub seed: u64,
}

/// What the shell is to do. Of the requests at most one is under way, counts apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Find the group's coordinator; then [`Membership::coordinator`](super::Membership::coordinator).
    FindCoordinator,
    /// Send JoinGroup; then [`Membership::joined`](super::Membership::joined).
    Join(JoinRequest),
    /// Learn the number of partitions of these topics, beside everything else; then [`Membership::counts`](super::Membership::counts).
    LoadCounts(BTreeSet<Arc<str>>),
    /// Send SyncGroup; then [`Membership::synced`](super::Membership::synced).
    Sync(SyncRequest),
    /// Send Heartbeat; then [`Membership::heartbeat`](super::Membership::heartbeat).
    Heartbeat {
        /// Our id.
        member_id: String,
        /// Our generation.
        generation: i32,
    },
    /// Send LeaveGroup, whatever else is under way. No answer is waited for.
    Leave {
        /// Our id.
        member_id: String,
    },
    /// Tell the consumer.
    Notify(Notice),
}

/// A JoinGroup request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRequest {
    /// Our id; empty at first.
    pub member_id: String,
    /// What we say.
    pub subscription: Subscription,
}

/// A SyncGroup request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncRequest {
    /// Our id.
    pub member_id: String,
    /// The new generation.
    pub generation: i32,
    /// The leader's decision; empty from the others.
    pub assignments: BTreeMap<String, BTreeSet<TopicPartition>>,
}

/// A good answer to JoinGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinReply {
    /// Our id.
    pub member_id: String,
    /// The new generation.
    pub generation: i32,
    /// The leader's id.
    pub leader: String,
    /// All members; the leader alone is told.
    pub members: Vec<Member>,
    /// The broker kept the assignment, and the leader need not decide (KIP-814).
    pub skip_assignment: bool,
}

/// What the consumer is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Partitions came. With none: the group was joined, and there is nothing for us.
    Assigned {
        /// Counts assignments from 1.
        epoch: u64,
        /// What came.
        partitions: BTreeSet<TopicPartition>,
    },
    /// Partitions are to be drained; then [`Membership::drained`](super::Membership::drained).
    Revoked {
        /// Names this draining.
        drain: u64,
        /// What goes.
        partitions: BTreeSet<TopicPartition>,
    },
    /// Partitions are gone: nothing may be committed.
    Lost {
        /// What is gone.
        partitions: BTreeSet<TopicPartition>,
    },
    /// Something failed and is tried again.
    Retrying(Failure),
    /// It is over.
    Fatal(Failure),
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The broker's error code, and the member id that came with it, if any.
    Code(i16, Option<String>),
    /// No answer, or none that could be read.
    Transport(String),
}

/// How a request ended.
pub type Outcome<T> = Result<T, Failure>;
