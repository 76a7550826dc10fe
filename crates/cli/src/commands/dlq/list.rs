//! `dlq list`: how many there are, by error, or one by one.

use std::process::ExitCode;

use serde::Serialize;

use super::groups::{Group, Groups};
use super::letter::{Letter, LetterId};
use super::marks::Marks;
use super::select::Filters;
use super::{Common, Site, day_and_time};
use crate::console::plain;
use crate::masking::Masking;
use crate::output::{Format, OutputArgs, json, json_line, line, table};

/// Characters of an error in a table.
const SHOWN: usize = 90;

/// Count dead letters by error: what differs from one to the next (numbers, ids, quoted words) is left out.
///
/// Those that were sent back or dropped are not counted, unless --handled. FIRST and LAST say when they were given up.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anabranch dlq list
  anabranch dlq list --agent fraud --class terminal --since 1h
  anabranch dlq list --each --correlation-id case-17
  anabranch dlq list -o json | jq '.groups[] | select(.count > 100)'")]
pub(super) struct Args {
    #[command(flatten)]
    filters: Filters,
    /// One by one, with their names, instead of by error. As JSON: one object a line.
    #[arg(long)]
    each: bool,
    /// Also those that were sent back or dropped.
    #[arg(long)]
    handled: bool,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Serialize)]
struct Counted {
    groups: Vec<Group>,
    /// How many letters are in them.
    letters: u64,
    /// How many more were sent back or dropped.
    handled: u64,
}

/// A letter in short.
#[derive(Serialize)]
struct Row<'a> {
    letter: &'a LetterId,
    time: anabranch_protocol::Timestamp,
    correlation_id: &'a str,
    agent: Option<&'a str>,
    class: Option<&'a str>,
    attempts: Option<u32>,
    redrives: u32,
    error: &'a str,
    handled: Option<super::marks::How>,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let site = Site::find(&args.common).await?;
    args.filters.check(&site.survey)?;
    let marks = Marks::read(&site.cluster, &site.topology, &site.survey).await?;
    let masking = Masking::take(&site.cluster, &site.survey).await?;
    let mut scan = args.filters.scan(&site.cluster, &site.survey).await?;
    let (mut groups, mut letters, mut handled) = (Groups::default(), 0, 0);
    while let Some(records) = scan.next().await? {
        for letter in records.into_iter().map(Letter::read).filter(|letter| args.filters.matches(letter)) {
            let mark = marks.of(&letter);
            if mark.is_some() {
                handled += 1;
                if !args.handled {
                    continue;
                }
            }
            letters += 1;
            let letter = letter.masked(&masking);
            match (args.each, args.output.format) {
                (true, Format::Json) => json_line(&row(&letter, mark.map(|mark| mark.how)))?,
                (true, Format::Table) => line(text(&letter, mark.is_some()))?,
                (false, _) => groups.add(&letter),
            }
        }
    }
    let groups = groups.most_frequent_first();
    match args.output.format {
        _ if args.each => {}
        Format::Json => json(&Counted { groups, letters, handled })?,
        Format::Table if letters > 0 => print(&groups)?,
        Format::Table => {}
    }
    let dealt_with = if args.handled { "of them" } else { "more" };
    eprintln!("{letters} dead letters; {handled} {dealt_with} were sent back or dropped");
    Ok(ExitCode::SUCCESS)
}

fn row<'a>(letter: &'a Letter, handled: Option<super::marks::How>) -> Row<'a> {
    Row {
        letter: &letter.id,
        time: letter.at,
        correlation_id: letter.case.as_str(),
        agent: letter.agent.as_deref(),
        class: letter.class.as_deref(),
        attempts: letter.attempts,
        redrives: letter.redrives(),
        error: &letter.message,
        handled,
    }
}

/// One line of a letter.
fn text(letter: &Letter, handled: bool) -> String {
    let word = |text: &Option<String>| text.as_deref().map_or_else(|| "-".to_owned(), plain);
    format!(
        "{}  {}  {:<36}  {:<12}  {:<10}  {}{}",
        letter.id,
        day_and_time(letter.at),
        plain(letter.case.as_str()),
        word(&letter.agent),
        word(&letter.class),
        if handled { "(handled) " } else { "" },
        short(&letter.message)
    )
}

fn short(text: &str) -> String {
    let text = plain(&text.replace(['\n', '\t'], " "));
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

fn print(groups: &[Group]) -> anyhow::Result<()> {
    let mut rows = table(&["COUNT", "FIRST", "LAST", "AGENT", "CLASS", "ERROR", "FOR EXAMPLE"]);
    let word = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    for group in groups {
        rows.add_row([
            group.count.to_string(),
            day_and_time(group.first),
            day_and_time(group.last),
            word(&group.agent),
            word(&group.class),
            short(&group.error),
            group.example.to_string(),
        ]);
    }
    line(rows)
}
