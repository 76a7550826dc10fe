//! What every role has at hand.

use std::sync::Arc;
use std::time::Duration;

use anabranch_claims::ClaimCheck;
use anabranch_core::retry::RetryPolicy;
use anabranch_kafka::{Cluster, GroupConfig, Record};
use anabranch_protocol::dead_letter::MAX_MESSAGE_BYTES;
use anabranch_protocol::{CorrelationId, Envelope, EnvelopeError};
use anabranch_sdk::model::ModelHandle;
use anabranch_topology::{AgentSettings, Topology};

use crate::clock;
use crate::emit::{self, EmitError, Emitter, GivenUp, Reason};
use crate::gate::Gate;
use crate::http::Health;
use crate::letters::Letters;
use crate::metrics::Metrics;
use crate::model::Discipline;
use crate::retry::Retries;
use crate::shutdown::Shutdown;
use crate::site::Site;
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
    /// What of the model's rules is kept together with other processes.
    pub(crate) discipline: Arc<Discipline>,
    /// Where values lie that are too large for a record, if the topology says so.
    pub(crate) claims: Option<ClaimCheck>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) health: Arc<Health>,
    pub(crate) in_flight: Arc<InFlight>,
    /// While it is held, no new work starts.
    pub(crate) gate: Gate,
    /// How many dead letters there were, and whether there may be more.
    pub(crate) letters: Letters,
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
    /// What of it needs no broker.
    pub(crate) fn site(&self) -> Site {
        let (topology, metrics) = (self.topology.clone(), self.metrics.clone());
        Site { name: self.name, topology, metrics }
    }

    /// `ce_source` of what this process emits.
    pub(crate) fn source(&self) -> String {
        self.site().source()
    }

    /// The consumer group.
    pub(crate) fn group(&self) -> String {
        self.site().group()
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
            tiers: retry.tiers.clone(),
        }
    }

    /// A loop that gives records to `processor`, and those that are to be tried again to `retries` in between.
    pub(crate) fn worker(&self, processor: impl Processor, retries: Retries) -> Worker {
        Worker {
            processor: Arc::new(processor),
            retries: Arc::new(retries),
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

    /// Makes `record` a dead letter and waits for the acknowledgement. Where the whole error makes it too large, it says
    /// less of it.
    pub(crate) async fn dead_letter(&self, record: &Record, reason: &Reason) -> Result<(), EmitError> {
        let case = Self::case_of(record);
        let dlq_topic = self.topology.dlq_topic(&record.topic);
        let given_up = GivenUp {
            dlq_topic: &dlq_topic,
            group: &self.group(),
            agent: self.name,
            agent_version: self.version,
            reason,
            correlation_id: &case,
        };
        let letter = |most| vec![emit::dead_letter(record, &given_up, clock::now(), most)];
        match self.emitter.emit(letter(MAX_MESSAGE_BYTES)).await {
            Err(error) if error.is_too_large() => self.emitter.emit(letter(emit::LEAN)).await?,
            emitted => emitted?,
        };
        self.metrics.handled("dead-letter");
        tracing::warn!(
            correlation_id = %case, agent = self.name, topic = &*record.topic, partition = record.partition,
            offset = record.offset, class = reason.class, error = reason.message, "dead letter"
        );
        Ok(())
    }

    /// The model, for this case; on behalf of the tenant that its request names, if the topology says where.
    pub(crate) fn model_for(&self, case: &CorrelationId, request: &serde_json::Value) -> ModelHandle {
        let named = self.topology.tenant.as_ref().and_then(|pointer| request.pointer(pointer));
        let tenant = named.filter(|name| name.is_string() || name.is_number());
        let tenant = tenant.map(|name| name.as_str().map_or_else(|| name.to_string(), str::to_owned));
        self.model.for_case(case).for_tenant(tenant)
    }

    /// Decodes the envelope and the message of a record.
    pub(crate) fn decode<T: serde::de::DeserializeOwned>(record: &Record) -> Result<(Envelope, T), EnvelopeError> {
        let decoded = Envelope::decode(&record.view())?;
        let message = decoded.json()?;
        Ok((decoded.envelope, message))
    }
}
