//! `anabranch claims`: the store for values that are too large for a record.

mod gc;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anabranch_claims::{ClaimCheck, Limits, Location};
use anabranch_protocol::claim::{Claim, TEXT};
use anabranch_topology::{ClaimStore, Topology};
use anyhow::Context as _;

use crate::options::TopologyFile;
use crate::output::line;
use crate::usage::usage;

/// Put values that are too large for a record into the topology's claim store, get them back, remove old ones.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anabranch claims put scan.txt                    # prints the claim, to be a field of a request
  anabranch claims put scan.pdf --content-type application/pdf
  jq '.document.text' outcome.json | anabranch claims get - > scan.txt
  anabranch claims gc --older-than 90d --dry-run")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Put a file into the store and print its claim. A file that is there already begins its age anew.
    Put {
        /// The file; - reads stdin.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// What it is. Text is read as the JSON string of it, JSON as itself.
        #[arg(long, value_name = "TYPE", default_value = TEXT)]
        content_type: String,
        #[command(flatten)]
        topology: TopologyFile,
    },
    /// Print the content of a claim, once it is known to be what was put.
    Get {
        /// A file with the claim's JSON; - reads stdin.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        topology: TopologyFile,
    },
    Gc(gc::Args),
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Put { file, content_type, topology } => {
            let claims = required(&topology.load()?)?;
            let claim = claims.put(read(&file)?.into(), &content_type).await?;
            line(serde_json::to_string(&claim)?)?;
        }
        Command::Get { file, topology } => {
            let claims = required(&topology.load()?)?;
            let claim: Claim = serde_json::from_slice(&read(&file)?)
                .map_err(|error| usage(format!("{} holds no claim: {error}", file.display())))?;
            let content = claims.fetch(&claim).await?;
            std::io::stdout().write_all(&content).context("cannot write to stdout")?;
        }
        Command::Gc(args) => return gc::run(args).await,
    }
    Ok(ExitCode::SUCCESS)
}

fn read(file: &std::path::Path) -> anyhow::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut content = Vec::new();
    let read = if file == std::path::Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut content)
    } else {
        std::fs::File::open(file).and_then(|mut file| file.read_to_end(&mut content))
    };
    read.map_err(|error| usage(format!("cannot read {}: {error}", file.display())))?;
    Ok(content)
}

/// The claim check of the topology.
fn required(topology: &Topology) -> anyhow::Result<ClaimCheck> {
    let claims = claim_check(topology)?;
    claims.ok_or_else(|| usage("the topology has no claim store; name one as claims.store in topics.yaml"))
}

/// The claim check of the topology, if it has one. No network.
///
/// # Errors
/// If the store cannot be used as it is configured.
pub(crate) fn claim_check(topology: &Topology) -> anyhow::Result<Option<ClaimCheck>> {
    let Some(settings) = &topology.claims else { return Ok(None) };
    let location = match &settings.store {
        ClaimStore::Directory(path) => Location::Directory(path.clone()),
        ClaimStore::S3 { bucket, prefix } => Location::S3 { bucket: bucket.clone(), prefix: prefix.clone() },
    };
    let limits = Limits { over: settings.over_bytes, most: settings.most_bytes, timeout: settings.timeout };
    let store = anabranch_claims::open(&location, limits).map_err(|error| usage(format!("claims.store: {error}")))?;
    Ok(Some(ClaimCheck::new(store, limits)))
}
