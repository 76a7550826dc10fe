//! Stopping: the first SIGTERM or Ctrl-C drains, the second one ends at once. Where asked for, the end of stdin drains
//! too, so that no agent outlives who started it.

use tokio_util::sync::CancellationToken;

/// Two tokens: `drain` asks for no new work, `now` ends what is still running.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shutdown {
    pub(crate) drain: CancellationToken,
    pub(crate) now: CancellationToken,
}

impl Shutdown {
    /// Installs the signal handlers.
    ///
    /// # Errors
    /// If the operating system refuses them.
    pub(crate) fn install() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let shutdown = Self::default();
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let tokens = shutdown.clone();
        tokio::spawn(async move {
            for token in [&tokens.drain, &tokens.now] {
                tokio::select! {
                    _ = term.recv() => {}
                    _ = int.recv() => {}
                }
                tracing::info!("signal received, {}", if token.is_cancelled() { "ending" } else { "draining" });
                token.cancel();
            }
        });
        Ok(shutdown)
    }

    /// Drains when stdin ends. The other end of the pipe is held by the parent, and closes however the parent ends.
    pub(crate) fn end_with_stdin(&self) {
        let drain = self.drain.clone();
        // A thread of its own: a blocked read would hold up the end of the tokio runtime.
        std::thread::spawn(move || {
            // What is written there means nothing; that it ends, or cannot be read, means that nobody is there.
            let ended = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            drain.cancel();
            tracing::info!(error = ended.err().map(|e| e.to_string()), "stdin ended, draining");
        });
    }
}
