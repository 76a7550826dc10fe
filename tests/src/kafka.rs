//! An Apache Kafka of a test's own, of one node or of several, whose nodes can be stopped, killed and started again.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anabranch_testkit::cluster::FixtureError;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::app::workspace;

/// A running Kafka. Stopped when dropped.
pub struct Kafka {
    bootstrap: String,
    nodes: u32,
    folder: tempfile::TempDir,
}

fn script(name: &str) -> PathBuf {
    workspace().join("tests/kafka").join(name)
}

/// The words a script says on stdout, or why it failed.
fn said(what: &str, output: &Output) -> Result<String, FixtureError> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Err(FixtureError::Other(format!("{what}: {}\n{out}{err}", output.status)))
}

/// Runs a script to its end, beside the tests' tasks.
async fn run(mut command: Command, what: String) -> Result<String, FixtureError> {
    let output = tokio::task::spawn_blocking(move || command.stdin(Stdio::null()).output()).await;
    said(&what, &output.map_err(|e| FixtureError::Other(format!("{what}: {e}")))??)
}

impl Kafka {
    /// Starts it. `None`, with a reason printed, where there is no Java.
    ///
    /// # Errors
    /// If it does not start.
    ///
    /// # Panics
    /// Without Java in CI (`CI` is set), where nothing may be skipped.
    pub async fn start(nodes: u32) -> Result<Option<Self>, FixtureError> {
        if let Err(error) = Command::new("java").arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status() {
            assert!(std::env::var_os("CI").is_none(), "in CI this must not be skipped: no java: {error}");
            println!("skipped: no java: {error}");
            return Ok(None);
        }
        let mut kafka = Self { bootstrap: String::new(), nodes, folder: tempfile::tempdir()? };
        let mut start = kafka.start_script();
        start.args(["--nodes", &nodes.to_string()]);
        kafka.bootstrap = run(start, "start.sh".to_owned()).await?;
        Ok(Some(kafka))
    }

    fn start_script(&self) -> Command {
        let mut start = Command::new(script("start.sh"));
        start.arg("--pid-file").arg(self.path("pid")).arg("--data-dir").arg(self.path("data"));
        start
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A folder for files of the test.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// `host:port` of each node, separated by commas.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// How many nodes it has; they are numbered from 1.
    pub fn nodes(&self) -> u32 {
        self.nodes
    }

    /// kill -9 of a node; does not wait for its end, which is at once.
    ///
    /// # Errors
    /// If it does not run.
    pub fn kill(&self, node: u32) -> Result<(), FixtureError> {
        let pids = std::fs::read_to_string(self.path("pid"))?;
        let line = usize::try_from(node).ok().and_then(|node| pids.lines().nth(node.checked_sub(1)?));
        let pid =
            line.and_then(|pid| pid.parse().ok()).ok_or_else(|| FixtureError::Other(format!("no node {node}")))?;
        // Only ever a broker: the number could be somebody else's by now.
        let command = std::fs::read(format!("/proc/{pid}/cmdline"))?;
        if !String::from_utf8_lossy(&command).contains("kafka.Kafka") {
            return Err(FixtureError::Other(format!("node {node} does not run")));
        }
        kill(Pid::from_raw(pid), Signal::SIGKILL)
            .map_err(|e| FixtureError::Other(format!("kill -9 of node {node}: {e}")))
    }

    /// Stops a node as an operator would: it hands its partitions over first. Waits for its end.
    ///
    /// # Errors
    /// If the script fails.
    pub async fn stop(&self, node: u32) -> Result<(), FixtureError> {
        let mut stop = Command::new(script("stop.sh"));
        stop.arg(self.path("pid")).arg(node.to_string());
        run(stop, format!("stop.sh of node {node}")).await.map(drop)
    }

    /// Starts a node that has ended, on its port and data, and waits until it serves. How long that took.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn restart(&self, node: u32) -> Result<Duration, FixtureError> {
        let started = Instant::now();
        let mut start = self.start_script();
        start.args(["--restart", &node.to_string()]);
        run(start, format!("restart of node {node}")).await?;
        Ok(started.elapsed())
    }

    /// Runs one of Kafka's own tools with `--bootstrap-server`; what it says.
    ///
    /// # Errors
    /// If it fails.
    pub async fn tool(&self, class: &str, arguments: &[&str]) -> Result<String, FixtureError> {
        let mut tool = Command::new(script("tool.sh"));
        tool.args([class, "--bootstrap-server", &self.bootstrap]).args(arguments);
        run(tool, class.to_owned()).await
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        if let Err(error) = Command::new(script("stop.sh")).arg(self.path("pid")).status() {
            eprintln!("kafka was not stopped: {error}");
        }
    }
}
