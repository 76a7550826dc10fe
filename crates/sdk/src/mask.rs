//! Personal data: marked where a type is written, masked wherever a person or a log would see it who need not.
//!
//! A field is marked with `#[schemars(extend("x-pii" = true))]`, or by its type, [`Pii`]. The mark is in the schema that the
//! agent's card carries, so that who shows a record need not know the agent: [`Mask`] is made of schemas and masks values.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The keyword of a schema that marks personal data.
pub const KEYWORD: &str = "x-pii";
/// What stands instead.
pub const MASKED: &str = "[masked]";
/// Texts that are shorter are masked where they stand, and not looked for elsewhere: a country code is in every word.
const LEAST: usize = 4;
/// How deep a schema is followed, references counted.
const DEPTH: usize = 24;
/// Most parts of a schema that are looked at: one that refers to itself grows without end.
const MOST: usize = 20_000;

/// A value that is personal data: on the wire it is the value, in a log it is masked, in a schema it is marked.
///
/// ```
/// use anabranch_sdk::mask::Pii;
///
/// let name = Pii::new("Ava Specimen".to_owned());
/// assert_eq!(format!("{name} {name:?}"), "[masked] [masked]");
/// assert_eq!(name.expose(), "Ava Specimen");
/// ```
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pii<T>(T);

impl<T> Pii<T> {
    /// Marks it.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value, for whoever works with it.
    pub fn expose(&self) -> &T {
        &self.0
    }

    /// The value itself.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> From<T> for Pii<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T> fmt::Debug for Pii<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASKED)
    }
}

impl<T> fmt::Display for Pii<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASKED)
    }
}

impl<T: JsonSchema> JsonSchema for Pii<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Pii_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = generator.subschema_for::<T>();
        schema.insert(KEYWORD.to_owned(), json!(true));
        schema
    }
}

/// Which places of a value hold personal data, as schemas say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mask {
    root: Place,
    /// Fields that are marked wherever they stand.
    anywhere: BTreeSet<String>,
}

/// A place of a value: whether it is marked, and the places within.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Place {
    marked: bool,
    fields: BTreeMap<String, Place>,
    /// Of every item, and of every field that is not named.
    rest: Option<Box<Place>>,
}

const UNMARKED: &Place = &Place { marked: false, fields: BTreeMap::new(), rest: None };

