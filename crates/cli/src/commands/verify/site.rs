//! The topology under a name of its own: its topics on the cluster, its agents as processes, and the network between
//! them.

use std::path::PathBuf;
use std::time::Duration;

use anabranch_kafka::{Cluster, NewTopic};
use anabranch_testkit::kafka_proxy::{Caps, KafkaProxy, Net};
use anabranch_topology::{COMPOSER, SUPERVISOR, Topology};
use anyhow::{Context as _, anyhow};

use super::trial::Verdict;
use crate::agents::Program;
use crate::backing::Backing;
use crate::commands::up;
use crate::console::Console;
use crate::options::{self, TopologyFile};
use crate::processes::{Common, Fleet, Launch, Shutdown};
use crate::usage::usage;

/// What a site is made of.
pub(super) struct Wishes<'a> {
    pub(super) file: &'a TopologyFile,
    pub(super) original: &'a Topology,
    pub(super) programs: Vec<Program>,
    /// The names of all agents there are, roles included.
    pub(super) all_agents: &'a [String],
    pub(super) replicas: u32,
    pub(super) suffix: Option<&'a str>,
    /// Whether the network is to be cut.
    pub(super) cuts: bool,
    pub(super) seed: u64,
}

/// It.
pub(super) struct Site {
    pub(super) cluster: Cluster,
    pub(super) topology: Topology,
    pub(super) network: Network,
    /// One for each process.
    pub(super) launches: Vec<Launch>,
    pub(super) brokers: Vec<String>,
    is_embedded: bool,
    folder: tempfile::TempDir,
    log: Console,
}

impl Site {
    /// Takes the name, writes the topology, creates the topics.
    ///
    /// # Errors
    /// If the cluster cannot be reached, has topics of this name already, or refuses some.
    pub(super) async fn open(wishes: Wishes<'_>, backing: &Backing, console: &Console) -> anyhow::Result<Self> {
        let security = backing.security()?;
        let protocol = security.protocol();
        let cluster = options::connect(&backing.brokers, security).await?;
        let suffix = match wishes.suffix {
            Some(suffix) => suffix.to_owned(),
            None => format!("{:06x}", rand::random::<u32>() >> 8),
        };
        let name = format!("{}-verify-{suffix}", wishes.original.name);
        let file = wishes.file.name();
        let text = anabranch_topology::renamed(&file, &wishes.file.read()?, &name).map_err(|e| usage(e.to_string()))?;
        let checked = anabranch_topology::parse(&file, &text, Some(wishes.all_agents))
            .map_err(|e| usage(format!("under the name {name} the topology cannot be used:\n{e}")))?;
        let topology = checked.topology;
        is_free(&cluster, &name).await?;
        let folder = tempfile::Builder::new().prefix("anabranch-verify-").tempdir().context("no folder for files")?;
        std::fs::write(folder.path().join("topics.yaml"), text).context("cannot write the topology")?;
        let log = Console::file(&folder.path().join("agents.log")).context("cannot write the agents' log")?;
        let launches = launches(wishes.programs, wishes.replicas, &topology);
        let network = match wishes.cuts {
            true => Network::start(&backing.brokers, protocol, launches.len(), wishes.seed, console)?,
            false => Network::default(),
        };
        let (brokers, is_embedded) = (backing.brokers.clone(), backing.is_embedded());
        let site = Self { cluster, topology, network, launches, brokers, is_embedded, folder, log };
        if let Err(error) = site.create_topics(wishes.all_agents).await {
            site.delete_topics(console).await;
            return Err(error);
        }
        Ok(site)
    }

    async fn create_topics(&self, agents: &[String]) -> anyhow::Result<()> {
        let agents = agents.iter().map(String::as_str).filter(|agent| ![SUPERVISOR, COMPOSER].contains(agent));
        let specs = self.topology.topics(&agents.collect::<Vec<_>>()).into_iter();
        let new = specs.map(|spec| NewTopic {
            name: spec.name,
            partitions: spec.partitions,
            replication_factor: spec.replication_factor,
            configs: spec.configs,
        });
        for (topic, created) in self.cluster.admin().create_topics(new.collect()).await? {
            created.with_context(|| format!("topic {topic} cannot be created"))?;
        }
        Ok(())
    }

    /// Starts the agents, each behind its own network. Their log goes to a file.
    pub(super) fn start(&self, backing: &Backing, shutdown: &Shutdown) -> Fleet {
        let arguments = vec!["--topology".into(), self.file().into()];
        let common = Common { arguments, environment: backing.environment.clone() };
        let with_brokers = |(number, launch): (usize, &Launch)| {
            let brokers = self.network.addresses(number).unwrap_or_else(|| self.brokers.clone());
            Launch { arguments: vec!["--brokers".into(), brokers.join(",").into()], ..launch.clone() }
        };
        Fleet::start(self.launches.iter().enumerate().map(with_brokers).collect(), common, &self.log, shutdown)
    }

    /// The names of the agents that run here, each once.
    pub(super) fn agents(&self) -> Vec<&str> {
        let mut agents: Vec<&str> = self.launches.iter().map(|launch| launch.agent.as_str()).collect();
        agents.dedup();
        agents
    }

    /// The session time of each process.
    pub(super) fn sessions(&self) -> Vec<Duration> {
        self.launches.iter().map(|launch| self.topology.agent(&launch.agent).session_timeout).collect()
    }

