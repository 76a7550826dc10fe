//! Data of persons, on its way into a cassette and out of it again.
//!
//! What a request says of persons ([`ChatRequest::personal`]) is written as `[personal 1]`, `[personal 2]`, … and comes
//! back as what it was when the same is asked again: so that an answer that names a person is replayed to the letter,
//! from a file that does not. What an answer says of them beyond that, in fields that its schema marks, is known when it
//! is recorded and never again: it is `[masked]`, and stays so.

use std::sync::Arc;

use aho_corasick::{AhoCorasick, MatchKind};
use serde_json::{Number, Value};

use super::CassetteError;
use super::file::Recorded;
use crate::chat::{ChatRequest, ChatResponse, Message, Role};

/// What stands for a text that cannot be told again.
const MASKED: &str = "[masked]";
/// What a stand-in for one that can begins with.
const PERSONAL: &str = "[personal ";
/// Before the stand-in of a number.
const NUMBER: char = '#';
/// Texts with fewer characters are hidden only as words of their own: a country's code is in every second word.
const LEAST: usize = 4;

/// Which texts of a value are data of persons, as the value's schema says: the schema first, then the value. It must find
/// the same in the same value.
pub type Marks = Arc<dyn Fn(&Value, &Value) -> Vec<String> + Send + Sync>;

/// `request` as it is recorded.
pub(super) fn concealed(request: &ChatRequest, marks: Option<&Marks>) -> Result<(ChatRequest, Hidden), CassetteError> {
    let mut hidden = Hidden::new(request.personal.clone(), Vec::new())?;
    let mut messages = Vec::with_capacity(request.messages.len());
    for message in &request.messages {
        // An earlier answer is hidden as it was when it was recorded, and what is in it from there on.
        if let (Role::Assistant, Some(marks)) = (message.role, marks) {
            let made = marked(request, &message.content, &message.tool_calls, marks);
            hidden = hidden.and(made)?;
        }
        messages.push(hidden.message(message));
    }
    Ok((ChatRequest { messages, ..request.clone() }, hidden))
}

/// The texts of an answer that its schemas mark.
pub(super) fn marked_in(request: &ChatRequest, response: &ChatResponse, marks: &Marks) -> Vec<String> {
    marked(request, &response.content, &response.tool_calls, marks)
}

fn marked(request: &ChatRequest, content: &str, calls: &[crate::chat::ToolCall], marks: &Marks) -> Vec<String> {
    let answered = request.response_schema.as_ref().and_then(|wanted| {
        let value = serde_json::from_str(content).ok()?;
        Some(marks(&wanted.schema, &value))
    });
    let called = calls.iter().filter_map(|call| {
        let tool = request.tools.iter().find(|tool| tool.name == call.name)?;
        Some(marks(&tool.parameters, &call.arguments))
    });
    answered.into_iter().chain(called).flatten().collect()
}

/// Texts that are not to be seen, and what stands for each.
pub(super) struct Hidden {
    /// Those that come back.
    personal: Arc<[String]>,
    /// Those that do not.
    made: Vec<String>,
    finder: Option<AhoCorasick>,
}

impl Hidden {
    fn new(personal: Arc<[String]>, made: Vec<String>) -> Result<Self, CassetteError> {
        let texts = || personal.iter().chain(&made).filter(|text| !text.is_empty());
        let finder = match texts().next() {
            None => None,
            Some(_) => Some(
                // An empty text is found nowhere, and keeps its number.
                AhoCorasick::builder()
                    .match_kind(MatchKind::LeftmostLongest)
                    .build(personal.iter().chain(&made))
                    .map_err(|error| CassetteError::Persons(error.to_string()))?,
            ),
        };
        Ok(Self { personal, made, finder })
    }

    /// These too, from now on.
    pub(super) fn and(mut self, made: Vec<String>) -> Result<Self, CassetteError> {
        let known = |text: &String| {
            text == MASKED || text.is_empty() || self.personal.contains(text) || self.made.contains(text)
        };
        let new: Vec<String> = made.into_iter().filter(|text| !known(text)).collect();
        if new.is_empty() {
            return Ok(self);
        }
        self.made.extend(new);
        Self::new(self.personal, self.made)
    }

    fn message(&self, message: &Message) -> Message {
        let mut message = message.clone();
        message.content = self.text(&message.content);
        message.tool_calls.iter_mut().for_each(|call| self.value(&mut call.arguments));
        message
    }

    /// Hides in what is recorded.
    pub(super) fn conceal(&self, recorded: &mut Recorded) {
        recorded.texts(&mut |text| *text = self.text(text), &mut |value| self.value(value));
    }

    /// Puts back what was hidden when it was recorded.
    pub(super) fn reveal(&self, recorded: &mut Recorded) {
        recorded.texts(&mut |text| *text = self.told(text), &mut |value| self.told_value(value));
    }

