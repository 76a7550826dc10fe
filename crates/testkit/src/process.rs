//! Real processes: started, awaited, stopped, killed. Only ever those that were started here, by their id.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::cluster::FixtureError;

/// Names a folder whose binaries are used as they are, instead of built.
pub const TEST_BINARIES: &str = "ANABRANCH_TEST_BINARIES";

/// A running process. Killed when dropped.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    http_port: Option<u16>,
}

impl Process {
    /// Starts `command`; stdout and stderr go to `<folder>/<name>.log`.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(name: &str, folder: &Path, mut command: Command) -> Result<Self, FixtureError> {
        let log = folder.join(format!("{name}.log"));
        let out = File::options().create(true).append(true).open(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| FixtureError::Other(format!("cannot start {name}: {e}")))?;
        Ok(Self { name: name.to_owned(), child, log, http_port: None })
    }

    /// Starts an agent's binary with probes on a free port.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn agent(
        name: &str,
        folder: &Path,
        binary: &Path,
        brokers: &str,
        topology: &Path,
        env: &[(String, String)],
    ) -> Result<Self, FixtureError> {
        let port = free_port()?;
        let mut command = Command::new(binary);
        command.arg("--brokers").arg(brokers).arg("--topology").arg(topology);
        command.arg("--http-port").arg(port.to_string()).envs(env.iter().cloned());
        let mut process = Self::start(name, folder, command)?;
        process.http_port = Some(port);
        Ok(process)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Asks `/ready`.
    pub async fn is_ready(&self) -> bool {
        match self.http_port {
            Some(port) => http_get(port, "/ready").await.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")),
            None => false,
        }
    }

    /// The whole answer to `/ready`.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn ready_text(&self) -> Result<String, FixtureError> {
        let port = self.http_port.ok_or_else(|| FixtureError::Other(format!("{} has no probes", self.name)))?;
        http_get(port, "/ready").await
    }

    /// The text of `/metrics`.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn metrics(&self) -> Result<String, FixtureError> {
        let port = self.http_port.ok_or_else(|| FixtureError::Other(format!("{} has no probes", self.name)))?;
        http_get(port, "/metrics").await
    }

    /// Waits until `/ready` says yes.
    ///
    /// # Errors
    /// If it ends, or is not ready within `limit`; with the end of its log.
    pub async fn ready(&mut self, limit: Duration) -> Result<(), FixtureError> {
        let deadline = Instant::now() + limit;
        loop {
            if self.is_ready().await {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(FixtureError::Other(format!("{} ended with {status}:\n{}", self.name, self.log())));
            }
            if Instant::now() >= deadline {
                let what = format!("{} to be ready", self.name);
                return Err(FixtureError::Waited { what, after: limit, seen: format!("its log:\n{}", self.log()) });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// If the process has ended.
    pub fn signal(&self, signal: Signal) -> Result<(), FixtureError> {
        let pid = self.pid().and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.ok_or_else(|| FixtureError::Other(format!("{} has ended", self.name)))?;
        kill(Pid::from_raw(pid), signal).map_err(|e| FixtureError::Other(format!("signal to {}: {e}", self.name)))
    }

    /// kill -9, and waits until it is gone.
    ///
    /// # Errors
    /// If the process has ended before.
    pub async fn kill(&mut self) -> Result<(), FixtureError> {
        self.signal(Signal::SIGKILL)?;
        self.child.wait().await?;
        Ok(())
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// If it does not end within `limit`.
    pub async fn stop(&mut self, limit: Duration) -> Result<ExitStatus, FixtureError> {
        self.signal(Signal::SIGTERM)?;
        self.ended(limit).await
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// If it does not end within `limit`.
    pub async fn ended(&mut self, limit: Duration) -> Result<ExitStatus, FixtureError> {
        match tokio::time::timeout(limit, self.child.wait()).await {
            Ok(status) => Ok(status?),
            Err(_) => Err(FixtureError::Waited {
                what: format!("the end of {}", self.name),
                after: limit,
                seen: format!("its log:\n{}", self.log()),
            }),
        }
    }
}

/// A port that nobody listens on now.
///
/// # Errors
/// If the system has none.
pub fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

async fn http_get(port: u16, path: &str) -> Result<String, FixtureError> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let ask = async {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<String, std::io::Error>(answer)
    };
    match tokio::time::timeout(Duration::from_secs(2), ask).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(FixtureError::Other(format!("no answer from port {port}"))),
    }
}

/// The workspace's binaries, built once per test process in its own profile.
///
/// # Errors
/// If the build fails; with what the compiler said.
pub fn built(workspace: &Path, names: &[String]) -> Result<PathBuf, FixtureError> {
    if let Some(folder) = std::env::var_os(TEST_BINARIES).filter(|folder| !folder.is_empty()) {
        return Ok(folder.into());
    }
    let mut command = std::process::Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace).args(["build", "--quiet", "--workspace"]);
    for name in names {
        command.args(["--bin", name]);
    }
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let output = command.output()?;
    if !output.status.success() {
        return Err(FixtureError::Other(format!("cargo build: {}", String::from_utf8_lossy(&output.stderr))));
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    Ok(target.join(if cfg!(debug_assertions) { "debug" } else { "release" }))
}
