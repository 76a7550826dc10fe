//! Where a group's coordinator is, found once and shared by committing and offset reading.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{
    cluster::{Cluster, Purpose},
    connection::Connection,
    error::Error,
};

/// A group's coordinator; clones share what they learn.
#[derive(Clone)]
pub(crate) struct Coordinator {
    pub(crate) cluster: Cluster,
    pub(crate) group: Arc<str>,
    address: Arc<Mutex<Option<String>>>,
}

impl Coordinator {
    pub(crate) fn new(cluster: Cluster, group: &str) -> Self {
        Self { cluster, group: group.into(), address: Arc::default() }
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
        let found = self.cluster.find_coordinator(&self.group).await?.address;
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
