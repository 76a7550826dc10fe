//! Scripted answers are templates over what was asked; the placeholders are described at
//! [`Answer`](super::script::Answer). What is put in is never read as a template again.

use std::cell::OnceCell;

use regex::{Captures, Regex};
use serde_json::{Map, Value, json};

/// Most places at which an object is looked for in a message: the message is untrusted.
const MAX_STARTS: usize = 64;

/// What a template is filled from.
pub(super) struct Source<'a> {
    user: &'a str,
    groups: Option<Captures<'a>>,
    object: OnceCell<Value>,
}

impl<'a> Source<'a> {
    pub(super) fn new(user: &'a str, groups: Option<Captures<'a>>) -> Self {
        Self { user, groups, object: OnceCell::new() }
    }

    /// The first JSON object in the message; null if there is none.
    pub(super) fn object(&self) -> &Value {
        self.object.get_or_init(|| first_object(self.user).unwrap_or(Value::Null))
    }

    fn value(&self, place: &Place<'_>) -> Value {
        let group = |found: Option<regex::Match<'_>>| found.map_or(Value::Null, |m| json!(m.as_str()));
        let value = match place.what {
            What::Group(index) => group(self.groups.as_ref().and_then(|groups| groups.get(index))),
            What::Named(name) => group(self.groups.as_ref().and_then(|groups| groups.name(name))),
            What::Pointer(pointer) => self.object().pointer(pointer).cloned().unwrap_or(Value::Null),
            What::Object => self.object().clone(),
            What::User => json!(self.user),
        };
        match place.cast {
            None => value,
            Some(Cast::Number) => as_number(&value),
            Some(Cast::Bool) => as_bool(&value),
        }
    }
}

/// Fills the strings of `template`.
pub(super) fn json(template: &Value, source: &Source<'_>) -> Value {
    match template {
        Value::String(text) => match whole(text) {
            Some(place) => source.value(&place),
            None => Value::String(self::text(text, source)),
        },
        Value::Array(items) => items.iter().map(|item| json(item, source)).collect(),
        Value::Object(fields) => {
            let filled: Map<_, _> = fields.iter().map(|(name, item)| (name.clone(), json(item, source))).collect();
            Value::Object(filled)
        }
        other => other.clone(),
    }
}

/// Fills a text.
pub(super) fn text(template: &str, source: &Source<'_>) -> String {
    let mut out = String::with_capacity(template.len());
    for part in parts(template) {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Place(Ok(place)) => match source.value(&place) {
                Value::Null => {}
                Value::String(text) => out.push_str(&text),
                other => out.push_str(&other.to_string()),
            },
            // Templates are checked before the server starts.
            Part::Place(Err(_)) => {}
        }
    }
    out
}

/// What is wrong with the templates in `template`, where `regex` gives the groups.
pub(super) fn check(template: &Value, regex: Option<&Regex>) -> Result<(), String> {
    match template {
        Value::String(text) => parts(text).into_iter().try_for_each(|part| match part {
            Part::Text(_) => Ok(()),
            Part::Place(place) => check_place(&place?, regex),
        }),
        Value::Array(items) => items.iter().try_for_each(|item| check(item, regex)),
        Value::Object(fields) => fields.values().try_for_each(|item| check(item, regex)),
        _ => Ok(()),
    }
}