impl Mask {
    /// Of these schemas together: a place is masked if one of them marks it. Where one is too large to be followed,
    /// everything is masked.
    pub fn of<'a>(schemas: impl IntoIterator<Item = &'a Value>) -> Self {
        let mut root = Place::default();
        for schema in schemas {
            let mut left = MOST;
            root.add(schema, schema, DEPTH, &mut left);
            root.marked |= left == 0;
        }
        Self { root, anywhere: BTreeSet::new() }
    }

    /// Fields are masked by their names, wherever they stand: for values whose shape no schema tells, such as an outcome
    /// that holds what agents read and answered.
    #[must_use]
    pub fn anywhere(mut self) -> Self {
        let mut names = BTreeSet::new();
        self.root.names(&mut names);
        self.anywhere = names;
        self
    }

    /// The value without what is marked, and without the texts that are marked wherever else they stand in it.
    pub fn value(&self, value: &Value) -> Value {
        let texts = self.texts(value);
        self.masked(&self.root, value, &texts)
    }

    /// `text` without what is marked in `value`: for words about a record, such as why it became a dead letter.
    pub fn text(&self, value: &Value, text: &str) -> String {
        without(text, &self.texts(value))
    }

    /// The texts in `value` that are personal data, long enough to be looked for, the longest first: a recording must hold
    /// none of them.
    pub fn texts(&self, value: &Value) -> Vec<String> {
        let mut texts = self.collected(value);
        texts.retain(|text| text.chars().count() >= LEAST);
        longest_first(texts)
    }

    /// All texts in `value` that are personal data, however short.
    pub fn data(&self, value: &Value) -> Vec<String> {
        longest_first(self.collected(value))
    }

    fn collected(&self, value: &Value) -> BTreeSet<String> {
        let mut texts = BTreeSet::new();
        self.collect(&self.root, value, &mut texts);
        texts
    }

    /// Whether nothing is marked.
    pub fn is_empty(&self) -> bool {
        self.root == *UNMARKED
    }

    /// The place of a field; whether it is marked by its name alone.
    fn field<'a>(&self, place: &'a Place, name: &str) -> (&'a Place, bool) {
        let known = place.fields.get(name).or(place.rest.as_deref());
        (known.unwrap_or(UNMARKED), self.anywhere.contains(name))
    }

    /// The texts at places that are marked.
    fn collect(&self, place: &Place, value: &Value, texts: &mut BTreeSet<String>) {
        if place.marked {
            return leaves(value, texts);
        }
        match value {
            Value::Array(items) => {
                let place = place.rest.as_deref().unwrap_or(UNMARKED);
                items.iter().for_each(|item| self.collect(place, item, texts));
            }
            Value::Object(fields) => fields.iter().for_each(|(name, value)| match self.field(place, name) {
                (_, true) => leaves(value, texts),
                (place, false) => self.collect(place, value, texts),
            }),
            _ => {}
        }
    }

    fn masked(&self, place: &Place, value: &Value, texts: &[String]) -> Value {
        match value {
            Value::Null => Value::Null,
            _ if place.marked => json!(MASKED),
            Value::String(text) => Value::String(without(text, texts)),
            Value::Array(items) => {
                let place = place.rest.as_deref().unwrap_or(UNMARKED);
                items.iter().map(|item| self.masked(place, item, texts)).collect()
            }
            Value::Object(fields) => {
                let field = |(name, value): (&String, &Value)| {
                    let masked = match self.field(place, name) {
                        (_, true) if !value.is_null() => json!(MASKED),
                        (place, _) => self.masked(place, value, texts),
                    };
                    (without(name, texts), masked)
                };
                Value::Object(fields.iter().map(field).collect::<Map<_, _>>())
            }
            other => other.clone(),
        }
    }
}

/// `value` without what `schema` marks.
pub fn value(schema: &Value, value: &Value) -> Value {
    Mask::of([schema]).value(value)
}

impl Place {
    fn add(&mut self, root: &Value, schema: &Value, depth: usize, left: &mut usize) {
        let (Some(schema), Some(depth)) = (schema.as_object(), depth.checked_sub(1)) else { return };
        *left = left.saturating_sub(1);
        if *left == 0 {
            return;
        }
        self.marked |= schema.get(KEYWORD) == Some(&Value::Bool(true));
        if let Some(target) =
            schema.get("$ref").and_then(Value::as_str).and_then(|r| root.pointer(r.strip_prefix('#')?))
        {
            self.add(root, target, depth, left);
        }
        for keyword in ["anyOf", "oneOf", "allOf"] {
            for option in schema.get(keyword).and_then(Value::as_array).into_iter().flatten() {
                self.add(root, option, depth, left);
            }
        }
        for (name, field) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            self.fields.entry(name.clone()).or_default().add(root, field, depth, left);
        }
        for keyword in ["items", "additionalProperties"] {
            if let Some(inner) = schema.get(keyword).filter(|inner| inner.is_object()) {
                self.rest.get_or_insert_default().add(root, inner, depth, left);
            }
        }
    }

    /// Whether everything that it holds is marked, as in a list of names.
    fn holds_marked(&self) -> bool {
        self.rest.as_deref().is_some_and(|rest| rest.marked || rest.holds_marked())
    }

    /// The names of fields that are marked.
    fn names(&self, names: &mut BTreeSet<String>) {
        for (name, place) in &self.fields {
            if place.marked || place.holds_marked() {
                names.insert(name.clone());
            }
            place.names(names);
        }
        if let Some(rest) = &self.rest {
            rest.names(names);
        }
    }
}

