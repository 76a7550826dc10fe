//! Decisions without I/O. No tokio, no clock of its own: `now` is an argument, and a call returns what is to be done.
//!
//! | room | decides |
//! |---|---|
//! | [`frontier`] | which offset may be committed |
//! | [`lanes`] | which work may start, in order by key |
//! | [`letters`] | how many dead letters are too many |
//! | [`retry`] | what becomes of a failed attempt |
//! | [`planning`] | which agents a request needs, and whether a plan can end |
//! | [`dispatch`] | which tasks a plan begins with, and how a task leaves |
//! | [`join`] | what becomes of a case as its answers come in |
//! | [`journal`] | what was done for a task before, and from where on the log says so |
//! | [`group`] | what a consumer group member does next |
//! | [`visibility`] | what of its case an agent may see |
//! | [`transaction`] | how a transaction ended, and what may be written next |

pub mod dispatch;
pub mod frontier;
pub mod group;
pub mod join;
pub mod journal;
pub mod lanes;
pub mod letters;
pub mod planning;
pub mod retry;
pub mod transaction;
pub mod visibility;
