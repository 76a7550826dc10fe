//! The wire contract of Anabranch: what a record on any of the runtime's topics looks like.
//!
//! Records are `CloudEvents` 1.0 in the Kafka protocol binding, binary mode; structured mode is read too. Values are
//! plain JSON, so that `kcat`, `rpk` and `jq` work. Everything here is pure: no clock, no I/O, no async.
//!
//! | room | what is in it |
//! |---|---|
//! | [`header`] | a record header, and the names the runtime uses |
//! | [`ids`] | correlation, event, plan and task ids, and how they derive from each other |
//! | [`envelope`] | the CloudEvents attributes of a record; encode, decode, mint |
//! | [`message`] | what the values are: plan, task, partial, follow-up, agent card |
//! | [`review`] | what people say about parked cases, and what they are told |
//! | [`claim`] | what stands for a value that is too large for a record |
//! | [`dead_letter`] | a dead letter: the original record plus why |
//! | [`retry`] | what travels with a record that waits in a retry topic |
//! | [`replay`] | a task or a case that is done again, between the command and an agent's binary |
//! | [`partition`] | murmur2, as Java clients place keys |
//! | [`time`] | a timestamp in milliseconds |
//! | [`trace`] | W3C trace context |

pub mod claim;
pub mod dead_letter;
pub mod envelope;
pub mod header;
pub mod ids;
pub mod message;
pub mod partition;
pub mod replay;
pub mod retry;
pub mod review;
mod structured;
pub mod time;
pub mod trace;

pub use claim::Claim;
pub use envelope::{Decoded, Envelope, EnvelopeError, RecordView};
pub use header::Header;
pub use ids::{CorrelationId, EventId, PlanId, TaskId};
pub use message::{
    AgentCard, CaseContext, Completion, FollowUp, FollowUpKind, Partial, PartialStatus, Plan, PriorPart, Step, Task,
    Work,
};
pub use review::{Answered, InformationProvided, NoticeKind, ParkedNotice, ReviewAnswer, ReviewDecision, Standing};
pub use time::Timestamp;
pub use trace::TraceParent;
