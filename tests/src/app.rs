//! A running application: a cluster, a topology under names of its own, a mock model, and one process per agent.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anabranch_kafka::{Cluster, Isolation, NewTopic, OutRecord};
use anabranch_llm::mock::{MockConfig, MockServer};
use anabranch_testkit::cluster::{self, FixtureError, Reader, TestCluster};
use anabranch_testkit::process::{self, Process};
use anabranch_topology::Topology;

/// How long a process may take to be ready: it joins a group, and a group may have to notice that another is gone.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// The root of the workspace.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What to run.
pub struct Spec {
    /// `topics.yaml`. Its name, and every topic that starts with it, gets a suffix, so that tests share a cluster.
    pub topology: String,
    /// The agents; the binary of each is `anabranch-agent-<agent>`.
    pub agents: Vec<&'static str>,
    /// The mock model's configuration.
    pub mock: MockConfig,
    /// More environment for the processes.
    pub env: Vec<(String, String)>,
}

/// A running application. Its processes are killed when it is dropped.
pub struct App {
    /// Where it runs.
    pub cluster: TestCluster,
    /// A client for the test.
    pub client: Cluster,
    /// Its topology, with the names in use.
    pub topology: Topology,
    /// Where its topology is written.
    pub topology_file: PathBuf,
    /// The mock model and registry.
    pub mock: MockServer,
    /// The processes by name: `identity`, or `identity-2` for a second one.
    pub processes: BTreeMap<String, Process>,
    folder: tempfile::TempDir,
    binaries: PathBuf,
    env: Vec<(String, String)>,
}

impl App {
    /// Builds the binaries and prepares everything; starts no process.
    ///
    /// # Errors
    /// What could not be had.
    pub async fn prepare(spec: Spec) -> Result<Self, FixtureError> {
        Self::prepare_on(TestCluster::start().await?, spec).await
    }

    /// As [`App::prepare`], on this cluster.
    ///
    /// # Errors
    /// What could not be had.
    pub async fn prepare_on(cluster: TestCluster, spec: Spec) -> Result<Self, FixtureError> {
        let binaries = binaries(&spec.agents)?;
        let folder = tempfile::tempdir()?;
        let topology_file = folder.path().join("topics.yaml");
        let text = renamed(&spec.topology)?;
        std::fs::write(&topology_file, &text)?;
        let checked = anabranch_topology::parse("topics.yaml", &text, None)
            .map_err(|e| FixtureError::Other(format!("the topology of the test: {e}")))?;
        let mock = MockServer::start(spec.mock).await.map_err(|e| FixtureError::Other(format!("mock model: {e}")))?;
        let mut env = vec![
            ("OPENAI_BASE_URL".to_owned(), mock.base_url()),
            ("OPENAI_API_KEY".to_owned(), "test".to_owned()),
            ("KYC_REGISTRY_URL".to_owned(), mock.registry_url()),
        ];
        env.extend(spec.env);
        let client = cluster.client();
        let topology = checked.topology;
        let processes = BTreeMap::new();
        Ok(Self { cluster, client, topology, topology_file, mock, processes, folder, binaries, env })
    }

    /// Builds, creates the topics, starts one process per agent and waits until all are ready.
    ///
    /// # Errors
    /// What failed, with the log of the process that did.
    pub async fn start(spec: Spec) -> Result<Self, FixtureError> {
        Self::start_on(TestCluster::start().await?, spec).await
    }

    /// As [`App::start`], on this cluster.
    ///
    /// # Errors
    /// As [`App::start`].
    pub async fn start_on(cluster: TestCluster, spec: Spec) -> Result<Self, FixtureError> {
        let agents = spec.agents.clone();
        let mut app = Self::prepare_on(cluster, spec).await?;
        app.create_topics(&agents).await?;
        for agent in &agents {
            app.spawn(agent, agent)?;
        }
        app.all_ready().await?;
        Ok(app)
    }

    /// Creates the topology's topics, as `anabranch topics apply` would.
    ///
    /// # Errors
    /// What the broker said.
    pub async fn create_topics(&self, agents: &[&str]) -> Result<(), FixtureError> {
        let topics = self.topology.topics(agents).into_iter().map(|spec| NewTopic {
            name: spec.name,
            partitions: spec.partitions,
            replication_factor: spec.replication_factor,
            configs: spec.configs,
        });
        for (topic, created) in self.client.admin().create_topics(topics.collect()).await? {
            created.map_err(|e| FixtureError::Other(format!("topic {topic}: {e}")))?;
        }
        Ok(())
    }

