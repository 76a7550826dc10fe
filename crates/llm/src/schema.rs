//! JSON Schema: what is made of one, the strict dialect endpoints ask for, and names.
//!
//! `strict` structured output takes a subset: every property required, nothing additional, few keywords. Schemas are
//! written for people and for checking, so they are translated on the way out; the check uses the original.

use std::any::TypeId;
use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};

use jsonschema::Validator;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};

/// A JSON Schema. What is made of it for a call (its text, its strict form, its check) is made once, at the first call.
/// Clones share that and cost nothing.
#[derive(Clone)]
pub struct Schema(Arc<Made>);

struct Made {
    value: Value,
    text: OnceLock<Box<RawValue>>,
    strict: OnceLock<(Box<RawValue>, bool)>,
    validator: OnceLock<Result<Arc<Validator>, String>>,
}

impl Schema {
    /// The schema of `T`.
    pub fn of<T: schemars::JsonSchema + 'static>() -> Self {
        // As many as the program has types that are asked for.
        static OF_TYPES: LazyLock<Mutex<HashMap<TypeId, Schema>>> = LazyLock::new(Mutex::default);
        let mut known = OF_TYPES.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(TypeId::of::<T>()).or_insert_with(|| schemars::schema_for!(T).to_value().into()).clone()
    }

    /// As JSON text.
    pub(crate) fn text(&self) -> &RawValue {
        self.0.text.get_or_init(|| raw(&self.0.value))
    }

    /// As it is sent, and whether it may be sent as `strict`: see [`strict`].
    pub(crate) fn strict(&self) -> (&RawValue, bool) {
        let (text, is_strict) = self.0.strict.get_or_init(|| {
            let (sent, is_strict) = strict(&self.0.value);
            (raw(&sent), is_strict)
        });
        (text, *is_strict)
    }

    /// What checks values against it; or why it is no schema.
    pub(crate) fn validator(&self) -> Result<Arc<Validator>, String> {
        let compile = || jsonschema::validator_for(&self.0.value).map(Arc::new).map_err(|error| error.to_string());
        self.0.validator.get_or_init(compile).clone()
    }
}

/// A JSON value always has a text.
fn raw(value: &Value) -> Box<RawValue> {
    to_raw_value(value).unwrap_or_else(|error| {
        tracing::error!(%error, "a schema that cannot be written");
        RawValue::NULL.to_owned()
    })
}

impl From<Value> for Schema {
    fn from(value: Value) -> Self {
        let (text, strict, validator) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        Self(Arc::new(Made { value, text, strict, validator }))
    }
}

impl Deref for Schema {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.0.value
    }
}

impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.value == other.0.value
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.value.fmt(f)
    }
}

impl Serialize for Schema {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.value.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Schema {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(Self::from)
    }
}

/// Keywords that the strict dialect refuses and that the check does not lose, because it uses the original.
const DROPPED: [&str; 16] = [
    "$schema",
    "$id",
    "title",
    "default",
    "examples",
    "minLength",
    "maxLength",
    "minProperties",
    "maxProperties",
    "uniqueItems",
    "readOnly",
    "writeOnly",
    "deprecated",
    "contentMediaType",
    "unevaluatedProperties",
    "contains",
];

/// String formats the strict dialect knows.
const FORMATS: [&str; 9] = ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"];

/// The schema as it is sent, and whether it may be sent as `strict`: a map with free keys, or a root that is no
/// object, cannot be said in that dialect.
pub(crate) fn strict(schema: &Value) -> (Value, bool) {
    let mut expressible = schema.get("type") == Some(&json!("object"));
    let translated = translate(schema, &mut expressible);
    (if expressible { translated } else { schema.clone() }, expressible)
}

fn translate(schema: &Value, expressible: &mut bool) -> Value {
    let Value::Object(source) = schema else {
        // `true` and `false` are schemas, but not strict ones.
        *expressible = false;
        return schema.clone();
    };
    if let Some(reference) = source.get("$ref") {
        return json!({ "$ref": reference });
    }
    let mut out = Map::new();
    for (keyword, value) in source {
        translate_keyword(keyword, value, &mut out, expressible);
    }
    let is_object = source
        .get("type")
        .is_some_and(|t| t == "object" || t.as_array().is_some_and(|types| types.iter().any(|t| t == "object")));
    if is_object || source.contains_key("properties") {
        close_object(source, &mut out, expressible);
    }
    Value::Object(out)
}

