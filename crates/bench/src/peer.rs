//! Another system in the place of ours: one of `crates/bench/peers`, or whatever keeps to their terms. It is started by a script,
//! says READY, takes applications on one topic and gives one record for each case on another, keyed by the case.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::backing::{Broker, Mock};
use crate::error::BenchError;
use crate::ledger::Role;
use crate::processes::{Group, Launcher, Process};
use crate::settings::{Settings, Workload};

/// Longest time until it is ready: the first time it may build itself.
const READY_WITHIN: Duration = Duration::from_secs(900);
/// Where a peer keeps what is of one run alone, in its work folder.
const STATE: [&str; 2] = ["state", "data"];

/// Which peer, and where it works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its start script.
    pub script: PathBuf,
    /// Where it builds itself; kept between runs but for its state.
    pub folder: PathBuf,
}

/// The topics of a peer's run.
#[derive(Debug, Clone)]
pub(crate) struct PeerTopics {
    pub(crate) requests: String,
    outcomes: String,
}

impl PeerTopics {
    /// Under this name.
    pub(crate) fn new(name: &str) -> Self {
        Self { requests: format!("{name}.in"), outcomes: format!("{name}.out") }
    }

    /// Which of them tells what.
    pub(crate) fn roles(&self) -> BTreeMap<String, Role> {
        BTreeMap::from([
            (self.outcomes.clone(), Role::Outcome),
            (format!("{}.messages", self.outcomes), Role::Message),
            (format!("{}.dlq", self.requests), Role::DeadLetter),
        ])
    }
}

impl Peer {
    /// # Errors
    /// [`BenchError::Usage`] for a workload that is about our own processes, or a script that is not there.
    pub(crate) fn check(&self, legs: &[Settings]) -> Result<(), BenchError> {
        if !self.script.is_file() {
            return Err(BenchError::Usage(format!("--peer {}: there is no such script", self.script.display())));
        }
        let ours = |leg: &&Settings| {
            let about_agents = matches!(leg.workload, Workload::W6 | Workload::W8 | Workload::W9);
            about_agents || leg.kill_every.is_some() || leg.scale.is_some() || leg.replicas > 1
        };
        match legs.iter().find(ours) {
            Some(leg) => {
                let known = "a peer is measured with w1, w2, w4, w7 and idle, without kills, scaling and replicas";
                Err(BenchError::Usage(format!("--peer with {}: {known}", leg.workload)))
            }
            None => Ok(()),
        }
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// If it ends, or does not say that it is ready within 15 minutes; with its last words.
    pub(crate) async fn start(
        &self,
        launcher: &Launcher,
        broker: &Broker,
        mock: &Mock,
        topics: &PeerTopics,
        settings: &Settings,
    ) -> Result<Process, BenchError> {
        for state in STATE {
            remove(&self.folder.join(state))?;
        }
        std::fs::create_dir_all(&self.folder).map_err(BenchError::io("the peer's work folder"))?;
        let mut command = Command::new(&self.script);
        command.arg(&self.folder).env("BROKERS", broker.brokers.join(",")).env("MODEL_URL", mock.base_url());
        command.env("IN_TOPIC", &topics.requests).env("OUT_TOPIC", &topics.outcomes);
        command.env("PARTITIONS", settings.partitions.to_string()).env("SETTLE_MS", "0");
        let mut process = launcher.start_tree("peer", Group::Agents, command)?;
        let Some(stdout) = process.stdout() else { return Ok(process) };
        let mut lines = BufReader::new(stdout).lines();
        let ready = async {
            while let Ok(Some(line)) = lines.next_line().await {
                if line.trim() == "READY" {
                    return true;
                }
            }
            false
        };
        if !tokio::time::timeout(READY_WITHIN, ready).await.unwrap_or(false) {
            process.alive()?;
            return Err(BenchError::Process(format!("the peer does not say READY:\n{}", process.last_words())));
        }
        // What it goes on to say must not fill the pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(process)
    }
}

fn remove(folder: &Path) -> Result<(), BenchError> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(BenchError::io(format!("cannot remove {}", folder.display()))(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Wishes, legs};

    #[test]
    fn a_peer_is_measured_with_what_it_can_do() {
        let script = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
        let peer = Peer { script, folder: PathBuf::from("target/peers/x") };
        for workload in [Workload::W1, Workload::W2, Workload::W4, Workload::W7, Workload::Idle] {
            peer.check(&legs(workload, &Wishes::default()).unwrap()).unwrap();
        }
        for workload in [Workload::W3, Workload::W5, Workload::W6, Workload::W8, Workload::W9] {
            let error = peer.check(&legs(workload, &Wishes::default()).unwrap()).unwrap_err();
            assert!(error.to_string().contains("w1, w2"), "{error}");
        }
        let missing = Peer { script: PathBuf::from("/nowhere/start.sh"), ..peer };
        assert!(missing.check(&[]).unwrap_err().to_string().contains("/nowhere/start.sh"));
    }

    #[test]
    fn outcomes_letters_and_dead_letters_are_told_apart() {
        let topics = PeerTopics::new("w2-bench-1");
        let roles = topics.roles();
        assert_eq!(topics.requests, "w2-bench-1.in");
        assert_eq!(roles["w2-bench-1.out"], Role::Outcome);
        assert_eq!((roles["w2-bench-1.out.messages"], roles["w2-bench-1.in.dlq"]), (Role::Message, Role::DeadLetter));
    }
}
