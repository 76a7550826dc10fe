//! The real command against the embedded broker: topics, send, watch, trace, status.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod away;
mod broken;
mod cost;
mod dlq;
mod send;
mod status;
mod support;
mod topics;
mod trace;
mod watch;
