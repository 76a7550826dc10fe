//! Stopping: the first Ctrl-C or SIGTERM drains, the second one ends at once.

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::console::Console;

/// Two tokens: `drain` asks everything to finish what it has, `now` ends what is still there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shutdown {
    pub(crate) drain: CancellationToken,
    pub(crate) now: CancellationToken,
}

impl Shutdown {
    /// Installs the signal handlers. `told` is called at the first signal, for a person who has to wait.
    ///
    /// # Errors
    /// If the operating system refuses them.
    pub(crate) fn install(told: impl Fn() + Send + 'static) -> anyhow::Result<Self> {
        let shutdown = Self::default();
        let listen = || anyhow::Ok((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?));
        let (mut term, mut int) = listen().context("cannot listen for signals")?;
        let tokens = shutdown.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = term.recv() => {}
                    _ = int.recv() => {}
                }
                if tokens.drain.is_cancelled() {
                    tokens.now.cancel();
                } else {
                    told();
                    tokens.drain.cancel();
                }
            }
        });
        Ok(shutdown)
    }

    /// As [`Shutdown::install`]; says that agents drain.
    pub(crate) fn of_agents(console: &Console) -> anyhow::Result<Self> {
        let console = console.clone();
        Self::install(move || console.line("draining; once more ends at once"))
    }

    /// Drains when stdin ends, too: who started this process and holds the other end has gone.
    pub(crate) fn with_stdin(&self) {
        let drain = self.drain.clone();
        // A thread that nobody waits for: a read of stdin cannot be given up.
        std::thread::spawn(move || {
            let ended = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            if let Err(error) = ended {
                tracing::debug!(%error, "stdin cannot be read any more");
            }
            drain.cancel();
        });
    }

    /// Runs `work` unless a signal comes first: then it is dropped, and there is no answer.
    pub(crate) async fn unless<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.drain.run_until_cancelled(work).await
    }
}
