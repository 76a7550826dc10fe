//! Processes: started, pinned, killed, stopped. Only ever those that were started here. None outlives this process: each
//! ends when its stdin does, and the other end of that pipe is here.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::str::FromStr;
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::error::BenchError;
use crate::usage::{self, Meter};

/// Longest time to drain.
pub(crate) const STOP_WITHIN: Duration = Duration::from_secs(15);

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

/// Which processors the processes of a group run on. Who is not named may run anywhere.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Pins(BTreeMap<Group, Vec<usize>>);

impl Pins {
    /// From `agents=0-3`, `broker=4,5` and the like.
    ///
    /// # Errors
    /// What is wrong, and what to write.
    pub fn parse(texts: &[String]) -> Result<Self, String> {
        let mut pins = BTreeMap::new();
        for text in texts {
            let wrong = |why: &str| format!("--pin {text}: {why}; write for example agents=0-3 or broker=4,5");
            let (group, list) = text.split_once('=').ok_or_else(|| wrong("there is no ="))?;
            let group: Group = group.parse().map_err(|why: String| wrong(&why))?;
            let list = processors(list).ok_or_else(|| wrong("these are no numbers of processors"))?;
            if pins.insert(group, list).is_some() {
                return Err(wrong("the group is pinned twice"));
            }
        }
        Ok(Self(pins))
    }

    /// The processors of each group that is pinned.
    pub(crate) fn all(&self) -> &BTreeMap<Group, Vec<usize>> {
        &self.0
    }

    fn set(&self, group: Group) -> Result<Option<CpuSet>, BenchError> {
        let Some(list) = self.0.get(&group) else { return Ok(None) };
        let mut set = CpuSet::new();
        for processor in list {
            set.set(*processor).map_err(|_| BenchError::Usage(format!("--pin: there is no processor {processor}")))?;
        }
        Ok(Some(set))
    }

    /// Pins this very process, all its threads.
    ///
    /// # Errors
    /// If it may not run there.
    pub(crate) fn pin_self(&self) -> Result<(), BenchError> {
        let Some(set) = self.set(Group::Bench)? else { return Ok(()) };
        let threads = std::fs::read_dir("/proc/self/task").map_err(BenchError::io("/proc/self/task"))?;
        for thread in threads.flatten() {
            let id = thread.file_name().to_string_lossy().parse().ok();
            // A thread that has ended meanwhile needs no processor.
            if let Some(Err(error @ nix::errno::Errno::EINVAL)) =
                id.map(|id| sched_setaffinity(Pid::from_raw(id), &set))
            {
                return Err(BenchError::Usage(format!("--pin bench: {error}: are there these processors?")));
            }
        }
        Ok(())
    }
}

/// `0-3,6`; `None` if it is none.
fn processors(text: &str) -> Option<Vec<usize>> {
    let mut all = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last >= CpuSet::count() {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
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

/// A port that is free now.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
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
    use super::*;

    fn pins(texts: &[&str]) -> Result<Pins, String> {
        Pins::parse(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn processors_are_named_by_number_and_range() {
        let wanted = BTreeMap::from([(Group::Agents, vec![0, 1, 2, 5]), (Group::Broker, vec![3])]);
        assert_eq!(pins(&["agents=0-2,5", "broker=3"]), Ok(Pins(wanted)));
        assert_eq!(pins(&[]), Ok(Pins::default()));
        for (bad, words) in [
            ("agents", "no ="),
            ("agent=1", "agents, broker, mock and bench"),
            ("agents=", "no numbers"),
            ("agents=3-1", "no numbers"),
            ("agents=1,x", "no numbers"),
            ("agents=999999", "no numbers"),
        ] {
            let said = pins(&[bad]).unwrap_err();
            assert!(said.contains(words) && said.contains("agents=0-3"), "{bad}: {said}");
        }
        assert!(pins(&["mock=1", "mock=2"]).unwrap_err().contains("twice"));
    }

    fn launcher(folder: &Path, pins: Pins) -> Launcher {
        Launcher { folder: folder.to_owned(), pins, meter: Meter::default() }
    }

    #[tokio::test]
    async fn a_pinned_process_runs_where_it_is_told_and_this_one_where_it_did() {
        let folder = tempfile::tempdir().unwrap();
        let this = Pid::from_raw(0);
        let before = sched_getaffinity(this).unwrap();
        let last = (0..CpuSet::count()).rfind(|cpu| before.is_set(*cpu).unwrap()).unwrap();
        let launcher = launcher(folder.path(), pins(&[format!("mock={last}").as_str()]).unwrap());
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
