//! One module for each subcommand.

pub(crate) mod acls;
pub(crate) mod bench;
pub(crate) mod claims;
pub(crate) mod cost;
pub(crate) mod dev;
pub(crate) mod dlq;
pub(crate) mod graph;
pub(crate) mod inbox;
pub(crate) mod mock_llm;
pub(crate) mod new;
pub(crate) mod replay;
pub(crate) mod send;
pub(crate) mod status;
pub(crate) mod topics;
pub(crate) mod trace;
pub(crate) mod up;
pub(crate) mod validate;
pub(crate) mod verify;
pub(crate) mod watch;
