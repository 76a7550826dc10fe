//! Arguments that several subcommands share.

use std::path::PathBuf;
use std::time::Duration;

use anabranch_kafka::{Cluster, ClusterConfig, SecurityConfig};
use anabranch_topology::{Checked, Topology};
use anyhow::Context as _;

use crate::usage::usage;

/// Which topology.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct TopologyFile {
    /// The topology.
    #[arg(long = "topology", env = "ANABRANCH_TOPOLOGY", default_value = "topics.yaml", value_name = "FILE")]
    pub(crate) path: PathBuf,
}

impl TopologyFile {
    /// The file as diagnostics name it.
    pub(crate) fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// Its text.
    pub(crate) fn read(&self) -> anyhow::Result<String> {
        let file = self.name();
        std::fs::read_to_string(&self.path)
            .map_err(|e| usage(format!("cannot read {file}: {e}; name another with --topology, or cd to where it is")))
    }

    /// Reads and checks it; `crates` are the agents there are, if that is known.
    pub(crate) fn check(&self, crates: Option<&[String]>) -> anyhow::Result<Checked> {
        anabranch_topology::parse(&self.name(), &self.read()?, crates)
            .map_err(|diagnostics| usage(diagnostics.to_string()))
    }

    /// Reads and checks it; warnings go to stderr.
    pub(crate) fn load(&self) -> anyhow::Result<Topology> {
        let checked = self.check(None)?;
        for warning in &checked.warnings {
            eprintln!("{warning}");
        }
        Ok(checked.topology)
    }
}

/// Which cluster.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Brokers {
    /// Bootstrap brokers, separated by commas. For TLS and SASL see `anabranch --help`.
    #[arg(long, env = "ANABRANCH_KAFKA", value_name = "HOST:PORT,…", value_delimiter = ',', required = true)]
    pub(crate) brokers: Vec<String>,
}

impl Brokers {
    /// A handle on the cluster, which has answered. Every call on it ends, well or badly, within 10 s: a person waits.
    ///
    /// # Errors
    /// If no broker answers within 8 s, or the environment's TLS and SASL settings cannot be used.
    pub(crate) async fn connect(&self) -> anyhow::Result<Cluster> {
        connect(&self.brokers, security()?).await
    }
}

/// As [`Brokers::connect`], with these settings for TLS and SASL.
pub(crate) async fn connect(brokers: &[String], security: SecurityConfig) -> anyhow::Result<Cluster> {
    let mut config = ClusterConfig::new(brokers.to_vec(), "anabranch-cli").with_security(security);
    config.connect_timeout = Duration::from_secs(3);
    config.request_timeout = PATIENCE;
    config.call_timeout = PATIENCE;
    let cluster = Cluster::new(config);
    let asked = brokers.join(",");
    cluster.ping(PATIENCE).await.with_context(|| format!("no broker answers at {asked}"))?;
    Ok(cluster)
}

/// How to encrypt and authenticate, as the environment says.
pub(crate) fn security() -> anyhow::Result<SecurityConfig> {
    let security = SecurityConfig::from_env().map_err(|e| usage(e.to_string()))?;
    if let Some(warning) = security.warning() {
        eprintln!("warning: {warning}");
    }
    Ok(security)
}

/// How long a person is made to wait for a broker that does not answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(8);

/// Reads a time span such as `90s`, `5m` or `1h 30m`.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn time_span(text: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration =
        text.parse().map_err(|_| format!("{text:?} is no time span; write for example 90s, 5m or 1h30m"))?;
    Duration::try_from(span).map_err(|_| "a time span is not negative".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_spans_have_a_unit() {
        assert_eq!(time_span("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(time_span("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(time_span("250ms"), Ok(Duration::from_millis(250)));
        for bad in ["", "90", "soon", "-5m"] {
            assert!(time_span(bad).is_err(), "{bad}");
        }
    }
}
