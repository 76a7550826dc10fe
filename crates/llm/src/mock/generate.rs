//! Makes up a value that is valid for a JSON Schema, the same for the same generator.

use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Map, Value, json};

/// Deeper than this, optional things are left out and lists stay as short as they may be.
const MAX_DEPTH: usize = 12;

/// A value for `schema`. Checked: `None` where the schema asks for what this cannot make up (a pattern, a `not`).
pub(super) fn instance(schema: &Value, rng: &mut StdRng) -> Option<Value> {
    let value = make(schema, schema, rng, 0);
    jsonschema::is_valid(schema, &value).then_some(value)
}

/// A value for a part of `root`; not checked.
pub(super) fn part(schema: &Value, root: &Value, rng: &mut StdRng) -> Value {
    make(schema, root, rng, 0)
}

/// Whether `value` is valid for a part of `root`.
pub(super) fn is_valid_part(schema: &Value, root: &Value, value: &Value) -> bool {
    let Value::Object(part) = schema else { return schema != &Value::Bool(false) };
    let mut alone = part.clone();
    for definitions in ["$defs", "definitions"] {
        if let Some(known) = root.get(definitions) {
            alone.insert(definitions.into(), known.clone());
        }
    }
    jsonschema::is_valid(&Value::Object(alone), value)
}

/// What the schema refers to, if it is a reference into `root`.
pub(super) fn reference<'a>(schema: &Value, root: &'a Value) -> Option<&'a Value> {
    root.pointer(schema.get("$ref")?.as_str()?.strip_prefix('#')?)
}

fn make(schema: &Value, root: &Value, rng: &mut StdRng, depth: usize) -> Value {
    if depth > 4 * MAX_DEPTH {
        return Value::Null;
    }
    if schema.get("$ref").is_some() {
        return reference(schema, root).map_or(Value::Null, |target| make(target, root, rng, depth + 1));
    }
    if let Some(constant) = schema.get("const") {
        return constant.clone();
    }
    if let Some(options) = list(schema, "enum") {
        return options[rng.random_range(0..options.len())].clone();
    }
    let chosen = ["anyOf", "oneOf"].into_iter().find_map(|combinator| list(schema, combinator)).map(|options| {
        let null = options.iter().find(|o| o.get("type") == Some(&json!("null")));
        null.filter(|_| depth > MAX_DEPTH).unwrap_or_else(|| &options[rng.random_range(0..options.len())])
    });
    let every = list(schema, "allOf").into_iter().flatten();
    let parts: Vec<Value> = every.chain(chosen).map(|part| make(part, root, rng, depth + 1)).collect();
    if parts.is_empty() || schema.get("properties").is_some() {
        let own = own(schema, root, rng, depth);
        return parts.into_iter().fold(own, merged);
    }
    parts.into_iter().reduce(merged).unwrap_or(Value::Null)
}

/// Both objects' fields, or the second value.
fn merged(first: Value, second: Value) -> Value {
    match (first, second) {
        (Value::Object(mut first), Value::Object(second)) => {
            first.extend(second);
            Value::Object(first)
        }
        (_, second) => second,
    }
}

/// What the schema's own type asks for.
fn own(schema: &Value, root: &Value, rng: &mut StdRng, depth: usize) -> Value {
    match type_of(schema, rng, depth) {
        "object" => object(schema, root, rng, depth),
        "array" => array(schema, root, rng, depth),
        "string" => Value::String(string(schema, rng)),
        "integer" => integer(schema, rng),
        "number" => number(schema, rng),
        "boolean" => Value::Bool(rng.random()),
        _ => Value::Null,
    }
}

fn list<'a>(schema: &'a Value, name: &str) -> Option<&'a Vec<Value>> {
    schema.get(name).and_then(Value::as_array).filter(|options| !options.is_empty())
}

fn type_of<'a>(schema: &'a Value, rng: &mut StdRng, depth: usize) -> &'a str {
    match schema.get("type") {
        Some(Value::String(name)) => name,
        Some(Value::Array(names)) if !names.is_empty() => {
            if depth > MAX_DEPTH && names.iter().any(|name| name == "null") {
                return "null";
            }
            names[rng.random_range(0..names.len())].as_str().unwrap_or("null")
        }
        _ if schema.get("properties").is_some() => "object",
        _ if schema.get("items").is_some() => "array",
        _ => "string",
    }
}

fn object(schema: &Value, root: &Value, rng: &mut StdRng, depth: usize) -> Value {
    let required = |name: &str| list(schema, "required").is_some_and(|names| names.iter().any(|known| known == name));
    let properties = schema.get("properties").and_then(Value::as_object);
    let made: Map<String, Value> = properties
        .into_iter()
        .flatten()
        .filter(|(name, _)| depth <= MAX_DEPTH || required(name))
        .map(|(name, child)| (name.clone(), make(child, root, rng, depth + 1)))
        .collect();
    Value::Object(made)
}

fn array(schema: &Value, root: &Value, rng: &mut StdRng, depth: usize) -> Value {
    let bound = |name: &str| schema.get(name).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
    let least = bound("minItems").unwrap_or(0).min(64);
    let most = bound("maxItems").unwrap_or(least + 2).clamp(least, least + 2);
    let length = if depth > MAX_DEPTH { least } else { rng.random_range(least..=most) };
    let any = json!({ "type": "string" });
    let items = schema.get("items").unwrap_or(&any);
    (0..length).map(|_| make(items, root, rng, depth + 1)).collect()
}

