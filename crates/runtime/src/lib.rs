//! The tokio shell around core: loops, clock, shutdown, metrics, health.
