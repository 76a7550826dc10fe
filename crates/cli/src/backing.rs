//! What agents need around them, where it is not there: a broker, a model, and the outside vendor of the reference
//! application. For `dev` and `verify`.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anabranch_broker::{Broker, BrokerConfig, Storage};
use anabranch_kafka::SecurityConfig;
use anabranch_llm::mock::{MockConfig, MockServer, Script};
use anyhow::Context as _;

use crate::commands::dev::demo;
use crate::options::security;
use crate::usage::usage;

/// What is wanted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    /// The cluster; an embedded broker if there is none.
    pub(crate) brokers: Vec<String>,
    /// Where an embedded broker keeps its data; in memory if it does not.
    pub(crate) data_dir: Option<PathBuf>,
    /// Its port; a free one if that does not matter.
    pub(crate) port: Option<u16>,
    /// Script of the mock model; the demo's if there is none.
    pub(crate) mock_script: Option<PathBuf>,
    /// Whether the mock plays model and vendor also where the environment names real ones.
    pub(crate) always_mock: bool,
}

/// What runs in this process for the agents.
pub(crate) struct Backing {
    broker: Option<Broker>,
    mock: Option<MockServer>,
    /// Where the cluster is.
    pub(crate) brokers: Vec<String>,
    /// What the agents are told in their environment.
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// A line about each part.
    pub(crate) about: Vec<String>,
    /// Whether the cluster is known to hold nothing from before.
    pub(crate) is_new: bool,
}

impl Backing {
    /// Starts what is not there already.
    ///
    /// # Errors
    /// If a port is taken, or a directory or script cannot be used.
    pub(crate) async fn start(wanted: &Wanted) -> anyhow::Result<Self> {
        let mut backing = Self {
            broker: None,
            mock: None,
            brokers: wanted.brokers.clone(),
            environment: Vec::new(),
            about: Vec::new(),
            is_new: false,
        };
        backing.start_broker(wanted).await?;
        if let Err(error) = backing.start_mock(wanted).await {
            backing.stop().await;
            return Err(error);
        }
        Ok(backing)
    }

    async fn start_broker(&mut self, wanted: &Wanted) -> anyhow::Result<()> {
        if !self.brokers.is_empty() {
            self.about.push(format!("broker   {} (yours)", self.brokers.join(",")));
            return Ok(());
        }
        let (storage, kept) = match &wanted.data_dir {
            Some(directory) => (Storage::Directory(directory.clone()), format!("kept in {}", directory.display())),
            None => (Storage::Memory, "in memory".to_owned()),
        };
        self.is_new = wanted.data_dir.as_ref().is_none_or(|directory| is_empty(directory));
        let listen = (Ipv4Addr::LOCALHOST, wanted.port.unwrap_or(0)).into();
        let config = BrokerConfig { storage, listen, ..BrokerConfig::default() };
        let broker = Broker::start(config).await.context("cannot start the embedded broker")?;
        let address = broker.bootstrap();
        self.about.push(format!("broker   {address} (embedded development broker, {kept}; not for production)"));
        self.brokers = vec![address];
        // Said outright, so that settings for another cluster are not meant for this one.
        self.environment.push(("ANABRANCH_KAFKA_SECURITY_PROTOCOL".into(), "plaintext".into()));
        self.broker = Some(broker);
        Ok(())
    }

    /// The mock stands in for whatever of model and registry is not configured.
    async fn start_mock(&mut self, wanted: &Wanted) -> anyhow::Result<()> {
        let real = |name| if wanted.always_mock { None } else { variable(name) };
        let model = real("OPENAI_API_KEY").or_else(|| real("OPENAI_BASE_URL"));
        let registry = real("KYC_REGISTRY_URL");
        if model.is_some() && registry.is_some() {
            self.about.push(format!("model    {} (yours)", endpoint()));
            return Ok(());
        }
        let config = MockConfig::default().with_script(read_script(wanted.mock_script.as_deref())?);
        let server = MockServer::start(config).await.context("cannot start the mock model")?;
        let mut tell = |name: &str, value: String| self.environment.push((name.into(), value.into()));
        if registry.is_none() {
            tell("KYC_REGISTRY_URL", server.registry_url());
        }
        if model.is_none() {
            let url = server.base_url();
            let why = if wanted.always_mock { "" } else { ": no OPENAI_API_KEY is set" };
            self.about.push(format!("model    {url} (a mock with scripted answers{why})"));
            tell("OPENAI_BASE_URL", url);
        } else {
            self.about.push(format!("model    {} (yours); the document registry is a mock", endpoint()));
        }
        self.mock = Some(server);
        Ok(())
    }

    /// Whether the cluster is the embedded broker.
    pub(crate) fn is_embedded(&self) -> bool {
        self.broker.is_some()
    }

    /// How its clients encrypt and authenticate: as the environment says, but towards the embedded broker not at all.
    pub(crate) fn security(&self) -> anyhow::Result<SecurityConfig> {
        if self.broker.is_some() { Ok(SecurityConfig::plaintext()) } else { security() }
    }

    /// Stops what was started here.
    pub(crate) async fn stop(self) {
        if let Some(mock) = self.mock {
            mock.stop().await;
        }
        if let Some(broker) = self.broker {
            broker.stop().await;
        }
    }
}

fn read_script(path: Option<&Path>) -> anyhow::Result<Script> {
    let script = match (path, demo::mock_script()) {
        (Some(path), _) => Script::load(path),
        (None, Some(text)) => Script::parse(text),
        (None, None) => Ok(Script::default()),
    };
    script.map_err(|e| usage(e.to_string()))
}

fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

fn endpoint() -> String {
    match variable("OPENAI_BASE_URL") {
        Some(url) => url.to_string_lossy().into_owned(),
        None => "api.openai.com".to_owned(),
    }
}

fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).map_or(true, |mut entries| entries.next().is_none())
}