fn check_place(place: &Place<'_>, regex: Option<&Regex>) -> Result<(), String> {
    let known = match place.what {
        What::Group(index) => regex.is_some_and(|regex| index < regex.captures_len()),
        What::Named(name) => regex.is_some_and(|regex| regex.capture_names().flatten().any(|known| known == name)),
        What::Pointer(_) | What::Object | What::User => true,
    };
    let say = |name: &dyn std::fmt::Display| {
        format!("`{{{{{name}}}}}` is no group of `matches`; a field is written `{{{{/{name}}}}}`")
    };
    match place.what {
        _ if known => Ok(()),
        What::Group(index) => Err(say(&index)),
        What::Named(name) => Err(say(&name)),
        What::Pointer(_) | What::Object | What::User => Ok(()),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What<'t> {
    Group(usize),
    Named(&'t str),
    Pointer(&'t str),
    Object,
    User,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cast {
    Number,
    Bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place<'t> {
    what: What<'t>,
    cast: Option<Cast>,
}

enum Part<'t> {
    Text(&'t str),
    Place(Result<Place<'t>, String>),
}

fn parts(template: &str) -> Vec<Part<'_>> {
    let (mut parts, mut rest) = (Vec::new(), template);
    while let Some((before, after)) = rest.split_once("{{") {
        parts.push(Part::Text(before));
        match after.split_once("}}") {
            Some((inside, after)) => {
                parts.push(Part::Place(place(inside.trim())));
                rest = after;
            }
            None => {
                parts.push(Part::Place(Err("`{{` without `}}`".into())));
                return parts;
            }
        }
    }
    parts.push(Part::Text(rest));
    parts
}

/// The placeholder that `template` is and nothing else.
fn whole(template: &str) -> Option<Place<'_>> {
    let inside = template.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    if inside.contains("{{") || inside.contains("}}") {
        return None;
    }
    place(inside.trim()).ok()
}

fn place(inside: &str) -> Result<Place<'_>, String> {
    let (what, cast) = match inside.rsplit_once('|') {
        Some((what, "number")) => (what.trim(), Some(Cast::Number)),
        Some((what, "bool")) => (what.trim(), Some(Cast::Bool)),
        Some((_, other)) if !inside.starts_with('/') => {
            return Err(format!("`|{other}` is neither `|number` nor `|bool`"));
        }
        _ => (inside, None),
    };
    let what = match what {
        "." => What::Object,
        "user" => What::User,
        pointer if pointer.starts_with('/') => What::Pointer(pointer),
        group if !group.is_empty() && group.bytes().all(|b| b.is_ascii_digit()) => {
            What::Group(group.parse().map_err(|_| format!("`{group}` is no group"))?)
        }
        name if !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') => What::Named(name),
        other => return Err(format!("`{{{{{other}}}}}` is no placeholder")),
    };
    Ok(Place { what, cast })
}

fn as_number(value: &Value) -> Value {
    match value {
        Value::Number(_) => value.clone(),
        Value::String(text) => match serde_json::from_str(text.trim()) {
            Ok(number @ Value::Number(_)) => number,
            _ => text.trim().parse::<f64>().ok().map_or(Value::Null, |number| json!(number)),
        },
        _ => Value::Null,
    }
}

fn as_bool(value: &Value) -> Value {
    match value {
        Value::Bool(_) => value.clone(),
        Value::String(text) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "yes" | "1" => json!(true),
            "false" | "no" | "0" => json!(false),
            _ => Value::Null,
        },
        _ => Value::Null,
    }
}

fn first_object(text: &str) -> Option<Value> {
    text.match_indices('{').take(MAX_STARTS).find_map(|(start, _)| {
        let mut values = serde_json::Deserializer::from_str(&text[start..]).into_iter::<Value>();
        values.next()?.ok().filter(Value::is_object)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: &str = r#"Screen {this} one: {"applicant": {"name": "Ava"}, "scores": [1, 2]} score=0.95 hit=yes"#;

    fn filled(template: &Value) -> Value {
        let regex = Regex::new(r"score=(?<score>[\d.]+) hit=(\w+)").unwrap();
        check(template, Some(&regex)).expect("a sound template");
        json(template, &Source::new(ASKED, regex.captures(ASKED)))
    }

    #[test]
    fn placeholders_take_the_fields_own_type() {
        let template = json!({ "name": "{{/applicant/name}}", "scores": "{{/scores}}", "all": "{{.}}", "gone": "{{/x}}",
            "score": "{{score|number}}", "text": "{{1}}", "hit": "{{ 2|bool }}" });
        let wanted = json!({ "name": "Ava", "scores": [1, 2], "gone": null, "score": 0.95, "text": "0.95", "hit": true,
            "all": { "applicant": { "name": "Ava" }, "scores": [1, 2] } });
        assert_eq!(filled(&template), wanted);
    }

    #[test]
    fn in_a_text_they_become_text_and_are_not_read_again() {
        assert_eq!(filled(&json!("{{/applicant/name}} has {{/scores}}{{/x}}.")), json!("Ava has [1,2]."));
        let source = Source::new("say {{user}}", None);
        assert_eq!(text("<{{user}}>", &source), "<say {{user}}>");
        assert_eq!(text("{{.}}", &source), "", "no object in it");
    }

    #[test]
    fn what_cannot_be_filled_is_refused() {
        let regex = Regex::new("(a)").unwrap();
        for (template, words) in [
            ("{{2}}", "no group"),
            ("{{name}}", "{{/name}}"),
            ("{{1|int}}", "|number"),
            ("{{1", "without"),
            ("{{a b}}", "no placeholder"),
            ("{{}}", "no placeholder"),
        ] {
            let said = check(&json!([{ "x": template }]), Some(&regex)).expect_err(template);
            assert!(said.contains(words), "{template}: {said}");
        }
    }
}
