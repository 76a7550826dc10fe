//! A group member on a task of its own, and what it has seen.

use std::{collections::BTreeMap, time::Duration};

use anabranch_kafka::{
    AssignedPartition, Cluster, Committer, Error, Event, GroupConfig, GroupConsumer, Record, RevokeDone, TopicPartition,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::Instant,
};

pub const SESSION: Duration = Duration::from_secs(6);

pub fn config(group: &str, topics: &[&str]) -> GroupConfig {
    GroupConfig {
        session_timeout: SESSION,
        rebalance_timeout: Duration::from_secs(10),
        heartbeat_interval: Duration::from_secs(1),
        ..GroupConfig::new(group, topics.iter().map(|t| (*t).to_owned()).collect())
    }
}

pub struct Member {
    pub committer: Committer,
    /// What it holds, with the epoch in which it came.
    pub held: BTreeMap<TopicPartition, (u64, AssignedPartition)>,
    pub records: Vec<Record>,
    /// Assigned, revoked and lost, in words.
    pub log: Vec<String>,
    pub reconnects: Vec<String>,
    pub fatal: Option<Error>,
    /// Drains that wait for the case to say so; with `drains_at_once`, none.
    pub draining: Vec<(Vec<TopicPartition>, RevokeDone)>,
    pub drains_at_once: bool,
    events: mpsc::UnboundedReceiver<Event>,
    leave: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), Error>>,
}

impl Member {
    pub fn start(cluster: &Cluster, config: GroupConfig) -> Self {
        let mut consumer = GroupConsumer::start(cluster, config);
        let committer = consumer.committer();
        let (sender, events) = mpsc::unbounded_channel();
        let (leave, mut leaving) = oneshot::channel();
        let task = tokio::spawn(async move {
            loop {
                tokio::select! {
                    event = consumer.next() => drop(sender.send(event)),
                    _ = &mut leaving => return consumer.leave().await,
                }
            }
        });
        Self {
            committer,
            held: BTreeMap::new(),
            records: Vec::new(),
            log: Vec::new(),
            reconnects: Vec::new(),
            fatal: None,
            draining: Vec::new(),
            drains_at_once: true,
            events,
            leave: Some(leave),
            task,
        }
    }

    /// As kill -9 does: nobody is told.
    pub fn kill(self) {
        self.task.abort();
    }

    pub async fn leave(mut self) -> Result<(), Error> {
        self.leave.take().unwrap().send(()).unwrap();
        (&mut self.task).await.unwrap()
    }

    /// Takes in what happens until `done`; fails when that takes longer than `limit`.
    pub async fn until(&mut self, limit: Duration, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + limit;
        while !done(self) {
            match tokio::time::timeout_at(deadline, self.events.recv()).await {
                Ok(event) => self.take(event.expect("the member's task has ended")),
                Err(_) => panic!("not within {limit:?}: {what}\nlog {:?}\nreconnects {:?}", self.log, self.reconnects),
            }
        }
    }

    /// Takes in what happens for a time.
    pub async fn watch(&mut self, time: Duration) {
        let deadline = Instant::now() + time;
        while let Ok(Some(event)) = tokio::time::timeout_at(deadline, self.events.recv()).await {
            self.take(event);
        }
    }

    pub async fn until_held(&mut self, limit: Duration, count: usize) {
        self.until(limit, &format!("{count} partitions"), |m| m.held.len() == count).await;
    }

    pub async fn until_records(&mut self, limit: Duration, count: usize) {
        self.until(limit, &format!("{count} records"), |m| m.records.len() >= count).await;
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Assigned { epoch, partitions } => {
                self.log.push(format!("assigned {}", partitions.len()));
                for p in partitions {
                    let before = self.held.insert(p.tp.clone(), (epoch, p.clone()));
                    assert!(before.is_none(), "{} came although it is held", p.tp);
                }
            }
            Event::Revoked { partitions, done, .. } => {
                self.log.push(format!("revoked {}", partitions.len()));
                if self.drains_at_once {
                    self.forget(&partitions);
                    done.done();
                } else {
                    self.draining.push((partitions, done));
                }
            }
            Event::Lost { partitions } => {
                self.log.push(format!("lost {}", partitions.len()));
                self.forget(&partitions);
            }
            Event::Records(fetched) => {
                let tp = fetched.topic_partition();
                assert!(self.held.contains_key(&tp), "records of {tp}, which is not held");
                let draining = self.draining.iter().any(|(tps, _)| tps.contains(&tp));
                assert!(!draining, "records of {tp}, which drains");
                self.records.extend(fetched.records);
            }
            Event::Reconnecting { error } => self.reconnects.push(error),
            Event::Fatal(error) => self.fatal = Some(error),
            other => panic!("{other:?}"),
        }
    }

    /// Ends a drain that the case was asked for.
    pub fn drained(&mut self) {
        let (partitions, done) = self.draining.remove(0);
        self.forget(&partitions);
        done.done();
    }

    fn forget(&mut self, partitions: &[TopicPartition]) {
        for tp in partitions {
            self.held.remove(tp);
        }
    }

    pub fn partitions(&self) -> Vec<i32> {
        self.held.keys().map(|tp| tp.partition).collect()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.task.abort();
    }
}
