//! `CloudEvents` structured mode (JSON format 1.0): attributes and data together in the value.
//!
//! Read leniently. Extension attributes may be JSON numbers and booleans; the content type may be missing, because
//! the Kafka binding of a much used library (Python's `cloudevents` 1.x) writes the data's content type, or none,
//! where the event's belongs. Such a record is taken for an event only if it is one beyond doubt.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use crate::envelope::{EnvelopeError, JSON, STRUCTURED};
use crate::header::{self, Header};

/// Members that hold no attribute.
const DATA: &str = "data";
const DATA_BASE64: &str = "data_base64";
const DATA_CONTENT_TYPE: &str = "datacontenttype";
/// What every event has.
const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];

/// An event as it was read.
pub(crate) struct Event {
    members: BTreeMap<String, Box<RawValue>>,
    pub(crate) data: Bytes,
}

impl Event {
    /// An attribute by its header's name (`ce_id`), as text. Null, and what no attribute may be, is absent.
    pub(crate) fn attribute(&self, header: &str) -> Option<Cow<'static, str>> {
        let member = self.members.get(header.strip_prefix("ce_")?)?;
        match serde_json::from_str(member.get()).ok()? {
            Value::String(text) => Some(Cow::Owned(text)),
            scalar @ (Value::Number(_) | Value::Bool(_)) => Some(Cow::Owned(scalar.to_string())),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }
}

/// The event in `value`, if the record is in structured mode.
pub(crate) fn read(headers: &[Header], value: &Bytes) -> Result<Option<Event>, EnvelopeError> {
    let content_type = header::last(headers, header::CONTENT_TYPE).unwrap_or_default();
    if media_type(content_type) == STRUCTURED {
        return parse(value).map(Some);
    }
    let undeclared = header::last(headers, header::SPEC_VERSION).is_none()
        && (content_type.is_empty() || is_json(content_type))
        && value.windows(REQUIRED[0].len()).any(|window| window == REQUIRED[0].as_bytes());
    Ok(if undeclared { parse(value).ok().filter(is_beyond_doubt) } else { None })
}

fn is_beyond_doubt(event: &Event) -> bool {
    let text = |name: &str| {
        let text: Option<String> = event.members.get(name).and_then(|raw| serde_json::from_str(raw.get()).ok());
        text.filter(|text| !text.is_empty())
    };
    REQUIRED.iter().all(|name| text(name).is_some()) && text(REQUIRED[0]).is_some_and(|version| version == "1.0")
}

fn parse(value: &[u8]) -> Result<Event, EnvelopeError> {
    let wrong = |reason: String| EnvelopeError::Structured(reason);
    let mut members: BTreeMap<String, Box<RawValue>> =
        serde_json::from_slice(value).map_err(|error| wrong(error.to_string()))?;
    let mut take = |name: &str| members.remove(name).filter(|raw| raw.get() != "null");
    let data = match (take(DATA), take(DATA_BASE64)) {
        (Some(data), None) => embedded(&data, members.get(DATA_CONTENT_TYPE).map(AsRef::as_ref)),
        (None, Some(data)) => {
            let text: String =
                serde_json::from_str(data.get()).map_err(|error| wrong(format!("data_base64: {error}")))?;
            Bytes::from(STANDARD.decode(text).map_err(|error| wrong(format!("data_base64: {error}")))?)
        }
        (None, None) => return Err(wrong("it holds no data".to_owned())),
        (Some(_), Some(_)) => return Err(wrong("it holds both data and data_base64".to_owned())),
    };
    Ok(Event { members, data })
}

/// The data's bytes: its JSON text, byte for byte; where the data is declared not to be JSON, the string's own text.
fn embedded(data: &RawValue, content_type: Option<&RawValue>) -> Bytes {
    let content_type: Option<String> = content_type.and_then(|raw| serde_json::from_str(raw.get()).ok());
    let text = match content_type {
        Some(content_type) if !is_json(&content_type) => serde_json::from_str::<String>(data.get()).ok(),
        _ => None,
    };
    Bytes::from(text.unwrap_or_else(|| data.get().to_owned()))
}

