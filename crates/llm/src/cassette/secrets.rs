//! What looks like a secret.
//!
//! | name | what it looks like |
//! |---|---|
//! | a configured key | the value of a key that this process uses, of 8 bytes or more |
//! | an authorization header | `Authorization:` or `x-api-key:` and a value; `Bearer` and a token |
//! | an API key | `sk-…`, `sk_live_…`, `rk_live_…` and the like, of 16 characters or more |
//! | an AWS access key | `AKIA…`, `ASIA…` |
//! | a Google API key | `AIza…` |
//! | a GitHub token | `ghp_…`, `gho_…`, `ghs_…`, `ghu_…`, `github_pat_…` |
//! | a GitLab token | `glpat-…` |
//! | a Slack token | `xoxb-…` and the like |
//! | a JSON web token | `eyJ….eyJ….…` |
//! | a private key | `-----BEGIN … PRIVATE KEY-----` |
//! | a password in an address | `scheme://user:password@` |
//!
//! Patterns find what has a form. A secret that has none is found only if it is a configured key.

use std::fmt;
use std::sync::LazyLock;

use regex::RegexSet;
use serde_json::Value;

use crate::secret::Secret;

/// Shorter keys are placeholders (`none`, `ollama`).
const MIN_KEY_BYTES: usize = 8;

const PATTERNS: [(&str, &str); 11] = [
    ("an authorization header", r"(?i)\b(?:authorization|x-api-key)\b['\x22]?\s*[:=]\s*['\x22]?[A-Za-z0-9+/_.~-]{8,}"),
    ("an authorization header", r"\bBearer\s+[A-Za-z0-9+/_.~-]{16,}"),
    ("an API key", r"\b[srp]k[-_](?:live_|test_|proj-|ant-|or-)?[A-Za-z0-9_-]{16,}"),
    ("an AWS access key", r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    ("a Google API key", r"\bAIza[A-Za-z0-9_-]{35}"),
    ("a GitHub token", r"\b(?:gh[opsu]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{22,})"),
    ("a GitLab token", r"\bglpat-[A-Za-z0-9_-]{20}"),
    ("a Slack token", r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"),
    ("a JSON web token", r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+"),
    ("a private key", r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY"),
    ("a password in an address", r"\b[a-z][a-z0-9+.-]*://[^\s/:@]+:[^\s/:@]{3,}@"),
];

static FORMS: LazyLock<Option<RegexSet>> =
    LazyLock::new(|| RegexSet::new(PATTERNS.iter().map(|(_, pattern)| pattern)).ok());

/// What looks like a secret, and where: not the secret itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What it looks like.
    pub what: &'static str,
    /// Where it is, as a JSON pointer.
    pub at: String,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = if self.at.is_empty() { "/" } else { &self.at };
        write!(f, "{} at {at}", self.what)
    }
}

/// The first thing in `value` that looks like a secret. `keys` are values that must not be in it whatever their form.
pub fn find(value: &Value, keys: &[Secret]) -> Option<Found> {
    match value {
        Value::String(text) => in_text(text, keys).map(|what| Found { what, at: String::new() }),
        Value::Array(items) => items.iter().enumerate().find_map(|(i, item)| under(&i.to_string(), find(item, keys))),
        Value::Object(fields) => fields.iter().find_map(|(name, item)| {
            let named = in_text(name, keys).map(|what| Found { what, at: String::new() });
            named.or_else(|| under(&name.replace('~', "~0").replace('/', "~1"), find(item, keys)))
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

fn under(name: &str, found: Option<Found>) -> Option<Found> {
    found.map(|found| Found { at: format!("/{name}{}", found.at), ..found })
}

fn in_text(text: &str, keys: &[Secret]) -> Option<&'static str> {
    if keys.iter().map(Secret::expose).any(|key| key.len() >= MIN_KEY_BYTES && text.contains(key)) {
        return Some("a configured key");
    }
    let Some(forms) = &*FORMS else { return Some("unknown, because its patterns cannot be used: a secret") };
    forms.matches(text).iter().next().and_then(|index| PATTERNS.get(index)).map(|(what, _)| *what)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Put together here, so that no scanner takes this file for a leak.
    fn samples() -> Vec<(&'static str, String)> {
        let long = "Ab1".repeat(14);
        vec![
            ("an authorization header", format!("Authorization: Basic{long}")),
            ("an authorization header", format!("curl -H 'X-Api-Key: {long}'")),
            ("an authorization header", format!("Bearer {long}")),
            ("an API key", format!("sk-proj-{long}")),
            ("an API key", format!("the key is sk_live_{long}.")),
            ("an AWS access key", format!("AKIA{}", "A1".repeat(8))),
            ("a Google API key", format!("AIza{}", &long[..35])),
            ("a GitHub token", format!("ghp_{}", &long[..36])),
            ("a GitLab token", format!("glpat-{}", &long[..20])),
            ("a Slack token", format!("xoxb-{long}")),
            ("a JSON web token", format!("eyJ{long}.eyJ{long}.{long}")),
            ("a private key", "-----BEGIN RSA PRIVATE KEY-----".to_owned()),
            ("a password in an address", "postgres://admin:hunter22@db/x".to_owned()),
        ]
    }

    #[test]
    fn each_form_is_found_with_its_place() {
        for (what, text) in samples() {
            let found = find(&json!({ "asked": { "messages": ["x", { "content": text }] } }), &[]);
            assert_eq!(found, Some(Found { what, at: "/asked/messages/1/content".into() }));
        }
    }

    #[test]
    fn what_people_write_is_no_secret() {
        for text in [
            "Ms Okafor, born 1990-01-02, passport UTO1234567",
            "please ask for authorization: it is needed",
            "Bearer of the document",
            "https://example.org/a?b=c and mailto:someone@example.org",
            "sk-short",
            "The private key is not in here.",
        ] {
            assert_eq!(find(&json!(text), &[]), None, "{text}");
        }
    }

    #[test]
    fn a_configured_key_is_found_whatever_it_looks_like() {
        let keys = [Secret::new("correct horse"), Secret::new("none")];
        assert_eq!(find(&json!("none of it"), &keys), None);
        let found = find(&json!({ "a/b": ["the correct horse is it"] }), &keys).unwrap();
        assert_eq!(found.to_string(), "a configured key at /a~1b/0");
        assert_eq!(find(&json!({ "correct horse": 1 }), &keys).unwrap().what, "a configured key");
    }
}
