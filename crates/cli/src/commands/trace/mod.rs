//! `anabranch trace`: one case, hop by hop.

mod draw;
#[cfg(test)]
mod tests;
mod waterfall;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use anabranch_kafka::{Cluster, Record, TopicPartition};
use anabranch_protocol::{CorrelationId, EventId, Timestamp};
use anabranch_topology::{TopicRole, Topology};
use anyhow::anyhow;

use crate::hop::{Hop, Kind};
use crate::masking::Masking;
use crate::options::{Brokers, TopologyFile, time_span};
use crate::output::{Format, OutputArgs, json, line};
use crate::reading::{self, Present, Survey};
use waterfall::Waterfall;

pub(crate) use draw::time;

/// Most records of one case that are held; a case has some dozens.
pub(crate) const MAX_HOPS: usize = 10_000;

/// Show one case as a waterfall: every hop, how long it lay in a topic and how long it was worked on.
///
/// Reads the topics of the topology from their beginning (or from --since) to where they end now, so that it works
/// while the case runs and long after. It belongs to no group and changes nothing.
///
/// WHEN counts from the first record. AFTER is the time since the record that caused this one. QUEUE is how long a task
/// lay in its topic, WORK how long the agent took, all attempts together.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anabranch trace 01998a4c-7f3e-7c1b-9d2e-0a4f6f1c2b3d
  anabranch trace case-17 --since 1h                  # on a long log: only the last hour
  anabranch trace case-17 -o json | jq '.hops[] | select(.work_ms > 1000)'")]
pub(crate) struct Args {
    /// The case, as `send` and `watch` print it.
    #[arg(value_name = "CORRELATION_ID")]
    case: String,
    /// Read only records of the last so long (90s, 5m, 1h30m). Default: all there are.
    #[arg(long, value_name = "TIME", value_parser = time_span)]
    since: Option<Duration>,
    #[command(flatten)]
    topology: TopologyFile,
    #[command(flatten)]
    brokers: Brokers,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let topology = args.topology.load()?;
    let cluster = args.brokers.connect().await?;
    let now = reading::now();
    let since = args.since.map(|span| {
        Timestamp::from_millis(now.as_millis().saturating_sub(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    });
    let case = CorrelationId::new(args.case);
    let hops = gather(&cluster, &topology, &case, since, lacks_causes).await?;
    let waterfall = Waterfall::build(case, hops, now);
    match args.output.format {
        Format::Json => json(&waterfall)?,
        Format::Table => {
            let width = comfy_table::Table::new().width().map_or(120, usize::from);
            line(draw::draw(&waterfall, width))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// All records of the case, as hops.
pub(crate) async fn gather(
    cluster: &Cluster,
    topology: &Topology,
    case: &CorrelationId,
    since: Option<Timestamp>,
    lacks: impl Fn(&[Hop]) -> bool,
) -> anyhow::Result<Vec<Hop>> {
    let survey = Survey::take(cluster, topology).await?;
    let masking = Masking::take(cluster, &survey).await?;
    let hop = |topic: &Present, record: Record| Hop::read(topic.spec.role, &record, &masking);
    let hops = gathered(cluster, (topology, &survey), case, since, hop, lacks).await?;
    if hops.len() >= MAX_HOPS {
        eprintln!("warning: the case has more than {MAX_HOPS} records; the rest is left out");
    }
    Ok(hops)
}

/// What `each` makes of all records of the case, at most [`MAX_HOPS`]: first where its key says they are; if what is found
/// there `lacks` some, everywhere, as topics may have been given partitions since, and others place keys by rules of their
/// own.
pub(crate) async fn gathered<T>(
    cluster: &Cluster,
    (topology, survey): (&Topology, &Survey),
    case: &CorrelationId,
    since: Option<Timestamp>,
    each: impl Fn(&Present, Record) -> T,
    lacks: impl Fn(&[T]) -> bool,
) -> anyhow::Result<Vec<T>> {
    survey.expect_some(topology)?;
    use TopicRole::{Directory, Journal, Ledger, Limits, Marks};
    // What models were asked is `anabranch cost`'s to tell; what an agent journals is its own.
    let told = |role| !matches!(role, Directory | Journal | Ledger | Limits | Marks);
    let topics = || survey.present.iter().filter(|t| told(t.spec.role));
    let read = async |tps: Vec<TopicPartition>| -> anyhow::Result<Vec<T>> {
        let mut found = Vec::new();
        let spans = reading::spans(cluster, &tps, since).await?;
        reading::scan(cluster, spans, |record| take(survey, case, record, &each, &mut found)).await?;
        Ok(found)
    };
    let mut found = read(topics().flat_map(|t| t.of_case(case)).collect()).await?;
    if lacks(&found) {
        found = read(topics().flat_map(Present::all).collect()).await?;
    }
    if found.is_empty() {
        let bound = if since.is_some() { " since then; try an earlier --since" } else { "" };
        let count = survey.present.len();
        return Err(anyhow!("no record of case {case} is on the {count} topics of {}{bound}", topology.name));
    }
    Ok(found)
}

/// Whether something was caused by a record that is not there. What came in may name a cause outside.
pub(crate) fn lacks_causes(hops: &[Hop]) -> bool {
    let ids: BTreeSet<&EventId> = hops.iter().map(|hop| &hop.id).collect();
    let inside = hops.iter().filter(|hop| !matches!(hop.kind, Kind::Request | Kind::Review));
    hops.is_empty() || inside.filter_map(|hop| hop.causation_id.as_ref()).any(|cause| !ids.contains(cause))
}

fn take<T>(
    survey: &Survey,
    case: &CorrelationId,
    record: Record,
    each: impl Fn(&Present, Record) -> T,
    found: &mut Vec<T>,
) {
    let Some(topic) = survey.topic(&record.topic) else { return };
    let of_case = match topic.spec.role {
        TopicRole::State => reading::state_key(&record).is_some_and(|key| key.id() == case.as_str()),
        _ => reading::case_of(&record) == *case,
    };
    if of_case && found.len() < MAX_HOPS {
        found.push(each(topic, record));
    }
}
