//! Starting and stopping.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

use crate::{
    config::{BrokerConfig, BrokerError, Profile, TransactionVersion},
    faults::Faults,
    housekeeping,
    node::Node,
    server::connection,
};

/// How long `stop` waits for requests that are being carried out.
const STOP_WAIT: Duration = Duration::from_secs(5);
/// How long to wait after the system could not give a connection, for example as no descriptor was left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A running broker. Dropping it stops it too, without waiting.
pub struct Broker {
    node: Arc<Node>,
    stopping: CancellationToken,
    tasks: TaskTracker,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("address", &self.node.address).finish_non_exhaustive()
    }
}

impl Broker {
    /// Opens the data and starts serving. The broker takes connections when this returns.
    ///
    /// # Errors
    /// When the settings contradict each other, the address cannot be taken, or the data cannot be opened.
    pub async fn start(config: BrokerConfig) -> Result<Self, BrokerError> {
        check(&config)?;
        let listen = |source| BrokerError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let interval = config.housekeeping_interval;
        let node =
            tokio::task::spawn_blocking(move || Node::open(config, address)).await.map_err(std::io::Error::other)??;
        let (node, stopping, tasks) = (Arc::new(node), CancellationToken::new(), TaskTracker::new());
        let housekeeping = housekeeping::run(Arc::downgrade(&node), interval);
        tasks.spawn(stopping.clone().run_until_cancelled_owned(housekeeping));
        tasks.spawn(accept(listener, Arc::clone(&node), stopping.clone(), tasks.clone()));
        info!(%address, profile = ?node.config.profile, "development broker is ready; not for production");
        Ok(Self { node, stopping, tasks })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.node.address
    }

    /// The address as clients want it: `host:port`.
    pub fn bootstrap(&self) -> String {
        self.node.address.to_string()
    }

    /// Faults that its clients are to meet.
    pub fn faults(&self) -> &Faults {
        &self.node.faults
    }

    /// Closes all connections and stops. What was acknowledged is on disk. The data directory is free afterwards.
    pub async fn stop(self) {
        self.stopping.cancel();
        self.tasks.close();
        if tokio::time::timeout(STOP_WAIT, self.tasks.wait()).await.is_err() {
            warn!("some tasks of the broker did not stop in time");
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}

fn check(config: &BrokerConfig) -> Result<(), BrokerError> {
    if !config.listen.ip().is_loopback() {
        return Err(BrokerError::NotLoopback(config.listen));
    }
    if config.profile == Profile::Redpanda && config.transaction_version == TransactionVersion::Two {
        return Err(BrokerError::Config("Redpanda has transaction version one only"));
    }
    if config.default_partitions < 1 {
        return Err(BrokerError::Config("a topic has at least one partition"));
    }
    if config.min_session_timeout > config.max_session_timeout {
        return Err(BrokerError::Config("the shortest session time is longer than the longest"));
    }
    if config.housekeeping_interval.is_zero() {
        return Err(BrokerError::Config("the housekeeping interval is zero"));
    }
    Ok(())
}

async fn accept(listener: TcpListener, node: Arc<Node>, stopping: CancellationToken, tasks: TaskTracker) {
    loop {
        let accepted = tokio::select! {
            () = stopping.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, client)) => {
                debug!(%client, "connection");
                let serve = connection::serve(stream, Arc::clone(&node));
                tasks.spawn(stopping.clone().run_until_cancelled_owned(serve));
            }
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
