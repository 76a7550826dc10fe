//! Where a coordinator is, found once and shared by all who ask it.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{
    cluster::{Cluster, Purpose},
    connection::Connection,
    error::Error,
};

/// What a coordinator coordinates, as FindCoordinator numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coordinates {
    Group = 0,
    Transactions = 1,
}

/// A group's coordinator, or a transactional id's; clones share what they learn.
#[derive(Clone)]
pub(crate) struct Coordinator {
    pub(crate) cluster: Cluster,
    /// The group, or the transactional id.
    pub(crate) group: Arc<str>,
    kind: Coordinates,
    address: Arc<Mutex<Option<String>>>,
}

impl Coordinator {
    pub(crate) fn new(cluster: Cluster, group: &str) -> Self {
        Self::of(Coordinates::Group, cluster, group)
    }

    pub(crate) fn of(kind: Coordinates, cluster: Cluster, key: &str) -> Self {
        Self { cluster, group: key.into(), kind, address: Arc::default() }
    }

    fn known(&self) -> Option<String> {
        self.address.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn forget(&self) {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The coordinator's address, asked for anew if forgotten.
    pub(crate) async fn address(&self) -> Result<String, Error> {
        if let Some(address) = self.known() {
            return Ok(address);
        }
        let found = self.cluster.find_coordinator(self.kind, &self.group).await?.address;
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = Some(found.clone());
        Ok(found)
    }

    /// A pooled connection to the coordinator.
    pub(crate) async fn connection(&self, purpose: Purpose) -> Result<Connection, Error> {
        let address = self.address().await?;
        let connection = self.cluster.connection(&address, purpose).await;
        if connection.is_err() {
            self.forget();
        }
        connection
    }
}
