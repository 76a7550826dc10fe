//! One process: started, watched, started again when it fails, drained when asked, and struck with signals by whoever
//! wants to see what becomes of that.

use std::ffi::OsString;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::TaskTracker;

use super::backoff::Backoff;
use super::logs::{self, Prefix};
use super::shutdown::Shutdown;
use crate::console::Console;

/// `EX_USAGE`: the agent cannot work with the topology, config or arguments it was given. Trying again changes nothing.
const EX_USAGE: i32 = 64;

/// What every process is given.
#[derive(Debug)]
pub(crate) struct Common {
    /// Arguments for all of them.
    pub(crate) arguments: Vec<OsString>,
    /// Environment besides this process's own.
    pub(crate) environment: Vec<(OsString, OsString)>,
}

/// One process of an agent.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    /// The agent.
    pub(crate) agent: String,
    /// Which of several, from 1; `None` if it is the only one.
    pub(crate) replica: Option<u32>,
    /// What to run.
    pub(crate) program: PathBuf,
    /// Port of its probes; 0: a free one at each start.
    pub(crate) http_port: u16,
    /// Longest time it may take to drain.
    pub(crate) drain_within: Duration,
    /// Arguments for it alone, after those for all.
    pub(crate) arguments: Vec<OsString>,
    /// `group.instance.id`: a restart within the session time causes no rebalance.
    pub(crate) instance_id: Option<String>,
}

impl Launch {
    /// How it is called in logs.
    pub(crate) fn label(&self) -> String {
        match self.replica {
            Some(replica) => format!("{}.{replica}", self.agent),
            None => self.agent.clone(),
        }
    }
}

/// How a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// About to be started, for the first time or again.
    Starting,
    /// It runs.
    Running {
        /// Port of its probes.
        port: u16,
    },
    /// It is not started again.
    Ended(End),
}

/// Why a process is not started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It ended by itself, without an error, or was asked to.
    Done,
    /// It cannot work with what it was given.
    Refused,
    /// It failed while draining, or had to be killed.
    Failed,
}

/// A signal for a process, and whom to tell whether it got it.
pub(super) struct Strike {
    pub(super) signal: Signal,
    pub(super) told: oneshot::Sender<bool>,
}

/// Keeps one process running.
pub(super) struct Keeper {
    pub(super) launch: Launch,
    pub(super) common: Arc<Common>,
    pub(super) prefix: Prefix,
    pub(super) console: Console,
    pub(super) shutdown: Shutdown,
    pub(super) state: watch::Sender<State>,
    /// Signals for it. Sent from here, where it is known that the process was not waited for yet: by then its id could
    /// be another's.
    pub(super) strikes: mpsc::UnboundedReceiver<Strike>,
    /// How often it failed by itself.
    pub(super) failures: Arc<AtomicU32>,
}

/// What one run of the process came to.
enum Run {
    Ended(End),
    Failed(String),
    /// By a strike; it is no failure of its own, and is started again at once.
    Killed,
}

impl Keeper {
    /// Runs until the process is not to be started again.
    pub(super) async fn keep(mut self) {
        let mut backoff = Backoff::default();
        loop {
            let started = Instant::now();
            let end = match self.run().await {
                Run::Ended(end) => Some(end),
                Run::Killed => {
                    self.say("killed, as asked; starting it again");
                    self.state.send_replace(State::Starting);
                    self.shutdown.drain.is_cancelled().then_some(End::Done)
                }
                Run::Failed(why) => {
                    self.failures.fetch_add(1, Ordering::Relaxed);
                    let wait = backoff.failed_after(started.elapsed());
                    self.say(&format!("{why}; starting it again in {wait:?}"));
                    self.state.send_replace(State::Starting);
                    // Asked to stop while nothing runs: nothing is left to drain.
                    self.shutdown.unless(tokio::time::sleep(wait)).await.is_none().then_some(End::Done)
                }
            };
            if let Some(end) = end {
                self.state.send_replace(State::Ended(end));
                return;
            }
        }
    }

    fn say(&self, text: &str) {
        self.console.line(&self.prefix.line(&format!("[anabranch] {text}")));
    }

