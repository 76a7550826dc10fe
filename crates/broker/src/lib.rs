//! A development Kafka broker: one node, loopback. **Not for production**: no replication, no fsync, no access control.
//!
//! It is what `anabranch dev` starts where there is no Kafka, and the test double of the other crates: see [`Faults`].
//! It speaks enough of the protocol for rskafka, librdkafka and Apache Kafka's own clients and tools: topics, idempotent
//! and transactional produce, fetch with isolation, classic consumer groups, retention and compaction.
//!
//! Known limits. A client on the same machine can end the process with a forged array length, as kafka-protocol 0.18
//! allocates what a request announces; the size of a frame is bounded, so that other protocols and noise do no harm.
//! Fetch sessions are not given out. Leader epochs never change. There are no share groups, no consumer protocol of
//! KIP-848, no ACLs and no quotas.

mod broker;
mod config;
mod faults;
mod group;
mod handlers;
mod housekeeping;
mod journal;
mod log;
mod node;
mod ports;
mod server;
mod topics;
mod txn;

pub use kafka_protocol::{ResponseError, messages::ApiKey};

pub use self::{
    broker::Broker,
    config::{BrokerConfig, BrokerError, Profile, Storage, TransactionVersion},
    faults::{Action, Fault, Faults, Injected},
};
