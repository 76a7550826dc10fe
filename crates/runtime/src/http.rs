//! `/live`, `/ready` and `/metrics` on loopback.
//!
//! Readiness is truthful: it asks whether the broker answered within the last seconds and whether the group has let
//! this process in, not whether the process is up.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use anabranch_kafka::Cluster;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use crate::clock;
use crate::gate::Gate;
use crate::metrics::Metrics;

/// How often the broker is asked, and how long it may take. Together under the 10 s within which `/ready` must turn.
const PING_EVERY: Duration = Duration::from_secs(2);
const PING_TIMEOUT: Duration = Duration::from_secs(3);
/// A loop that has not turned for this long is stuck.
const LIVE_WITHIN: Duration = Duration::from_secs(30);

/// What the probes know.
#[derive(Debug)]
pub(crate) struct Health {
    broker: AtomicBool,
    joined: AtomicBool,
    prepared: AtomicBool,
    last_turn_ms: AtomicI64,
    gate: Gate,
}

impl Health {
    pub(crate) fn new(gate: Gate) -> Arc<Self> {
        Arc::new(Self {
            broker: AtomicBool::new(false),
            joined: AtomicBool::new(false),
            prepared: AtomicBool::new(true),
            last_turn_ms: AtomicI64::new(clock::now().as_millis()),
            gate,
        })
    }

    /// The main loop turned.
    pub(crate) fn turned(&self) {
        self.last_turn_ms.store(clock::now().as_millis(), Ordering::Relaxed);
    }

    /// The group let this process in, or it fell out.
    pub(crate) fn joined(&self, joined: bool) {
        self.joined.store(joined, Ordering::Relaxed);
    }

    /// What has to be read before work can start (a directory, an index, a state) is read, or is not yet.
    pub(crate) fn prepared(&self, prepared: bool) {
        self.prepared.store(prepared, Ordering::Relaxed);
    }

    fn live(&self) -> Result<(), &'static str> {
        let last = anabranch_protocol::Timestamp::from_millis(self.last_turn_ms.load(Ordering::Relaxed));
        if clock::now().since(last) < LIVE_WITHIN { Ok(()) } else { Err("the main loop is stuck") }
    }

    fn ready(&self) -> Result<(), &'static str> {
        self.live()?;
        if !self.broker.load(Ordering::Relaxed) {
            return Err("the broker does not answer");
        }
        if !self.joined.load(Ordering::Relaxed) {
            return Err("not a member of the consumer group");
        }
        if !self.prepared.load(Ordering::Relaxed) { Err("still reading what is needed to start") } else { Ok(()) }
    }

    /// What to say when all is well: a process that holds its partitions and starts nothing on purpose is ready, and
    /// says so. Restarting it would not help, and giving its partitions away would not either.
    fn well(&self) -> String {
        let held: Vec<String> =
            self.gate.held().iter().map(|(hold, why)| format!("paused ({}): {why}\n", hold.word())).collect();
        if held.is_empty() { "ok\n".to_owned() } else { held.concat() }
    }
}

/// Asks the broker every two seconds and keeps what it says in `health`.
pub(crate) async fn watch_broker(cluster: Cluster, health: Arc<Health>, metrics: Arc<Metrics>) {
    let mut every = tokio::time::interval(PING_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let answer = cluster.ping(PING_TIMEOUT).await;
        let was = health.broker.swap(answer.is_ok(), Ordering::Relaxed);
        metrics.broker_connected.set(i64::from(answer.is_ok()));
        match answer {
            Ok(()) if !was => tracing::info!("broker answers"),
            Err(error) if was => tracing::warn!(%error, "broker does not answer"),
            _ => {}
        }
    }
}

#[derive(Clone)]
struct Probes {
    health: Arc<Health>,
    registry: Arc<Registry>,
}

/// Serves the probes on `port` of the loopback address; 0 takes a free one. Returns the address.
///
/// # Errors
/// If the port is taken.
pub(crate) async fn serve(port: u16, health: Arc<Health>, registry: Registry) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let address = listener.local_addr()?;
    let router = Router::new()
        .route("/live", get(|State(p): State<Probes>| async move { answer(p.health.live(), "ok\n") }))
        .route("/ready", get(|State(p): State<Probes>| async move { answer(p.health.ready(), p.health.well()) }))
        .route("/metrics", get(metrics))
        .with_state(Probes { health, registry: Arc::new(registry) });
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the probe server ended");
        }
    });
    Ok(address)
}

fn answer(state: Result<(), &'static str>, well: impl Into<String>) -> (StatusCode, String) {
    match state {
        Ok(()) => (StatusCode::OK, well.into()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

async fn metrics(State(probes): State<Probes>) -> impl IntoResponse {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &probes.registry) {
        Ok(()) => (
            StatusCode::OK,
            [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")],
            text,
        ),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, "text/plain")], error.to_string()),
    }
}
