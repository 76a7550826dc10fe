//! Arguments that several subcommands share.

use std::path::PathBuf;

use anabranch_kafka::{Cluster, ClusterConfig};
use anabranch_topology::{Checked, Topology};

use crate::usage::usage;

/// Which topology.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct TopologyFile {
    /// The topology.
    #[arg(long = "topology", env = "ANABRANCH_TOPOLOGY", default_value = "topics.yaml", value_name = "FILE")]
    pub(crate) path: PathBuf,
}

impl TopologyFile {
    /// Reads and checks it; `crates` are the agents there are, if that is known.
    pub(crate) fn check(&self, crates: Option<&[String]>) -> anyhow::Result<Checked> {
        let file = self.path.display().to_string();
        let text = std::fs::read_to_string(&self.path)
            .map_err(|e| usage(format!("cannot read {file}: {e}; name another with --topology")))?;
        anabranch_topology::parse(&file, &text, crates).map_err(|diagnostics| usage(diagnostics.to_string()))
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
    /// Bootstrap brokers, separated by commas.
    #[arg(long, env = "ANABRANCH_KAFKA", value_name = "HOST:PORT,…", value_delimiter = ',', required = true)]
    pub(crate) brokers: Vec<String>,
}

impl Brokers {
    /// A handle on the cluster. No I/O.
    pub(crate) fn cluster(&self) -> Cluster {
        Cluster::new(ClusterConfig::new(self.brokers.clone(), "anabranch-cli"))
    }
}
