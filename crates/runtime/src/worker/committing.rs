//! Commits of the frontier, and partitions that are let go.

use std::time::Instant;

use anabranch_kafka::{Committer, Error, TopicPartition};
use futures::future::BoxFuture;

use super::partitions::ToCommit;
use super::{LAST_COMMIT, Loop};

/// A commit that has ended.
pub(super) struct Committed {
    commits: Vec<ToCommit>,
    result: Result<(), Error>,
    /// Metadata of so many bytes was more than the broker takes; it was committed without.
    refused: Option<usize>,
}

impl Loop {
    pub(super) fn start_commit(&mut self) {
        if self.commit.is_some() {
            return;
        }
        let commits = self.partitions.to_commit(|_| true);
        if !commits.is_empty() {
            self.commit = Some(Box::pin(commit(self.committer.clone(), commits)));
        }
    }

    pub(super) fn on_committed(&mut self, committed: Committed) {
        self.commit = None;
        if let Some(bytes) = committed.refused {
            let limit = self.partitions.metadata_refused(bytes);
            tracing::warn!(
                bytes,
                limit,
                "the broker takes less metadata with a commit (offset.metadata.max.bytes); committed without, writing less \
                 from now on: a crash repeats more"
            );
        }
        match committed.result {
            Ok(()) => {
                self.partitions.committed(&committed.commits);
                committed.commits.iter().for_each(|c| self.worker.processor.committed(c.tp(), &c.covers()));
                self.worker.metrics.committed("ok");
            }
            // The assignment is gone; its partitions are revoked or lost by an event of their own.
            Err(error) if error.is_stale() => self.worker.metrics.committed("stale"),
            Err(error) => {
                tracing::warn!(%error, "could not commit, trying again");
                self.worker.metrics.committed("failed");
            }
        }
    }

    /// Lets partitions go whose work has ended, or whose time is up.
    pub(super) async fn settle_revocations(&mut self) {
        let mut waiting = Vec::new();
        for revocation in std::mem::take(&mut self.revocations) {
            let running = self.queue.running_in(&revocation.partitions);
            if running > 0 && Instant::now() < revocation.until {
                waiting.push(revocation);
                continue;
            }
            if running > 0 {
                tracing::warn!(running, "drain time is up; what still runs commits nothing and is delivered again");
            }
            self.commit_last(|tp| revocation.partitions.contains(tp)).await;
            self.worker.processor.leaving(&revocation.partitions).await;
            self.worker.processor.left(&revocation.partitions);
            revocation.partitions.iter().for_each(|tp| self.partitions.remove(tp));
            self.worker.metrics.assigned.set(self.partitions.len() as i64);
            revocation.done.done();
        }
        self.revocations = waiting;
    }

    /// Commits once more, in order after a commit that is under way.
    pub(super) async fn commit_last(&mut self, which: impl Fn(&TopicPartition) -> bool) {
        if let Some(commit) = self.commit.take()
            && let Ok(ended) = tokio::time::timeout(LAST_COMMIT, commit).await
        {
            self.on_committed(ended);
        }
        let commits = self.partitions.to_commit(which);
        if commits.is_empty() {
            return;
        }
        match tokio::time::timeout(LAST_COMMIT, commit(self.committer.clone(), commits)).await {
            Ok(committed) => self.on_committed(committed),
            Err(_) => tracing::warn!("the last commit was not acknowledged; some work will be repeated"),
        }
    }
}

/// Commits; without metadata where the broker takes less of it.
async fn commit(committer: Committer, commits: Vec<ToCommit>) -> Committed {
    let ask = |commits: &[ToCommit]| committer.commit_each(commits.iter().map(ToCommit::request).collect());
    match ask(&commits).await {
        Err(error) if error.is_metadata_too_large() => {
            let refused = commits.iter().map(ToCommit::metadata_len).max();
            let commits: Vec<ToCommit> = commits.into_iter().map(ToCommit::bare).collect();
            let result = ask(&commits).await;
            Committed { commits, result, refused }
        }
        result => Committed { commits, result, refused: None },
    }
}

/// Waits for the commit under way, or for ever if there is none.
pub(super) async fn wait_for(commit: &mut Option<BoxFuture<'static, Committed>>) -> Committed {
    match commit {
        Some(commit) => commit.await,
        None => std::future::pending().await,
    }
}
