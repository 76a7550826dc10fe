//! Stopping: the first SIGTERM or Ctrl-C drains, the second one ends at once.

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
}
