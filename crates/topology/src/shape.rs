//! The tree against the schema: unknown fields, repeated keys, types, ranges, units.
//!
//! What is wrong is reported and left out; what remains always fits the types of [`raw`](crate::raw).

use std::collections::HashMap;

use serde::de::DeserializeOwned;
use serde_json::{Map, Number, Value};

use crate::diagnostic::{Path, Report, suggest};
use crate::explain::{self, Arm};
use crate::raw;
use crate::unit::{self, Unit};
use crate::yaml::{Data, EMPTY, Entry, Node};

/// Reads the file's types out of `root`.
pub(crate) fn read(root: &Node, report: &mut Report<'_>) -> raw::File {
    if matches!(root.data, Data::Null) {
        report.error(&Path::default(), "the file is empty", EMPTY);
        return raw::File::default();
    }
    typed(&raw::schema(), root, report)
}

/// Reads what a schema describes out of `root`.
pub(crate) fn typed<T: DeserializeOwned + Default>(schema: &Value, root: &Node, report: &mut Report<'_>) -> T {
    let value = Shape { schema, report }.check(schema, root, &Path::default());
    let file = serde_json::from_value(value.unwrap_or_else(|| Value::Object(Map::new())));
    file.unwrap_or_else(|error| {
        report.error(&Path::default(), format!("cannot be read: {error}"), "report it: the schema let it through");
        T::default()
    })
}

/// A place's schema: what may stand there.
struct Place<'a> {
    arms: Vec<Arm<'a>>,
    example: Option<&'a Value>,
}

struct Shape<'a, 'r, 'f> {
    schema: &'a Value,
    report: &'r mut Report<'f>,
}

impl<'a> Shape<'a, '_, '_> {
    /// The value of `node` as the schema wants it; `None` if it is left out.
    fn check(&mut self, schema: &'a Value, node: &Node, path: &Path) -> Option<Value> {
        let mut place = Place { arms: Vec::new(), example: None };
        self.resolve(schema, &mut place);
        if place.arms.iter().any(|arm| is_free(arm)) || place.arms.is_empty() {
            return Some(self.free(node, path));
        }
        let Some(arm) = place.arms.iter().copied().find(|arm| accepts(arm, node)) else {
            self.mismatch(&place, node, path);
            return None;
        };
        match &node.data {
            Data::Null => Some(Value::Null),
            Data::Bool(b) => Some(Value::Bool(*b)),
            Data::Int(i) => self.within(arm, place.example, Number::from(*i), path),
            Data::Float(f) => self.within(arm, place.example, Number::from_f64(*f)?, path),
            Data::Text(text) => self.text(arm, place.example, text, path),
            Data::List(items) => Some(self.list(arm, items, path)),
            Data::Map(entries) => Some(Value::Object(self.map(arm, entries, path))),
        }
    }

    /// Follows references and alternatives. The recursion ends: our own schema has no loop of references alone.
    fn resolve(&self, schema: &'a Value, place: &mut Place<'a>) {
        let Some(object) = schema.as_object() else { return };
        let example = object.get("examples").and_then(|e| e.get(0));
        place.example = place.example.or(example);
        let alternatives = ["anyOf", "oneOf"].into_iter().find_map(|k| object.get(k)?.as_array());
        if let Some(target) = object.get("$ref").and_then(Value::as_str).and_then(|r| self.schema.pointer(&r[1..])) {
            self.resolve(target, place);
        } else if let Some(alternatives) = alternatives {
            for alternative in alternatives {
                self.resolve(alternative, place);
            }
        } else {
            place.arms.push(object);
        }
    }

    fn map(&mut self, arm: Arm<'a>, entries: &[Entry], path: &Path) -> Map<String, Value> {
        let properties = arm.get("properties").and_then(Value::as_object);
        let others = arm.get("additionalProperties").filter(|o| o.is_object());
        let mut map = Map::new();
        for entry in self.once(entries, path) {
            let at = path.key(&entry.key);
            match properties.and_then(|p| p.get(&entry.key)).or(others) {
                Some(schema) => {
                    let value = self.check(schema, &entry.value, &at);
                    map.extend(value.map(|v| (entry.key.clone(), v)));
                }
                None => self.unknown(properties, entry, &at),
            }
        }
        let required = arm.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        for field in required.filter(|f| entries.iter().all(|e| e.key != *f)) {
            self.missing(properties, field, &path.key(field));
        }
        map
    }

