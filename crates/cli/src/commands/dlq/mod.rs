//! `anabranch dlq`: dead letters, and what is done about them.

mod case;
mod decide;
mod drop;
mod groups;
mod letter;
mod list;
mod marks;
mod pace;
mod redrive;
mod report;
mod select;
mod show;

use std::process::ExitCode;

use anabranch_kafka::{Cluster, Producer, ProducerConfig};
use anabranch_protocol::Timestamp;
use anabranch_topology::Topology;

use crate::options::{Brokers, PATIENCE, TopologyFile};
use crate::reading::Survey;

/// Look at dead letters, send them back, or drop them.
///
/// A dead letter is a record that an agent gave up: the original key, value and headers, and why. What was sent back or
/// dropped is remembered on `<name>.dlq-marks`, so that no later run does it again; nothing is deleted.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anabranch dlq list                           # how many, by error
  anabranch dlq show kyc.tasks.identity.dlq/2/17
  anabranch dlq redrive --agent fraud --class retryable --since 2h --dry-run
  anabranch dlq drop kyc.requests.dlq/0/3")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    List(list::Args),
    Show(show::Args),
    Redrive(redrive::Args),
    Drop(drop::Args),
}

/// Which topology, on which cluster.
#[derive(Debug, Clone, clap::Args)]
struct Common {
    #[command(flatten)]
    topology: TopologyFile,
    #[command(flatten)]
    brokers: Brokers,
}

/// The topology on its cluster.
struct Site {
    topology: Topology,
    cluster: Cluster,
    survey: Survey,
}

impl Site {
    async fn find(common: &Common) -> anyhow::Result<Self> {
        let topology = common.topology.load()?;
        let cluster = common.brokers.connect().await?;
        let survey = Survey::take(&cluster, &topology).await?;
        survey.expect_some(&topology)?;
        Ok(Self { topology, cluster, survey })
    }

    fn producer(&self) -> Producer {
        self.cluster.producer(ProducerConfig { delivery_timeout: PATIENCE, ..ProducerConfig::default() })
    }
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::List(args) => list::run(args).await,
        Command::Show(args) => show::run(args).await,
        Command::Redrive(args) => redrive::run(args).await,
        Command::Drop(args) => drop::run(args).await,
    }
}

/// Month, day and time where the reader is.
fn day_and_time(at: Timestamp) -> String {
    match jiff::Timestamp::from_millisecond(at.as_millis()) {
        Ok(time) => time.to_zoned_datetime(jiff::tz::TimeZone::system()).strftime("%m-%d %H:%M:%S").to_string(),
        Err(_) => at.to_string(),
    }
}
