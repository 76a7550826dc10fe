//! The task that keeps a membership alive: the shell around [`Membership`].
//!
//! It has a connection of its own and awaits nothing but answers, commands and time, so that nothing an agent
//! does can miss a heartbeat.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use anabranch_core::group::{Action, Config, Failure, JoinReply, Membership, Notice, Outcome};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};

use super::{
    coordinator::Coordinator,
    requests::{Requests, failure},
};
use crate::{cluster::Cluster, config::GroupConfig, error::Error, link::Link, types::TopicPartition};

/// How often the leader looks whether topics have come or grown.
const COUNTS_INTERVAL: Duration = Duration::from_secs(5);

/// Who commits, and for what.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Identity {
    /// Member id and generation.
    pub(crate) member: Option<(String, i32)>,
    /// Whether the coordinator takes commits under it now.
    pub(crate) can_commit: bool,
    /// The partitions held, each with the epoch in which it came.
    pub(crate) held: BTreeMap<TopicPartition, u64>,
    /// It is over: nothing will ever be committed again.
    pub(super) over: bool,
}

/// What the consumer asks of the task.
pub(super) enum Command {
    Drained(u64),
    Leave { for_good: bool, left: oneshot::Sender<Result<(), Error>> },
}

enum Reply {
    Coordinator(Outcome<String>),
    Joined(Outcome<JoinReply>),
    Counts(Outcome<BTreeMap<Arc<str>, i32>>),
    Synced(Outcome<BTreeSet<TopicPartition>>),
    Heartbeat(Outcome<()>),
}

/// The consumer's ends of the channels.
pub(super) struct Handle {
    pub(super) commands: mpsc::UnboundedSender<Command>,
    pub(super) notices: mpsc::UnboundedReceiver<Notice>,
    pub(super) identity: watch::Receiver<Identity>,
    pub(super) task: tokio::task::AbortHandle,
}

struct Driver {
    machine: Membership,
    requests: Arc<Requests>,
    coordinator: Coordinator,
    address: String,
    replies: JoinSet<Reply>,
    notices: mpsc::UnboundedSender<Notice>,
    identity: watch::Sender<Identity>,
    leaving: Option<String>,
}

/// Starts the task.
pub(super) fn spawn(cluster: &Cluster, config: &GroupConfig, coordinator: Coordinator) -> Handle {
    let (commands, command_queue) = mpsc::unbounded_channel();
    let (notices, notice_queue) = mpsc::unbounded_channel();
    let (identity, identity_view) = watch::channel(Identity::default());
    let machine = Membership::new(
        Instant::now(),
        Config {
            topics: config.topics.iter().map(|t| Arc::from(t.as_str())).collect(),
            instance_id: config.instance_id.clone(),
            heartbeat_interval: config.heartbeat_interval.min(config.session_timeout / 3),
            rebalance_timeout: config.rebalance_timeout,
            counts_interval: COUNTS_INTERVAL,
            initial_backoff: cluster.config().initial_backoff,
            max_backoff: cluster.config().max_backoff,
            seed: rand::random(),
        },
    );
    let requests = Requests { cluster: cluster.clone(), config: config.clone(), link: Link::default() };
    let driver = Driver {
        machine,
        requests: Arc::new(requests),
        coordinator,
        address: String::new(),
        replies: JoinSet::new(),
        notices,
        identity,
        leaving: None,
    };
    let task = tokio::spawn(driver.run(command_queue)).abort_handle();
    Handle { commands, notices: notice_queue, identity: identity_view, task }
}

