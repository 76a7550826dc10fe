//! The one node: everything the request handlers share.

use std::{
    fs::{self, File, TryLockError},
    io,
    net::SocketAddr,
    path::Path,
    sync::Arc,
};

use kafka_protocol::messages::BrokerId;
use uuid::Uuid;

use crate::{
    config::{BrokerConfig, BrokerError, Profile, Storage, TransactionVersion},
    faults::Faults,
    group::{self, Groups},
    journal::Journal,
    ports,
    server::api::Offer,
    topics::{Topics, config::Defaults},
    txn::{self, Transactional},
};

/// The node's id in the cluster.
pub(crate) const NODE_ID: BrokerId = BrokerId(1);

/// The node.
pub(crate) struct Node {
    pub(crate) config: BrokerConfig,
    pub(crate) address: SocketAddr,
    pub(crate) cluster_id: String,
    pub(crate) offer: Offer,
    pub(crate) faults: Faults,
    pub(crate) topics: Arc<Topics>,
    pub(crate) groups: Arc<Groups>,
    pub(crate) transactions: Arc<Transactional>,
    /// Keeps others out of the data directory.
    _lock: Option<File>,
}

impl Node {
    /// Opens the data, and gets ready to serve at an address.
    pub(crate) fn open(config: BrokerConfig, address: SocketAddr) -> Result<Self, BrokerError> {
        let directory = match &config.storage {
            Storage::Memory => None,
            Storage::Directory(path) => Some(path.as_path()),
        };
        let lock = directory.map(lock).transpose()?;
        let defaults = Defaults { max_message_bytes: config.max_message_bytes, segment_bytes: config.segment_bytes };
        let topics = Arc::new(Topics::open(directory.map(|directory| directory.join("topics")), defaults)?);
        let groups = Groups::open(group_settings(&config), journal(directory, "groups")?)?;
        let log: Arc<dyn ports::Log> = topics.clone();
        let settings = transaction_settings(&config);
        let transactions =
            Transactional::open(settings, log, Arc::clone(&groups), journal(directory, "transactions")?)?;
        Ok(Self {
            address,
            cluster_id: cluster_id(directory)?,
            offer: Offer::new(config.profile, config.transaction_version),
            faults: Faults::default(),
            topics,
            groups,
            transactions,
            config,
            _lock: lock,
        })
    }

    pub(crate) fn is_kafka(&self) -> bool {
        self.config.profile == Profile::Kafka
    }
}

fn group_settings(config: &BrokerConfig) -> group::Settings {
    group::Settings {
        min_session_timeout: config.min_session_timeout,
        max_session_timeout: config.max_session_timeout,
        initial_rebalance_delay: config.initial_rebalance_delay,
        ..group::Settings::default()
    }
}

fn transaction_settings(config: &BrokerConfig) -> txn::Settings {
    let version = match config.transaction_version {
        TransactionVersion::Off | TransactionVersion::One => txn::Version::One,
        TransactionVersion::Two => txn::Version::Two,
    };
    txn::Settings { version, max_timeout: config.max_transaction_timeout }
}

fn lock(directory: &Path) -> Result<File, BrokerError> {
    fs::create_dir_all(directory)?;
    let file = File::options().write(true).create(true).truncate(false).open(directory.join("lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(BrokerError::InUse(directory.to_owned())),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

fn journal(directory: Option<&Path>, name: &str) -> io::Result<Journal> {
    match directory {
        None => Ok(Journal::memory()),
        Some(directory) => Journal::open(directory.join(format!("{name}.jsonl"))),
    }
}

/// The cluster's id: made once, then kept with the data.
fn cluster_id(directory: Option<&Path>) -> io::Result<String> {
    let new = || format!("anabranch-{}", Uuid::new_v4().simple());
    let Some(directory) = directory else { return Ok(new()) };
    let path = directory.join("cluster-id");
    match fs::read_to_string(&path) {
        Ok(id) if !id.trim().is_empty() => Ok(id.trim().to_owned()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => {
            let id = new();
            fs::write(path, &id)?;
            Ok(id)
        }
    }
}
