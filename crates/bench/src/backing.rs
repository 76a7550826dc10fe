//! What the agents need around them: a broker and a model, as processes of their own.

use std::path::Path;
use std::time::Duration;

use anabranch_kafka::{Cluster, ClusterConfig, SecurityConfig};
use anabranch_llm::mock::CallRecord;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::bench::Programs;
use crate::error::BenchError;
use crate::processes::{Group, Launcher, Process, STOP_WITHIN};
use crate::settings::Settings;

const KYC_MOCK: &str = include_str!("../kyc/mock.json");
/// Longest time until broker and mock say where they listen.
const ADDRESS_WITHIN: Duration = Duration::from_secs(20);
/// As many calls of the model as are kept.
const KEEP_CALLS: &str = "1000000";

/// The broker that is used.
#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) brokers: Vec<String>,
    /// If it was started here.
    process: Option<Process>,
}

impl Broker {
    /// The brokers that are given, or the embedded one as a process of its own.
    ///
    /// # Errors
    /// If it does not start.
    pub(crate) async fn start(
        given: &[String],
        programs: &Programs,
        launcher: &Launcher,
        data: Option<&Path>,
    ) -> Result<Self, BenchError> {
        if !given.is_empty() {
            return Ok(Self { brokers: given.to_vec(), process: None });
        }
        let mut command = Command::new(&programs.command);
        command.arg("bench-broker").env("RUST_LOG", "warn");
        if let Some(data) = data {
            command.arg("--data-dir").arg(data);
        }
        let mut process = launcher.start("broker", Group::Broker, command, true)?;
        let address = first_line(&mut process).await?;
        Ok(Self { brokers: vec![address], process: Some(process) })
    }

    /// Whether it was started here.
    pub(crate) fn is_ours(&self) -> bool {
        self.process.is_some()
    }

    /// A client of it.
    pub(crate) fn client(&self, security: &SecurityConfig) -> Cluster {
        let security = if self.process.is_some() { SecurityConfig::plaintext() } else { security.clone() };
        Cluster::new(ClusterConfig::new(self.brokers.clone(), "anabranch-bench").with_security(security))
    }

    pub(crate) async fn stop(self) -> Result<(), BenchError> {
        match self.process {
            Some(mut process) => process.stop(STOP_WITHIN).await.map(drop),
            None => Ok(()),
        }
    }
}

/// What a process says on its first line.
async fn first_line(process: &mut Process) -> Result<String, BenchError> {
    let Some(stdout) = process.stdout() else { return Ok(String::new()) };
    let mut lines = BufReader::new(stdout).lines();
    match tokio::time::timeout(ADDRESS_WITHIN, lines.next_line()).await {
        Ok(Ok(Some(line))) => Ok(line),
        _ => {
            process.alive()?;
            let (label, words) = (process.label(), process.last_words());
            Err(BenchError::Process(format!("{label} does not say where it listens:\n{words}")))
        }
    }
}

/// The mock model, as a process of its own.
#[derive(Debug)]
pub(crate) struct Mock {
    process: Process,
    base_url: String,
    http: reqwest::Client,
}

impl Mock {
    /// Starts it with the think time of these settings.
    ///
    /// # Errors
    /// If it does not start.
    pub(crate) async fn start(
        programs: &Programs,
        launcher: &Launcher,
        settings: &Settings,
        seed: u64,
    ) -> Result<Self, BenchError> {
        let script = launcher.folder.join("mock.json");
        std::fs::write(&script, KYC_MOCK).map_err(BenchError::io("cannot write the mock's script"))?;
        let number = |number: u64| number.to_string();
        let mut command = Command::new(&programs.command);
        command.args(["mock-llm", "--exit-with-parent", "--keep-calls", KEEP_CALLS, "--seed", &number(seed)]);
        command.args(["--latency-median-ms", &number(settings.think.median_ms)]);
        command.args(["--latency-p99-ms", &number(settings.think.p99_ms)]);
        command.args(["--rate-limited", &settings.refused.to_string(), "--retry-after-s", "1"]);
        command.arg("--script").arg(&script).env("RUST_LOG", "warn");
        let mut process = launcher.start("mock", Group::Mock, command, true)?;
        let base_url = first_line(&mut process).await?;
        Ok(Self { process, base_url, http: reqwest::Client::builder().no_proxy().build()? })
    }

    /// `http://host:port/v1`.
    pub(crate) fn base_url(&self) -> &str {
        &self.base_url
    }

    /// What agents are told in their environment.
    pub(crate) fn environment(&self, asks: bool) -> Vec<(String, String)> {
        let root = self.base_url.trim_end_matches("/v1");
        let pair = |name: &str, value: String| (name.to_owned(), value);
        let registry = if asks { format!("{root}/registry") } else { String::new() };
        vec![
            pair("OPENAI_BASE_URL", self.base_url.clone()),
            pair("OPENAI_API_KEY", "bench".to_owned()),
            pair("KYC_REGISTRY_URL", registry),
        ]
    }

    /// The calls it took.
    ///
    /// # Errors
    /// If it does not answer.
    pub(crate) async fn calls(&self) -> Result<Vec<CallRecord>, BenchError> {
        let url = format!("{}/mock/calls", self.base_url.trim_end_matches("/v1"));
        Ok(self.http.get(url).send().await?.error_for_status()?.json().await?)
    }

    pub(crate) async fn stop(mut self) -> Result<(), BenchError> {
        self.process.stop(STOP_WITHIN).await.map(drop)
    }
}
