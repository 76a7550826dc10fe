//! A broker for a test: the embedded one, or the cluster that `ANABRANCH_TEST_KAFKA` names; with `ANABRANCH_TEST_CAPS`
//! made to offer less.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use anabranch_broker::{Broker, BrokerConfig, Storage};
use anabranch_kafka::{
    Cluster, ClusterConfig, Delivered, FetchConfig, Fetcher, Isolation, OutRecord, Position, ProducerConfig, Record,
    TopicPartition,
};
use anabranch_protocol::Header;
use bytes::Bytes;

use crate::kafka_proxy::{Caps, KafkaProxy};

/// Names the cluster that tests use instead of the embedded broker.
pub const TEST_KAFKA: &str = "ANABRANCH_TEST_KAFKA";

/// Caps what every test's cluster offers, `redpanda` or `oldest`, by a proxy that all clients of it go through.
pub const TEST_CAPS: &str = "ANABRANCH_TEST_CAPS";

/// What a fixture can fail with. Tests unwrap it.
#[derive(Debug, thiserror::Error)]
pub enum FixtureError {
    /// The broker.
    #[error("kafka: {0}")]
    Kafka(#[from] anabranch_kafka::Error),
    /// A file or a process.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// What was waited for did not come.
    #[error("waited {} s for {what}; {seen}", .after.as_secs())]
    Waited {
        /// What.
        what: String,
        /// How long.
        after: Duration,
        /// What came instead.
        seen: String,
    },
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// A cluster for one test.
pub struct TestCluster {
    bootstrap: String,
    broker: Option<Broker>,
    proxy: Option<KafkaProxy>,
}

impl TestCluster {
    /// The cluster that [`TEST_KAFKA`] names, or an embedded broker in memory; under the caps that [`TEST_CAPS`] names.
    ///
    /// # Errors
    /// If the embedded broker does not start, or the caps are none.
    pub async fn start() -> Result<Self, FixtureError> {
        match std::env::var(TEST_KAFKA) {
            Ok(bootstrap) if !bootstrap.is_empty() => Self::at(bootstrap).under(caps()?),
            _ => Self::embedded(BrokerConfig::default()).await,
        }
    }

    /// The cluster at this address, as it is.
    pub fn at(bootstrap: String) -> Self {
        Self { bootstrap, broker: None, proxy: None }
    }

    /// An embedded broker, whatever [`TEST_KAFKA`] says; under the caps that [`TEST_CAPS`] names.
    ///
    /// # Errors
    /// If it does not start, or the caps are none.
    pub async fn embedded(config: BrokerConfig) -> Result<Self, FixtureError> {
        let broker = Broker::start(config).await.map_err(|e| FixtureError::Other(format!("embedded broker: {e}")))?;
        Self { bootstrap: broker.bootstrap(), broker: Some(broker), proxy: None }.under(caps()?)
    }

    /// Caps what it offers: from now on all clients are to go through a proxy.
    ///
    /// # Errors
    /// If the proxy gets no port.
    pub fn under(mut self, caps: Caps) -> Result<Self, FixtureError> {
        if caps != Caps::Full {
            // One of several brokers tells of the others.
            let one = self.bootstrap.split(',').next().unwrap_or_default();
            let proxy = KafkaProxy::start(one, caps, 0)?;
            self.bootstrap = proxy.address();
            self.proxy = Some(proxy);
        }
        Ok(self)
    }

    /// The proxy that caps it, if one does.
    pub fn proxy(&self) -> Option<&KafkaProxy> {
        self.proxy.as_ref()
    }

    /// An embedded broker that keeps its data in a folder.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn durable(folder: &Path) -> Result<Self, FixtureError> {
        Self::embedded(BrokerConfig { storage: Storage::Directory(folder.to_owned()), ..BrokerConfig::default() }).await
    }

    /// `host:port`, or several, separated by commas.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// The embedded broker, if it is one.
    pub fn broker(&self) -> Option<&Broker> {
        self.broker.as_ref()
    }

    /// A client.
    pub fn client(&self) -> Cluster {
        let brokers = self.bootstrap.split(',').map(str::to_owned).collect();
        Cluster::new(ClusterConfig::new(brokers, "testkit"))
    }

    /// Stops an embedded broker.
    pub async fn stop(self) {
        if let Some(broker) = self.broker {
            broker.stop().await;
        }
    }
}

/// What [`TEST_CAPS`] says.
fn caps() -> Result<Caps, FixtureError> {
    match std::env::var(TEST_CAPS) {
        Ok(caps) if !caps.is_empty() => caps.parse().map_err(|e| FixtureError::Other(format!("{TEST_CAPS}: {e}"))),
        _ => Ok(Caps::Full),
    }
}

/// A Python with the packages of a `requirements.txt`, in an environment of its own below `target/`. Where there can be
/// none, says why and gives `None`: the test is skipped.
///
/// # Panics
/// In CI (`CI` is set), where nothing may be skipped.
#[allow(clippy::panic, reason = "for tests: CI must not skip")]
pub fn python(workspace: &Path, requirements: &Path) -> Option<std::path::PathBuf> {
    match make_python(workspace, requirements) {
        Ok(python) => Some(python),
        Err(why) if std::env::var_os("CI").is_some() => panic!("in CI this must not be skipped: {why}"),
        Err(why) => {
            println!("skipped: {why}");
            None
        }
    }
}

fn make_python(workspace: &Path, requirements: &Path) -> Result<std::path::PathBuf, String> {
    let wanted = std::fs::read_to_string(requirements).map_err(|e| format!("{}: {e}", requirements.display()))?;
    let folder = workspace.join("target/python");
    std::fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
    // Tests of several binaries may want it at once.
    let lock = std::fs::File::create(folder.join("lock")).map_err(|e| e.to_string())?;
    lock.lock().map_err(|e| e.to_string())?;
    let name: String = wanted.chars().filter(char::is_ascii_alphanumeric).take(100).collect();
    let (venv, done) = (folder.join(&name), folder.join(format!("{name}.done")));
    let python = venv.join("bin/python");
    if !done.exists() {
        run_to_end("python3", &["-m", "venv", "--clear", &venv.display().to_string()])?;
        let install = ["-m", "pip", "install", "-q", "--disable-pip-version-check", "-r"];
        let requirements = requirements.display().to_string();
        run_to_end(&python.display().to_string(), &[&install[..], &[&requirements]].concat())?;
        std::fs::write(&done, wanted).map_err(|e| e.to_string())?;
    }
    Ok(python)
}

fn run_to_end(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = std::process::Command::new(program).args(arguments).output().map_err(|e| format!("{program}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}

/// A record to be sent, as a foreign producer would write it: any key, any value, any headers.
pub fn foreign(topic: &str, key: Option<&[u8]>, value: Option<&[u8]>) -> OutRecord {
    OutRecord {
        topic: topic.to_owned(),
        key: key.map(Bytes::copy_from_slice),
        value: value.map(Bytes::copy_from_slice),
        ..OutRecord::default()
    }
}

/// A header with a value.
pub fn header(name: &str, value: &str) -> Header {
    Header::text(name.to_owned(), value)
}

/// Sends records and waits for the acknowledgements.
///
/// # Errors
/// What the broker said.
pub async fn send(cluster: &Cluster, records: Vec<OutRecord>) -> Result<Vec<Delivered>, FixtureError> {
    Ok(cluster.producer(ProducerConfig::default()).send_all(records).await?)
}

/// Reads topics from their beginning, and keeps what it has read.
pub struct Reader {
    fetcher: Fetcher,
    records: Vec<Record>,
}

impl Reader {
    /// Reads these topics, which must exist.
    ///
    /// # Errors
    /// If one does not exist.
    pub async fn new(cluster: &Cluster, topics: &[String], isolation: Isolation) -> Result<Self, FixtureError> {
        let mut fetcher =
            cluster.fetcher(FetchConfig { isolation, max_wait: Duration::from_millis(200), ..FetchConfig::default() });
        for topic in topics {
            for partition in 0..cluster.partition_count(topic).await? {
                fetcher.add(TopicPartition::new(topic.as_str(), partition), Position::Earliest);
            }
        }
        Ok(Self { fetcher, records: Vec::new() })
    }

    /// What was read so far.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Reads until `enough` holds of all that was read.
    ///
    /// # Errors
    /// [`FixtureError::Waited`] after `limit`, with a summary of what came.
    pub async fn until(
        &mut self,
        what: &str,
        limit: Duration,
        enough: impl Fn(&[Record]) -> bool,
    ) -> Result<&[Record], FixtureError> {
        let deadline = tokio::time::Instant::now() + limit;
        while !enough(&self.records) {
            match tokio::time::timeout_at(deadline, self.fetcher.next()).await {
                Ok(Ok(fetched)) => self.records.extend(fetched.records),
                // The fetcher goes on by itself; whoever waits is told when the time is up.
                Ok(Err(error)) if error.is_retryable() => {}
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => {
                    return Err(FixtureError::Waited { what: what.to_owned(), after: limit, seen: self.summary() });
                }
            }
        }
        Ok(&self.records)
    }

    /// Reads for `time`, to see that nothing more comes.
    ///
    /// # Errors
    /// What the broker said.
    pub async fn settle(&mut self, time: Duration) -> Result<&[Record], FixtureError> {
        let deadline = tokio::time::Instant::now() + time;
        while let Ok(fetched) = tokio::time::timeout_at(deadline, self.fetcher.next()).await {
            match fetched {
                Ok(fetched) => self.records.extend(fetched.records),
                Err(error) if error.is_retryable() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(&self.records)
    }

    fn summary(&self) -> String {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for record in &self.records {
            *counts.entry(&record.topic).or_default() += 1;
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_unstable();
        format!("records read by topic: {counts:?}")
    }
}
