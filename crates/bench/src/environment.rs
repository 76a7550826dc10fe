//! What it was measured on.

use std::path::Path;
use std::process::Command;

use anabranch_kafka::BrokerInfo;
use serde::{Deserialize, Serialize};

/// All that a figure depends on and that is not a setting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// The processor's name.
    pub cpu: String,
    /// How many processors this process may use.
    pub cores: usize,
    /// Memory of the machine, in bytes.
    pub memory_bytes: u64,
    /// The kernel.
    pub kernel: String,
    /// `debug` or `release`.
    pub profile: String,
    /// The commit, with `+` if files differ from it; empty where there is no repository.
    pub commit: String,
    /// The broker.
    pub broker: BrokerName,
}

/// Which broker, as far as it tells.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BrokerName {
    /// `embedded`, `Redpanda` or `Apache Kafka`, by the cluster's id and what it offers; or as the user says.
    pub name: String,
    /// Where its processes are and where its data lies.
    pub place: String,
    /// How many brokers.
    pub nodes: usize,
    /// The level of `metadata.version`, which stands for a version of Apache Kafka; 0 where there is none.
    pub metadata_version: i16,
    /// The level of `transaction.version`.
    pub transaction_version: i16,
    /// The versions that are spoken: request, and version.
    pub negotiated: Vec<(String, i16)>,
}

impl BrokerName {
    /// From what the broker tells; `name` is what the user calls it.
    pub(crate) fn of(info: BrokerInfo, name: Option<&str>, place: String) -> Self {
        let guessed = match info.cluster_id.as_deref() {
            Some(id) if id.starts_with("anabranch-") => "embedded",
            Some(id) if id.starts_with("redpanda") => "Redpanda",
            _ if info.metadata_version > 0 => "Apache Kafka",
            _ => "unknown",
        };
        Self {
            name: name.unwrap_or(guessed).to_owned(),
            place,
            nodes: info.nodes,
            metadata_version: info.metadata_version,
            transaction_version: info.transaction_version,
            negotiated: info.negotiated.into_iter().map(|(name, version)| (name.to_owned(), version)).collect(),
        }
    }
}

impl Environment {
    /// What this machine tells; the broker is told later.
    #[must_use]
    pub fn here() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Self {
            cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            memory_bytes: field(&read("/proc/meminfo"), "MemTotal").and_then(|text| kilobytes(&text)).unwrap_or(0),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            profile: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
            commit: commit(Path::new(".")),
            broker: BrokerName::default(),
        }
    }
}

/// The first line `name : value`.
fn field(text: &str, name: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'));
    value.map(|value| value.trim().to_owned())
}

fn kilobytes(text: &str) -> Option<u64> {
    text.strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn commit(folder: &Path) -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").current_dir(folder).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return String::new() };
    let is_dirty = git(&["status", "--porcelain", "--untracked-files=no"]).is_none_or(|changed| !changed.is_empty());
    format!("{commit}{}", if is_dirty { "+" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(cluster_id: &str, metadata_version: i16) -> BrokerInfo {
        BrokerInfo {
            cluster_id: Some(cluster_id.to_owned()),
            nodes: 3,
            metadata_version,
            transaction_version: 2,
            negotiated: vec![("Produce", 9)],
        }
    }

    #[test]
    fn brokers_are_told_apart() {
        let name = |id: &str, version, given| BrokerName::of(info(id, version), given, String::new()).name;
        assert_eq!(name("anabranch-1f", 0, None), "embedded");
        assert_eq!(name("redpanda.1f", 0, None), "Redpanda");
        assert_eq!(name("5L6g3nShT-eMCtK--X86sw", 27, None), "Apache Kafka");
        assert_eq!(name("5L6g3nShT-eMCtK--X86sw", 0, None), "unknown");
        assert_eq!(name("5L6g3nShT-eMCtK--X86sw", 27, Some("Apache Kafka 4.1.1")), "Apache Kafka 4.1.1");
    }

    #[test]
    fn the_kernels_words_are_read() {
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nmodel name\t: Another\n";
        assert_eq!(field(text, "model name").as_deref(), Some("Some CPU @ 2 GHz"));
        assert_eq!(field("MemTotal:       16384 kB\n", "MemTotal").and_then(|text| kilobytes(&text)), Some(16_777_216));
        assert_eq!(field(text, "vendor"), None);
    }

    #[test]
    fn this_machine_tells_of_itself() {
        let here = Environment::here();
        assert!(here.cores > 0 && here.memory_bytes > 0 && !here.kernel.is_empty(), "{here:?}");
    }
}