    /// Where the topology is written.
    pub(super) fn file(&self) -> PathBuf {
        self.folder.path().join("topics.yaml")
    }

    /// Where the agents' log is.
    pub(super) fn log_file(&self) -> PathBuf {
        self.folder.path().join("agents.log")
    }

    /// Deletes the topics and the files, or says where they are.
    pub(super) async fn close(self, keep: bool, verdict: Verdict, console: &Console) {
        let is_evidence = keep || verdict == Verdict::Violated;
        match (is_evidence, self.is_embedded) {
            (false, false) => self.delete_topics(console).await,
            (true, false) => {
                let (file, brokers) = (self.file().display().to_string(), self.brokers.join(","));
                console.line(&format!("kept     the topics of {}; look at them with", self.topology.name));
                console.line(&format!("         anabranch watch --brokers {brokers} --topology {file}"));
            }
            (_, true) => {}
        }
        if is_evidence {
            let folder = self.folder.keep();
            console.line(&format!("kept     the agents' log and the topology: {}", folder.display()));
        }
    }

    /// All topics whose names begin as those of this run do: when it began, there was none.
    async fn delete_topics(&self, console: &Console) {
        let prefix = format!("{}.", self.topology.name);
        let deleted = async {
            let admin = self.cluster.admin();
            let topics = admin.list_topics().await?.into_iter().map(|topic| topic.name);
            let topics: Vec<String> = topics.filter(|topic| topic.starts_with(&prefix)).collect();
            for (topic, deleted) in admin.delete_topics(&topics).await? {
                match deleted {
                    Err(error) if !error.is_unknown_topic() => return Err(anyhow!("{topic}: {error}")),
                    _ => {}
                }
            }
            anyhow::Ok(())
        };
        if let Err(error) = deleted.await {
            console.line(&format!("warning: the topics that begin with {prefix} are not all deleted: {error:#}"));
        }
    }
}

/// # Errors
/// If there is a topic or a group of this name.
async fn is_free(cluster: &Cluster, name: &str) -> anyhow::Result<()> {
    let prefix = format!("{name}.");
    let admin = cluster.admin();
    if let Some(topic) = admin.list_topics().await?.into_iter().find(|topic| topic.name.starts_with(&prefix)) {
        return Err(usage(format!("topic {} is on the cluster already; give another --suffix", topic.name)));
    }
    // Without the right to list groups, what could be there is not known; then a group's own offsets would show it.
    if let Ok(groups) = admin.list_groups().await
        && let Some(group) = groups.into_iter().find(|group| group.group.starts_with(&prefix))
    {
        return Err(usage(format!("group {} is on the cluster already; give another --suffix", group.group)));
    }
    Ok(())
}

fn launches(programs: Vec<Program>, replicas: u32, topology: &Topology) -> Vec<Launch> {
    let mut launches = up::launches(programs, replicas, false, topology);
    // The topology's own port may be taken by what runs here already.
    launches.iter_mut().for_each(|launch| launch.http_port = 0);
    launches
}

/// The network between the processes and the brokers: for each process proxies of its own.
#[derive(Default)]
pub(super) struct Network {
    proxies: Vec<Vec<KafkaProxy>>,
}

impl Network {
    fn start(
        brokers: &[String],
        protocol: &str,
        processes: usize,
        seed: u64,
        console: &Console,
    ) -> anyhow::Result<Self> {
        if protocol.ends_with("SSL") {
            console.line(&format!(
                "warning: no connections are cut: the brokers speak {protocol}, and what is encrypted no proxy can pass on"
            ));
            return Ok(Self::default());
        }
        let start = |process: usize| {
            let of = |broker: &String| KafkaProxy::start(broker, Caps::Full, seed.wrapping_add(process as u64));
            brokers.iter().map(of).collect::<std::io::Result<Vec<_>>>()
        };
        let proxies = (0..processes).map(start).collect::<std::io::Result<Vec<_>>>();
        Ok(Self { proxies: proxies.context("cannot stand between agents and brokers")? })
    }

    /// Whether it can be cut.
    pub(super) fn is_there(&self) -> bool {
        !self.proxies.is_empty()
    }

    /// The brokers, as this process sees them.
    fn addresses(&self, process: usize) -> Option<Vec<String>> {
        Some(self.proxies.get(process)?.iter().map(KafkaProxy::address).collect())
    }

    /// How it is with the network of this process.
    pub(super) fn set(&self, process: usize, net: Net) {
        self.proxies.get(process).into_iter().flatten().for_each(|proxy| proxy.set(net));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_encrypted_is_not_cut_and_that_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let (file, brokers) = (folder.path().join("lines"), ["127.0.0.1:9".to_owned()]);
        let console = Console::file(&file).unwrap();
        for (protocol, is_there) in [("PLAINTEXT", true), ("SASL_PLAINTEXT", true), ("SSL", false), ("SASL_SSL", false)]
        {
            let network = Network::start(&brokers, protocol, 3, 1, &console).unwrap();
            assert_eq!(network.is_there(), is_there, "{protocol}");
            assert_eq!(network.addresses(2).is_some_and(|own| own != brokers), is_there, "{protocol}");
            assert_eq!(network.addresses(3), None);
        }
        let said = std::fs::read_to_string(&file).unwrap();
        assert_eq!(said.matches("no connections are cut").count(), 2, "{said}");
    }
}
