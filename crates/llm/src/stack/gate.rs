//! Whether a model may be asked now, for whoever feeds the agent.

use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::OpenCause;

/// Whether the model may be asked now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Yes.
    Closed,
    /// No: starting work that needs the model is pointless before `until`.
    Open {
        /// When it is worth trying again.
        until: Instant,
        /// Why.
        cause: OpenCause,
    },
    /// One call is let through, to see.
    HalfOpen,
}

/// A watch on [`BreakerState`]. A worker holds its partitions while it is open, and keeps its group membership.
pub type BreakerWatch = watch::Receiver<BreakerState>;
