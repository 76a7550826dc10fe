//! How a call fails: faults that are an HTTP error, and those that spoil an answer.

use std::time::{Duration, SystemTime};

use super::answer::Reply;
use super::refusal::Refusal;
use super::request::Call;
use super::script::Fault;

/// What becomes of a call.
#[derive(Debug)]
pub(super) enum Delivery {
    /// The answer, whole.
    Whole(Reply),
    /// The answer up to its middle, then the connection breaks.
    Cut(Reply),
    /// A body, or an event, that is no JSON.
    NotJson,
    /// Nothing, until the caller goes away.
    Hang,
    /// An error.
    Refused(Refusal),
}

/// What `fault` makes of the call that would have been answered with `reply`.
pub(super) fn apply(fault: &Fault, call: &Call, reply: Reply) -> Delivery {
    match fault {
        Fault::Cut => Delivery::Cut(reply),
        Fault::InvalidJson => Delivery::NotJson,
        Fault::Hang => Delivery::Hang,
        Fault::ContentFilter => Delivery::Whole(Reply { finish: "content_filter", ..Reply::default() }.counted(call)),
        Fault::Refusal => {
            let words = Some("I'm sorry, I can't help with that.".to_owned());
            Delivery::Whole(Reply { refusal: words, ..Reply::text("") }.counted(call))
        }
        Fault::InvalidOutput => Delivery::Whole(Reply::text("Certainly! Here is what I think {").counted(call)),
        Fault::Oversized { bytes } => Delivery::Whole(Reply::text("x".repeat(*bytes)).counted(call)),
        error => Delivery::Refused(refusal(error, call)),
    }
}

fn refusal(fault: &Fault, call: &Call) -> Refusal {
    let invalid = "invalid_request_error";
    match fault {
        Fault::RateLimited { retry_after_s, as_http_date } => {
            let refusal = Refusal::new(429, "requests", "Rate limit reached.").code("rate_limit_exceeded");
            Refusal { retry_after: retry_after_s.map(|seconds| retry_after(seconds, *as_http_date)), ..refusal }
        }
        Fault::QuotaExhausted => {
            let kind = "insufficient_quota";
            Refusal::new(429, kind, "You exceeded your current quota, please check your plan and billing details.")
                .code(kind)
        }
        Fault::Unauthorized => Refusal::new(401, invalid, "Incorrect API key provided.").code("invalid_api_key"),
        Fault::Forbidden => Refusal::new(403, invalid, "The project has no access to the model."),
        Fault::UnknownModel => unknown_model(&call.model),
        Fault::ContextTooLong => {
            Refusal::bad("messages", "This model's maximum context length is exceeded.").code("context_length_exceeded")
        }
        Fault::ServerError { status } => Refusal::new(*status, "server_error", "The server had an error."),
        // The others spoil an answer; `apply` takes them.
        other => Refusal::new(500, "server_error", format!("The mock does not answer {} with an error.", other.kind())),
    }
}

/// 404 as OpenAI says it.
pub(super) fn unknown_model(model: &str) -> Refusal {
    let message = format!("The model `{model}` does not exist or you do not have access to it.");
    Refusal::new(404, "invalid_request_error", message).code("model_not_found")
}

fn retry_after(seconds: u64, as_http_date: bool) -> String {
    // A date past the year 9999 cannot be written.
    let wait = Duration::from_secs(seconds.min(365 * 24 * 60 * 60));
    match as_http_date {
        true => httpdate::fmt_http_date(SystemTime::now() + wait),
        false => seconds.to_string(),
    }
}
