//! `anabranch claims gc`: removes content that nobody has put for long.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use futures::StreamExt as _;

use super::required;
use crate::options::{TopologyFile, time_span};
use crate::output::line;

/// Remove content that was put longer ago than a time.
///
/// Nothing says whether a record still names it: choose a time longer than any topic of the topology keeps records, and
/// than any case may wait for a person.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anabranch claims gc --older-than 90d --dry-run
  anabranch claims gc --older-than 90d")]
pub(super) struct Args {
    /// How long ago it was put last: 90d, 36h.
    #[arg(long, value_name = "TIME", value_parser = time_span, allow_hyphen_values = true)]
    older_than: Duration,
    /// Say what would be removed, and remove nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    topology: TopologyFile,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let claims = required(&args.topology.load()?)?;
    let before = SystemTime::now().checked_sub(args.older_than).unwrap_or(SystemTime::UNIX_EPOCH);
    let (mut count, mut bytes) = (0_u64, 0_u64);
    let mut stored = claims.store().list();
    while let Some(found) = stored.next().await {
        let found = found?;
        if found.at >= before {
            continue;
        }
        line(format!("{} {}", found.name, found.bytes))?;
        if !args.dry_run {
            claims.store().remove(&found.name).await?;
        }
        (count, bytes) = (count + 1, bytes + found.bytes);
    }
    let what = if args.dry_run { "would be removed" } else { "removed" };
    eprintln!("{count} values of {bytes} bytes {what}");
    Ok(ExitCode::SUCCESS)
}
