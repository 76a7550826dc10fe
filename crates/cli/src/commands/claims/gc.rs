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
pub(super) struct Args {
    /// How long ago it was put last: 90d, 36h.
    #[arg(long, value_name = "TIME", value_parser = age)]
    older_than: Duration,
    /// Say what would be removed, and remove nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    topology: TopologyFile,
}

/// A time span, or a number of days.
fn age(text: &str) -> Result<Duration, String> {
    match text.strip_suffix('d').and_then(|days| days.parse::<u32>().ok()) {
        Some(days) => Ok(Duration::from_secs(u64::from(days) * 24 * 3600)),
        None => time_span(text),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_may_be_in_days() {
        assert_eq!(age("90d"), Ok(Duration::from_secs(90 * 24 * 3600)));
        assert_eq!(age("36h"), Ok(Duration::from_secs(36 * 3600)));
        for bad in ["", "d", "-1d", "1.5d", "soon"] {
            assert!(age(bad).is_err(), "{bad}");
        }
    }
}
