//! From the command line to a running role, and the exit code.
//!
//! Order: arguments, topology, the author's type, probes, broker, topics, group. What can be wrong without a broker is
//! found before one is asked.

use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anabranch_core::planning::{Declared, Directory};
use anabranch_kafka::{Cluster, ClusterConfig, GroupConsumer, ProducerConfig, SecurityConfig};
use anabranch_protocol::AgentCard;
use anabranch_sdk::agent::Agent;
use anabranch_sdk::composer::Composer;
use anabranch_sdk::supervisor::Supervisor;
use anabranch_topology::{AgentSettings, Topology};
use anyhow::Context as _;
use clap::Parser as _;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;

use crate::args::{Args, LogFormat};
use crate::composer::Joining;
use crate::emit::Emitter;
use crate::gate::Gate;
use crate::http::{self, Health};
use crate::journal::Journals;
use crate::kind::{Kind, schema_of};
use crate::letters::Letters;
use crate::metrics::Metrics;
use crate::prepare::Role;
use crate::retry::Retries;
use crate::service::{Membership, Service};
use crate::shutdown::Shutdown;
use crate::tools::Tools;
use crate::worker::InFlight;
use crate::{agent as agent_role, claims, directory, model, observe, prepare, replay, supervisor as supervisor_role};

/// Wrong usage, or a topology or config that cannot be used (`EX_USAGE` of `sysexits.h`).
pub(crate) const EX_USAGE: u8 = 64;

/// A process that cannot start as it was asked to.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// Runs an agent: `fn main() -> ExitCode { anabranch_runtime::agent::<MyAgent>() }`.
///
/// The exit code is 0 after a drain, 64 if command line, topology or config cannot be used, 1 for any other failure.
pub fn agent<A: Agent>() -> ExitCode {
    run_agent(Kind::of::<A>())
}

fn run_agent(kind: Kind) -> ExitCode {
    let args = match arguments() {
        Ok(args) => args,
        Err(code) => return code,
    };
    if args.card {
        return print_card(&kind.card(&AgentSettings::default()));
    }
    if args.replay {
        return replay::agent(kind, &args);
    }
    run(&args, kind.name, kind.version, async |mut service: Service| {
        service.model = model::recorded_without(service.model, &kind.schemas());
        let agent = kind.build(&service.settings)?;
        let tools = Tools::open(kind.name, agent.tools(), &service.settings.tools)?;
        let tasks = service.topology.tasks_topic(kind.name);
        prepare::topics(&service, Role::Agent).await?;
        model::open(&service).await?;
        let observed = match kind.observes {
            true => {
                let start = async || observe::start(&service.cluster, &tasks, agent.clone()).await;
                Some(prepare::patiently(&service, "cannot observe the tasks", start).await?)
            }
            false => None,
        };
        tokio::spawn(directory::announce(service.clone(), kind.card(&service.settings)));
        let retries = Retries::in_topics(&service).await?;
        let consumer = GroupConsumer::start(&service.cluster, service.group_config(retries.subscription()));
        let journals = Journals::start(&service, consumer.committer());
        let toolbox = tools.toolbox.clone();
        let role = agent_role::Tasks { agent, service: service.clone(), observed, journals, toolbox };
        let ended = service.worker(role, retries).run(consumer).await;
        tools.end().await;
        Ok(ended?)
    })
}

/// Runs a supervisor.
pub fn supervisor<S: Supervisor>() -> ExitCode {
    let args = match arguments() {
        Ok(args) => args,
        Err(code) => return code,
    };
    if args.replay {
        eprintln!("error: planning has no journal, so that it cannot be done again: a replay takes the plan as it was");
        return ExitCode::from(EX_USAGE);
    }
    run(&args, S::NAME, S::VERSION, async |mut service: Service| {
        service.model = model::recorded_without(service.model, &[schema_of::<S::Request>()]);
        let config = config_of::<S::Config>(S::NAME, &service.settings)?;
        let supervisor = S::new(config).map_err(|e| Usage(format!("agents.{}.config: {e}", S::NAME)))?;
        prepare::topics(&service, Role::Supervisor).await?;
        model::open(&service).await?;
        let directory = Arc::new(Mutex::new(Directory::new(
            declared_agents(&service.topology),
            service.topology.directory.lapse_after,
        )));
        service.health.prepared(false);
        let topic = service.topology.directory_topic();
        let follow = async || directory::follow(&service.cluster, &topic, directory.clone()).await;
        prepare::patiently(&service, "cannot read the directory of agents", follow).await?;
        service.health.prepared(true);
        let requests = service.topology.inbound.requests.name.clone();
        let retries = Retries::in_memory(&service, &requests);
        let topics = vec![requests, service.topology.followups_topic()];
        let consumer = GroupConsumer::start(&service.cluster, service.group_config(topics));
        let role = supervisor_role::Planning { supervisor, service: service.clone(), directory };
        Ok(service.worker(role, retries).run(consumer).await?)
    })
}

/// Runs a composer.
pub fn composer<C: Composer>() -> ExitCode {
    let args = match arguments() {
        Ok(args) => args,
        Err(code) => return code,
    };
    if args.replay {
        return replay::composer::<C>(&args);
    }
    run(&args, C::NAME, C::VERSION, async |service: Service| {
        let config = config_of::<C::Config>(C::NAME, &service.settings)?;
        let composer = C::new(config).map_err(|e| Usage(format!("agents.{}.config: {e}", C::NAME)))?;
        prepare::topics(&service, Role::Composer).await?;
        prepare::transactions(&service).await?;
        let review = service.topology.inbound.review.as_ref().map(|t| t.name.to_string());
        let review_partitions = match &review {
            Some(topic) => {
                let count = async || service.cluster.partition_count(topic).await;
                prepare::patiently(&service, "cannot learn the partitions of the review topic", count).await?
            }
            None => 1,
        };
        let topics = [service.topology.results_topic()].into_iter().chain(review).collect();
        let instance =
            service.membership.instance_id.clone().unwrap_or_else(|| format!("{:016x}", rand::random::<u64>()));
        let joining = Joining { service, composer: Arc::new(composer), topics, review_partitions, instance };
        joining.run().await.map_err(prepare::transactions_refused)
    })
}

