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
    #[arg(long, env = "ANABRANCH_KAFKA", value_name = "HOST:PORT,…", value_delimiter = ',', required = true, value_parser = broker)]
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

/// The longest time span that is read, in days: with longer ones clocks overflow.
const LONGEST_DAYS: u64 = 36_500;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Reads a time span such as `90s`, `5m`, `1h 30m` or `7d`.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn time_span(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time span; write for example 90s, 5m, 1h30m or 7d");
    let span = match text.strip_suffix('d').and_then(|days| days.parse::<u32>().ok()) {
        Some(days) => DAY * days,
        None => {
            let span: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
            Duration::try_from(span).map_err(|_| "a time span is not negative".to_owned())?
        }
    };
    match span.as_secs() > LONGEST_DAYS * DAY.as_secs() {
        true => Err(format!("{text:?} is longer than {LONGEST_DAYS} days")),
        false => Ok(span),
    }
}

/// Reads one bootstrap broker.
fn broker(text: &str) -> Result<String, String> {
    let text = text.trim();
    let named = text.rsplit_once(':').filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    named.map(|_| text.to_owned()).ok_or_else(|| "write HOST:PORT, several of them separated by commas".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_spans_have_a_unit() {
        assert_eq!(time_span("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(time_span("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(time_span("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(time_span("7d"), Ok(DAY * 7));
        for bad in ["", "90", "soon", "-5m", "d", "-1d", "1.5d", "36501d", "2562047788015215h", "99999999999d"] {
            assert!(time_span(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_broker_has_a_host_and_a_port() {
        for good in ["localhost:9092", "[::1]:9092", " 10.0.0.1:1 "] {
            assert_eq!(broker(good), Ok(good.trim().to_owned()));
        }
        for bad in ["", "localhost", ":9092", "localhost:", "localhost:kafka", "localhost:99999"] {
            assert!(broker(bad).is_err(), "{bad}");
        }
    }
}
