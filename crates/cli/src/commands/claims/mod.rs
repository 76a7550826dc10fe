//! `anabranch claims`: the store for values that are too large for a record.

mod gc;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anabranch_claims::{ClaimCheck, Limits, Location};
use anabranch_protocol::claim::{Claim, TEXT};
use anabranch_topology::{ClaimStore, Topology};

use crate::options::TopologyFile;
use crate::output::{bytes, line};
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
    #[command(after_help = "\
Examples:
  anabranch claims put scan.txt
  pdftotext scan.pdf - | anabranch claims put -
  anabranch claims put scan.pdf --content-type application/pdf")]
    Put {
        /// The file; - reads stdin.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// What it is. Text is read as the JSON string of it, JSON as itself.
        #[arg(long, value_name = "TYPE", default_value = TEXT, value_parser = media_type)]
        content_type: String,
        #[command(flatten)]
        topology: TopologyFile,
    },
    /// Print the content of a claim, once it is known to be what was put.
    #[command(after_help = "\
Examples:
  jq '.document.text' outcome.json | anabranch claims get - > scan.txt
  anabranch claims put scan.txt | anabranch claims get -")]
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
            let content = read(&file)?;
            if content.is_empty() {
                return Err(usage(format!("{} is empty; nothing was put", name_of(&file))));
            }
            let claim = claims.put(content.into(), &content_type).await?;
            line(serde_json::to_string(&claim)?)?;
        }
        Command::Get { file, topology } => {
            let claims = required(&topology.load()?)?;
            let claim: Claim = serde_json::from_slice(&read(&file)?).map_err(|error| {
                usage(format!("{} holds no claim, as `anabranch claims put` prints one: {error}", name_of(&file)))
            })?;
            bytes(&claims.fetch(&claim).await?)?;
        }
        Command::Gc(args) => return gc::run(args).await,
    }
    Ok(ExitCode::SUCCESS)
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut content = Vec::new();
    let read = if file == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut content)
    } else {
        std::fs::File::open(file).and_then(|mut file| file.read_to_end(&mut content))
    };
    read.map_err(|error| usage(format!("cannot read {}: {error}", name_of(file))))?;
    Ok(content)
}

fn name_of(file: &Path) -> String {
    if file == Path::new("-") { "stdin".to_owned() } else { file.display().to_string() }
}

/// What a content is: `type/subtype`, parameters may follow.
fn media_type(text: &str) -> Result<String, String> {
    let names = |part: &str| !part.is_empty() && !part.contains([' ', '/']);
    let kind = text.split(';').next().and_then(|kind| kind.trim().split_once('/'));
    let printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    match kind {
        Some((kind, subtype)) if printable && names(kind) && names(subtype) => Ok(text.to_owned()),
        _ => Err("write for example text/plain, application/json or application/pdf".to_owned()),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_content_is_has_two_names() {
        for good in [TEXT, "application/pdf", "application/ld+json; profile=\"x\""] {
            assert_eq!(media_type(good), Ok(good.to_owned()));
        }
        for bad in ["", "text", "/", "text/", "/plain", "text/plain/x", "text/pl ain", "text/plain\n", "téxt/plain"] {
            assert!(media_type(bad).is_err(), "{bad}");
        }
    }
}
