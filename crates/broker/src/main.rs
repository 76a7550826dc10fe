//! The development broker as a program of its own.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use anabranch_broker::{Broker, BrokerConfig, Profile, Storage, TransactionVersion};
use anyhow::Context;
use clap::{Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// A development Kafka broker. NOT FOR PRODUCTION: one node, loopback only, no replication, no fsync, no access control.
///
/// Prints host:port on stdout when it is ready; everything else goes to stderr. Ctrl-C or SIGTERM stop it.
#[derive(Debug, Parser)]
#[command(name = "anabranch-broker", version)]
struct Options {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "HOST:PORT")]
    listen: SocketAddr,
    /// Where to keep the data. Without it, the data is in memory and gone at the end.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Which broker it passes for: which APIs and versions it offers.
    #[arg(long, value_enum, default_value = "kafka")]
    profile: ProfileName,
    /// How transactions work: 1 as in Redpanda, 2 as in Apache Kafka 4 (KIP-890), 0 not at all.
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(u8).range(0..=2), value_name = "N")]
    transaction_version: u8,
    /// How often retention and compaction look for work, in milliseconds.
    #[arg(long, default_value = "1000", value_parser = clap::value_parser!(u64).range(1..), value_name = "MS")]
    housekeeping_ms: u64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ProfileName {
    Kafka,
    Redpanda,
}

impl Options {
    fn config(self) -> BrokerConfig {
        BrokerConfig {
            listen: self.listen,
            storage: self.data_dir.map_or(Storage::Memory, Storage::Directory),
            profile: match self.profile {
                ProfileName::Kafka => Profile::Kafka,
                ProfileName::Redpanda => Profile::Redpanda,
            },
            transaction_version: match self.transaction_version {
                0 => TransactionVersion::Off,
                2 => TransactionVersion::Two,
                _ => TransactionVersion::One,
            },
            housekeeping_interval: Duration::from_millis(self.housekeeping_ms),
            ..BrokerConfig::default()
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => {
            // Help and version come this way too, and are no failure.
            let code = if error.use_stderr() { 64 } else { 0 };
            return error.print().map_or(ExitCode::FAILURE, |()| ExitCode::from(code));
        }
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter).init();
    match run(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("anabranch-broker: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    let broker = Broker::start(options.config()).await.context("cannot start")?;
    println!("{}", broker.bootstrap());
    tokio::select! {
        result = tokio::signal::ctrl_c() => result.context("cannot watch for Ctrl-C")?,
        _ = terminate.recv() => {}
    }
    broker.stop().await;
    Ok(())
}
