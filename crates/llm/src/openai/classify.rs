//! From an endpoint's refusal to a [`ModelError`] of the right class.

use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, RETRY_AFTER};
use serde_json::Value;

use super::http::Attempt;
use crate::chat::Usage;
use crate::error::ModelError;

/// Longest wait an endpoint can ask for; more is taken as this.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// Codes of an account that waiting does not help.
const NO_QUOTA: [&str; 5] = [
    "insufficient_quota",
    "billing_hard_limit_reached",
    "billing_not_active",
    "account_deactivated",
    "insufficient_balance",
];

/// Request fields that come from configuration, not from the message.
const CONFIGURED: [&str; 6] =
    ["response_format", "tools", "temperature", "max_tokens", "max_completion_tokens", "seed"];

/// An endpoint's refusal, as read.
pub(super) struct Refusal {
    status: u16,
    headers: HeaderMap,
    message: String,
    code: String,
    kind: String,
    param: String,
}

impl Refusal {
    /// Reads the body as leniently as endpoints write it: `{"error": {…}}`, `{"error": "…"}`, `{"message": …}`, text.
    pub(super) fn read(status: u16, headers: &HeaderMap, body: &[u8]) -> Self {
        let parsed: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        let object = parsed.get("error").unwrap_or(&parsed);
        let field = |name: &str| match object.get(name) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            _ => String::new(),
        };
        let message = match object {
            Value::String(text) => text.clone(),
            Value::Object(_) if !field("message").is_empty() => field("message"),
            _ => String::from_utf8_lossy(body).into_owned(),
        };
        Self {
            status,
            headers: headers.clone(),
            message,
            code: field("code"),
            kind: field("type"),
            param: field("param"),
        }
    }

    /// An error object inside a 200 or a stream; its code stands for the status where it is one.
    pub(super) fn embedded(error: &Value) -> Self {
        let body = serde_json::json!({ "error": error }).to_string();
        let mut refusal = Self::read(502, &HeaderMap::new(), body.as_bytes());
        match refusal.code.parse::<u16>() {
            Ok(status) if (400..600).contains(&status) => refusal.status = status,
            _ if refusal.code == "rate_limit_exceeded" => refusal.status = 429,
            _ if refusal.kind == "invalid_request_error" => refusal.status = 400,
            _ => {}
        }
        refusal
    }

    /// The error and so its class.
    pub(super) fn classify(&self, attempt: &Attempt, model: &str, now: SystemTime) -> ModelError {
        let message = attempt.clean(&self.message);
        let (status, after) = (self.status, retry_after(&self.headers, now));
        if NO_QUOTA.iter().any(|code| self.code == *code || self.kind == *code) {
            return ModelError::QuotaExhausted { message };
        }
        if self.code == "model_not_found" {
            return ModelError::UnknownModel { model: model.to_owned(), message };
        }
        match status {
            401 | 403 => ModelError::Unauthorized { status, message },
            402 => ModelError::QuotaExhausted { message },
            404 => ModelError::UnknownModel { model: model.to_owned(), message },
            // More tokens at once than the rate allows in a minute: no wait is long enough.
            429 if self.message.starts_with("Request too large") => ModelError::ContextTooLong { message },
            429 => ModelError::RateLimited { after, message },
            408 | 409 | 425 | 500..=599 => ModelError::Unavailable { status, after, message },
            400 | 413 | 422 => self.bad_request(message),
            _ => ModelError::Misconfigured { message: format!("the endpoint answered {status}: {message}") },
        }
    }

    fn bad_request(&self, message: String) -> ModelError {
        let text = self.message.to_lowercase();
        let too_long = self.status == 413
            || matches!(self.code.as_str(), "context_length_exceeded" | "string_above_max_length")
            || ["context length", "context window", "context size", "prompt is too long"]
                .iter()
                .any(|words| text.contains(words));
        let filtered =
            ["content_filter", "content_policy_violation"].iter().any(|code| self.code == *code || self.kind == *code);
        let configured = self.code == "invalid_json_schema"
            || self.param == "model"
            || CONFIGURED.iter().any(|field| self.param.starts_with(field));
        match () {
            () if too_long => ModelError::ContextTooLong { message },
            () if filtered => ModelError::ContentFilter { message, usage: Usage::default() },
            () if self.code == "invalid_api_key" => ModelError::Unauthorized { status: self.status, message },
            () if configured => ModelError::Misconfigured { message },
            () => ModelError::Rejected { status: self.status, message },
        }
    }
}

/// How long to wait: `retry-after-ms`, else `Retry-After` in seconds or as an HTTP date (RFC 9110 §10.2.3). What
/// cannot be read is no advice; a date that passed is no wait.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let seconds = |text: &str, unit: f64| {
        let value = text.parse::<f64>().ok().filter(|value| *value >= 0.0)?;
        Some(Duration::try_from_secs_f64(value * unit).unwrap_or(MAX_RETRY_AFTER))
    };
    let wait = text("retry-after-ms").and_then(|ms| seconds(ms, 0.001)).or_else(|| {
        let value = text(RETRY_AFTER.as_str())?;
        seconds(value, 1.0).or_else(|| {
            let date = httpdate::parse_http_date(value).ok()?;
            Some(date.duration_since(now).unwrap_or(Duration::ZERO))
        })
    })?;
    Some(wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).collect()
    }

    #[test]
    fn retry_after_in_its_forms() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let read = |pairs: &[(&'static str, &str)]| retry_after(&headers(pairs), now);
        assert_eq!(read(&[("retry-after", "7")]), Some(Duration::from_secs(7)));
        assert_eq!(read(&[("retry-after", "1.5")]), Some(Duration::from_millis(1500)));
        let date = [("retry-after", "Sun, 06 Nov 1994 08:50:00 GMT")];
        assert_eq!(read(&date), Some(Duration::from_secs(23)));
        let past = [("retry-after", "Sun, 06 Nov 1994 08:00:00 GMT")];
        assert_eq!(read(&past), Some(Duration::ZERO));
        let both = [("retry-after", "7"), ("retry-after-ms", "250")];
        assert_eq!(read(&both), Some(Duration::from_millis(250)));
        for hostile in ["", "soon", "-1", "NaN", "-inf"] {
            assert_eq!(read(&[("retry-after", hostile)]), None, "{hostile}");
        }
        for huge in ["1e300", "inf", "99999999999"] {
            assert_eq!(read(&[("retry-after", huge)]), Some(MAX_RETRY_AFTER), "{huge}");
        }
    }
}