    async fn run(&mut self) -> Run {
        let port = match self.launch.http_port {
            0 => match free_port() {
                Ok(port) => port,
                Err(error) => return Run::Failed(format!("no port is free for its probes: {error}")),
            },
            port => port,
        };
        let mut child = match self.spawn(port) {
            Ok(child) => child,
            Err(error) => return Run::Failed(format!("cannot run {}: {error}", self.launch.program.display())),
        };
        // Held here until it has ended: waiting for the process would close it.
        let _stdin = child.stdin.take();
        let outputs = TaskTracker::new();
        if let Some(stderr) = child.stderr.take() {
            outputs.spawn(logs::forward(stderr, self.prefix.clone(), self.console.clone()));
        }
        if let Some(stdout) = child.stdout.take() {
            outputs.spawn(logs::forward(stdout, self.prefix.clone(), self.console.clone()));
        }
        outputs.close();
        self.state.send_replace(State::Running { port });
        let mut killed = false;
        let run = loop {
            tokio::select! {
                ended = child.wait() => break if killed { Run::Killed } else { self.ended(ended) },
                () = self.shutdown.drain.cancelled() => break self.drain(&mut child).await,
                Some(strike) = self.strikes.recv() => killed |= strike.deliver(&child),
            }
        };
        // Its last words come before what is said about its end. A grandchild may hold the pipe open.
        let _ = tokio::time::timeout(Duration::from_millis(500), outputs.wait()).await;
        run
    }

    fn spawn(&self, port: u16) -> std::io::Result<Child> {
        Command::new(&self.launch.program)
            .args(&self.common.arguments)
            .args(&self.launch.arguments)
            .args(["--http-port", &port.to_string(), "--exit-with-parent"])
            .args(self.launch.instance_id.iter().flat_map(|id| ["--instance-id", id]))
            .envs(self.common.environment.iter().map(|(name, value)| (name, value)))
            // Held open for as long as this process lives: its end tells the agent that nobody is left to stop it.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own: Ctrl-C reaches this process alone, which then drains all of them together.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }

    fn ended(&self, ended: std::io::Result<ExitStatus>) -> Run {
        match ended {
            Err(error) => Run::Failed(format!("cannot be waited for: {error}")),
            Ok(status) if status.success() => {
                self.say("it has ended, and is not started again");
                Run::Ended(End::Done)
            }
            Ok(status) if status.code() == Some(EX_USAGE) => {
                self.say("it cannot work with what it was given (exit code 64), and is not started again");
                Run::Ended(End::Refused)
            }
            Ok(status) => Run::Failed(format!("it failed ({status})")),
        }
    }

    /// Asks the process to drain, and kills it if that takes too long or nobody wants to wait.
    async fn drain(&self, child: &mut Child) -> Run {
        terminate(child);
        let ended = tokio::select! {
            ended = child.wait() => Some(ended),
            () = tokio::time::sleep(self.launch.drain_within) => None,
            () = self.shutdown.now.cancelled() => None,
        };
        match ended {
            Some(Ok(status)) if status.success() => Run::Ended(End::Done),
            Some(Ok(status)) => {
                self.say(&format!("it did not drain ({status}); what it had not done is delivered again"));
                Run::Ended(End::Failed)
            }
            Some(Err(error)) => {
                self.say(&format!("it cannot be waited for: {error}"));
                Run::Ended(End::Failed)
            }
            None => {
                self.say("killed while draining; what it had not done is delivered again");
                if let Err(error) = child.kill().await {
                    self.say(&format!("it cannot be killed: {error}"));
                }
                Run::Ended(End::Failed)
            }
        }
    }
}

impl Strike {
    /// Sends it, and says whether the process was killed by it.
    fn deliver(self, child: &Child) -> bool {
        let delivered = signal(child, self.signal);
        // Who struck may have gone.
        let _ = self.told.send(delivered);
        delivered && self.signal == Signal::SIGKILL
    }
}

/// SIGTERM. One that was stopped has to run to hear it. A process that has just ended needs none.
fn terminate(child: &Child) {
    signal(child, Signal::SIGTERM);
    signal(child, Signal::SIGCONT);
}

/// Whether the process, which has not been waited for yet, could be sent a signal.
fn signal(child: &Child, signal: Signal) -> bool {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    pid.is_some_and(|pid| kill(Pid::from_raw(pid), signal).is_ok())
}

/// A port that is free now. Should another process be quicker, the agent fails and is started again with another.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
