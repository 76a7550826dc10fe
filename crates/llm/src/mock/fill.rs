//! Makes up what a scripted answer leaves out, so that a script need name only what it is about.

use rand::rngs::StdRng;
use serde_json::{Map, Value};

use super::generate;

/// Deeper than this nothing is filled in: a schema may refer to itself.
const MAX_DEPTH: usize = 32;

/// `value` with the properties that `schema` requires and it lacks: null where that is allowed, else made up.
pub(super) fn missing(schema: &Value, value: Value, rng: &mut StdRng) -> Value {
    walk(schema, schema, value, rng, 0)
}

fn walk(schema: &Value, root: &Value, value: Value, rng: &mut StdRng, depth: usize) -> Value {
    if depth > MAX_DEPTH {
        return value;
    }
    if let Some(target) = generate::reference(schema, root) {
        return walk(target, root, value, rng, depth + 1);
    }
    for combinator in ["anyOf", "oneOf"] {
        if let Some(options) = schema.get(combinator).and_then(Value::as_array) {
            let filled = options.iter().find_map(|option| {
                let filled = walk(option, root, value.clone(), rng, depth + 1);
                generate::is_valid_part(option, root, &filled).then_some(filled)
            });
            return filled.unwrap_or(value);
        }
    }
    match value {
        Value::Object(fields) => Value::Object(object(schema, root, fields, rng, depth)),
        Value::Array(items) => match schema.get("items") {
            Some(of) => items.into_iter().map(|item| walk(of, root, item, rng, depth + 1)).collect(),
            None => Value::Array(items),
        },
        other => other,
    }
}

fn object(
    schema: &Value,
    root: &Value,
    mut fields: Map<String, Value>,
    rng: &mut StdRng,
    depth: usize,
) -> Map<String, Value> {
    let required = schema.get("required").and_then(Value::as_array);
    let properties = schema.get("properties").and_then(Value::as_object);
    for (name, child) in properties.into_iter().flatten() {
        match fields.remove(name) {
            Some(given) => {
                fields.insert(name.clone(), walk(child, root, given, rng, depth + 1));
            }
            None if required.is_some_and(|names| names.iter().any(|known| known == name)) => {
                let null = generate::is_valid_part(child, root, &Value::Null).then_some(Value::Null);
                fields.insert(name.clone(), null.unwrap_or_else(|| generate::part(child, root, rng)));
            }
            None => {}
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::seeded::rng;
    use serde_json::json;

    #[test]
    fn only_what_is_missing_is_made_up() {
        let closed = |properties: Value, required: Value| {
            json!({ "type": "object", "additionalProperties": false,
            "properties": properties, "required": required })
        };
        let hit = closed(
            json!({ "kind": { "enum": ["hit"] }, "score": { "type": "number", "minimum": 0, "maximum": 1 } }),
            json!(["kind", "score"]),
        );
        let none = closed(json!({ "kind": { "enum": ["none"] } }), json!(["kind"]));
        let mut schema = closed(
            json!({ "verdict": { "$ref": "#/$defs/Verdict" }, "why": { "type": ["string", "null"] },
                "note": { "type": "string" }, "list": { "type": "array", "items": { "$ref": "#/$defs/Verdict" } } }),
            json!(["verdict", "why", "note", "list"]),
        );
        schema["$defs"] = json!({ "Verdict": { "anyOf": [none, hit] } });
        let script =
            json!({ "verdict": { "kind": "hit" }, "list": [{ "kind": "none" }, { "kind": "hit", "score": 1 }] });
        let filled = missing(&schema, script, &mut rng(1, &[]));
        assert!(jsonschema::is_valid(&schema, &filled), "{filled}");
        assert_eq!(filled["why"], Value::Null);
        assert_eq!(filled["verdict"]["kind"], "hit");
        assert_eq!(filled["list"][1]["score"], 1);
        assert!(filled["note"].as_str().is_some_and(|text| !text.is_empty()));
    }
}