    /// The entries whose key stands for the first time; the others are reported.
    fn once<'e>(&mut self, entries: &'e [Entry], path: &Path) -> Vec<&'e Entry> {
        let mut first: HashMap<&str, usize> = HashMap::new();
        let mut kept = Vec::with_capacity(entries.len());
        for entry in entries {
            if let Some(line) = first.get(entry.key.as_str()) {
                let message = format!("written twice, first on line {line}");
                self.report.error_at(entry.at, &path.key(&entry.key), message, "keep one of the two");
                continue;
            }
            first.insert(&entry.key, entry.at.0);
            kept.push(entry);
        }
        kept
    }

    fn unknown(&mut self, properties: Option<&Map<String, Value>>, entry: &Entry, at: &Path) {
        let help = if entry.key == "<<" {
            "YAML 1.2 has no merge keys: write what agents share under `defaults`".to_owned()
        } else {
            suggest(&entry.key, properties.into_iter().flatten().map(|(k, _)| k.as_str()))
        };
        self.report.error_at(entry.at, at, "unknown field", help);
    }

    fn missing(&mut self, properties: Option<&'a Map<String, Value>>, field: &str, at: &Path) {
        let mut place = Place { arms: Vec::new(), example: None };
        if let Some(schema) = properties.and_then(|p| p.get(field)) {
            self.resolve(schema, &mut place);
        }
        self.report.error(at, "missing", explain::write(field, place.example, &place.arms));
    }

    fn list(&mut self, arm: Arm<'a>, items: &[Node], path: &Path) -> Value {
        let free = Value::Bool(true);
        let checked = items.iter().enumerate().filter_map(|(i, item)| match arm.get("items") {
            Some(schema) => self.check(schema, item, &path.index(i)),
            None => Some(free.clone()),
        });
        Value::Array(checked.collect())
    }

    fn within(&mut self, arm: Arm<'_>, example: Option<&Value>, number: Number, path: &Path) -> Option<Value> {
        let bound = |name: &str| arm.get(name).and_then(Value::as_f64);
        let value = number.as_f64()?;
        if bound("minimum").is_some_and(|min| value < min) || bound("maximum").is_some_and(|max| value > max) {
            let field = path.field().unwrap_or_default();
            let help = explain::write(field, example, &[arm]);
            self.report.error(path, format!("{number} is not {}", explain::expected(arm)), help);
            return None;
        }
        Some(Value::Number(number))
    }

    fn text(&mut self, arm: Arm<'_>, example: Option<&Value>, text: &str, path: &Path) -> Option<Value> {
        let unit = arm.get(unit::KEYWORD).and_then(Value::as_str).and_then(Unit::by_name);
        if let Some(Err(wrong)) = unit.map(|unit| unit.parse(text)) {
            let help = explain::write(path.field().unwrap_or_default(), example, &[arm]);
            self.report.error(path, format!("`{text}` {wrong}"), help);
            return None;
        }
        Some(Value::String(text.to_owned()))
    }

    /// Any value, as it is.
    fn free(&mut self, node: &Node, path: &Path) -> Value {
        match &node.data {
            Data::List(items) => {
                Value::Array(items.iter().enumerate().map(|(i, n)| self.free(n, &path.index(i))).collect())
            }
            Data::Map(entries) => {
                let once = self.once(entries, path);
                Value::Object(
                    once.into_iter().map(|e| (e.key.clone(), self.free(&e.value, &path.key(&e.key)))).collect(),
                )
            }
            leaf => leaf.leaf(),
        }
    }

    fn mismatch(&mut self, place: &Place<'_>, node: &Node, path: &Path) {
        let (message, help) = explain::mismatch(&place.arms, place.example, node, path.field().unwrap_or_default());
        self.report.error(path, message, help);
    }
}

fn is_free(arm: Arm<'_>) -> bool {
    ["type", "const", "enum"].iter().all(|k| !arm.contains_key(*k))
}

/// Whether a value like `node` may stand where `arm` is asked for.
fn accepts(arm: Arm<'_>, node: &Node) -> bool {
    if let Some(word) = arm.get("const").and_then(Value::as_str) {
        return matches!(&node.data, Data::Text(text) if text == word);
    }
    explain::types(arm).any(|t| match &node.data {
        Data::Null => t == "null",
        Data::Bool(_) => t == "boolean",
        Data::Int(_) => t == "integer" || t == "number",
        Data::Float(_) => t == "number",
        Data::Text(_) => t == "string",
        Data::List(_) => t == "array",
        Data::Map(_) => t == "object",
    })
}
