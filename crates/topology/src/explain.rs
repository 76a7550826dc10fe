//! The schema in words: what is expected, what was found, what to write.

use serde_json::{Map, Value};

use crate::diagnostic::suggest;
use crate::unit::{self, Unit};
use crate::yaml::{Data, Node};

/// One alternative of a schema, references followed.
pub(crate) type Arm<'a> = &'a Map<String, Value>;

/// The JSON types that an alternative takes.
pub(crate) fn types(arm: Arm<'_>) -> impl Iterator<Item = &str> {
    let types = arm.get("type");
    let one = types.and_then(Value::as_str);
    let many = types.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    one.into_iter().chain(many)
}

fn unit_of(arm: Arm<'_>) -> Option<Unit> {
    arm.get(unit::KEYWORD).and_then(Value::as_str).and_then(Unit::by_name)
}

fn constant(arm: Arm<'_>) -> Option<&str> {
    arm.get("const").and_then(Value::as_str)
}

/// What an alternative takes, in words.
pub(crate) fn expected(arm: Arm<'_>) -> String {
    let kind = match types(arm).find(|t| *t != "null") {
        Some("string") => unit_of(arm).map_or("text", Unit::describe),
        Some("integer") => "a whole number",
        Some("number") => "a number",
        Some("boolean") => "true or false",
        Some("array") => "a list",
        Some("object") => "a mapping",
        _ => "nothing",
    };
    match (arm.get("minimum"), arm.get("maximum")) {
        (Some(min), Some(max)) => format!("{kind} from {min} to {max}"),
        _ => kind.to_owned(),
    }
}

fn found(node: &Node) -> String {
    match &node.data {
        Data::Null => "nothing".to_owned(),
        Data::Bool(b) => format!("`{b}`"),
        Data::Int(i) => format!("the number {i}"),
        Data::Float(f) => format!("the number {f}"),
        Data::Text(text) => format!("the text `{text}`"),
        Data::List(_) => "a list".to_owned(),
        Data::Map(_) => "a mapping".to_owned(),
    }
}

/// Message and help for a value of the wrong type.
pub(crate) fn mismatch(arms: &[Arm<'_>], example: Option<&Value>, node: &Node, field: &str) -> (String, String) {
    let words: Vec<&str> = arms.iter().copied().filter_map(constant).collect();
    if let (false, Data::Text(text)) = (words.is_empty(), &node.data) {
        return (format!("`{text}` is not one of {}", words.join(", ")), suggest(text, words));
    }
    if let (Data::Int(_) | Data::Float(_), Some(unit)) = (&node.data, arms.iter().copied().find_map(unit_of)) {
        return (format!("{} has no unit", found(node)), unit_help(unit, field, example));
    }
    let kinds = kinds(arms);
    let help = cast(arms, node, field).unwrap_or_else(|| write(field, example, arms));
    (format!("expected {}, found {}", kinds.join(" or "), found(node)), help)
}

/// What to write if the value itself is probably right, and only its form wrong.
fn cast(arms: &[Arm<'_>], node: &Node, field: &str) -> Option<String> {
    let wants = |t: &str| arms.iter().any(|arm| types(arm).any(|own| own == t));
    let plain_text = || {
        arms.iter().any(|arm| types(arm).any(|t| t == "string") && unit_of(arm).is_none() && constant(arm).is_none())
    };
    let value = match &node.data {
        Data::Text(text) if wants("boolean") => match text.to_lowercase().as_str() {
            "yes" | "y" | "on" | "true" => "true".to_owned(),
            "no" | "n" | "off" | "false" => "false".to_owned(),
            _ => return None,
        },
        Data::Text(text) if wants("integer") && text.parse::<i64>().is_ok() => text.clone(),
        Data::Text(text) if wants("number") && text.parse::<f64>().is_ok_and(f64::is_finite) => text.clone(),
        Data::Text(text) if wants("array") => format!("[{text}]"),
        Data::Int(i) if plain_text() => format!("\"{i}\""),
        Data::Float(f) if plain_text() => format!("\"{f}\""),
        Data::Bool(b) if plain_text() => format!("\"{b}\""),
        _ => return None,
    };
    Some(format!("write {}", line(field, &value)))
}

fn unit_help(unit: Unit, field: &str, example: Option<&Value>) -> String {
    let example = example.and_then(Value::as_str).unwrap_or(unit.example());
    format!("write {}, such as {}", unit.describe(), line(field, example))
}

fn line(field: &str, value: &str) -> String {
    if field.is_empty() { format!("`{value}`") } else { format!("`{field}: {value}`") }
}

/// What to write for a field.
pub(crate) fn write(field: &str, example: Option<&Value>, arms: &[Arm<'_>]) -> String {
    if let Some(unit) = arms.iter().copied().find_map(unit_of) {
        return unit_help(unit, field, example);
    }
    if let Some(example) = example {
        return format!("write {}, such as {}", expected_of(arms), line(field, &inline(example)));
    }
    let fields = arms.iter().find_map(|arm| arm.get("properties")?.as_object());
    match fields {
        Some(fields) => {
            let fields: Vec<&str> = fields.keys().map(String::as_str).collect();
            format!("write a mapping with {}", fields.join(", "))
        }
        None => format!("write {}", expected_of(arms)),
    }
}

fn expected_of(arms: &[Arm<'_>]) -> String {
    kinds(arms).join(" or ")
}

/// What may stand in a place, in words: one of the fixed words, or something of a kind.
fn kinds(arms: &[Arm<'_>]) -> Vec<String> {
    let words: Vec<&str> = arms.iter().copied().filter_map(constant).collect();
    let words = (!words.is_empty()).then(|| format!("one of {}", words.join(", ")));
    let others = arms.iter().copied().filter(|arm| constant(arm).is_none()).map(expected);
    words.into_iter().chain(others.filter(|kind| kind != "nothing")).collect()
}

/// A value as one would write it on one line of YAML.
fn inline(value: &Value) -> String {
    match value {
        Value::String(text) if text.contains(['"', ':', '#']) => format!("'{text}'"),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let fields: Vec<String> = fields.iter().map(|(k, v)| format!("{k}: {}", inline(v))).collect();
            format!("{{ {} }}", fields.join(", "))
        }
        other => other.to_string(),
    }
}