/// The command line; or what to end with, after help or after saying what is wrong.
fn arguments() -> Result<Args, ExitCode> {
    Args::try_parse().map_err(|error| {
        // A terminal that is gone reads nothing.
        let _ = error.print();
        if error.use_stderr() { ExitCode::from(EX_USAGE) } else { ExitCode::SUCCESS }
    })
}

fn print_card(card: &AgentCard) -> ExitCode {
    match serde_json::to_string_pretty(card) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run<F, Fut>(args: &Args, name: &'static str, version: &'static str, role: F) -> ExitCode
where
    F: FnOnce(Service) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    init_logs(args.log_format);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(async { role(start(args, name, version).await?).await });
    // What still runs past the drain time is given up; it is delivered again.
    runtime.shutdown_timeout(Duration::from_millis(200));
    match result {
        Ok(()) => {
            tracing::info!("drained");
            ExitCode::SUCCESS
        }
        Err(error) if error.is::<Usage>() => {
            eprintln!("error: {error}");
            ExitCode::from(EX_USAGE)
        }
        Err(error) => {
            tracing::error!(agent = name, error = format!("{error:#}"), "stopped");
            ExitCode::FAILURE
        }
    }
}

pub(crate) fn init_logs(format: LogFormat) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,rskafka=warn,rmcp=warn"));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        // Where stderr is closed there is nobody to tell, and telling would panic: the drain must go on.
        .log_internal_errors(false);
    match format {
        LogFormat::Text => logs.with_ansi(false).init(),
        LogFormat::Json => logs.json().flatten_event(true).init(),
    }
}

async fn start(args: &Args, name: &'static str, version: &'static str) -> anyhow::Result<Service> {
    let topology = Arc::new(load_topology(args)?);
    let settings = topology.agent(name);
    let plan = model::Plan::read(&topology, &settings, &args.topology)?;
    let security = SecurityConfig::from_env().map_err(|e| Usage(e.to_string()))?;
    let claims = claims::open(&topology)?;
    let shutdown = Shutdown::install().context("cannot listen for signals")?;
    if args.exit_with_parent {
        shutdown.end_with_stdin();
    }
    let (metrics, registry) = Metrics::register(name);
    let metrics = Arc::new(metrics);
    let gate = Gate::new(name, metrics.clone());
    let health = Health::new(gate.clone());
    let port = args.http_port.unwrap_or(settings.http_port);
    let address = http::serve(port, health.clone(), registry)
        .await
        .with_context(|| format!("cannot listen on port {port} of the loopback address"))?;
    tracing::info!(agent = name, version, topology = topology.name, %address, "starting");
    let client_id = format!("{}-{name}", topology.name);
    let cluster = Cluster::new(ClusterConfig::new(args.brokers.clone(), client_id).with_security(security));
    tokio::spawn(http::watch_broker(cluster.clone(), health.clone(), metrics.clone()));
    let in_flight = Arc::new(InFlight::default());
    tokio::spawn(in_flight.clone().watch(name, metrics.clone()));
    let emitter = Emitter::new(cluster.producer(ProducerConfig::default()), metrics.clone());
    let (model, discipline) = plan.build(name, &topology, emitter.clone(), gate.clone())?;
    let letters = Letters::start(&settings.dead_letters, gate.clone(), shutdown.drain.clone());
    let settings = Arc::new(settings);
    let membership = Membership { instance_id: args.instance_id.clone(), leave_for_good: args.leave };
    let creates_topics = args.creates_topics();
    Ok(Service {
        name,
        version,
        topology,
        settings,
        cluster,
        emitter,
        model,
        discipline: Arc::new(discipline),
        claims,
        metrics,
        health,
        in_flight,
        letters,
        gate,
        shutdown,
        membership,
        creates_topics,
    })
}

pub(crate) fn load_topology(args: &Args) -> anyhow::Result<Topology> {
    let file = args.topology.display().to_string();
    let text = std::fs::read_to_string(&args.topology)
        .map_err(|e| Usage(format!("cannot read {file}: {e}; name another with --topology")))?;
    let checked =
        anabranch_topology::parse(&file, &text, None).map_err(|diagnostics| Usage(diagnostics.to_string()))?;
    for warning in &checked.warnings {
        tracing::warn!("{warning}");
    }
    Ok(checked.topology)
}

pub(crate) fn config_of<T: DeserializeOwned>(name: &str, settings: &AgentSettings) -> anyhow::Result<T> {
    // An absent config is an empty one, so that `NoConfig` and types with defaults for all fields need no line.
    let config = if settings.config.is_null() { serde_json::json!({}) } else { settings.config.clone() };
    Ok(T::deserialize(config).map_err(|e| Usage(format!("agents.{name}.config: {e}")))?)
}

fn declared_agents(topology: &Topology) -> std::collections::BTreeMap<String, Declared> {
    let declared = topology.agents.iter().map(|(name, settings)| {
        let declared = Declared {
            required: settings.required,
            when: settings.when.clone(),
            after: settings.after.clone(),
            sees: settings.sees.clone(),
        };
        (name.clone(), declared)
    });
    declared.collect()
}
