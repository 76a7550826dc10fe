//! What is to be sent: one JSON value, or several. All of it is looked at before anything is sent.

use std::io::Read as _;
use std::path::Path;

use anabranch_core::join::unfit;
use anabranch_protocol::ReviewDecision;
use serde_json::value::RawValue;

use crate::usage::usage;

/// One value, as it was written: numbers keep their digits.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) text: String,
    /// Where it ends, from 1.
    pub(crate) line: usize,
}

/// Reads a file, or stdin for `-`.
pub(crate) fn read(file: &Path) -> anyhow::Result<Vec<Message>> {
    let mut text = Vec::new();
    let (name, read) = if file == Path::new("-") {
        ("stdin".to_owned(), std::io::stdin().lock().read_to_end(&mut text))
    } else {
        let read = std::fs::File::open(file).and_then(|mut file| file.read_to_end(&mut text));
        (file.display().to_string(), read)
    };
    read.map_err(|error| usage(format!("cannot read {name}: {error}")))?;
    parse(&name, &text)
}

/// Splits a text into JSON values.
///
/// # Errors
/// With line and column of the first thing that is not JSON.
pub(crate) fn parse(name: &str, text: &[u8]) -> anyhow::Result<Vec<Message>> {
    // A mark at the beginning is what some editors write.
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    let mut values = serde_json::Deserializer::from_slice(text).into_iter::<Box<RawValue>>();
    let mut messages = Vec::new();
    while let Some(value) = values.next() {
        let value = value.map_err(|error| {
            let (line, column) = (error.line(), error.column());
            let what = error.to_string();
            let what = what.split(" at line ").next().unwrap_or_default().to_owned();
            usage(format!("{name}:{line}:{column}: not JSON: {what}; nothing was sent"))
        })?;
        let before = text.get(..values.byte_offset()).unwrap_or(text);
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        messages.push(Message { text: value.get().to_owned(), line });
    }
    if messages.is_empty() {
        return Err(usage(format!("{name} holds no JSON value; nothing was sent")));
    }
    Ok(messages)
}

/// # Errors
/// If a value is no decision.
pub(super) fn check_review(message: &Message) -> anyhow::Result<()> {
    let decision = serde_json::from_str::<ReviewDecision>(&message.text).map_err(|error| {
        usage(format!(
            "no review decision: {error}; write {{\"decision\": \"approve\", \"reviewer\": \"ada\", \"reason\": \"…\"}}; \
             nothing was sent"
        ))
    })?;
    match unfit(&decision) {
        Some(why) => Err(usage(format!("the decision cannot be sent: {why}; nothing was sent"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<(String, usize)> {
        parse("f.json", text.as_bytes()).unwrap().into_iter().map(|m| (m.text, m.line)).collect()
    }

    #[test]
    fn one_value_or_several() {
        assert_eq!(texts("{\n \"a\": 1.10\n}\n"), [("{\n \"a\": 1.10\n}".to_owned(), 3)], "as it was written");
        assert_eq!(texts("{\"a\":1}\n\n{\"a\":2}\n"), [("{\"a\":1}".to_owned(), 1), ("{\"a\":2}".to_owned(), 3)]);
        assert_eq!(texts("[1,2]").len(), 1, "an array is one request");
    }

    #[test]
    fn what_is_not_json_is_named_by_line_and_column() {
        let error = |text: &str| parse("f.json", text.as_bytes()).unwrap_err().to_string();
        assert_eq!(error("{\"a\":1}\n{\"a\":}\n"), "f.json:2:6: not JSON: expected value; nothing was sent");
        assert_eq!(error("  \n"), "f.json holds no JSON value; nothing was sent");
        assert!(error("{\"a\":1").starts_with("f.json:1:6: not JSON: EOF while parsing an object"));
        assert!(parse("f.json", b"\"\xff\"").is_err(), "not UTF-8");
    }

    #[test]
    fn a_decision_names_its_reviewer() {
        let message = |text: &str| Message { text: text.to_owned(), line: 1 };
        assert!(check_review(&message(r#"{"decision":"approve","reviewer":"ada"}"#)).is_ok());
        let error = check_review(&message(r#"{"decision":"approve"}"#)).unwrap_err().to_string();
        assert!(error.contains("missing field `reviewer`"), "{error}");
        let error = check_review(&message(r#"{"decision":" ","reviewer":"ada"}"#)).unwrap_err().to_string();
        assert_eq!(error, "the decision cannot be sent: it names no decision; nothing was sent");
    }
}
