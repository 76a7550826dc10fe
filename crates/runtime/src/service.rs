//! What every role has at hand.

use std::sync::Arc;
use std::time::Duration;

use anabranch_core::retry::RetryPolicy;
use anabranch_kafka::{Cluster, GroupConfig, Record};
use anabranch_protocol::{CorrelationId, Envelope, EnvelopeError};
use anabranch_sdk::model::ModelHandle;
use anabranch_topology::{AgentSettings, Topology};

use crate::emit::{self, EmitError, Emitter, GivenUp};
use crate::gate::Gate;
use crate::http::Health;
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;
use crate::worker::{InFlight, Limits, Processor, Worker};

/// What every role has at hand.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    pub(crate) topology: Arc<Topology>,
    pub(crate) settings: Arc<AgentSettings>,
    pub(crate) cluster: Cluster,
    pub(crate) emitter: Emitter,
    pub(crate) model: ModelHandle,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) health: Arc<Health>,
    pub(crate) in_flight: Arc<InFlight>,
    /// While it is held, no new work starts.
    pub(crate) gate: Gate,
    pub(crate) shutdown: Shutdown,
    pub(crate) membership: Membership,
    /// Whether topics that are missing are created.
    pub(crate) creates_topics: bool,
}

/// Time between heartbeats; a small request.
const HEARTBEAT_EVERY: Duration = Duration::from_millis(500);

/// How this process is known to its group.
#[derive(Debug, Clone, Default)]
pub(crate) struct Membership {
    /// `group.instance.id`: a restart within the session time causes no rebalance.
    pub(crate) instance_id: Option<String>,
    /// It leaves when it stops, as a static member too.
    pub(crate) leave_for_good: bool,
}

impl Service {
    /// `ce_source` of what this process emits.
    pub(crate) fn source(&self) -> String {
        format!("/{}/{}", self.topology.name, self.name)
    }

    /// The consumer group.
    pub(crate) fn group(&self) -> String {
        self.topology.group_of(self.name)
    }

    /// How this process joins its group.
    pub(crate) fn group_config(&self, topics: Vec<String>) -> GroupConfig {
        let mut config = GroupConfig::new(self.group(), topics);
        config.session_timeout = self.settings.session_timeout;
        // Members hear of a rebalance in the answers to their heartbeats: so long a partition stays without an owner.
        config.heartbeat_interval = (self.settings.session_timeout / 4).min(HEARTBEAT_EVERY);
        config.instance_id.clone_from(&self.membership.instance_id);
        // Members must have time to drain before the group goes on without them.
        config.rebalance_timeout = self.settings.drain_timeout + Duration::from_secs(10);
        config
    }

    pub(crate) fn retry_policy(&self) -> RetryPolicy {
        let retry = &self.settings.retry;
        RetryPolicy {
            max_attempts: retry.max_attempts,
            initial_backoff: retry.initial_backoff,
            max_backoff: retry.max_backoff,
        }
    }

    /// A loop that gives records to `processor`.
    pub(crate) fn worker<P: Processor>(&self, processor: P) -> Worker<P> {
        Worker {
            processor: Arc::new(processor),
            limits: Limits {
                concurrency: self.settings.concurrency,
                max_held_bytes: self.settings.max_in_flight_bytes,
                order: self.settings.order,
                drain_timeout: self.settings.drain_timeout,
            },
            metrics: self.metrics.clone(),
            health: self.health.clone(),
            in_flight: self.in_flight.clone(),
            gate: self.gate.clone(),
            shutdown: self.shutdown.clone(),
            leave_for_good: self.membership.leave_for_good,
        }
    }

    /// The case a record belongs to, also where the record cannot be read.
    pub(crate) fn case_of(record: &Record) -> CorrelationId {
        let view = record.view();
        let minted = || CorrelationId::mint(view.key, view.topic, view.partition, view.offset);
        let header = anabranch_protocol::header::last(view.headers, anabranch_protocol::header::CORRELATION_ID);
        header.filter(|text| CorrelationId::is_plain(text)).map_or_else(minted, CorrelationId::new)
    }

    /// Makes `record` a dead letter and waits for the acknowledgement.
    pub(crate) async fn dead_letter(
        &self,
        record: &Record,
        class: &'static str,
        message: &str,
        attempts: u32,
    ) -> Result<(), EmitError> {
        let case = Self::case_of(record);
        let dlq_topic = self.topology.dlq_topic(&record.topic);
        let given_up = GivenUp {
            dlq_topic: &dlq_topic,
            group: &self.group(),
            agent: self.name,
            agent_version: self.version,
            attempts,
            class,
            message,
            correlation_id: &case,
        };
        self.emitter.emit(vec![emit::dead_letter(record, &given_up)]).await?;
        self.metrics.handled("dead-letter");
        tracing::warn!(
            correlation_id = %case, agent = self.name, topic = &*record.topic, partition = record.partition,
            offset = record.offset, class, error = message, "dead letter"
        );
        Ok(())
    }

    /// Decodes the envelope and the message of a record.
    pub(crate) fn decode<T: serde::de::DeserializeOwned>(record: &Record) -> Result<(Envelope, T), EnvelopeError> {
        let decoded = Envelope::decode(&record.view())?;
        let message = decoded.json()?;
        Ok((decoded.envelope, message))
    }
}
