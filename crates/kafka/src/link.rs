//! A connection of one owner, made anew when it is gone.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{cluster::Cluster, connection::Connection, error::Error};

/// Not pooled: what waits long on it holds up nobody else.
#[derive(Default)]
pub(crate) struct Link(tokio::sync::Mutex<Option<Connection>>);

impl Link {
    /// The open connection to `address`, or a new one.
    pub(crate) async fn connection(&self, cluster: &Cluster, address: &str) -> Result<Connection, Error> {
        let mut link = self.0.lock().await;
        if let Some(open) = link.as_ref().filter(|c| c.is_usable() && c.address() == address) {
            return Ok(open.clone());
        }
        let opened = cluster.open(address).await?;
        *link = Some(opened.clone());
        Ok(opened)
    }
}

/// An owner's connections to several brokers.
#[derive(Default)]
pub(crate) struct Links(Mutex<HashMap<String, Arc<Link>>>);

impl Links {
    /// The open connection to `address`, or a new one.
    pub(crate) async fn connection(&self, cluster: &Cluster, address: &str) -> Result<Connection, Error> {
        let link = self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(address.to_owned()).or_default().clone();
        link.connection(cluster, address).await
    }
}
