//! `anabranch bench-broker`: the embedded broker as a process of its own, for `anabranch bench`.

use std::path::PathBuf;
use std::process::ExitCode;

use anabranch_broker::{Broker, BrokerConfig, Storage};
use anyhow::Context as _;

use crate::output;
use crate::processes::Shutdown;

/// Serve the embedded broker until stdin ends. Its address is printed on stdout.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to keep the data; without it, in memory.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Runs it.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let shutdown = Shutdown::install(|| {})?;
    shutdown.with_stdin();
    let storage = args.data_dir.map_or(Storage::Memory, Storage::Directory);
    let config = BrokerConfig { storage, ..BrokerConfig::default() };
    let broker = Broker::start(config).await.context("cannot start the embedded broker")?;
    output::line(broker.bootstrap())?;
    shutdown.drain.cancelled().await;
    broker.stop().await;
    Ok(ExitCode::SUCCESS)
}
