//! All processes of a run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::anyhow;
use nix::sys::signal::Signal;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::TaskTracker;

use super::child::{Common, End, Keeper, Launch, State, Strike};
use super::logs::Prefix;
use super::ready;
use super::shutdown::Shutdown;
use crate::console::Console;
use crate::usage::usage;

/// All processes of a run. What still runs when the tokio runtime ends is killed.
pub(crate) struct Fleet {
    members: Vec<Member>,
    keepers: TaskTracker,
}

struct Member {
    label: String,
    state: watch::Receiver<State>,
    strikes: mpsc::UnboundedSender<Strike>,
    failures: Arc<AtomicU32>,
}

impl Fleet {
    /// Starts a process for each launch. They stop when `shutdown` says so.
    pub(crate) fn start(launches: Vec<Launch>, common: Common, console: &Console, shutdown: &Shutdown) -> Self {
        let common = Arc::new(common);
        let width = launches.iter().map(|l| l.label().len()).max().unwrap_or(0);
        let keepers = TaskTracker::new();
        let start = |(index, launch): (usize, Launch)| {
            let (state, receiver) = watch::channel(State::Starting);
            let (strikes, struck) = mpsc::unbounded_channel();
            let failures = Arc::new(AtomicU32::new(0));
            let label = launch.label();
            let keeper = Keeper {
                prefix: Prefix::new(console, &label, width, index),
                common: common.clone(),
                console: console.clone(),
                shutdown: shutdown.clone(),
                launch,
                state,
                strikes: struck,
                failures: failures.clone(),
            };
            keepers.spawn(keeper.keep());
            Member { label, state: receiver, strikes, failures }
        };
        let members = launches.into_iter().enumerate().map(start).collect();
        keepers.close();
        Self { members, keepers }
    }

    /// The processes' names.
    pub(crate) fn labels(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|m| m.label.as_str())
    }

    /// Sends a signal to the process of the launch with this index. Whether it got it: one that is being started again
    /// gets it once it runs, one that has ended does not. A process that is killed so is started again at once.
    pub(crate) async fn strike(&self, index: usize, signal: Signal) -> bool {
        let (told, delivered) = oneshot::channel();
        match self.members.get(index) {
            Some(member) if member.strikes.send(Strike { signal, told }).is_ok() => delivered.await.unwrap_or(false),
            _ => false,
        }
    }

    /// How often each process that did so has failed by itself, strikes apart.
    pub(crate) fn failures(&self) -> Vec<(&str, u32)> {
        let of = |member: &'_ Member| member.failures.load(Ordering::Relaxed);
        self.members.iter().map(|m| (m.label.as_str(), of(m))).filter(|(_, count)| *count > 0).collect()
    }

    /// Waits until every process says that it is ready.
    ///
    /// # Errors
    /// If one has ended instead, or `within` passes: which one, and why.
    pub(crate) async fn ready(&self, within: Duration) -> anyhow::Result<()> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let reasons: Vec<_> = self.members.iter().map(|_| watch::channel(String::new()).0).collect();
        let waits = self.members.iter().zip(&reasons).map(|(member, why)| {
            let client = &client;
            async move {
                ready::wait(client, member.state.clone(), why).await.map_err(|end| never_ready(&member.label, end))
            }
        });
        match tokio::time::timeout(within, futures::future::try_join_all(waits)).await {
            Ok(all) => all.map(drop),
            Err(_) => Err(anyhow!("not all agents are ready after {within:?}: {}", self.not_ready(&reasons))),
        }
    }

    fn not_ready(&self, reasons: &[watch::Sender<String>]) -> String {
        let of = |(member, why): (&Member, &watch::Sender<String>)| {
            let why = why.borrow();
            (!why.is_empty()).then(|| format!("{} ({})", member.label, *why))
        };
        self.members.iter().zip(reasons).filter_map(of).collect::<Vec<_>>().join(", ")
    }

    /// Waits until none runs and none is to be started again. Says how each ended, in the order of the launches.
    pub(crate) async fn ended(&self) -> Vec<End> {
        self.keepers.wait().await;
        let end = |member: &Member| match *member.state.borrow() {
            State::Ended(end) => end,
            // Its keeper is gone without having said so: a panic, which has been printed.
            State::Starting | State::Running { .. } => End::Failed,
        };
        self.members.iter().map(end).collect()
    }
}

fn never_ready(label: &str, end: End) -> anyhow::Error {
    match end {
        End::Refused => usage(format!("{label} cannot work with what it was given; it has said why")),
        End::Done | End::Failed => anyhow!("{label} has ended before it was ready"),
    }
}
