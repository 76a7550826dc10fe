//! Broker, topics, model and agents of one run.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anabranch_kafka::{Cluster, Isolation, TopicPartition};
use anabranch_topology::{COMPOSER, SUPERVISOR, TopicSpec, Topology};

use crate::backing::{Broker, Mock};
use crate::bench::Programs;
use crate::error::BenchError;
use crate::peer::{Peer, PeerTopics};
use crate::processes::{AgentArguments, Launcher, Process, STOP_WITHIN};
use crate::settings::{Settings, Workload};
use crate::topics;

/// The reference application as it is measured.
pub(crate) const KYC_TOPOLOGY: &str = include_str!("../kyc/topics.yaml");
/// The agents of the reference application, in the order in which they are started.
const KYC_AGENTS: [&str; 7] = [SUPERVISOR, "identity", "document", "fraud", "compliance", "customer", COMPOSER];
/// One agent, and nobody before or after it.
const NAP_TOPOLOGY: &str = "
name: nap
partitions: 1
inbound: { requests: nap.requests }
outbound: { done: nap.done }
join: { deadline: 30m }
agents:
  napper: { concurrency: 1000, handler_timeout: 1m }
";

/// Cases that stay open for a day: nobody but the composer.
const JOIN_TOPOLOGY: &str = "
name: joins
partitions: 12
inbound: { requests: joins.requests, review: joins.reviews }
outbound:
  decisions: joins.decisions
  cases: joins.cases
  fraud-alerts: joins.fraud-alerts
  customer-messages: joins.customer-messages
join: { deadline: 24h, closed_memory: 24h }
";

/// Longest time until a process is ready: it joins a group, and a group may have to notice that another member is gone.
const READY_WITHIN: Duration = Duration::from_secs(90);

/// The agents that a workload runs.
pub(crate) fn agents(workload: Workload) -> &'static [&'static str] {
    match workload {
        Workload::W6 => &["napper"],
        Workload::W8 => &[COMPOSER],
        _ => &KYC_AGENTS,
    }
}

/// The topology of a leg, under a name of its own, with the partitions that are wanted; and its text.
///
/// # Errors
/// [`BenchError::Usage`] if the file that was given cannot be used.
pub(crate) fn topology(given: Option<&str>, settings: &Settings, name: &str) -> Result<(Topology, String), BenchError> {
    let text = match settings.workload {
        Workload::W6 => NAP_TOPOLOGY,
        Workload::W8 => JOIN_TOPOLOGY,
        _ => given.unwrap_or(KYC_TOPOLOGY),
    };
    let is_kyc = ![Workload::W6, Workload::W8].contains(&settings.workload);
    let own = given.is_none() && is_kyc;
    let set = |line: &str| match line.trim_start() {
        plain if plain.starts_with("partitions:") && plain == line => format!("partitions: {}", settings.partitions),
        plain if own && plain.starts_with("concurrency:") => format!("    concurrency: {}", settings.concurrency),
        _ => line.to_owned(),
    };
    let text = text.lines().map(set).collect::<Vec<_>>().join("\n");
    let wrong = |error: &dyn std::fmt::Display| BenchError::Usage(format!("the topology cannot be used: {error}"));
    let text = anabranch_topology::renamed("topics.yaml", &text, name).map_err(|error| wrong(&error))?;
    let checked = anabranch_topology::parse("topics.yaml", &text, None).map_err(|error| wrong(&error))?;
    Ok((checked.topology, text))
}

/// What a run stands on.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) cluster: Cluster,
    pub(crate) launcher: Launcher,
    pub(crate) mock: Mock,
    pub(crate) topology: Topology,
}

/// Everything of one run.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) cluster: Cluster,
    pub(crate) topology: Topology,
    pub(crate) specs: Vec<TopicSpec>,
    pub(crate) mock: Mock,
    pub(crate) launcher: Launcher,
    /// By label: the agent, or `agent-2` for the second of its processes.
    pub(crate) agents: BTreeMap<String, (String, Process)>,
    arguments: AgentArguments,
    binaries: BTreeMap<String, PathBuf>,
    http: reqwest::Client,
}