/// Headers and value of the event with these binary-mode headers and this data.
///
/// The trace of this hop is Kafka's, not the event's: it stays a header.
pub(crate) fn write(binary: Vec<Header>, data: &[u8]) -> Result<(Vec<Header>, Bytes), EnvelopeError> {
    let wrong = |error: serde_json::Error| EnvelopeError::Structured(error.to_string());
    let mut members: BTreeMap<&str, Box<RawValue>> = BTreeMap::new();
    for header in &binary {
        if let Some((name, text)) = header.name.strip_prefix("ce_").zip(header.as_str()) {
            members.insert(name, to_raw_value(text).map_err(wrong)?);
        }
    }
    let content_type = match serde_json::from_slice::<Box<RawValue>>(data) {
        Ok(json) => {
            members.insert(DATA, json);
            JSON
        }
        Err(_) => {
            members.insert(DATA_BASE64, to_raw_value(&STANDARD.encode(data)).map_err(wrong)?);
            "application/octet-stream"
        }
    };
    members.insert(DATA_CONTENT_TYPE, to_raw_value(content_type).map_err(wrong)?);
    let value = Bytes::from(serde_json::to_vec(&members).map_err(wrong)?);
    let mut headers = vec![Header::text(header::CONTENT_TYPE, format!("{STRUCTURED}; charset=UTF-8"))];
    headers.extend(binary.into_iter().filter(|h| h.name == header::TRACE_PARENT || h.name == header::TRACE_STATE));
    Ok((headers, value))
}

/// A content type without its parameters, in lower case.
fn media_type(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn is_json(content_type: &str) -> bool {
    let media_type = media_type(content_type);
    media_type.ends_with("/json") || media_type.ends_with("+json")
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = r#"{"specversion":"1.0","id":"a","source":"/s","type":"t","data":{"x":1.10}}"#;

    fn is_event(content_type: Option<&str>, value: &str) -> bool {
        let headers: Vec<Header> =
            content_type.map(|kind| Header::text(header::CONTENT_TYPE, kind)).into_iter().collect();
        read(&headers, &Bytes::copy_from_slice(value.as_bytes())).expect("readable").is_some()
    }

    #[test]
    fn undeclared_events_are_taken_only_beyond_doubt() {
        for content_type in [None, Some("application/json"), Some("Application/CloudEvents+JSON; charset=utf-8")] {
            assert!(is_event(content_type, EVENT), "{content_type:?}");
        }
        assert!(!is_event(Some("text/plain"), EVENT));
        assert!(!is_event(Some("application/cloudevents-batch+json"), &format!("[{EVENT}]")));
        for request in [
            r#"{"specversion":"1.0","name":"a car's specification"}"#,
            &EVENT.replace("1.0\"", "7\""),
            &EVENT.replace("\"data\"", "\"date\""),
            &EVENT.replace("\"id\":\"a\"", "\"id\":\"\""),
            r#"["specversion"]"#,
            "specversion",
        ] {
            assert!(!is_event(None, request), "{request}");
        }
        let binary = [Header::text(header::SPEC_VERSION, "1.0")];
        assert!(read(&binary, &Bytes::from(EVENT)).expect("readable").is_none(), "binary mode says what it is");
    }

    #[test]
    fn data_is_kept_byte_for_byte() {
        let data = |members: &str| {
            let event = format!(r#"{{"specversion":"1.0",{members}}}"#);
            parse(event.as_bytes()).map(|event| event.data)
        };
        let kept = r#"{ "b": 1.10, "a": 123456789012345678901234567890, "a": "é" }"#;
        assert_eq!(data(&format!(r#""data":{kept}"#)), Ok(Bytes::from(kept)));
        assert_eq!(data(r#""data":"a\"b""#), Ok(Bytes::from(r#""a\"b""#)), "JSON by default");
        assert_eq!(data(r#""datacontenttype":"text/plain","data":"a\"b""#), Ok(Bytes::from("a\"b")));
        assert_eq!(data(r#""data":null,"data_base64":"/w==""#), Ok(Bytes::from_static(&[0xff])));
        for wrong in [r#""x":1"#, r#""data":1,"data_base64":"""#, r#""data_base64":5"#, r#""data_base64":"?""#] {
            assert!(data(wrong).is_err(), "{wrong}");
        }
    }
}
