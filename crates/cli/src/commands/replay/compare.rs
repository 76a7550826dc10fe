//! Where two records differ, in words that show no personal data.

use std::collections::BTreeSet;

use anabranch_protocol::Header;
use anabranch_protocol::replay::Content;
use serde::Serialize;
use serde_json::Value;

use crate::console::plain;
use crate::masking::Masking;

/// Most characters that are shown of a value.
const SHOWN: usize = 200;
/// Most differences that are told of one record.
const MOST: usize = 100;

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Difference {
    /// Where: `key`, `header NAME`, or a JSON pointer into the value.
    pub(super) at: String,
    /// What is on the cluster; `None`: nothing.
    pub(super) recorded: Option<String>,
    /// What came of doing it again; `None`: nothing.
    pub(super) replayed: Option<String>,
}

impl Difference {
    /// Between these words.
    pub(super) fn new(at: &str, recorded: Option<&str>, replayed: Option<&str>) -> Self {
        Self { at: plain(at), recorded: recorded.map(short), replayed: replayed.map(short) }
    }

    /// Without the personal data of the request, which an answer may tell again. `request` is a record's value that holds it.
    pub(super) fn without_personal_data(self, masking: &Masking, request: Option<&[u8]>) -> Self {
        let words = |text: Option<String>| text.map(|text| masking.words(request, &text));
        Self { at: self.at, recorded: words(self.recorded), replayed: words(self.replayed) }
    }
}

/// Where they differ; nothing, if they are the same byte for byte.
pub(super) fn contents(was: &Content, is: &Content, masking: &Masking) -> Vec<Difference> {
    let mut found = Vec::new();
    if was.key() != is.key() {
        let text = |content: &Content| content.key().map(|key| String::from_utf8_lossy(key).into_owned());
        found.push(Difference::new("key", text(was).as_deref(), text(is).as_deref()));
    }
    let words = |content: &Content, text: &str| masking.words(content.value().map(|v| &v[..]), text);
    headers(&was.headers(), &is.headers(), (&|text| words(was, text), &|text| words(is, text)), &mut found);
    if was.value() != is.value() {
        values(was.value().map(|v| &v[..]), is.value().map(|v| &v[..]), masking, &mut found);
    }
    if found.len() > MOST {
        let more = format!("{} more", found.len() - MOST);
        found.truncate(MOST);
        found.push(Difference { at: more, recorded: None, replayed: None });
    }
    found
}

/// Words of a record, as they may be shown.
type Shown<'a> = &'a dyn Fn(&str) -> String;

fn headers(was: &[Header], is: &[Header], shown: (Shown<'_>, Shown<'_>), found: &mut Vec<Difference>) {
    let of = |headers: &[Header], name: &str| -> Option<String> {
        let text = |header: &Header| {
            header.value.as_ref().map_or_else(|| "null".to_owned(), |value| String::from_utf8_lossy(value).into_owned())
        };
        let all: Vec<String> = headers.iter().filter(|header| header.name == name).map(text).collect();
        (!all.is_empty()).then(|| all.join(", "))
    };
    let before = found.len();
    let names: BTreeSet<&str> = was.iter().chain(is).map(|header| &*header.name).collect();
    for name in names {
        let (one, other) = (of(was, name), of(is, name));
        if one != other {
            let (one, other) = (one.map(|text| shown.0(&text)), other.map(|text| shown.1(&text)));
            found.push(Difference::new(&format!("header {name}"), one.as_deref(), other.as_deref()));
        }
    }
    if found.len() == before && was != is {
        found.push(Difference::new("headers", Some("these"), Some("these, in another order or other bytes")));
    }
}

fn values(was: Option<&[u8]>, is: Option<&[u8]>, masking: &Masking, found: &mut Vec<Difference>) {
    let read = |bytes: Option<&[u8]>| bytes.and_then(|bytes| serde_json::from_slice::<Value>(bytes).ok());
    let (Some(one), Some(other)) = (read(was), read(is)) else {
        // Not to be taken apart, so not to be masked either: only how much there is.
        let bytes = |value: Option<&[u8]>| value.map(|value| format!("{} bytes", value.len()));
        found.push(Difference::new("value", bytes(was).as_deref(), bytes(is).as_deref()));
        return;
    };
    let shown = (masking.value(&one), masking.value(&other));
    let before = found.len();
    let at = &mut String::new();
    walk(at, (Some(&one), Some(&other)), (Some(&shown.0), Some(&shown.1)), found);
    if found.len() == before {
        found.push(Difference::new("value", Some("this JSON"), Some("the same JSON in other bytes")));
    }
}

type Pair<'a> = (Option<&'a Value>, Option<&'a Value>);

/// Goes down where both have members or elements; `shown` is the same, masked.
fn walk(at: &mut String, (was, is): Pair<'_>, shown: Pair<'_>, found: &mut Vec<Difference>) {
    if was == is {
        return;
    }
    let depth = at.len();
    match (was, is, shown.0, shown.1) {
        (Some(Value::Object(a)), Some(Value::Object(b)), Some(Value::Object(x)), Some(Value::Object(y))) => {
            let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for name in names {
                at.push('/');
                at.push_str(&name.replace('~', "~0").replace('/', "~1"));
                walk(at, (a.get(name), b.get(name)), (x.get(name), y.get(name)), found);
                at.truncate(depth);
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b)), Some(Value::Array(x)), Some(Value::Array(y))) => {
            for index in 0..a.len().max(b.len()) {
                at.push_str(&format!("/{index}"));
                walk(at, (a.get(index), b.get(index)), (x.get(index), y.get(index)), found);
                at.truncate(depth);
            }
        }
        _ => {
            let text = |value: Option<&Value>| value.map(ToString::to_string);
            let at = if at.is_empty() { "value" } else { at.as_str() };
            found.push(Difference::new(at, text(shown.0).as_deref(), text(shown.1).as_deref()));
        }
    }
}

fn short(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    plain(&shown.replace(['\n', '\t'], " "))
}