impl Site {
    /// Creates the topics, starts the agents and waits until all are ready.
    ///
    /// # Errors
    /// What could not be had.
    pub(crate) async fn open(
        ground: Ground,
        broker: &Broker,
        programs: &Programs,
        text: &str,
        settings: &Settings,
    ) -> Result<Self, BenchError> {
        let Ground { cluster, launcher, mock, topology } = ground;
        let file = launcher.folder.join("topics.yaml");
        std::fs::write(&file, text).map_err(BenchError::io("cannot write the topology"))?;
        let agents = agents(settings.workload);
        let workers: Vec<&str> = agents.iter().copied().filter(|name| ![SUPERVISOR, COMPOSER].contains(name)).collect();
        let specs = topology.topics(&workers);
        topics::create(&cluster, &specs).await?;
        let mut environment = mock.environment(settings.asks);
        if broker.is_ours() {
            environment.push(("ANABRANCH_KAFKA_SECURITY_PROTOCOL".to_owned(), "plaintext".to_owned()));
        }
        if std::env::var_os("RUST_LOG").is_none() {
            environment.push(("RUST_LOG".to_owned(), "warn".to_owned()));
        }
        let arguments = AgentArguments { brokers: broker.brokers.clone(), topology: file, environment };
        let binaries = programs.agents.clone();
        let http = reqwest::Client::builder().no_proxy().build()?;
        let mut site =
            Self { cluster, topology, specs, mock, launcher, agents: BTreeMap::new(), arguments, binaries, http };
        for agent in agents {
            for replica in 1..=settings.replicas {
                site.start_agent(agent, replica)?;
            }
        }
        site.all_ready().await?;
        Ok(site)
    }

    /// The same with a peer in the place of the agents: one process that starts its own.
    ///
    /// # Errors
    /// What could not be had.
    pub(crate) async fn of_peer(
        ground: Ground,
        peer: &Peer,
        peers: &PeerTopics,
        broker: &Broker,
        settings: &Settings,
    ) -> Result<Self, BenchError> {
        let Ground { cluster, launcher, mock, topology } = ground;
        let process = peer.start(&launcher, broker, &mock, peers, settings).await?;
        let arguments =
            AgentArguments { brokers: broker.brokers.clone(), topology: PathBuf::new(), environment: Vec::new() };
        let http = reqwest::Client::builder().no_proxy().build()?;
        let agents = BTreeMap::from([("peer".to_owned(), ("peer".to_owned(), process))]);
        let (specs, binaries) = (topology.topics(&[]).into_iter().take(1).collect(), BTreeMap::new());
        Ok(Self { cluster, topology, specs, mock, launcher, agents, arguments, binaries, http })
    }

    /// Starts process number `replica` of an agent.
    ///
    /// # Errors
    /// If there is no such agent, or it cannot be started.
    pub(crate) fn start_agent(&mut self, agent: &str, replica: u32) -> Result<(), BenchError> {
        let label = if replica == 1 { agent.to_owned() } else { format!("{agent}-{replica}") };
        self.start_as(agent, &label)
    }

    fn start_as(&mut self, agent: &str, label: &str) -> Result<(), BenchError> {
        let unknown = || BenchError::Usage(format!("there is no agent {agent} among those that are measured"));
        let binary = self.binaries.get(agent).ok_or_else(unknown)?;
        let process = self.launcher.agent(label, binary, &self.arguments)?;
        self.agents.insert(label.to_owned(), (agent.to_owned(), process));
        Ok(())
    }

    /// Waits until all agents are ready.
    ///
    /// # Errors
    /// If one is not; with its last words.
    pub(crate) async fn all_ready(&mut self) -> Result<(), BenchError> {
        for (_, process) in self.agents.values_mut() {
            process.ready(&self.http, READY_WITHIN).await?;
        }
        Ok(())
    }

    /// kill -9 of the process with this number, and a new one in its place at once. Its label.
    ///
    /// # Errors
    /// If it cannot be killed or started.
    pub(crate) async fn kill(&mut self, number: usize) -> Result<String, BenchError> {
        let labels: Vec<String> = self.agents.keys().cloned().collect();
        let Some(label) = labels.get(number % labels.len().max(1)) else { return Ok(String::new()) };
        let Some((agent, mut process)) = self.agents.remove(label) else { return Ok(String::new()) };
        // What it took until now is what it took.
        self.launcher.meter.look();
        process.kill().await?;
        self.start_as(&agent, label)?;
        Ok(label.clone())
    }