    fn text(&self, text: &str) -> String {
        let Some(finder) = &self.finder else { return text.to_owned() };
        let (mut out, mut done, mut from) = (String::with_capacity(text.len()), 0, 0);
        while let Some(found) = finder.find(aho_corasick::Input::new(text).range(from..)) {
            let (start, end) = (found.start(), found.end());
            if found.is_empty() || !stands_alone(text, start, end) {
                // It is part of a word, or nothing; another may begin within it.
                from = text[start..].chars().next().map_or(text.len(), |c| start + c.len_utf8());
                if from >= text.len() {
                    break;
                }
                continue;
            }
            out.push_str(&text[done..start]);
            out.push_str(&self.stand_in(found.pattern().as_usize()));
            (done, from) = (end, end);
        }
        out.push_str(&text[done..]);
        out
    }

    fn stand_in(&self, index: usize) -> String {
        match index < self.personal.len() {
            true => format!("{PERSONAL}{}]", index + 1),
            false => MASKED.to_owned(),
        }
    }

    fn value(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Number(number) => {
                let written = number.to_string();
                let hidden = self.text(&written);
                if hidden != written {
                    *value = Value::String(format!("{NUMBER}{hidden}"));
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(item)),
            Value::Object(fields) => fields.values_mut().for_each(|item| self.value(item)),
            Value::Null | Value::Bool(_) => {}
        }
    }

    /// A recorded text, with what stood there.
    fn told(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find(PERSONAL) {
            let (before, after) = (&rest[..at], &rest[at + PERSONAL.len()..]);
            out.push_str(before);
            let number = after.split_once(']').and_then(|(number, rest)| Some((number.parse::<usize>().ok()?, rest)));
            let known = number.and_then(|(number, rest)| Some((self.personal.get(number.checked_sub(1)?)?, rest)));
            rest = match known {
                Some((personal, rest)) => {
                    out.push_str(personal);
                    rest
                }
                None => {
                    out.push_str(PERSONAL);
                    after
                }
            };
        }
        out.push_str(rest);
        out
    }

    fn told_value(&self, value: &mut Value) {
        match value {
            Value::String(text) => {
                let number = text.strip_prefix(NUMBER).filter(|rest| rest.starts_with(PERSONAL));
                match number.and_then(|rest| self.told(rest).parse::<Number>().ok()) {
                    Some(number) => *value = Value::Number(number),
                    None => *text = self.told(text),
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.told_value(item)),
            Value::Object(fields) => fields.values_mut().for_each(|item| self.told_value(item)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// Whether what is found is long enough to be meant, or a word of its own.
fn stands_alone(text: &str, start: usize, end: usize) -> bool {
    let found = &text[start..end];
    let joins = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    found.chars().count() >= LEAST || !(joins(text[..start].chars().next_back()) || joins(text[end..].chars().next()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hidden(personal: &[&str], made: &[&str]) -> Hidden {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        Hidden::new(owned(personal).into(), owned(made)).unwrap()
    }

    #[test]
    fn what_is_hidden_comes_back_and_what_was_made_up_does_not() {
        let hidden = hidden(&["Ava Specimen", "Ava", "1985-02-14"], &["Amaurot"]);
        let said = "Ava Specimen (Avalon, Ava), born 1985-02-14 in Amaurot";
        let written = hidden.text(said);
        assert_eq!(written, "[personal 1] (Avalon, [personal 2]), born [personal 3] in [masked]");
        assert_eq!(hidden.told(&written), said.replace("Amaurot", MASKED));
        assert_eq!(hidden.told("[personal 9] [personal x [personal 2]"), "[personal 9] [personal x Ava");
    }

    #[test]
    fn a_stand_in_is_not_searched_again() {
        let hidden = hidden(&["personal", "1", "é"], &[]);
        assert_eq!(hidden.text("personal 1 11 é ééé"), "[personal 1] [personal 2] 11 [personal 3] ééé");
        assert_eq!(hidden.told(&hidden.text("personal 1 11 é")), "personal 1 11 é");
    }

    #[test]
    fn nothing_is_found_of_nothing() {
        assert_eq!(hidden(&[], &[]).text("Ava"), "Ava");
        assert_eq!(hidden(&[""], &[""]).text("Ava"), "Ava");
        assert_eq!(hidden(&["", "Ava"], &[]).text("Ava"), "[personal 2]");
    }

    #[test]
    fn values_keep_their_kinds() {
        let hidden = hidden(&["Ava Specimen", "19850214"], &[]);
        let value = json!({ "name": "Ava Specimen", "born": 19850214, "all": ["Ava Specimen", 7, null] });
        let mut written = value.clone();
        hidden.value(&mut written);
        assert_eq!(
            written,
            json!({ "name": "[personal 1]", "born": "#[personal 2]", "all": ["[personal 1]", 7, null] })
        );
        hidden.told_value(&mut written);
        assert_eq!(written, value);
    }
}