    /// Starts a process of `agent` under `name`.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn spawn(&mut self, name: &str, agent: &str) -> Result<(), FixtureError> {
        let bootstrap = self.cluster.bootstrap().to_owned();
        self.spawn_at(name, agent, &bootstrap, &[])
    }

    /// As [`App::spawn`], towards another of the cluster's listeners and with more environment.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn spawn_at(
        &mut self,
        name: &str,
        agent: &str,
        bootstrap: &str,
        env: &[(String, String)],
    ) -> Result<(), FixtureError> {
        let binary = self.binaries.join(binary_of(agent));
        let env = [&self.env[..], env].concat();
        let process = Process::agent(name, self.folder.path(), &binary, bootstrap, &self.topology_file, &env)?;
        self.processes.insert(name.to_owned(), process);
        Ok(())
    }

    /// Waits until every process is ready.
    ///
    /// # Errors
    /// With the log of the one that is not.
    pub async fn all_ready(&mut self) -> Result<(), FixtureError> {
        for process in self.processes.values_mut() {
            process.ready(READY_WITHIN).await?;
        }
        Ok(())
    }

    /// A process.
    ///
    /// # Errors
    /// If there is none of this name.
    pub fn process(&mut self, name: &str) -> Result<&mut Process, FixtureError> {
        self.processes.get_mut(name).ok_or_else(|| FixtureError::Other(format!("no process {name}")))
    }

    /// Sends records.
    ///
    /// # Errors
    /// What the broker said.
    pub async fn send(&self, records: Vec<OutRecord>) -> Result<(), FixtureError> {
        cluster::send(&self.client, records).await.map(|_| ())
    }

    /// The `anabranch` command.
    pub fn command(&self) -> PathBuf {
        self.binaries.join("anabranch")
    }

    /// The inbound topic.
    pub fn requests(&self) -> &str {
        &self.topology.inbound.requests.name
    }

    /// The outbound topic with this alias.
    ///
    /// # Panics
    /// If there is none: a fault of the test.
    #[allow(clippy::expect_used, reason = "for tests: an alias that is not there is a fault of the test")]
    pub fn outbound(&self, alias: &str) -> String {
        self.topology.outbound.get(alias).expect("an alias of the topology").name.clone()
    }

    /// Reads topics, committed records only.
    ///
    /// # Errors
    /// If one does not exist.
    pub async fn reader(&self, topics: &[String]) -> Result<Reader, FixtureError> {
        Reader::new(&self.client, topics, Isolation::ReadCommitted).await
    }

    /// Stops every process with SIGTERM; each must drain and end with 0.
    ///
    /// # Errors
    /// If one does not.
    pub async fn stop(mut self) -> Result<(), FixtureError> {
        for process in self.processes.values() {
            process.signal(nix::sys::signal::Signal::SIGTERM)?;
        }
        for (name, process) in &mut self.processes {
            let status = process.ended(Duration::from_secs(60)).await?;
            if !status.success() {
                return Err(FixtureError::Other(format!("{name} ended with {status}:\n{}", process.log())));
            }
        }
        self.mock.stop().await;
        self.cluster.stop().await;
        Ok(())
    }
}

/// The folder with the binaries of these agents, and of the `anabranch` command, built.
///
/// # Errors
/// What the compiler said.
pub fn binaries(agents: &[&str]) -> Result<PathBuf, FixtureError> {
    let mut names: Vec<String> = agents.iter().map(|agent| binary_of(agent)).collect();
    names.push("anabranch".to_owned());
    process::built(&workspace(), &names)
}

fn binary_of(agent: &str) -> String {
    format!("anabranch-agent-{agent}")
}

/// Gives the topology, and all topics that start with its name, a name of this test's own.
fn renamed(text: &str) -> Result<String, FixtureError> {
    let name = text.lines().find_map(|l| l.strip_prefix("name:")).map(str::trim);
    let name = name.ok_or_else(|| FixtureError::Other("the topology has no name".to_owned()))?;
    let own = format!("{name}{:08x}", rand::random::<u32>());
    let lines = text.lines().map(|line| {
        if line.starts_with("name:") {
            format!("name: {own}")
        } else {
            line.replace(&format!("{name}."), &format!("{own}."))
        }
    });
    Ok(lines.collect::<Vec<_>>().join("\n") + "\n")
}
