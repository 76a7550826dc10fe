//! All runs of a workload.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anabranch_kafka::SecurityConfig;
use tokio_util::sync::CancellationToken;

use crate::backing::Broker;
use crate::environment::{BrokerName, Environment};
use crate::error::BenchError;
use crate::peer::Peer;
use crate::pins::Pins;
use crate::processes::{self, Launcher};
use crate::report::{Leg, Report};
use crate::run;
use crate::settings::{Settings, Workload};
use crate::site;
use crate::usage::Meter;

/// What is run.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The `anabranch` command: the mock model and the embedded broker are processes of it.
    pub command: PathBuf,
    /// By name, the binaries of the agents that [`Programs::wanted`] names.
    pub agents: BTreeMap<String, PathBuf>,
}

impl Programs {
    /// The agents that a workload needs.
    #[must_use]
    pub fn wanted(workload: Workload) -> &'static [&'static str] {
        site::agents(workload)
    }
}

/// A workload, and where it runs.
#[derive(Debug, Clone)]
pub struct Bench {
    /// The workload.
    pub workload: Workload,
    /// Its legs, from [`settings::legs`](crate::settings::legs).
    pub legs: Vec<Settings>,
    /// What is run.
    pub programs: Programs,
    /// The cluster; none: the embedded broker, as a process of its own, new for each run.
    pub brokers: Vec<String>,
    /// How its clients encrypt and authenticate. The raw floor and the round trip need a cluster in plain text.
    pub security: SecurityConfig,
    /// What the broker is called in the report, if it is known better than it tells.
    pub broker_name: Option<String>,
    /// The process of a broker on this machine, so that what it takes is measured.
    pub broker_pid: Option<u32>,
    /// Where an embedded broker keeps its data; in memory if it does not.
    pub data_dir: Option<PathBuf>,
    /// A topology to be measured instead of the one that is built in.
    pub topology: Option<String>,
    /// Another system in the place of ours, with its own settings in its environment. Its raw floor is not measured.
    pub peer: Option<Peer>,
    /// Where processes run.
    pub pins: Pins,
}

impl Bench {
    /// Does all runs, or those there is time for until `stop`. `say` is told what happens.
    ///
    /// # Errors
    /// If a run cannot be done. What was measured before is lost then; an interruption loses nothing.
    pub async fn run(&self, stop: &CancellationToken, say: &(dyn Fn(String) + Sync)) -> Result<Report, BenchError> {
        self.check()?;
        processes::many_files();
        self.pins.pin_self()?;
        let environment = Environment { broker: self.broker().await?, ..Environment::here() };
        let mut legs = Vec::new();
        for settings in &self.legs {
            let mut runs = Vec::new();
            for number in 1..=settings.runs {
                if stop.is_cancelled() {
                    break;
                }
                let leg = if settings.leg.is_empty() { String::new() } else { format!(", {}", settings.leg) };
                say(format!("run {number} of {}{leg}: {} cases", settings.runs, settings.cases));
                let Some(figures) = Box::pin(run::run(self, settings, number, stop)).await? else { break };
                say(format!("run {number} of {}{leg}: {}", settings.runs, figures.line()));
                runs.push(figures);
            }
            legs.push(Leg::of(settings.clone(), runs));
        }
        let interrupted = stop.is_cancelled();
        let peer = self.peer.as_ref().map(|peer| peer.script.display().to_string());
        Ok(Report { workload: self.workload, environment, peer, pins: self.pins.all().clone(), legs, interrupted })
    }

    fn check(&self) -> Result<(), BenchError> {
        self.peer.iter().try_for_each(|peer| peer.check(&self.legs))?;
        let floor = self.legs.iter().any(|leg| leg.floor_batch.is_some() || leg.one_by_one.is_some());
        if floor && !self.brokers.is_empty() && self.security.protocol() != "PLAINTEXT" {
            let why =
                "the raw floor and the round trip are measured in plain text, which these brokers are not reached in";
            return Err(BenchError::Usage(format!("{why}; leave the floor out with --no-floor")));
        }
        self.legs.iter().try_for_each(|leg| site::topology(self.topology.as_deref(), leg, "check").map(drop))
    }

    /// What the broker tells of itself. An embedded one is started for that: all are alike.
    async fn broker(&self) -> Result<BrokerName, BenchError> {
        let folder = tempfile::tempdir().map_err(BenchError::io("no folder for files"))?;
        let meter = Meter::default();
        let launcher = Launcher { folder: folder.path().to_owned(), pins: self.pins.clone(), meter };
        let broker = Broker::start(&self.brokers, &self.programs, &launcher, None).await?;
        let place = match (&self.data_dir, self.brokers.is_empty()) {
            (_, false) => format!("at {}", self.brokers.join(",")),
            (Some(data), true) => format!("a process of its own, data in {} without fsync", data.display()),
            (None, true) => "a process of its own, data in memory".to_owned(),
        };
        let cluster = broker.client(&self.security);
        cluster.ping(Duration::from_secs(15)).await.map_err(BenchError::kafka("no broker answers"))?;
        let info = cluster.broker_info().await.map_err(BenchError::kafka("what the broker is"))?;
        broker.stop().await?;
        Ok(BrokerName::of(info, self.broker_name.as_deref(), place))
    }
}
