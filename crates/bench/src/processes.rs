//! Processes: started, pinned, killed, stopped. Only ever those that were started here. None outlives this process: each
//! ends when its stdin does, and the other end of that pipe is here.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sched::{sched_getaffinity, sched_setaffinity};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::error::BenchError;
use crate::pins::Pins;
use crate::usage::{self, Meter};

/// Longest time to drain.
pub(crate) const STOP_WITHIN: Duration = Duration::from_secs(15);

/// Ports of agents' probes are from here on, so many.
const FIRST_PORT: u16 = 12_000;
const PORTS: u32 = 20_000;

/// What a process is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// Supervisor, agents, composer: what is measured.
    Agents,
    /// The broker, where it was started here or its process is named.
    Broker,
    /// The model and the registry.
    Mock,
    /// Who sends, reads, and measures.
    Bench,
}

impl Group {
    const ALL: [(&'static str, Self); 4] =
        [("agents", Self::Agents), ("broker", Self::Broker), ("mock", Self::Mock), ("bench", Self::Bench)];
}

impl FromStr for Group {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|(name, _)| *name == text);
        known.map(|(_, group)| group).ok_or_else(|| format!("{text:?} is none of agents, broker, mock and bench"))
    }
}

/// What every process of a run shares.
#[derive(Debug)]
pub(crate) struct Launcher {
    pub(crate) folder: PathBuf,
    pub(crate) pins: Pins,
    pub(crate) meter: Meter,
}

/// A running process. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    label: String,
    child: Child,
    log: PathBuf,
    port: Option<u16>,
    is_tree: bool,
}

impl Drop for Process {
    fn drop(&mut self) {
        // While it has not been waited for, its id is its own, and so is the group that has its number.
        let pid = self.child.id().filter(|_| self.is_tree).and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

impl Launcher {
    /// Starts a process; what it writes goes to `<folder>/<label>.log`, and to a pipe where `piped` wants its stdout.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(crate) fn start(
        &self,
        label: &str,
        group: Group,
        mut command: Command,
        piped: bool,
    ) -> Result<Process, BenchError> {
        let log = self.folder.join(format!("{label}.log"));
        let open = || File::options().create(true).append(true).open(&log);
        let failed = || format!("cannot start {label}");
        let (out, err) = (open().map_err(BenchError::io(failed()))?, open().map_err(BenchError::io(failed()))?);
        command
            // Held open for as long as this process lives.
            .stdin(Stdio::piped())
            .stdout(if piped { Stdio::piped() } else { out.into() })
            .stderr(err)
            // A group of its own: Ctrl-C reaches this process alone.
            .process_group(0)
            .kill_on_drop(true);
        let child = self.pinned(group, || command.spawn().map_err(BenchError::io(failed())))??;
        if let Some(pid) = child.id() {
            self.meter.add(pid, group);
        }
        Ok(Process { label: label.to_owned(), child, log, port: None, is_tree: false })
    }

    /// As [`Launcher::start`], of a process that starts others: all that stay in its process group are measured with it, and
    /// killed with it where it is dropped. Its stdout is piped.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(crate) fn start_tree(&self, label: &str, group: Group, command: Command) -> Result<Process, BenchError> {
        let mut process = self.start(label, group, command, true)?;
        process.is_tree = true;
        if let Some(pid) = process.child.id() {
            self.meter.add_tree(pid, group);
        }
        Ok(process)
    }

    /// A child runs where the thread that starts it may run: so all its threads do, from the first one on.
    fn pinned<T>(&self, group: Group, start: impl FnOnce() -> T) -> Result<T, BenchError> {
        let Some(set) = self.pins.set(group)? else { return Ok(start()) };
        let refused = |error| BenchError::Usage(format!("--pin: {error}: are there these processors?"));
        let this = Pid::from_raw(0);
        let before = sched_getaffinity(this).map_err(refused)?;
        sched_setaffinity(this, &set).map_err(refused)?;
        let started = start();
        sched_setaffinity(this, &before).map_err(refused)?;
        Ok(started)
    }

    /// Starts an agent's binary, with probes on a free port.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(crate) fn agent(&self, label: &str, binary: &Path, agent: &AgentArguments) -> Result<Process, BenchError> {
        let port = free_port().map_err(BenchError::io("no port is free"))?;
        let mut command = Command::new(binary);
        command.arg("--brokers").arg(agent.brokers.join(",")).arg("--topology").arg(&agent.topology);
        command.args(["--http-port", &port.to_string(), "--exit-with-parent"]).envs(agent.environment.iter().cloned());
        let mut process = self.start(label, Group::Agents, command, false)?;
        process.port = Some(port);
        Ok(process)
    }
}

/// What every agent is told.
#[derive(Debug, Clone)]
pub(crate) struct AgentArguments {
    pub(crate) brokers: Vec<String>,
    pub(crate) topology: PathBuf,
    pub(crate) environment: Vec<(String, String)>,
}