fn leaves(value: &Value, texts: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => {
            let text = text.trim();
            if !text.is_empty() {
                texts.insert(text.to_owned());
            }
        }
        Value::Array(items) => items.iter().for_each(|item| leaves(item, texts)),
        Value::Object(fields) => fields.values().for_each(|item| leaves(item, texts)),
        Value::Number(number) => {
            texts.insert(number.to_string());
        }
        _ => {}
    }
}

/// What holds another is looked for first.
fn longest_first(texts: BTreeSet<String>) -> Vec<String> {
    let mut texts: Vec<String> = texts.into_iter().collect();
    texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
    texts
}

/// `value` without these texts, wherever they stand in it: for a recording, whose messages hold them in prose.
pub fn replace(value: &Value, texts: &[String]) -> Value {
    Mask::default().masked(UNMARKED, value, texts)
}

fn without(text: &str, texts: &[String]) -> String {
    texts.iter().fold(text.to_owned(), |text, hidden| match text.contains(hidden.as_str()) {
        true => text.replace(hidden.as_str(), MASKED),
        false => text,
    })
}

/// The texts in `value` that `schema` marks, in every form in which they may stand in what a model is asked or answers: a
/// recording must hold none of them. The longest first.
pub fn recorded(schema: &Value, value: &Value) -> Vec<String> {
    crate::personal::forms(Mask::of([schema]).data(value))
}

/// What serde says of a value that does not fit, without the value: its messages quote what they found.
///
/// `invalid type: string "Ava", expected u32 at line 1 column 9` becomes `invalid type: string, expected u32 at …`.
pub fn serde_words(error: &serde_json::Error) -> String {
    let words = error.to_string();
    let mut out = String::with_capacity(words.len());
    let mut rest = words.as_str();
    // What was found is quoted, as a text with escapes or as a number in back ticks; what was expected is not.
    while let Some(at) = rest.find([' ', '`']).filter(|_| !rest.is_empty()) {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        if let Some(quoted) = after.strip_prefix(" \"") {
            rest = past(quoted, '"');
        } else if let Some(quoted) = after
            .strip_prefix('`')
            .filter(|_| out.ends_with("integer ") || out.ends_with("point ") || out.ends_with("boolean "))
        {
            out.truncate(out.trim_end().len());
            rest = past(quoted, '`');
        } else {
            out.push_str(&after[..1]);
            rest = &after[1..];
        }
    }
    out.push_str(rest);
    out
}