fn translate_keyword(keyword: &str, value: &Value, out: &mut Map<String, Value>, expressible: &mut bool) {
    match (keyword, value) {
        (dropped, _) if DROPPED.contains(&dropped) => {}
        ("format", Value::String(format)) if !FORMATS.contains(&format.as_str()) => {}
        ("const", value) => {
            out.insert("enum".into(), json!([value]));
        }
        ("properties" | "$defs" | "definitions", Value::Object(children)) => {
            let children = children.iter().map(|(k, v)| (k.clone(), translate(v, expressible)));
            out.insert(keyword.into(), Value::Object(children.collect()));
        }
        ("anyOf" | "oneOf", Value::Array(options)) => {
            let options = options.iter().map(|v| translate(v, expressible)).collect();
            out.insert("anyOf".into(), Value::Array(options));
        }
        ("items", value) => {
            out.insert("items".into(), translate(value, expressible));
        }
        ("allOf" | "not" | "if" | "then" | "else" | "prefixItems" | "patternProperties", _) => {
            *expressible = false;
        }
        (_, value) => {
            out.insert(keyword.into(), value.clone());
        }
    }
}

/// Every property required, nothing additional.
fn close_object(source: &Map<String, Value>, out: &mut Map<String, Value>, expressible: &mut bool) {
    if source.get("additionalProperties").is_some_and(|rest| rest != &Value::Bool(false))
        || !source.contains_key("properties")
    {
        *expressible = false;
    }
    let names: Vec<Value> = source
        .get("properties")
        .and_then(Value::as_object)
        .map(|properties| properties.keys().map(|name| json!(name)).collect())
        .unwrap_or_default();
    out.insert("required".into(), Value::Array(names));
    out.insert("additionalProperties".into(), Value::Bool(false));
}

/// `IdentityAssessment` as `identity_assessment`.
pub(crate) fn snake_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    let mut after_lower = false;
    for c in name.chars() {
        if c.is_ascii_uppercase() && after_lower {
            out.push('_');
        }
        after_lower = c.is_ascii_lowercase() || c.is_ascii_digit();
        out.push(if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' });
    }
    out
}

/// Whether endpoints take `name` for a schema or a tool.
pub(crate) fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(schemars::JsonSchema)]
    #[allow(dead_code)]
    struct Assessment {
        /// Between 0 and 1.
        #[schemars(range(min = 0.0, max = 1.0))]
        confidence: f64,
        reason: Option<String>,
        #[schemars(length(max = 10))]
        code: String,
        matches: Vec<Match>,
        verdict: Verdict,
    }

    #[derive(schemars::JsonSchema)]
    #[allow(dead_code)]
    struct Match {
        score: f32,
        count: u32,
    }

    #[derive(schemars::JsonSchema)]
    #[allow(dead_code)]
    enum Verdict {
        /// Good.
        Clear,
        /// Bad.
        Hit,
    }

    #[test]
    fn a_derived_schema_becomes_strict() {
        let (schema, strict) = strict(&schemars::schema_for!(Assessment).to_value());
        assert!(strict);
        assert_eq!(schema["additionalProperties"], json!(false));
        let required = schema["required"].as_array().unwrap();
        assert_eq!(required.len(), 5, "optional properties are required too: {required:?}");
        assert_eq!(schema["properties"]["reason"]["type"], json!(["string", "null"]));
        assert!(schema["properties"]["code"].get("maxLength").is_none());
        assert!(schema["properties"]["confidence"].get("format").is_none());
        assert_eq!(schema["$defs"]["Match"]["additionalProperties"], json!(false));
        assert_eq!(schema["properties"]["verdict"], json!({ "$ref": "#/$defs/Verdict" }));
        assert!(schema["$defs"]["Verdict"]["anyOf"].is_array(), "oneOf becomes anyOf: {schema}");
        assert!(!schema.to_string().contains("oneOf"));
    }

    #[test]
    fn a_map_cannot_be_strict_and_is_sent_as_it_is() {
        let schema = json!({ "type": "object", "properties": {
            "m": { "type": "object", "additionalProperties": { "type": "string" } } } });
        assert_eq!(strict(&schema), (schema.clone(), false));
        let list = json!({ "type": "array", "items": { "type": "string" } });
        assert!(!strict(&list).1, "the root must be an object");
    }

    #[test]
    fn names() {
        assert_eq!(snake_case("IdentityAssessment"), "identity_assessment");
        assert_eq!(snake_case("KycV2Answer"), "kyc_v2_answer");
        assert!(is_name("identity_assessment") && !is_name("") && !is_name("a b"));
    }
}