    /// Stops the first process of an agent.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub(crate) async fn stop_agent(&mut self, agent: &str) -> Result<(), BenchError> {
        self.launcher.meter.look();
        match self.agents.remove(agent) {
            Some((_, mut process)) => process.stop(STOP_WITHIN).await.map(drop),
            None => Ok(()),
        }
    }

    /// `/metrics` of the first process of an agent.
    ///
    /// # Errors
    /// If it has ended or does not answer.
    pub(crate) async fn metrics_of(&mut self, agent: &str) -> Result<String, BenchError> {
        let unknown = || BenchError::Process(format!("{agent} does not run"));
        let (_, process) = self.agents.get_mut(agent).ok_or_else(unknown)?;
        process.alive()?;
        process.metrics(&self.http).await
    }

    /// Stops the processes of an agent above the first.
    ///
    /// # Errors
    /// If one cannot be waited for.
    pub(crate) async fn scale_down(&mut self, agent: &str) -> Result<(), BenchError> {
        let extra: Vec<String> = self
            .agents
            .iter()
            .filter(|(label, (name, _))| name == agent && *label != agent)
            .map(|(l, _)| l.clone())
            .collect();
        self.launcher.meter.look();
        let mut leaving: Vec<Process> = extra.iter().filter_map(|label| Some(self.agents.remove(label)?.1)).collect();
        futures::future::try_join_all(leaving.iter_mut().map(|process| process.stop(STOP_WITHIN))).await.map(drop)
    }

    /// # Errors
    /// If a process has ended by itself; with its last words.
    pub(crate) fn all_alive(&mut self) -> Result<(), BenchError> {
        self.agents.values_mut().try_for_each(|(_, process)| process.alive())
    }

    /// Where all topics of the application end now, if that is wanted.
    ///
    /// # Errors
    /// If the broker does not tell.
    pub(crate) async fn ends(&self, wanted: bool) -> Result<BTreeMap<TopicPartition, i64>, BenchError> {
        if !wanted {
            return Ok(BTreeMap::new());
        }
        let all: Vec<TopicPartition> = self.specs.iter().flat_map(topics::partitions).collect();
        let admin = self.cluster.admin();
        admin.end_offsets(&all, Isolation::ReadUncommitted).await.map_err(BenchError::kafka("where the topics end"))
    }

    /// Stops agents and model, and deletes the topics.
    ///
    /// # Errors
    /// If a process cannot be waited for.
    pub(crate) async fn close(mut self) -> Result<(), BenchError> {
        let all = self.agents.values_mut().map(|(_, process)| process.stop(STOP_WITHIN));
        let stopped = futures::future::try_join_all(all).await.map(drop);
        let prefix = format!("{}.", self.topology.name);
        topics::delete(&self.cluster, &prefix).await;
        self.mock.stop().await?;
        stopped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Wishes, legs};

    fn settings(workload: Workload, partitions: u32) -> Settings {
        legs(workload, &Wishes { partitions: Some(partitions), ..Wishes::default() }).unwrap().remove(0)
    }

    fn named(given: Option<&str>, settings: &Settings) -> Topology {
        topology(given, settings, "kyc-bench-1").unwrap().0
    }

    #[test]
    fn a_leg_has_a_name_and_partitions_of_its_own() {
        let kyc = named(None, &settings(Workload::W2, 60));
        assert_eq!((kyc.name.as_str(), kyc.partitions), ("kyc-bench-1", 60));
        assert!(kyc.topics(&["identity"]).iter().all(|topic| topic.name.starts_with("kyc-bench-1.")));
        assert_eq!(named(None, &settings(Workload::W8, 12)).partitions, 12);
        assert_eq!(kyc.agent("document").concurrency, 256);
        assert_eq!(named(None, &settings(Workload::W1, 6)).agent("document").concurrency, 4_000);
        let nap = named(None, &settings(Workload::W6, 1));
        assert_eq!((nap.partitions, nap.agent("napper").concurrency), (1, 1_000));
    }

    /// What is measured is the reference application: what differs from it is written beside it.
    #[test]
    fn the_measured_topology_is_the_projects_own_with_what_it_says_it_changes() {
        let ours = named(None, &settings(Workload::W2, 6));
        let project = named(Some(include_str!("../../../topics.yaml")), &settings(Workload::W2, 6));
        assert_eq!(ours.outbound.keys().collect::<Vec<_>>(), project.outbound.keys().collect::<Vec<_>>());
        assert_eq!(ours.agents.keys().collect::<Vec<_>>(), project.agents.keys().collect::<Vec<_>>());
        assert_eq!(ours.confidence, project.confidence);
    }

    #[test]
    fn a_file_that_is_no_topology_is_refused() {
        let error = topology(Some("name: x\n"), &settings(Workload::W2, 6), "x").unwrap_err();
        assert!(matches!(error, BenchError::Usage(_)), "{error}");
    }
}