/// What stands after the closing quote.
fn past(quoted: &str, quote: char) -> &str {
    let mut escaped = false;
    for (at, c) in quoted.char_indices() {
        match c {
            '\\' if !escaped => escaped = true,
            c if c == quote && !escaped => return &quoted[at + c.len_utf8()..],
            _ => escaped = false,
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize, Deserialize, JsonSchema, Debug)]
    #[allow(dead_code)]
    struct Request {
        applicant: Applicant,
        #[serde(default)]
        others: Vec<Applicant>,
        note: Option<String>,
        by_name: BTreeMap<String, Applicant>,
    }

    #[derive(Serialize, Deserialize, JsonSchema, Debug)]
    #[allow(dead_code)]
    struct Applicant {
        #[schemars(extend("x-pii" = true))]
        name: String,
        born: Option<Pii<String>>,
        product: String,
    }

    fn schema() -> Value {
        schemars::schema_for!(Request).to_value()
    }

    #[test]
    fn what_is_marked_is_masked_wherever_it_stands() {
        let request = json!({
            "applicant": { "name": "Ava Specimen", "born": "1985-02-14", "product": "loan" },
            "others": [{ "name": "Leo Example", "born": null, "product": "card" }],
            "note": "Ava Specimen, born 1985-02-14, asks for a loan; Leo Example too",
            "by_name": { "Ava Specimen": { "name": "Ava Specimen", "product": "x" } },
        });
        assert_eq!(
            value(&schema(), &request),
            json!({
                "applicant": { "name": MASKED, "born": MASKED, "product": "loan" },
                "others": [{ "name": MASKED, "born": null, "product": "card" }],
                "note": "[masked], born [masked], asks for a loan; [masked] too",
                "by_name": { "[masked]": { "name": MASKED, "product": "x" } },
            })
        );
        let mask = Mask::of([&schema()]);
        assert_eq!(mask.text(&request, "no such person: Ava Specimen"), "no such person: [masked]");
        assert_eq!(mask.texts(&request), ["Ava Specimen", "Leo Example", "1985-02-14"]);
    }

    #[test]
    fn schemas_add_up() {
        let name = json!({ "properties": { "a": { "properties": { "name": { "x-pii": true } } } } });
        let ip = json!({ "properties": { "a": { "properties": { "ip": { "x-pii": true } } } } });
        let mask = Mask::of([&name, &ip]);
        assert_eq!(
            mask.value(&json!({ "a": { "name": "x", "ip": 7, "z": 1 } })),
            json!({ "a": { "name": MASKED, "ip": MASKED, "z": 1 } })
        );
        assert!(Mask::of([&json!({}), &json!(true)]).is_empty());
    }

    #[test]
    fn what_no_schema_tells_is_masked_by_name() {
        let mask = Mask::of([&schema()]).anywhere();
        let outcome = json!({
            "parts": { "document": { "name": "Ava Specimen", "code": "X" } }, "reason": "Ava Specimen is known", "born": null
        });
        assert_eq!(
            mask.value(&outcome),
            json!({ "parts": { "document": { "name": MASKED, "code": "X" } }, "reason": "[masked] is known", "born": null })
        );
        assert_eq!(replace(&json!(["Hello Ava Specimen"]), &mask.texts(&outcome)), json!(["Hello [masked]"]));
        let list = json!({ "properties": { "names": { "items": { "x-pii": true } } } });
        let by_name = Mask::of([&list]).anywhere();
        assert_eq!(by_name.data(&json!({ "deeper": { "names": ["Ava", "Bo"] } })), ["Ava", "Bo"]);
    }

    #[test]
    fn short_texts_are_masked_in_their_place_alone() {
        let schema = json!({ "properties": { "initials": { "x-pii": true } } });
        let masked = value(&schema, &json!({ "initials": "AM", "note": "AMAUROT" }));
        assert_eq!(masked, json!({ "initials": MASKED, "note": "AMAUROT" }));
    }

    #[test]
    fn a_schema_that_goes_round_ends() {
        let schema = json!({ "$ref": "#/$defs/a", "$defs": { "a": { "anyOf": [{ "$ref": "#/$defs/a" }], "properties": { "a": { "$ref": "#/$defs/a" } } } } });
        assert!(!Mask::of([&schema]).root.marked);
    }

    #[test]
    fn pii_is_the_value_on_the_wire_and_marked_in_the_schema() {
        let read: Applicant = serde_json::from_value(json!({ "name": "A", "born": "1985", "product": "x" })).unwrap();
        assert_eq!(read.born.as_ref().map(|b| b.expose().as_str()), Some("1985"));
        assert!(!format!("{:?}", read.born).contains("1985"));
        let schema = schemars::schema_for!(Pii<String>).to_value();
        assert_eq!((&schema["type"], &schema[KEYWORD]), (&json!("string"), &json!(true)));
    }

    #[test]
    fn what_serde_says_does_not_quote_the_value() {
        let said = |text: &str| serde_words(&serde_json::from_str::<Vec<u8>>(text).unwrap_err());
        assert!(said(r#"["Ava \"A\" Specimen"]"#).starts_with("invalid type: string, expected u8 at line 1"));
        assert!(said("[19850214]").starts_with("invalid value: integer, expected u8 at line 1"));
        let field = serde_json::from_str::<Applicant>(r#"{"product":"x"}"#).unwrap_err();
        assert!(serde_words(&field).starts_with("missing field `name`"));
    }
}
