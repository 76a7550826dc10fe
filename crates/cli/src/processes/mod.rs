//! Agents as processes of the operating system: started, restarted, watched and drained together.
//!
//! | room | what is in it |
//! |---|---|
//! | `fleet` | all processes of a run |
//! | `child` | one process: start, restart, drain |
//! | `backoff` | how long to wait before a restart |
//! | `logs` | what processes write, with their names in front |
//! | `ready` | asking them whether they are ready |
//! | `shutdown` | Ctrl-C and SIGTERM |
//!
//! No process outlives this one: each is told to drain when its stdin ends, and the other end of that pipe is here,
//! where even kill -9 closes it.

mod backoff;
mod child;
mod fleet;
mod logs;
mod ready;
mod shutdown;
#[cfg(test)]
mod tests;

pub(crate) use child::{Common, End, Launch};
pub(crate) use fleet::Fleet;
pub(crate) use shutdown::Shutdown;
