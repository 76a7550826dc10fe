//! `dlq show`: one dead letter, whole.

use std::process::ExitCode;

use anabranch_protocol::{Header, Timestamp};
use anyhow::anyhow;
use serde::Serialize;
use serde_json::Value;

use super::letter::{Letter, LetterId};
use super::marks::{Mark, Marks};
use super::select::Which;
use super::{Common, Site};
use crate::console::plain;
use crate::masking::Masking;
use crate::output::{Format, OutputArgs, bytes, json, line};

/// Characters of a value that are shown.
const SHOWN: usize = 2_000;
/// Bytes of a value that is no text that are shown.
const SHOWN_BYTES: usize = 64;

/// Show one dead letter: why, where from, how often tried, its headers and the beginning of its value.
///
/// Personal data that agents' cards mark is masked; --value writes all of it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anabranch dlq show kyc.tasks.identity.dlq/2/17
  anabranch dlq show kyc.tasks.identity.dlq/2/17 --value > task.json")]
pub(super) struct Args {
    /// The dead letter, as `dlq list` prints it.
    #[arg(value_name = "LETTER")]
    letter: LetterId,
    /// Write its value to stdout, byte for byte, and nothing else.
    #[arg(long, conflicts_with = "format")]
    value: bool,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    output: OutputArgs,
}

/// A header that is no text is shown as hexadecimal.
#[derive(Serialize)]
struct ShownHeader {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hex: Option<String>,
}

