//! What an endpoint refuses in a schema that calls itself `strict`: every property required, nothing additional, an
//! object at the root, and no keyword outside the subset. It holds the client's translation to account.

use serde_json::Value;

/// Keywords outside the subset.
const UNSUPPORTED: [&str; 12] = [
    "oneOf",
    "allOf",
    "not",
    "if",
    "then",
    "else",
    "dependentRequired",
    "dependentSchemas",
    "patternProperties",
    "minLength",
    "maxLength",
    "uniqueItems",
];
/// Deeper than this is refused: the nesting is untrusted.
const MAX_DEPTH: usize = 64;

/// Why `schema` is not strict, and where.
pub(super) fn violation(schema: &Value) -> Option<String> {
    if schema.get("type").and_then(Value::as_str) != Some("object") {
        return Some("schema must be a JSON Schema of 'type: \"object\"'.".into());
    }
    walk(schema, "", 0)
}

fn walk(schema: &Value, at: &str, depth: usize) -> Option<String> {
    let Value::Object(keywords) = schema else {
        return Some(format!("In context={at}: schemas must be objects."));
    };
    if depth > MAX_DEPTH {
        return Some(format!("In context={at}: too deep."));
    }
    if let Some(keyword) = UNSUPPORTED.iter().find(|keyword| keywords.contains_key(**keyword)) {
        return Some(format!("In context={at}: '{keyword}' is not permitted."));
    }
    if let Some(broken) = open_object(schema, at) {
        return Some(broken);
    }
    let named = ["properties", "$defs", "definitions"].into_iter().filter_map(|keyword| {
        let children = keywords.get(keyword)?.as_object()?;
        children.iter().find_map(|(name, child)| walk(child, &format!("{at}/{keyword}/{name}"), depth + 1))
    });
    let listed = keywords.get("anyOf").and_then(Value::as_array).into_iter().flatten();
    let other = listed.chain(keywords.get("items"));
    named.chain(other.filter_map(|child| walk(child, &format!("{at}/…"), depth + 1))).next()
}

/// What an object lacks to be closed.
fn open_object(schema: &Value, at: &str) -> Option<String> {
    let is_object = match schema.get("type") {
        Some(Value::Array(types)) => types.iter().any(|kind| kind == "object"),
        kind => kind.is_some_and(|kind| kind == "object"),
    };
    if !is_object {
        return None;
    }
    if schema.get("additionalProperties") != Some(&Value::Bool(false)) {
        return Some(format!("In context={at}: 'additionalProperties' is required to be supplied and to be false."));
    }
    let required = schema.get("required").and_then(Value::as_array);
    let properties = schema.get("properties").and_then(Value::as_object)?;
    let lacking = properties.keys().find(|name| !required.is_some_and(|names| names.iter().any(|n| n == *name)))?;
    Some(format!("In context={at}: 'required' must name every key in properties. Missing '{lacking}'."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_not_strict_is_said_with_its_place() {
        let closed = |properties: Value, required: Value| {
            json!({ "type": "object", "additionalProperties": false,
            "properties": properties, "required": required })
        };
        let string = json!({ "type": "string" });
        assert_eq!(violation(&closed(json!({ "a": string }), json!(["a"]))), None);
        for (schema, words) in [
            (json!({ "type": "array", "items": string }), "type: \"object\""),
            (json!({ "type": "object", "properties": {} }), "additionalProperties"),
            (closed(json!({ "a": string, "b": string }), json!(["a"])), "Missing 'b'"),
            (closed(json!({ "a": { "oneOf": [string] } }), json!(["a"])), "/properties/a: 'oneOf'"),
            (closed(json!({ "a": { "anyOf": [{ "type": "object" }] } }), json!(["a"])), "/properties/a/…"),
        ] {
            let said = violation(&schema).expect("not strict");
            assert!(said.contains(words), "{said}");
        }
    }
}