fn string(schema: &Value, rng: &mut StdRng) -> String {
    let word = format!("mock-{:08x}", rng.random::<u32>());
    let day = rng.random_range(1..=28u8);
    let made = match schema.get("format").and_then(Value::as_str) {
        Some("date") => return format!("2030-01-{day:02}"),
        Some("date-time") => return format!("2030-01-{day:02}T00:00:00Z"),
        Some("time") => return "00:00:00Z".into(),
        Some("duration") => return "PT1H".into(),
        Some("email") => return format!("{word}@example.com"),
        Some("uri") => return format!("https://example.com/{word}"),
        Some("hostname") => return "example.com".into(),
        Some("ipv4") => return "192.0.2.1".into(),
        Some("ipv6") => return "2001:db8::1".into(),
        Some("uuid") => {
            return format!("00000000-0000-4000-8000-{:012x}", rng.random::<u32>());
        }
        _ => word,
    };
    let bound = |name: &str, default: usize| {
        schema.get(name).and_then(Value::as_u64).map_or(default, |n| n.try_into().unwrap_or(default))
    };
    let (least, most) = (bound("minLength", 0).min(65_536), bound("maxLength", usize::MAX));
    made.chars().chain(std::iter::repeat('x')).take(made.len().max(least).min(most)).collect()
}

fn integer(schema: &Value, rng: &mut StdRng) -> Value {
    // `0` and `0.0` are the same bound.
    let bound = |name: &str| schema.get(name).and_then(|n| n.as_i64().or_else(|| whole(n.as_f64()?)));
    let least = bound("minimum").or_else(|| bound("exclusiveMinimum").map(|n| n.saturating_add(1)));
    let most = bound("maximum").or_else(|| bound("exclusiveMaximum").map(|n| n.saturating_sub(1)));
    let (least, most) = match (least, most) {
        (Some(least), Some(most)) => (least, most.max(least)),
        (Some(least), None) => (least, least.saturating_add(100)),
        (None, Some(most)) => (most.saturating_sub(100), most),
        (None, None) => (0, 100),
    };
    json!(rng.random_range(least..=most))
}

/// A bound without a fraction, as far as a float is exact; others leave it to the check at the end.
#[allow(clippy::cast_possible_truncation, reason = "checked to be whole and within 2^53")]
fn whole(bound: f64) -> Option<i64> {
    (bound.fract() == 0.0 && bound.abs() <= 9_007_199_254_740_992.0).then_some(bound as i64)
}

fn number(schema: &Value, rng: &mut StdRng) -> Value {
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    let least = bound("minimum").or_else(|| bound("exclusiveMinimum"));
    let most = bound("maximum").or_else(|| bound("exclusiveMaximum"));
    let (least, most) = match (least, most) {
        (Some(least), Some(most)) => (least, most.max(least)),
        (Some(least), None) => (least, least + 1.0),
        (None, Some(most)) => (most - 1.0, most),
        (None, None) => (0.0, 1.0),
    };
    let share = f64::from(rng.random_range(1..1000u16)) / 1000.0;
    let rounded = ((least + (most - least) * share) * 1e6).round() / 1e6;
    json!(rounded.clamp(least, most))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::seeded::rng;

    #[test]
    fn what_is_made_up_is_valid_and_repeatable() {
        let schema = json!({
            "type": "object",
            "properties": {
                "confidence": { "type": "number", "minimum": 0, "maximum": 1 },
                "count": { "type": "integer", "minimum": 3, "maximum": 3 },
                "when": { "type": "string", "format": "date" },
                "short": { "type": "string", "maxLength": 3 },
                "long": { "type": "string", "minLength": 40 },
                "maybe": { "type": ["string", "null"] },
                "tree": { "$ref": "#/$defs/Tree" },
                "verdict": { "anyOf": [{ "const": "clear" }, { "enum": ["hit", "near"] }] },
                "list": { "type": "array", "minItems": 2, "items": { "type": "boolean" } },
                "share": { "type": "integer", "minimum": 1.0, "maximum": 2.0 },
                "both": { "type": "object", "properties": { "id": { "type": "string" } }, "required": ["id"],
                    "oneOf": [{ "properties": { "kind": { "const": "a" } }, "required": ["kind"] }] }
            },
            "required": ["confidence", "count", "when", "short", "long", "maybe", "tree", "verdict", "list",
                "share", "both"],
            "additionalProperties": false,
            "$defs": { "Tree": { "type": "object", "properties": {
                "children": { "type": "array", "items": { "$ref": "#/$defs/Tree" } } },
                "required": ["children"], "additionalProperties": false } }
        });
        for seed in 0..200 {
            let made = instance(&schema, &mut rng(seed, &[])).expect("valid for the schema");
            assert_eq!(made, instance(&schema, &mut rng(seed, &[])).unwrap());
        }
    }

    #[test]
    fn what_it_cannot_make_up_it_says() {
        let schema = json!({ "type": "string", "pattern": "^[A-Z]{44}$" });
        assert_eq!(instance(&schema, &mut rng(0, &[])), None);
    }
}