#[derive(Serialize)]
struct Shown<'a> {
    letter: &'a LetterId,
    time: Timestamp,
    correlation_id: &'a str,
    error: &'a str,
    causes: &'a [String],
    class: Option<&'a str>,
    agent: Option<&'a str>,
    agent_version: Option<&'a str>,
    group: Option<&'a str>,
    attempts: Option<u32>,
    first_failure: Option<Timestamp>,
    last_failure: Option<Timestamp>,
    topic: Option<&'a str>,
    partition: Option<i32>,
    offset: Option<i64>,
    deadline: Option<Timestamp>,
    redrives: u32,
    handled: Option<&'a Mark>,
    key: Option<String>,
    headers: Vec<ShownHeader>,
    /// JSON where it is JSON, else text or hexadecimal.
    value: Option<Value>,
    value_bytes: Option<usize>,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let site = Site::find(&args.common).await?;
    let which = Which::named(args.letter.clone());
    let mut scan = which.scan(&site.cluster, &site.survey).await?;
    let mut found = None;
    while let Some(records) = scan.next().await? {
        found = records.into_iter().map(Letter::read).find(|letter| letter.id == args.letter).or(found);
    }
    let letter = found.ok_or_else(|| anyhow!("there is no dead letter {}", args.letter))?;
    if args.value {
        bytes(letter.original.value.as_deref().unwrap_or_default())?;
        return Ok(ExitCode::SUCCESS);
    }
    let letter = letter.masked(&Masking::take(&site.cluster, &site.survey).await?);
    let marks = Marks::read(&site.cluster, &site.topology, &site.survey).await?;
    match args.output.format {
        Format::Json => json(&shown(&letter, marks.of(&letter)))?,
        Format::Table => line(text(&letter, marks.of(&letter)).trim_end())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn shown_header(header: &Header) -> ShownHeader {
    let (value, hex) = match (&header.value, header.as_str()) {
        (Some(_), Some(text)) => (Some(text.to_owned()), None),
        (Some(bytes), None) => (None, Some(hex(bytes))),
        (None, _) => (None, None),
    };
    ShownHeader { name: header.name.clone().into_owned(), value, hex }
}

fn shown<'a>(letter: &'a Letter, handled: Option<&'a Mark>) -> Shown<'a> {
    let value = letter.original.value.as_deref().map(|bytes| match serde_json::from_slice(bytes) {
        Ok(json) => json,
        Err(_) => Value::String(std::str::from_utf8(bytes).map_or_else(|_| hex(bytes), str::to_owned)),
    });
    let place = letter.from.as_ref().and_then(|(_, place)| *place);
    Shown {
        letter: &letter.id,
        time: letter.at,
        correlation_id: letter.case.as_str(),
        error: &letter.message,
        causes: &letter.causes,
        class: letter.class.as_deref(),
        agent: letter.agent.as_deref(),
        agent_version: letter.agent_version.as_deref(),
        group: letter.group.as_deref(),
        attempts: letter.attempts,
        first_failure: letter.first_failure,
        last_failure: letter.last_failure,
        topic: letter.from.as_ref().map(|(topic, _)| topic.as_str()),
        partition: place.map(|(partition, _)| partition),
        offset: place.map(|(_, offset)| offset),
        deadline: letter.envelope().and_then(|envelope| envelope.deadline),
        redrives: letter.redrives(),
        handled,
        key: letter
            .original
            .key
            .as_deref()
            .map(|key| std::str::from_utf8(key).map_or_else(|_| hex(key), str::to_owned)),
        headers: letter.headers().iter().map(shown_header).collect(),
        value,
        value_bytes: letter.value_bytes,
    }
}

/// For people: nothing in it steers a terminal.
fn text(letter: &Letter, handled: Option<&Mark>) -> String {
    let mut out = String::new();
    let mut put = |name: &str, value: String| {
        out.push_str(format!("{name:<14}{}", plain(&value)).trim_end());
        out.push('\n');
    };
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    put("letter", letter.id.to_string());
    put("case", letter.case.to_string());
    put("error", letter.message.replace(['\n', '\t'], " "));
    for (depth, cause) in letter.causes.iter().enumerate() {
        put(if depth == 0 { "causes" } else { "" }, format!("{}{cause}", "  ".repeat(depth)));
    }
    put("class", or_none(&letter.class));
    put("agent", format!("{} {}", or_none(&letter.agent), letter.agent_version.as_deref().unwrap_or_default()));
    put("group", or_none(&letter.group));
    put("attempts", letter.attempts.map_or_else(|| "-".to_owned(), |n| n.to_string()));
    let time = |at: Option<Timestamp>| at.map_or_else(|| "-".to_owned(), |at| at.to_string());
    put("failed first", time(letter.first_failure));
    put("failed last", time(letter.last_failure));
    put(
        "from",
        match &letter.from {
            Some((topic, Some((partition, offset)))) => format!("{topic}/{partition}/{offset}"),
            Some((topic, None)) => topic.clone(),
            None => "-".to_owned(),
        },
    );
    put("deadline", time(letter.envelope().and_then(|envelope| envelope.deadline)));
    put("redriven", format!("{} times before", letter.redrives()));
    if let Some(mark) = handled {
        let how = serde_json::to_value(mark.how).ok();
        let how = how.as_ref().and_then(Value::as_str).unwrap_or_default().replace('_', " ");
        put("handled", format!("{how} {}", mark.at));
    }
    put("key", letter.original.key.as_deref().map_or_else(|| "(null)".to_owned(), shown_bytes));
    for (index, header) in letter.headers().iter().enumerate() {
        let value = header.value.as_deref().map_or_else(|| "(null)".to_owned(), shown_bytes);
        put(if index == 0 { "headers" } else { "" }, format!("{}: {value}", header.name));
    }
    match letter.value_bytes {
        Some(bytes) => put("value", format!("{bytes} bytes")),
        None => put("value", "(null)".to_owned()),
    }
    out.push_str(&letter.original.value.as_deref().map(shown_bytes).unwrap_or_default());
    out
}

/// The beginning of a text, or of what is none as hexadecimal.
fn shown_bytes(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => {
            let mut shown: String = text.chars().take(SHOWN).collect();
            if shown.len() < text.len() {
                shown.push('…');
            }
            plain(&shown.replace(['\n', '\t'], " "))
        }
        Err(_) => {
            let more = if bytes.len() > SHOWN_BYTES { "…" } else { "" };
            format!("0x{}{more}", hex(&bytes[..bytes.len().min(SHOWN_BYTES)]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::dlq::letter::example;

    #[test]
    fn a_letter_is_shown_whole_and_steers_no_terminal() {
        let null = Header { name: "x".into(), value: None };
        let odd = Header { name: "y".into(), value: Some(bytes::Bytes::from_static(b"\xff\x00")) };
        let letter = example("kyc.tasks.identity", 4, &[null, odd], b"{\"name\":\"\x1b[2J\"}", "no row: 17\u{1b}[2J");
        let text = text(&letter, None);
        assert!(!text.contains('\u{1b}'), "{text}");
        for line in [
            "letter        kyc.tasks.identity.dlq/0/4",
            "from          kyc.tasks.identity/1/7",
            "attempts      3",
            "failed first  1970-01-01T00:00:01.000Z",
            "headers       x: (null)",
            "              y: 0xff00",
            "value         15 bytes",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line:?} is not in\n{text}");
        }
        let json = serde_json::to_value(shown(&letter, None)).unwrap();
        assert_eq!(json["headers"][1], serde_json::json!({ "name": "y", "hex": "ff00" }));
        assert_eq!((&json["letter"], &json["offset"]), (&"kyc.tasks.identity.dlq/0/4".into(), &7.into()));
    }

    #[test]
    fn long_values_are_cut() {
        assert_eq!(shown_bytes("ü".repeat(3_000).as_bytes()).chars().count(), SHOWN + 1);
        assert_eq!(shown_bytes(&[0xfe; 100]).len(), 2 + 2 * SHOWN_BYTES + "…".len());
    }
}
