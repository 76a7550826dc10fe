//! Schemas that came before: clients ask with the same few again and again, and compiling one is most of an answer's cost.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use super::strict;
use crate::schema::Schema;

/// Most schemas that are kept, and the longest text of one, in bytes. Past that, all are forgotten.
const MOST: usize = 128;
const LONGEST: usize = 64 * 1024;

/// What was found of the latest schemas, by their text and whether they call themselves strict.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<HashMap<(String, bool), Result<Schema, String>>>);

impl Known {
    /// The schema, compiled; or what is wrong with it.
    pub(super) fn checked(&self, schema: &Value, is_strict: bool) -> Result<Schema, String> {
        let key = (schema.to_string(), is_strict);
        if let Some(found) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return found.clone();
        }
        let found = check(schema, is_strict);
        if key.0.len() <= LONGEST {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= MOST {
                known.clear();
            }
            known.insert(key, found.clone());
        }
        found
    }
}

fn check(schema: &Value, is_strict: bool) -> Result<Schema, String> {
    let compiled = Schema::from(schema.clone());
    compiled.validator()?;
    match strict::violation(schema).filter(|_| is_strict) {
        Some(violation) => Err(violation),
        None => Ok(compiled),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_found_is_found_again_and_memory_is_bounded() {
        let known = Known::default();
        let open = json!({ "type": "object", "properties": {} });
        for _ in 0..2 {
            assert!(known.checked(&open, false).is_ok());
            assert!(known.checked(&open, true).is_err_and(|reason| reason.contains("additionalProperties")));
            assert!(known.checked(&json!({ "type": 1 }), false).is_err());
        }
        let count = || known.0.lock().unwrap().len();
        assert_eq!(count(), 3);
        for n in 0..3 * MOST {
            assert!(known.checked(&json!({ "minimum": n }), false).is_ok());
            assert!(count() <= MOST);
        }
        let before = count();
        assert!(known.checked(&json!({ "description": "x".repeat(LONGEST) }), false).is_ok());
        assert_eq!(count(), before, "a long one is not kept");
    }
}
