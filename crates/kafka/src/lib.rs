//! The only crate that talks to a broker.

mod admin;
mod api;
mod backoff;
mod batch;
mod cluster;
mod config;
mod connection;
mod error;
mod fetcher;
mod group;
mod link;
mod metadata;
mod offsets;
mod producer;
mod security;
mod silence;
mod transaction;
mod transport;
mod types;
#[cfg(test)]
mod untrusted;

pub use admin::Admin;
pub use cluster::{BrokerInfo, Cluster, Health};
pub use config::{
    ClusterConfig, Commits, FetchConfig, GroupConfig, Isolation, Position, ProducerConfig, StartOffset,
    TransactionConfig,
};
pub use error::{Error, ErrorKind};
pub use fetcher::Fetcher;
pub use group::{Committer, Event, GroupConsumer, RevokeDone};
pub use producer::Producer;
pub use security::{SecurityConfig, SecurityError};
pub use transaction::{Ended, Transaction, TransactionalProducer};
pub use transport::{BoxStream, PlainTcp, Stream, Transport};
pub use types::{
    AssignedPartition, CommittedOffset, ConfigEntry, Delivered, Fetched, GroupInfo, GroupListing, Header, MemberInfo,
    NewTopic, OffsetToCommit, OutRecord, Record, TopicInfo, TopicPartition,
};
