//! `anabranch inbox provide`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anabranch_protocol::InformationProvided;
use serde_json::Value;

use super::ask::{Said, WaitArgs, ask, review_topic};
use super::decide::case_id;
use crate::commands::send::input;
use crate::options::{Brokers, TopologyFile};
use crate::output::OutputArgs;
use crate::usage::usage;

/// Provide what a parked case waits for: a follow-up round begins with it.
///
/// It must be exactly what was asked for (`inbox show` says what). Exit code 0 if it counts, 1 if not or if no answer comes in
/// time.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anabranch inbox provide case-17 --field 'documents_provided=[\"passport\",\"utility_bill\"]'
  echo '{\"documents_provided\": [\"passport\"]}' | anabranch inbox provide case-17 - --by portal")]
pub(crate) struct Args {
    /// The case, as `inbox list` prints it.
    #[arg(value_name = "CORRELATION_ID")]
    case: String,
    /// A JSON object with what was asked for, by name; - reads stdin.
    #[arg(value_name = "FILE", required_unless_present = "fields")]
    file: Option<PathBuf>,
    /// One thing that was asked for, in JSON.
    #[arg(long = "field", id = "fields", value_name = "NAME=JSON", conflicts_with = "file")]
    fields: Vec<String>,
    /// Who provides it.
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    topology: TopologyFile,
    #[command(flatten)]
    brokers: Brokers,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let topology = args.topology.load()?;
    review_topic(&topology)?;
    let id = case_id(&args.case)?;
    let fields = match &args.file {
        Some(file) => from_file(&input::read(file)?)?,
        None => from_arguments(&args.fields)?,
    };
    if fields.is_empty() {
        return Err(usage("there is nothing in it that was asked for; nothing was sent"));
    }
    let information = InformationProvided { fields, provided_by: args.by };
    let cluster = args.brokers.connect().await?;
    let text = serde_json::to_string(&information)?;
    let said = Said { case: &id, id: information.id(&id), kind: InformationProvided::TYPE, text };
    let wait = args.wait.wait(args.output.format);
    ask(&cluster, &topology, &said, &wait).await
}

fn from_file(values: &[input::Message]) -> anyhow::Result<BTreeMap<String, Value>> {
    let [value] = values else {
        return Err(usage(format!("one JSON object is needed, and there are {} values", values.len())));
    };
    serde_json::from_str(&value.text).map_err(|error| usage(format!("not a JSON object: {error}; nothing was sent")))
}

/// `name=JSON`.
fn from_arguments(fields: &[String]) -> anyhow::Result<BTreeMap<String, Value>> {
    let mut provided = BTreeMap::new();
    for field in fields {
        let (name, value) = named(field)?;
        if provided.insert(name.clone(), value).is_some() {
            return Err(usage(format!("{name:?} is given twice; nothing was sent")));
        }
    }
    Ok(provided)
}

pub(super) fn named(field: &str) -> anyhow::Result<(String, Value)> {
    let (name, json) = field.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(|| {
        usage(format!("{field:?} is no field; write for example 'documents_provided=[\"passport\"]'"))
    })?;
    let value = serde_json::from_str(json)
        .map_err(|error| usage(format!("{name}: not JSON: {error}; a text needs its quotes, as in '{name}=\"…\"'")))?;
    Ok((name.to_owned(), value))
}
