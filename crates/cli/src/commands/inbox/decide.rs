//! `anabranch inbox decide`.

use std::process::ExitCode;

use anabranch_core::join::{Phase, unfit};
use anabranch_protocol::{CorrelationId, ReviewDecision};

use super::ask::{Said, WaitArgs, ask, review_topic};
use super::cases;
use crate::options::{Brokers, TopologyFile};
use crate::output::OutputArgs;
use crate::usage::usage;

/// Decide a parked case, and print what the decision is answered.
///
/// The first decision in the log counts; any other changes nothing and is told so. A decision is about the case as it is now:
/// if it was decided and parked again before this one is read, this one does not count. Exit code 0 if it counts or repeats
/// one of yours that did, 1 if not or if no answer comes in time.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anabranch inbox decide case-17 --decision approve --reviewer ada --reason 'saw the passport'
  anabranch inbox decide case-17 --decision request-information --needs documents_provided --reviewer ada")]
pub(crate) struct Args {
    /// The case, as `inbox list` prints it.
    #[arg(value_name = "CORRELATION_ID")]
    case: String,
    /// What was decided, in the application's words (approve, reject, …).
    #[arg(long, value_name = "WORD")]
    decision: String,
    /// Who decides.
    #[arg(long, env = "ANABRANCH_REVIEWER", value_name = "NAME")]
    reviewer: String,
    /// Why.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// What is asked for, where the decision is to ask for something.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    needs: Vec<String>,
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
    let mut decision = ReviewDecision {
        decision: args.decision,
        reviewer: args.reviewer,
        reason: args.reason,
        needs: args.needs,
        parking: None,
    };
    if let Some(why) = unfit(&decision) {
        return Err(usage(format!("the decision cannot be sent: {why}")));
    }
    if decision.needs.iter().any(|name| name.trim().is_empty()) {
        return Err(usage("--needs has an empty name; write for example --needs documents_provided,address"));
    }
    let cluster = args.brokers.connect().await?;
    // What the reviewer may have looked at. A case that is not parked, or not known, is the composer's to answer for.
    let stored = cases::one(&cluster, &topology, &id).await?;
    let parked = stored.and_then(|stored| stored.case).filter(|case| matches!(case.phase, Phase::Parked { .. }));
    decision.parking = parked.map(|case| case.parking());
    let kind = format!("{}.review-decision", topology.name);
    let said = Said { case: &id, id: decision.id(&id), kind: &kind, text: serde_json::to_string(&decision)? };
    let wait = args.wait.wait(args.output.format);
    ask(&cluster, &topology, &said, &wait).await
}

/// # Errors
/// If no case can have this id.
pub(super) fn case_id(text: &str) -> anyhow::Result<CorrelationId> {
    match CorrelationId::is_plain(text) {
        true => Ok(CorrelationId::new(text)),
        false => Err(usage(format!("{text:?} is no correlation id: those are printable, and at most 256 bytes long"))),
    }
}