impl Process {
    /// Its name in errors and of its log.
    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    /// Its stdout, if it was piped; once.
    pub(crate) fn stdout(&mut self) -> Option<tokio::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// The last lines it wrote.
    pub(crate) fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Waits until its probes say that it is ready.
    ///
    /// # Errors
    /// If it ends, or is not ready within `limit`; with its last words.
    pub(crate) async fn ready(&mut self, client: &reqwest::Client, limit: Duration) -> Result<(), BenchError> {
        let Some(port) = self.port else { return Ok(()) };
        let (url, deadline) = (format!("http://127.0.0.1:{port}/ready"), Instant::now() + limit);
        loop {
            let answer = client.get(&url).timeout(Duration::from_secs(2)).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            self.alive()?;
            if Instant::now() >= deadline {
                let (label, seconds, words) = (&self.label, limit.as_secs(), self.last_words());
                return Err(BenchError::Process(format!("{label} is not ready after {seconds} s:\n{words}")));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What `/metrics` says.
    ///
    /// # Errors
    /// If it does not answer within 10 s.
    pub(crate) async fn metrics(&self, client: &reqwest::Client) -> Result<String, BenchError> {
        let url = format!("http://127.0.0.1:{}/metrics", self.port.unwrap_or_default());
        let answer = client.get(url).timeout(Duration::from_secs(10)).send().await;
        let failed = |error: reqwest::Error| BenchError::Process(format!("{} gives no metrics: {error}", self.label));
        answer.map_err(failed)?.text().await.map_err(failed)
    }

    /// Its resident memory; `None` once it has ended.
    pub(crate) fn resident_bytes(&self) -> Option<u64> {
        usage::resident_bytes(self.child.id()?)
    }

    /// # Errors
    /// If it has ended; with its last words.
    pub(crate) fn alive(&mut self) -> Result<(), BenchError> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => {
                let (label, words) = (&self.label, self.last_words());
                Err(BenchError::Process(format!("{label} ended by itself ({status}):\n{words}")))
            }
            Err(error) => Err(BenchError::io(format!("cannot wait for {}", self.label))(error)),
        }
    }

    fn signal(&self, signal: Signal) {
        // Without an id it has ended, and needs no signal.
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// kill -9, and waits until it is gone.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub(crate) async fn kill(&mut self) -> Result<(), BenchError> {
        self.child.kill().await.map_err(BenchError::io(format!("cannot kill {}", self.label)))
    }

    /// Asks it to drain and waits for its end, at most for `limit`; then it is killed. Whether it drained.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub(crate) async fn stop(&mut self, limit: Duration) -> Result<bool, BenchError> {
        self.signal(Signal::SIGTERM);
        match tokio::time::timeout(limit, self.child.wait()).await {
            Ok(Ok(status)) => Ok(status.success()),
            Ok(Err(error)) => Err(BenchError::io(format!("cannot wait for {}", self.label))(error)),
            Err(_) => self.kill().await.map(|()| false),
        }
    }
}

/// A port that is free now, and that no outgoing connection takes before it is listened on: below those that the system
/// gives away by itself (32768 and up), and no two of this process alike.
fn free_port() -> std::io::Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(131);
    let mut last = std::io::Error::from(std::io::ErrorKind::AddrInUse);
    for _ in 0..1_000 {
        let place = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS;
        let port = FIRST_PORT.saturating_add(u16::try_from(place).unwrap_or_default());
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => return Ok(port),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// As many open files as the system allows: thousands of cases that think are thousands of connections.
pub(crate) fn many_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        // Where it is refused, a workload that needs more says so when it runs out.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

#[cfg(test)]
mod tests {
    use nix::sched::CpuSet;

    use super::*;

    fn launcher(folder: &Path, pins: Pins) -> Launcher {
        Launcher { folder: folder.to_owned(), pins, meter: Meter::default() }
    }

    #[tokio::test]
    async fn a_pinned_process_runs_where_it_is_told_and_this_one_where_it_did() {
        let folder = tempfile::tempdir().unwrap();
        let this = Pid::from_raw(0);
        let before = sched_getaffinity(this).unwrap();
        let last = (0..CpuSet::count()).rfind(|cpu| before.is_set(*cpu).unwrap()).unwrap();
        let launcher = launcher(folder.path(), Pins::parse(&[format!("mock={last}")]).unwrap());
        let mut command = Command::new("sleep");
        command.arg("60");
        let mut process = launcher.start("sleeper", Group::Mock, command, false).unwrap();
        let theirs = sched_getaffinity(Pid::from_raw(process.child.id().unwrap().cast_signed())).unwrap();
        let allowed: Vec<usize> = (0..CpuSet::count()).filter(|cpu| theirs.is_set(*cpu).unwrap()).collect();
        assert_eq!(allowed, [last]);
        assert_eq!(sched_getaffinity(this).unwrap(), before);
        process.alive().unwrap();
        process.kill().await.unwrap();
    }

    #[tokio::test]
    async fn one_that_ends_by_itself_is_told_with_its_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo what went wrong >&2; exit 3"]);
        let mut process =
            launcher(folder.path(), Pins::default()).start("broken", Group::Mock, command, false).unwrap();
        process.port = Some(1);
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let error = process.ready(&client, Duration::from_secs(20)).await.unwrap_err().to_string();
        assert!(error.contains("broken") && error.contains("what went wrong"), "{error}");
    }

    #[tokio::test]
    async fn one_that_does_not_drain_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' TERM; while :; do sleep 0.05; done"]);
        let mut process =
            launcher(folder.path(), Pins::default()).start("stubborn", Group::Mock, command, false).unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(!process.stop(Duration::from_millis(200)).await.unwrap());
    }
}
