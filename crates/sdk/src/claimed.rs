//! Values that may be too large for a record: here, or in the claim store until they are asked for.

use std::borrow::Cow;

use anabranch_claims::{ClaimCheck, ClaimError, Class as ClaimClass};
use anabranch_protocol::claim::Claim;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{DeserializeOwned, Error as _, IntoDeserializer as _};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::context::Context;
use crate::error::AgentError;

/// A value that is here, or lies in the claim store: the type of every field that may be too large for a record.
///
/// An agent that only carries it along needs no store; one that reads it calls [`Context::fetch`]. Nothing is fetched
/// before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Claimed<T> {
    /// It is here.
    Inline(T),
    /// It lies in the store.
    Claim(Claim),
}

impl<T> Claimed<T> {
    /// The value, if it is here.
    pub fn inline(&self) -> Option<&T> {
        match self {
            Self::Inline(value) => Some(value),
            Self::Claim(_) => None,
        }
    }

    /// The claim, if it lies in the store.
    pub fn claim(&self) -> Option<&Claim> {
        match self {
            Self::Inline(_) => None,
            Self::Claim(claim) => Some(claim),
        }
    }
}

impl<T> From<T> for Claimed<T> {
    fn from(value: T) -> Self {
        Self::Inline(value)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Claimed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let read = if Claim::is_claim(&value) {
            serde_json::from_value(value).map(Self::Claim)
        } else {
            T::deserialize(value).map(Self::Inline)
        };
        read.map_err(D::Error::custom)
    }
}

impl<T: JsonSchema> JsonSchema for Claimed<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("Claimed_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [generator.subschema_for::<T>(), generator.subschema_for::<Claim>()] })
    }
}

impl Context<'_> {
    /// The value, from the claim store if it lies there. Bounded by `claims.most` and `claims.timeout` of `topics.yaml`.
    ///
    /// # Errors
    /// Retryable, if the store cannot be reached or is too slow. Terminal, if the content is not there, is not what was
    /// put, is too large, or does not have the shape of `T`.
    pub async fn fetch<'v, T: DeserializeOwned + Clone>(
        &self,
        value: &'v Claimed<T>,
    ) -> Result<Cow<'v, T>, AgentError> {
        match value {
            Claimed::Inline(value) => Ok(Cow::Borrowed(value)),
            Claimed::Claim(claim) => {
                let content = self.fetch_bytes(claim).await?;
                read(claim, &content).map(Cow::Owned).map_err(agent_error)
            }
        }
    }

    /// The content of a claim as it was put, whatever it is: a scan, an archive.
    ///
    /// # Errors
    /// As [`Context::fetch`].
    pub async fn fetch_bytes(&self, claim: &Claim) -> Result<anabranch_claims::Bytes, AgentError> {
        let content = fetched(self.claims(), claim).await.map_err(agent_error)?;
        self.model().about_fetched(&claim.sha256.to_string(), &content);
        Ok(content)
    }
}

async fn fetched(claims: Option<&ClaimCheck>, claim: &Claim) -> Result<anabranch_claims::Bytes, ClaimError> {
    claims.ok_or(ClaimError::NoStore)?.fetch(claim).await
}

/// A text is the JSON string of it; anything else has to be JSON.
fn read<T: DeserializeOwned>(claim: &Claim, content: &[u8]) -> Result<T, ClaimError> {
    let kind = claim.content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let wrong = |error: &dyn std::fmt::Display| ClaimError::Content(error.to_string());
    if kind.starts_with("text/") {
        let text = std::str::from_utf8(content).map_err(|error| wrong(&error))?;
        let text: serde::de::value::StrDeserializer<'_, serde_json::Error> = text.into_deserializer();
        T::deserialize(text).map_err(|error| wrong(&error))
    } else if kind == "application/json" || kind.ends_with("+json") {
        serde_json::from_slice(content).map_err(|error| wrong(&error))
    } else {
        Err(ClaimError::Content(format!("it is {kind}, neither text nor JSON; fetch_bytes gives it as it is")))
    }
}

fn agent_error(error: ClaimError) -> AgentError {
    match error.class() {
        ClaimClass::Retryable => AgentError::retryable("a claim cannot be fetched now").with_source(error),
        ClaimClass::Terminal => AgentError::terminal("a claim cannot be fetched").with_source(error),
    }
}

#[cfg(test)]
mod tests {
    use anabranch_protocol::claim::TEXT;
    use serde_json::json;

    use super::*;

    fn claim(content_type: &str) -> Claim {
        Claim { sha256: "a".repeat(64).parse().unwrap(), bytes: 1, content_type: content_type.into() }
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    struct Document {
        text: Option<Claimed<String>>,
    }

    #[test]
    fn a_field_is_its_value_or_a_claim() {
        let read = |value: Value| serde_json::from_value::<Document>(value);
        assert_eq!(read(json!({ "text": "short" })).unwrap().text, Some(Claimed::Inline("short".to_owned())));
        assert_eq!(read(json!({})).unwrap().text, None);
        let claimed = json!({ "text": claim(TEXT) });
        let document = read(claimed.clone()).unwrap();
        assert_eq!(document.text, Some(Claimed::Claim(claim(TEXT))));
        assert_eq!(serde_json::to_value(&document).unwrap(), claimed, "it is carried along as it is");
        let error = read(json!({ "text": { "$claim": { "sha256": "../x", "bytes": 1, "content_type": TEXT } } }));
        assert!(error.unwrap_err().to_string().contains("64 hexadecimal digits"));
        let error = read(json!({ "text": 7 })).unwrap_err().to_string();
        assert!(error.contains("expected a string"), "{error}");
        let schema = schemars::schema_for!(Document).to_value().to_string();
        assert!(schema.contains("$claim") && schema.contains("anyOf"), "{schema}");
    }

    #[test]
    fn content_is_read_by_its_type() {
        let text = |kind: &str, content: &[u8]| read::<String>(&claim(kind), content);
        assert_eq!(text(TEXT, "é".as_bytes()).unwrap(), "é");
        assert_eq!(text("application/json", b"\"a\"").unwrap(), "a");
        assert_eq!(read::<Vec<u8>>(&claim("application/vnd.x+json"), b"[1,2]").unwrap(), [1, 2]);
        for (kind, content) in [(TEXT, &b"\xff"[..]), ("application/json", b"nope"), ("application/pdf", b"%PDF")] {
            let error = text(kind, content).unwrap_err();
            assert_eq!(error.class(), ClaimClass::Terminal, "{error}");
        }
        assert!(read::<Vec<u8>>(&claim(TEXT), b"[1]").is_err(), "a text is no list");
    }
}
