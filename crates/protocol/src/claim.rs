//! A claim: what stands in a payload for a value that is too large for a record. The value lies in the claim store under
//! its own SHA-256, so that putting it twice is putting it once, and what is fetched is known to be what was put.
//!
//! On the wire it is plain JSON, so that producers in any language can write one:
//!
//! ```json
//! {"$claim": {"sha256": "9f86…", "bytes": 20971520, "content_type": "text/plain; charset=utf-8"}}
//! ```

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The one member of a claim's object.
pub const MEMBER: &str = "$claim";

/// Content type of a claimed JSON string: its text, not its JSON.
pub const TEXT: &str = "text/plain; charset=utf-8";

/// Content type of any other claimed JSON value.
pub const JSON: &str = "application/json";

/// Where a value lies that was too large for a record, and how it is known again.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Wire", into = "Wire")]
pub struct Claim {
    /// SHA-256 of the content; also its name in the store.
    pub sha256: Sha256,
    /// Length of the content in bytes.
    pub bytes: u64,
    /// What the content is: [`TEXT`], [`JSON`], or whatever a producer outside has put (`application/pdf`).
    pub content_type: String,
}

impl Claim {
    /// Whether a value is to be read as a claim: an object with nothing but the member [`MEMBER`].
    pub fn is_claim(value: &Value) -> bool {
        value.as_object().is_some_and(|object| object.len() == 1 && object.contains_key(MEMBER))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    #[serde(rename = "$claim")]
    claim: Ticket,
}

/// Further members are let pass: producers may note a file's name.
#[derive(Serialize, Deserialize)]
struct Ticket {
    sha256: Sha256,
    bytes: u64,
    content_type: String,
}

impl From<Wire> for Claim {
    fn from(Wire { claim }: Wire) -> Self {
        Self { sha256: claim.sha256, bytes: claim.bytes, content_type: claim.content_type }
    }
}

impl From<Claim> for Wire {
    fn from(Claim { sha256, bytes, content_type }: Claim) -> Self {
        Self { claim: Ticket { sha256, bytes, content_type } }
    }
}

impl JsonSchema for Claim {
    fn schema_name() -> Cow<'static, str> {
        "Claim".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A value that lies in the claim store.",
            "type": "object",
            "properties": {
                MEMBER: {
                    "type": "object",
                    "properties": {
                        "sha256": { "type": "string", "pattern": "^[0-9a-fA-F]{64}$" },
                        "bytes": { "type": "integer", "minimum": 0 },
                        "content_type": { "type": "string" }
                    },
                    "required": ["sha256", "bytes", "content_type"]
                }
            },
            "required": [MEMBER],
            "additionalProperties": false
        })
    }
}

/// A SHA-256, in 64 small hexadecimal digits. Nothing else can be one, so that no name in the store leads out of it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256(String);

impl Sha256 {
    /// Of a digest.
    pub fn of(digest: &[u8; 32]) -> Self {
        Self(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// 64 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A text that is no SHA-256.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a SHA-256 has 64 hexadecimal digits")]
pub struct NotSha256;

impl FromStr for Sha256 {
    type Err = NotSha256;

    fn from_str(text: &str) -> Result<Self, NotSha256> {
        let plain = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
        if plain { Ok(Self(text.to_ascii_lowercase())) } else { Err(NotSha256) }
    }
}

impl TryFrom<String> for Sha256 {
    type Error = NotSha256;

    fn try_from(text: String) -> Result<Self, NotSha256> {
        text.parse()
    }
}

impl From<Sha256> for String {
    fn from(sha256: Sha256) -> Self {
        sha256.0
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hex(digit: &str) -> String {
        digit.repeat(64)
    }

    #[test]
    fn a_claim_is_plain_json() {
        let claim = Claim { sha256: hex("a").parse().unwrap(), bytes: 7, content_type: TEXT.into() };
        let value = serde_json::to_value(&claim).unwrap();
        assert_eq!(value, json!({ "$claim": { "sha256": hex("a"), "bytes": 7, "content_type": TEXT } }));
        assert!(Claim::is_claim(&value));
        assert_eq!(serde_json::from_value::<Claim>(value).unwrap(), claim);
        let foreign = json!({ "$claim": { "sha256": hex("A"), "bytes": 7, "content_type": TEXT, "name": "a.txt" } });
        assert_eq!(serde_json::from_value::<Claim>(foreign).unwrap(), claim, "as a producer outside may write it");
    }

    #[test]
    fn nothing_else_is_a_name_in_the_store() {
        for name in ["", "..", "../../../etc/passwd", "/etc/passwd", "é", &hex("g"), &format!("{}0", hex("a"))] {
            let claim = json!({ "$claim": { "sha256": name, "bytes": 1, "content_type": TEXT } });
            let error = serde_json::from_value::<Claim>(claim).unwrap_err().to_string();
            assert!(error.contains("64 hexadecimal digits"), "{name}: {error}");
        }
        let beside = json!({ "$claim": { "sha256": hex("a"), "bytes": 1, "content_type": TEXT }, "more": 1 });
        assert!(!Claim::is_claim(&beside));
        assert!(serde_json::from_value::<Claim>(beside).is_err());
        assert_eq!(Sha256::of(&[0xab; 32]).as_str(), "ab".repeat(32));
    }
}
