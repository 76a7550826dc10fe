//! The join: all that shares a correlation id, from plan to outcome.
//!
//! Pure: a call takes an event and the time, and returns what is to be done ([`Effects`]). What a composer decides
//! comes back as a [`Decision`]. One [`Join`] holds the cases of one partition of the results topic; every case has
//! at most one time at which something is due.
//!
//! A case that waits for a person has a [`Desk`]: when people are told of it, what they decided, what was asked of others.
//!
//! A case holds no payload. Its plan and answers stay where they were written, and it knows their [`Place`]s: a million
//! open cases fit into a process. Whoever drives a join reads what an event [`Needs`] before it applies the event.

mod case;
mod desk;
mod effects;
mod entry;
mod place;
mod policy;
mod saved;
mod saved_desk;
mod shape;
mod table;
#[cfg(test)]
mod tests;

pub use case::{Answer, Case, How, Phase, StepState};
pub use desk::{Alarm, Awaited, Bell, Desk, Judged, Parking, Request, unfit};
pub use effects::{Ask, Asks, Decision, DecisionError, Effects, Event, LateReason, Needs, Unanswered, WhyMissing};
pub use place::{Log, Piece, Place, StateKey};
pub use policy::JoinPolicy;
pub use saved::{LOST_CASE, Saved, SavedStep, Unsound};
pub use table::{Due, Join};
