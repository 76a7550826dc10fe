//! A server as a child process: its environment, the length of its lines, and its end.

use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rmcp::model::ClientConfig;
use rmcp::service::RunningService;
use rmcp::{RoleClient, ServiceExt as _};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader, ReadBuf};
use tokio::process::{Child, ChildStderr, Command};
use tokio_util::sync::CancellationToken;

use super::{ServerError, client_info};

/// Longest line that a server may write, in bytes.
const MAX_LINE: usize = 4 * 1024 * 1024;
/// Longest line of its stderr that is logged.
const MAX_LOGGED: u64 = 2000;
/// What every program needs to run at all, and what is no secret.
const GIVEN: [&str; 4] = ["PATH", "HOME", "LANG", "TMPDIR"];

/// The process of a server. Its group is killed when this is dropped; if we are killed, its stdin ends.
pub(super) struct ServerProcess {
    pid: u32,
    over: CancellationToken,
}

impl ServerProcess {
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for its end, which the end of its stdin asks for, and kills its group after `grace`.
    pub(super) async fn end(&self, grace: Duration) {
        let _ended = tokio::time::timeout(grace, self.over.cancelled()).await;
        self.kill_group();
    }

    /// The group, not the process: `npx` and its like leave children that do the work.
    fn kill_group(&self) {
        let Ok(pid) = i32::try_from(self.pid) else { return };
        match killpg(Pid::from_raw(pid), Signal::SIGKILL) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
            Err(error) => tracing::warn!(pid, %error, "cannot kill the MCP server"),
        }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        if !self.over.is_cancelled() {
            self.kill_group();
        }
    }
}

/// Starts it and shakes hands. `over` is cancelled when it ends.
pub(super) async fn start(
    name: &str,
    command: &str,
    args: &[String],
    env: &[String],
    over: CancellationToken,
) -> Result<(RunningService<RoleClient, ClientConfig>, ServerProcess), ServerError> {
    let mut child = spawn(command, args, env)?;
    let failed = |what: &str| ServerError::Talk(format!("`{command}` has no {what}"));
    let pid = child.id().ok_or_else(|| failed("process id"))?;
    // From here on, whatever fails takes the process with it.
    let process = ServerProcess { pid, over: over.clone() };
    let stdin = child.stdin.take().ok_or_else(|| failed("stdin"))?;
    let stdout = child.stdout.take().ok_or_else(|| failed("stdout"))?;
    if let Some(stderr) = child.stderr.take() {
        tokio::spawn(log(name.to_owned(), stderr));
    }
    tokio::spawn(wait(name.to_owned(), child, over));
    let transport = (Lines::new(stdout), stdin);
    let service = client_info().serve(transport).await.map_err(|e| ServerError::Talk(e.to_string()))?;
    Ok((service, process))
}

fn spawn(command: &str, args: &[String], env: &[String]) -> Result<Child, ServerError> {
    let mut spawned = Command::new(command);
    spawned.args(args).env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A Ctrl-C in a terminal is for the agent, which drains and then ends the server.
    spawned.process_group(0).kill_on_drop(true);
    for name in GIVEN {
        if let Some(value) = std::env::var_os(name) {
            spawned.env(name, value);
        }
    }
    for name in env {
        let value = std::env::var_os(name).ok_or_else(|| ServerError::NoVariable(name.clone()))?;
        spawned.env(name, value);
    }
    spawned.spawn().map_err(|source| ServerError::Start { command: command.to_owned(), source })
}

async fn wait(name: String, mut child: Child, over: CancellationToken) {
    match child.wait().await {
        Ok(status) => tracing::debug!(mcp_server = name, %status, "the MCP server's process ended"),
        Err(error) => tracing::warn!(mcp_server = name, %error, "cannot wait for the MCP server's process"),
    }
    over.cancel();
}

/// Its stderr is its log, and a stranger's text: at debug level, in bounded lines.
async fn log(name: String, stderr: ChildStderr) {
    let mut reader = BufReader::new(stderr);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut reader).take(MAX_LOGGED).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text = crate::outside::visible(String::from_utf8_lossy(&line).trim_end());
                tracing::debug!(mcp_server = name, text, "stderr of the MCP server");
            }
        }
    }
}

/// A reader that fails at a line that is too long: the protocol's reader would hold all of it.
struct Lines<R> {
    inner: R,
    in_line: usize,
}

impl<R> Lines<R> {
    fn new(inner: R) -> Self {
        Self { inner, in_line: 0 }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Lines<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        if let Poll::Ready(Ok(())) = polled {
            let new = &buf.filled()[before..];
            self.in_line = match new.iter().rposition(|b| *b == b'\n') {
                Some(at) => new.len() - at - 1,
                None => self.in_line + new.len(),
            };
            if self.in_line > MAX_LINE {
                let words = format!("the MCP server wrote a line of more than {MAX_LINE} bytes");
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, words)));
            }
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_without_end_is_an_error_not_a_memory() {
        let mut lines = Lines::new(tokio::io::repeat(b'x'));
        let mut buffer = vec![0; 64 * 1024];
        let mut read = 0;
        let error = loop {
            match lines.read(&mut buffer).await {
                Ok(n) => read += n,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(read <= MAX_LINE + buffer.len());
    }

    #[tokio::test]
    async fn long_output_in_short_lines_is_read() {
        let text = "{}\n".repeat(100_000);
        let mut out = Vec::new();
        Lines::new(text.as_bytes()).read_to_end(&mut out).await.unwrap();
        assert_eq!(out.len(), text.len());
    }
}
