//! Which values of a payload are too large for a record, and what stands for them.
//!
//! Strings and arrays are data, and are claimed; objects are structure, and stay. The payload itself is never claimed.
//! What is not touched keeps its text: numbers keep their digits, members their order.

use anabranch_protocol::claim::{Claim, JSON, MEMBER, TEXT};
use bytes::Bytes;
use indexmap::IndexMap;
use serde_json::value::RawValue;

use crate::sha256;

/// A payload, and what was taken out of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// The payload with claims.
    pub json: String,
    /// What they stand for, innermost first.
    pub pieces: Vec<(Claim, Bytes)>,
}

/// Takes out of `json` every string and array whose JSON has more than `over` bytes. `None`: there is none, or it is not
/// JSON, which is for others to say.
pub fn split(json: &str, over: usize) -> Option<Split> {
    if json.len() <= over {
        return None;
    }
    let raw: &RawValue = serde_json::from_str(json).ok()?;
    let mut pieces = Vec::new();
    let json = within(raw, over, &mut pieces)?;
    Some(Split { json: json.get().to_owned(), pieces })
}

/// The value with claims for what is too large in it; `None`: nothing is.
fn within(raw: &RawValue, over: usize, pieces: &mut Vec<(Claim, Bytes)>) -> Option<Box<RawValue>> {
    if raw.get().len() <= over {
        return None;
    }
    match raw.get().as_bytes().first() {
        Some(b'[') => {
            let mut items: Vec<Box<RawValue>> = serde_json::from_str(raw.get()).ok()?;
            let changed = items.iter_mut().filter_map(|item| replace(item, over, pieces).then_some(())).count();
            (changed > 0).then(|| serde_json::value::to_raw_value(&items).ok()).flatten()
        }
        Some(b'{') => {
            let mut members: IndexMap<String, Box<RawValue>> = serde_json::from_str(raw.get()).ok()?;
            if members.len() == 1 && members.contains_key(MEMBER) {
                return None;
            }
            let changed = members.values_mut().filter_map(|item| replace(item, over, pieces).then_some(())).count();
            (changed > 0).then(|| serde_json::value::to_raw_value(&members).ok()).flatten()
        }
        _ => None,
    }
}

/// Replaces a value that is too large, or what is too large in it. Whether it did.
fn replace(value: &mut Box<RawValue>, over: usize, pieces: &mut Vec<(Claim, Bytes)>) -> bool {
    let inner = within(value, over, pieces);
    let now = inner.as_ref().unwrap_or(value);
    if let Some((claim, content)) = claimed(now, over)
        && let Ok(raw) = serde_json::value::to_raw_value(&claim)
    {
        pieces.push((claim, content));
        *value = raw;
        return true;
    }
    let changed = inner.is_some();
    if let Some(inner) = inner {
        *value = inner;
    }
    changed
}

/// The claim of a value that is too large, if it can be claimed.
fn claimed(raw: &RawValue, over: usize) -> Option<(Claim, Bytes)> {
    let json = raw.get();
    if json.len() <= over {
        return None;
    }
    let (content, content_type) = match json.as_bytes().first() {
        // A string that is no text (half a surrogate pair) stays; it is refused where it is read.
        Some(b'"') => (Bytes::from(serde_json::from_str::<String>(json).ok()?), TEXT),
        Some(b'[') => (Bytes::from(json.to_owned()), JSON),
        _ => return None,
    };
    let claim = Claim { sha256: sha256(&content), bytes: content.len() as u64, content_type: content_type.to_owned() };
    Some((claim, content))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// Puts back what was taken out.
    fn whole(split: &Split) -> Value {
        fn restore(value: &mut Value, pieces: &[(Claim, Bytes)]) {
            if Claim::is_claim(value) {
                let claim: Claim = serde_json::from_value(value.take()).unwrap();
                let (_, content) = pieces.iter().find(|(c, _)| *c == claim).unwrap();
                *value = match claim.content_type.as_str() {
                    TEXT => Value::String(String::from_utf8(content.to_vec()).unwrap()),
                    _ => serde_json::from_slice(content).unwrap(),
                };
            }
            match value {
                Value::Array(items) => items.iter_mut().for_each(|item| restore(item, pieces)),
                Value::Object(members) => members.values_mut().for_each(|member| restore(member, pieces)),
                _ => {}
            }
        }
        let mut value = serde_json::from_str(&split.json).unwrap();
        restore(&mut value, &split.pieces);
        value
    }

    #[test]
    fn a_large_text_is_claimed_and_the_rest_keeps_its_digits() {
        let text = "é\n".repeat(100);
        let json =
            format!(r#"{{ "amount": 1.10, "document": {{ "text": {}, "pages": 2 }}, "z": 1, "a": 2 }}"#, json!(text));
        let split = split(&json, 250).unwrap();
        assert_eq!(split.pieces.len(), 1);
        let (claim, content) = &split.pieces[0];
        assert_eq!((content, claim.bytes), (&Bytes::from(text), 300));
        assert_eq!(claim.content_type, TEXT);
        let claim = serde_json::to_string(claim).unwrap();
        assert_eq!(split.json, format!(r#"{{"amount":1.10,"document":{{"text":{claim},"pages":2}},"z":1,"a":2}}"#));
    }

    #[test]
    fn of_an_array_what_is_large_in_it_goes_first() {
        let large = "x".repeat(1_000);
        let split_one = split(&json!({ "list": [large, "small"] }).to_string(), 500).unwrap();
        assert_eq!(split_one.pieces.len(), 1);
        assert!(Claim::is_claim(&serde_json::from_str::<Value>(&split_one.json).unwrap()["list"][0]));
        let many: Vec<String> = (0..100).map(|n| format!("{n:0>20}")).collect();
        let split_all = split(&json!({ "list": many }).to_string(), 500).unwrap();
        assert_eq!(split_all.pieces[0].0.content_type, JSON);
        assert_eq!(whole(&split_all), json!({ "list": many }));
    }

    #[test]
    fn what_is_small_a_claim_already_or_no_json_is_left() {
        let large = "x".repeat(1_000);
        assert_eq!(split(&json!({ "text": "small" }).to_string(), 500), None);
        assert_eq!(
            split(&json!({ "$claim": large }).to_string(), 500),
            None,
            "also one that is none: it is for others to say"
        );
        assert_eq!(split(&json!(large).to_string(), 500), None, "the payload itself stays");
        assert_eq!(split(&format!("{{\"a\":\"{large}"), 500), None);
        assert_eq!(split(&format!("{{\"a\":\"\\ud800{large}\"}}"), 500), None);
        let wide: serde_json::Map<String, Value> = (0..100).map(|n| (n.to_string(), json!("0123456789"))).collect();
        assert_eq!(split(&json!({ "wide": wide }).to_string(), 500), None, "objects are structure");
    }

    proptest! {
        #[test]
        fn nothing_is_lost(texts in prop::collection::vec(".{0,80}", 1..6), over in 1usize..100) {
            let value = json!({ "a": texts[0], "b": { "c": texts, "d": [[texts[0]], 1.5, null] }, "n": 12 });
            let json = value.to_string();
            if let Some(split) = split(&json, over) {
                prop_assert!(!split.pieces.is_empty());
                prop_assert_eq!(whole(&split), value);
            }
        }
    }
}
