//! The join: all that shares a correlation id, from plan to outcome.
//!
//! Pure: a call takes an event and the time, and returns what is to be done ([`Effects`]). What a composer decides
//! comes back as a [`Decision`]. One [`Join`] holds the cases of one partition of the results topic; every case has
//! exactly one time at which something is due.

mod case;
mod effects;
mod table;
#[cfg(test)]
mod tests;

pub use case::{Answer, AnswerStatus, Case, Phase};
pub use effects::{Decision, DecisionError, Effects, LateReason, Unanswered, WhyMissing};
pub use table::{Due, Join, JoinPolicy};