impl Driver {
    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        let actions = self.machine.poll(Instant::now());
        self.perform(actions);
        while !self.machine.is_over() {
            let wake = self.machine.next_wake().unwrap_or_else(|| Instant::now() + COUNTS_INTERVAL);
            let actions = tokio::select! {
                Some(reply) = self.replies.join_next(), if !self.replies.is_empty() => self.take(reply),
                command = commands.recv() => match command {
                    Some(Command::Drained(drain)) => self.machine.drained(Instant::now(), drain),
                    Some(Command::Leave { for_good, left }) => {
                        let actions = self.machine.leave(for_good);
                        self.perform(actions);
                        // Whoever asked may have stopped waiting.
                        drop(left.send(self.finish().await));
                        return;
                    }
                    None => return,
                },
                () = tokio::time::sleep_until(wake.into()) => self.machine.poll(Instant::now()),
            };
            self.perform(actions);
        }
        // Fatal: only leaving is still answered.
        while let Some(command) = commands.recv().await {
            if let Command::Leave { left, .. } = command {
                drop(left.send(Ok(())));
            }
        }
    }

    fn take(&mut self, reply: Result<Reply, tokio::task::JoinError>) -> Vec<Action> {
        let now = Instant::now();
        match reply {
            Ok(Reply::Coordinator(Ok(address))) => {
                self.address = address;
                self.machine.coordinator(now, Ok(()))
            }
            Ok(Reply::Coordinator(Err(failure))) => self.machine.coordinator(now, Err(failure)),
            Ok(Reply::Joined(outcome)) => self.machine.joined(now, outcome),
            Ok(Reply::Counts(outcome)) => self.machine.counts(now, outcome),
            Ok(Reply::Synced(outcome)) => self.machine.synced(now, outcome),
            Ok(Reply::Heartbeat(outcome)) => self.machine.heartbeat(now, outcome),
            // A request's task cannot be aborted while this one runs; a panic in it counts as a lost answer.
            Err(e) => self.machine.heartbeat(now, Err(Failure::Transport(e.to_string()))),
        }
    }

    fn perform(&mut self, actions: Vec<Action>) {
        // First who may commit, then what the consumer hears of it.
        self.publish();
        for action in actions {
            tracing::trace!(group = %self.coordinator.group, ?action, "membership");
            match action {
                Action::Notify(notice) => {
                    self.log(&notice);
                    // A consumer that is being dropped hears nothing.
                    drop(self.notices.send(notice));
                }
                Action::Leave { member_id } => self.leaving = Some(member_id),
                request => self.send(request),
            }
        }
    }

    fn publish(&self) {
        let identity = Identity {
            member: self.machine.identity().map(|(id, generation)| (id.to_owned(), generation)),
            can_commit: self.machine.can_commit(),
            held: self.machine.committable().clone(),
            over: self.machine.is_over(),
        };
        self.identity.send_if_modified(|current| {
            let changed = *current != identity;
            *current = identity;
            changed
        });
    }

    fn log(&self, notice: &Notice) {
        let (group, member) = (&*self.coordinator.group, self.machine.identity());
        match notice {
            Notice::Retrying(failure) => tracing::warn!(group, ?failure, "group request failed; trying again"),
            Notice::Fatal(failure) => tracing::error!(group, ?failure, "group membership is over"),
            Notice::Lost { partitions } => tracing::warn!(group, partitions = partitions.len(), "partitions lost"),
            Notice::Assigned { epoch, partitions } => {
                tracing::info!(group, ?member, epoch, partitions = partitions.len(), "partitions assigned");
            }
            Notice::Revoked { partitions, .. } => {
                tracing::info!(group, ?member, partitions = partitions.len(), "partitions revoked");
            }
        }
    }

    fn send(&mut self, action: Action) {
        let (requests, address) = (self.requests.clone(), self.address.clone());
        match action {
            Action::FindCoordinator => {
                let coordinator = self.coordinator.clone();
                self.replies.spawn(async move {
                    coordinator.forget();
                    Reply::Coordinator(coordinator.address().await.map_err(|e| failure(&e)))
                });
            }
            Action::Join(join) => {
                self.replies.spawn(async move { Reply::Joined(requests.join(&address, join).await) });
            }
            Action::LoadCounts(topics) => {
                self.replies.spawn(async move { Reply::Counts(requests.counts(topics).await) });
            }
            Action::Sync(sync) => {
                self.replies.spawn(async move { Reply::Synced(requests.sync(&address, sync).await) });
            }
            Action::Heartbeat { member_id, generation } => {
                self.replies
                    .spawn(async move { Reply::Heartbeat(requests.heartbeat(&address, &member_id, generation).await) });
            }
            Action::Leave { .. } | Action::Notify(_) => {}
        }
    }

    /// Leaves, and ends whatever is under way.
    async fn finish(&mut self) -> Result<(), Error> {
        self.publish();
        self.replies.abort_all();
        match self.leaving.take() {
            Some(member_id) if !self.address.is_empty() => self.requests.leave(&self.address, &member_id).await,
            _ => Ok(()),
        }
    }
}
