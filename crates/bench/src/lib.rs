//! What is measured of Anabranch, and how: workloads for the reference application, the raw floor of the same broker
//! under them, and figures that say what they were taken on. `anabranch bench` is its command line.
//!
//! Load is *open loop*: a case is due at a time that the schedule says, whatever became of those before, and its latency
//! counts from that time. A system that falls behind shows it (no coordinated omission).
//!
//! | room | what is in it |
//! |---|---|
//! | [`settings`] | the workloads, and all that can be set of one |
//! | `schedule` | when which case is due, who is killed when; pure |
//! | `requests` | the cases that are sent; pure |
//! | `ledger` | what was due when and came when: latencies, lost, doubled; pure |
//! | `stats` | percentiles, medians, spreads; pure |
//! | `path` | the model's own critical path of a case; pure |
//! | [`report`] | what is said at the end, as data, as text and as SVG; pure |
//! | `environment` | what it was measured on |
//! | `processes` | processes: started, pinned, killed, stopped |
//! | `pins` | where they run |
//! | `usage` | what they take: memory and processor time |
//! | `backing` | broker and model, as processes of their own |
//! | `topics` | topics: created, deleted, measured |
//! | `peer` | another system in the place of ours |
//! | `site` | topics and agents of one run |
//! | `load` | sending what is due, reading what comes of it |
//! | `floor` | the same records through plain rskafka |
//! | `round_trip` | what one record takes there and back |
//! | `run` | one run, from its first case to its figures |
//! | `bench` | all runs of a workload |

mod backing;
mod bench;
mod environment;
mod error;
mod floor;
mod ledger;
mod load;
mod path;
mod peer;
mod pins;
mod processes;
pub mod report;
mod requests;
mod round_trip;
mod run;
mod schedule;
pub mod settings;
mod site;
mod stats;
mod topics;
mod usage;

pub use bench::{Bench, Programs};
pub use environment::{BrokerName, Environment};
pub use error::BenchError;
pub use peer::Peer;
pub use pins::Pins;
pub use processes::Group;
pub use report::Report;
pub use settings::{Settings, Wishes, Workload};
pub use stats::Spread;
